"""What quantization refuses, what it keeps in float, and how it says so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from npusim import InferenceSession
from npusim.bounds import Property, certify
from npusim.errors import InputError, ModelError, UnsupportedError, UsageError
from npusim.quantization import quantize
from npusim.verification import verify
from support.float_networks import FloatBuilder, samples
from support.match_models import chain
from support.quantize_checks import check_widths, signal_to_noise


def small(build: Callable[[FloatBuilder], object] | None = None) -> FloatBuilder:
    graph = FloatBuilder((1, 3, 16, 1), seed=4)
    graph.conv(8, 3)
    graph.relu()
    if build is not None:
        build(graph)
    graph.global_average()
    graph.flatten()
    graph.linear(3)
    return graph


def spoiled(change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return change(samples((1, 3, 16, 1)))


def with_nan(x: np.ndarray) -> np.ndarray:
    x[3, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :, :8], r"shape \(48, 3, 8, 1\)"),
        (lambda x: x[0], "lacks the sample axis"),
        (lambda x: x[:0], "sample"),
        (lambda x: x[:5], "5 calibration samples, wanted at least 8"),
        (lambda x: x * 0, "all zeros"),
        (with_nan, "nan"),
        (lambda x: x.astype(object), "not an array of numbers"),
    ],
)
def test_bad_calibration_is_refused(change: Callable[[np.ndarray], np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=rf"(?i){message}"):
        quantize(small().model(), spoiled(change))


def test_names_of_calibration_samples() -> None:
    with pytest.raises(InputError, match="given for 'x', wanted 'input'"):
        quantize(small().model(), {"x": samples((1, 3, 16, 1))})
    content = quantize(small().model(), {"input": samples((1, 3, 16, 1))}).content
    assert content == quantize(small().model(), samples((1, 3, 16, 1))).content


def test_other_widths_are_refused() -> None:
    with pytest.raises(UsageError, match="weight_bits is 3"):
        quantize(small().model(), samples((1, 3, 16, 1)), 3)
    with pytest.raises(UsageError, match="activation_bits is 2"):
        quantize(small().model(), samples((1, 3, 16, 1)), 8, 2)


def test_a_quantized_model_is_refused() -> None:
    content = quantize(small().model(), samples((1, 3, 16, 1))).content
    with pytest.raises(ModelError, match="quantized already"):
        quantize(content, samples((1, 3, 16, 1)))
    with pytest.raises(ModelError, match="quantized already, as PLiNIO"):
        quantize(chain(3, 5, 7), samples((1, 1, 6, 1)))


def test_a_batch_that_is_not_one_is_refused() -> None:
    graph = FloatBuilder((4, 3, 16, 1))
    graph.conv(4, 1)
    with pytest.raises(UnsupportedError, match="wanted a batch of 1"):
        quantize(graph.model(), samples((1, 3, 16, 1)))


@pytest.mark.parametrize("operator", ["Sigmoid", "Tanh", "Softplus"])
def test_unknown_operator_is_kept_in_float_and_named(operator: str) -> None:
    graph = small(lambda one: (one.node(operator), one.conv(8, 3), one.relu()))
    x = samples(graph.shape)
    found = quantize(graph.model(), x, float_output=True)
    assert [(item.rule, operator in item.message) for item in found.warnings] == [("kept_in_float", True)]
    session = InferenceSession(found.content)
    assert {step.operator for step in session.program.host_operations} <= {"Mul", operator}
    assert len(session.program.quantize_stages) == 2
    assert verify(session, {"input": x})
    (wanted,) = InferenceSession(graph.model()).run(None, {"input": x})
    assert signal_to_noise(wanted, session.run(None, {"input": x})[0]) > 20


def test_softmax_at_the_end_gives_probabilities() -> None:
    graph = small()
    graph.node("Softmax", axis=1)
    x = samples(graph.shape)
    found = quantize(graph.model(), x)
    (given,) = InferenceSession(found.content).run(None, {"input": x})
    np.testing.assert_allclose(given.sum(axis=1), 1, rtol=1e-5)
    (wanted,) = InferenceSession(graph.model()).run(None, {"input": x})
    np.testing.assert_allclose(given, wanted, atol=0.03)
    assert found.output_scales == {graph.tensor: 1.0}


def test_channels_that_are_always_zero() -> None:
    graph = small()
    graph.constants["c0"][2] = 0
    graph.constants["c1"][2] = -1
    graph.constants["c0"][5] = 0
    x = samples(graph.shape)
    x[:, 1] = 0
    for bits in (8, 4, 2):
        found = quantize(graph.model(), x, bits)
        assert "silent_channels" in {item.rule for item in found.warnings}
        session = InferenceSession(found.content)
        check_widths(session.program, bits)
        assert certify(session.program).model[Property.ONNXRUNTIME_EXACT].holds


@pytest.mark.parametrize("bits", [8, 4])
def test_bias_far_beyond_its_weights_is_held_by_larger_steps(bits: int) -> None:
    graph = small()
    graph.constants["c0"] = graph.constants["c0"] * 1e-3
    graph.constants["c1"] = graph.constants["c1"] * 0 + 20
    x = samples(graph.shape)
    session = InferenceSession(quantize(graph.model(), x, bits).content)
    check_widths(session.program, bits)


def test_gain_of_zero_and_negative_gains_in_the_input_stage() -> None:
    graph = FloatBuilder((1, 3, 16, 1), seed=2)
    graph.batch_norm([0.0, -1.5, 0.7])
    graph.conv(8, 3)
    graph.flatten()
    graph.linear(3)
    x = samples(graph.shape) * 100
    found = quantize(graph.model(), x, float_output=True)
    (wanted,) = InferenceSession(graph.model()).run(None, {"input": x})
    session = InferenceSession(found.content)
    assert signal_to_noise(wanted, session.run(None, {"input": x})[0]) > 25
    assert verify(session, {"input": x})


def test_tiny_inputs_are_noted() -> None:
    graph = small()
    found = quantize(graph.model(), samples(graph.shape) * np.float32(1e-7))
    assert "coarse_input" in {item.rule for item in found.warnings}


@pytest.mark.slow
def test_wide_layers_stay_exact() -> None:
    graph = FloatBuilder((1, 64, 32, 1), seed=1)
    graph.conv(64, 1)
    graph.relu()
    graph.conv(4, 31)
    graph.relu()
    graph.flatten()
    graph.linear(4)
    x = samples(graph.shape, 16)
    for bits in (8, 4, 2):
        program = InferenceSession(quantize(graph.model(), x, bits).content).program
        assert certify(program).model[Property.ONNXRUNTIME_EXACT].holds
        check_widths(program, bits)


def test_two_outputs_and_a_tensor_that_is_read_twice() -> None:
    graph = FloatBuilder((1, 3, 16, 1), seed=4)
    graph.conv(8, 3)
    first = graph.relu()
    graph.conv(4, 1)
    model = graph.model(outputs=(first, graph.tensor))
    x = samples(graph.shape)
    for float_output in (False, True):
        found = quantize(model, x, float_output=float_output)
        session = InferenceSession(found.content)
        assert [output.name for output in session.get_outputs()] == [first, graph.tensor]
        for wanted, given, scale in zip(
            InferenceSession(model).run(None, {"input": x}),
            session.run(None, {"input": x}),
            found.output_scales.values(),
            strict=True,
        ):
            assert signal_to_noise(wanted, given * np.float64(scale)) > 30
