"""A network of one spatial axis is written with two, and samples of either sort go with it."""

from __future__ import annotations

import numpy as np
import pytest

import npusim
from npusim.graph.scale_metadata import CODE_SCALES
from npusim.quantization import quantize
from support.float_networks import FloatBuilder, samples


def network() -> FloatBuilder:
    graph = FloatBuilder((1, 4, 32), seed=5)
    graph.conv(8, 5)
    graph.relu()
    graph.max_pool()
    graph.conv(8, 3)
    graph.relu()
    graph.flatten()
    graph.linear(4)
    return graph


@pytest.mark.slow
@pytest.mark.parametrize("float_output", [False, True])
def test_lint_takes_all_layers_and_no_code_changes(float_output: bool) -> None:
    graph = network()
    x = samples(graph.shape)
    old = quantize(graph.model(), x, float_output=float_output)
    made = npusim.quantize(graph.model(), x, float_output=float_output)
    first, second = npusim.InferenceSession(old.content), npusim.InferenceSession(made.content)
    assert (first.get_inputs()[0].shape[1:], second.get_inputs()[0].shape[1:]) == ([4, 32], [4, 32, 1])
    (wanted,), (found,) = first.run(None, {"input": x}), second.run(None, {"input": x[..., np.newaxis]})
    assert wanted.tobytes() == found.tobytes()
    before, after = (npusim.lint(model, "f28p55x").totals for model in (old.content, made.content))
    assert (before.npu, after.npu, after.layers) == (1, 4, 4)
    notes = [session.get_modelmeta().custom_metadata_map.get(CODE_SCALES) for session in (first, second)]
    assert notes[0] == notes[1] is not None


def test_samples_of_either_sort_go_with_either_model() -> None:
    graph = network()
    x = samples(graph.shape)
    wide = x[..., np.newaxis]
    made, other = npusim.quantize(graph.model(), x), npusim.quantize(graph.model(), {"input": wide})
    assert made.content == other.content
    one, two = (npusim.compare(made.content, graph.model(), values) for values in (x, {"input": wide}))
    assert one.to_dict() == two.to_dict()
    assert npusim.verify(made.content, x)


def test_a_network_of_two_axes_or_of_none_stays_as_it_is() -> None:
    graph = FloatBuilder((1, 4, 8, 1), seed=5)
    graph.conv(4, 1)
    graph.flatten()
    graph.linear(4)
    x = samples(graph.shape)
    assert npusim.quantize(graph.model(), x).content == quantize(graph.model(), x).content
