"""Random networks in random dialects: every tensor equals onnxruntime's, and stacking samples changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from npusim import InferenceSession
from npusim.search.sampling import generate_inputs
from npusim.verification import verify
from support.runtime_check import compare_with_runtime
from support.strategies import Network, networks


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_every_tensor_equals_onnxruntime(network: Network) -> None:
    session = InferenceSession(network.model)
    assert tuple(str(layer.kind) for layer in session.program.layers) == network.kinds
    assert {step.operator for step in session.program.host_operations} <= {"Flatten"}
    x = np.random.default_rng(network.seed).normal(0, 1, (3, *network.shape)).astype(np.float32)
    compare_with_runtime(network.model, {"input": x})


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_verification_and_stacking(network: Network) -> None:
    session = InferenceSession(network.model)
    feeds = generate_inputs(session.program, 9, seed=network.seed)
    result = verify(session, feeds)
    assert result
    assert {step.comparison for step in result.steps if step.kind != "CONSTANT"} == {"exact"}
    whole = session.run(None, feeds)[0]
    single = [session.run(None, {name: array[i : i + 1] for name, array in feeds.items()})[0] for i in range(9)]
    np.testing.assert_array_equal(whole, np.concatenate(single))
