"""Widths of layers: the exact choice against trying all, limits that are kept, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import npusim
from npusim import InferenceSession
from npusim.errors import UsageError
from npusim.files.arrays import write_arrays
from npusim.floats.reader import read_float_network
from npusim.graph.model_file import open_model
from npusim.graph.onnx_reader import read_graph
from npusim.program import Weighted
from npusim.quantization import quantize_network
from npusim.quantization.bit_choice import BitLimits, Knapsack
from npusim.quantization.model import Options
from npusim.results.quantized_choices import QuantizedChoice, choices_plot, pareto_front
from support.command_line import call, check_error, checked_json
from support.float_networks import FloatBuilder, samples

WIDTHS = (8, 4, 2)


@st.composite
def knapsacks(draw: st.DrawFn) -> Knapsack:
    """Fewer bits take fewer bytes and lose more; whole numbers, so that sums are exact."""
    options, sizes, noise = [], [], []
    for layer in range(draw(st.integers(1, 4))):
        options += [(f"layer{layer}", bits) for bits in WIDTHS]
        sizes += sorted(draw(st.lists(st.integers(1, 500), min_size=3, max_size=3)), reverse=True)
        noise += [0, *sorted(draw(st.lists(st.integers(0, 100), min_size=2, max_size=2)))]
    return Knapsack(tuple(options), np.array(sizes, np.int64), np.array(noise, np.float64))


@settings(max_examples=40, deadline=None)
@given(knapsacks(), st.integers(1, 1500))
def test_the_choice_is_the_best_of_all(knapsack: Knapsack, most: int) -> None:
    layers = sorted({name for name, _ in knapsack.options})
    price = dict(zip(knapsack.options, zip(knapsack.bytes.tolist(), knapsack.noise.tolist(), strict=True), strict=True))
    sums = []
    for widths in itertools.product(WIDTHS, repeat=len(layers)):
        chosen = [price[option] for option in zip(layers, widths, strict=True)]
        if sum(size for size, _ in chosen) <= most:
            sums.append(sum(noise for _, noise in chosen))
    found = list(knapsack.best(most, 3))
    assert [noise for _, noise in found] == sorted(sums)[: len(found)]
    assert len(found) == min(3, len(sums))
    for bits, noise in found:
        chosen = [price[option] for option in bits.items()]
        assert sum(size for size, _ in chosen) <= most
        assert sum(lost for _, lost in chosen) == noise


def network() -> FloatBuilder:
    graph = FloatBuilder((1, 3, 16, 1), seed=4)
    graph.conv(8, 3)
    graph.relu()
    graph.conv(8, 3)
    graph.relu()
    graph.global_average()
    graph.flatten()
    graph.linear(3)
    return graph


@pytest.mark.slow
def test_single_layers_have_the_widths_that_are_asked() -> None:
    graph = network()
    x = samples(graph.shape, 24)
    names = list(npusim.quantize(graph.model(), x).layer_bits)
    asked = dict(zip(names, (2, 8, 4), strict=True))
    read = read_float_network(read_graph(open_model(graph.model())))
    found = quantize_network(read, x, Options(8, layer_bits=asked))
    weighted = [layer for layer in found.program.layers if isinstance(layer, Weighted)]
    assert [layer.weight_bits for layer in weighted] == [2, 8, 4]
    assert [int(np.abs(layer.weights).max()) <= 2 ** (layer.weight_bits - 1) - 1 for layer in weighted] == [True] * 3
    assert dict(found.layer_bits) == asked


@pytest.mark.slow
def test_what_fits_best_is_chosen_and_is_what_the_file_does() -> None:
    graph = network()
    x = samples(graph.shape, 24)
    uniform = npusim.quantize(graph.model(), x, 4)
    most = uniform.totals.parameter_bytes
    found = npusim.quantize(graph.model(), x, "auto", max_bytes=most)
    (chosen,) = [choice for choice in found.choices if choice.chosen]
    assert chosen.bytes == found.totals.parameter_bytes <= most
    assert npusim.lint(found.content, "f28p55x").totals.parameter_bytes == chosen.bytes
    assert all(choice.sqnr <= chosen.sqnr for choice in found.choices if choice.bytes <= most)
    assert dict(chosen.layer_bits) == found.layer_bits
    (codes,) = InferenceSession(found.content).run(None, {"input": x})
    (wanted,) = InferenceSession(graph.model()).run(None, {"input": x})
    (scale,) = found.output_scales.values()
    noise = np.square(wanted.astype(np.float64) - codes * scale).sum()
    assert 10 * np.log10(np.square(wanted.astype(np.float64)).sum() / noise) == pytest.approx(chosen.sqnr, abs=1e-3)


@pytest.mark.slow
def test_the_smallest_that_keeps_a_least_sqnr_or_accuracy() -> None:
    graph = network()
    x = samples(graph.shape, 24)
    found = npusim.quantize(graph.model(), x, "auto", min_sqnr=25.0)
    (chosen,) = [choice for choice in found.choices if choice.chosen]
    assert chosen.sqnr >= 25
    assert all(choice.bytes >= chosen.bytes for choice in found.choices if choice.sqnr >= 25)
    (scores,) = InferenceSession(graph.model()).run(None, {"input": x})
    same = npusim.quantize(graph.model(), x, "auto", min_accuracy=0.9, labels=scores.argmax(axis=1))
    plain = npusim.quantize(graph.model(), x, "auto", min_accuracy=0.9)
    assert same.content == plain.content
    (chosen,) = [choice for choice in plain.choices if choice.chosen]
    assert chosen.accuracy is not None
    assert chosen.accuracy >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({}, "bits are chosen under a limit"),
        ({"max_bytes": 10}, "at 2 bits everywhere, wanted at most 10"),
        ({"min_sqnr": 90.0}, "no choice of widths keeps the limits: the best one reaches"),
        ({"min_accuracy": 2.0}, "wanted a share between 0 and 1"),
        ({"max_bytes": 400, "labels": np.zeros(3, np.int64)}, "wanted a class, a whole number, for each of the"),
        ({"max_bytes": 400, "max_cycles": 10}, "cycles cannot be limited, since lint has no estimate of them"),
        ({"max_bytes": 400, "to": "tflite"}, "are chosen for TI's NPU, not for tflite"),
    ],
)
def test_refusals(limits: dict[str, object], says: str) -> None:
    graph = network()
    with pytest.raises(UsageError, match=says):
        npusim.quantize(graph.model(), samples(graph.shape, 24), "auto", **limits)  # type: ignore[arg-type]


def test_limits_belong_to_chosen_widths() -> None:
    graph = network()
    with pytest.raises(UsageError, match="limits are for widths that are chosen"):
        npusim.quantize(graph.model(), samples(graph.shape, 24), 4, max_bytes=400)
    assert BitLimits(max_bytes=3).max_bytes == 3


@pytest.mark.slow
def test_command_line(tmp_path: Path) -> None:
    graph = network()
    (tmp_path / "float.onnx").write_bytes(graph.model())
    write_arrays(tmp_path / "windows.npz", {"input": samples(graph.shape, 24)})
    given_arguments = (
        "quantize",
        tmp_path / "float.onnx",
        "--calibration",
        tmp_path / "windows.npz",
        "-o",
        tmp_path / "out.onnx",
    )
    limit = ("--weight-bits", "auto", "--max-bytes", 400)
    table, plot = tmp_path / "choices.csv", tmp_path / "choices.svg"
    outcome = call(*given_arguments, *limit, "--pareto", table, "--pareto", plot)
    assert outcome.code == 0, outcome.err
    assert "Parameters take " in outcome.out
    assert "With 4 bits everywhere: " in outcome.out
    assert table.read_text().startswith("bytes,sqnr,accuracy,predicted,refined,chosen,pareto,bits of ")
    assert plot.read_text().count("<circle") == len(table.read_text().splitlines()) - 1
    value = checked_json("quantize", call(*given_arguments, *limit, "--json", "--force"))
    assert value["totals"]["parameter_bytes"] <= 400
    assert [choice["layer_bits"] for choice in value["choices"] if choice["chosen"]] == [value["layer_bits"]]
    check_error(
        *given_arguments,
        *limit,
        "--force",
        "--pareto",
        tmp_path / "choices.txt",
        code=2,
        kind="UsageError",
        says="a plot, .svg",
    )


def test_front_and_plot() -> None:
    listed = [
        QuantizedChoice(size, level, None, None, False, chosen, {"<a>": 4})
        for size, level, chosen in ((100, 10.0, False), (120, 9.0, True), (120, 12.0, False), (200, 12.0, False))
    ]
    assert [(choice.bytes, choice.sqnr) for choice in pareto_front(listed)] == [(100, 10.0), (120, 12.0)]
    plot = choices_plot(listed)
    assert plot.count("<circle") == 4
    assert "&lt;a&gt;" in plot
