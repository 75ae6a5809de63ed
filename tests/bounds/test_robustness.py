"""Robustness of classes: held against every input that a sample can become."""

from __future__ import annotations

import numpy as np
import pytest

import npusim
from npusim import InferenceSession
from npusim.bounds.robustness import RobustnessVerdict, judge_robustness
from npusim.errors import UsageError
from support.command_line import call, checked_json
from support.small_networks import ALL_INPUTS, small

BOTH_CLASSES = (3, 11, 21, 24, 36)
"""Networks that give each of their two classes for at least 15 % of all inputs."""


def _classes(session: InferenceSession, inputs: np.ndarray) -> np.ndarray:
    return session.run(None, {"input": inputs})[0].argmax(axis=1)


@pytest.mark.parametrize("moved", [1, 2])
def test_verdicts_are_those_of_all_inputs_around_a_sample(moved: int) -> None:
    found = dict.fromkeys(RobustnessVerdict, 0)
    for seed in BOTH_CLASSES:
        session = InferenceSession(small(seed).model())
        classes = _classes(session, ALL_INPUTS)
        chosen = np.random.default_rng(seed).integers(0, len(ALL_INPUTS), 12)
        judged = judge_robustness(session, {"input": ALL_INPUTS[chosen]}, moved)
        for place, sample in zip(chosen, judged.samples, strict=True):
            near = (np.abs(ALL_INPUTS - ALL_INPUTS[place]) <= moved).all(axis=(1, 2, 3))
            changes = bool((classes[near] != classes[place]).any())
            assert sample.label == classes[place]
            assert (sample.verdict is not RobustnessVerdict.PROVEN) or not changes
            assert (sample.verdict is not RobustnessVerdict.BROKEN) or changes
            found[sample.verdict] += 1
        if judged.inputs is not None:
            broken = [sample for sample in judged.samples if sample.other is not None]
            assert _classes(session, judged.inputs["input"]).tolist() == [sample.other for sample in broken]
    assert found[RobustnessVerdict.PROVEN] > 10
    assert found[RobustnessVerdict.BROKEN] > 5


def test_the_command_writes_the_inputs_that_change_a_class(tmp_path) -> None:
    model, data, witness = tmp_path / "model.onnx", tmp_path / "x.npz", tmp_path / "w.npz"
    model.write_bytes(small(11).model())
    np.savez(data, input=ALL_INPUTS[::100])
    done = call("bounds", model, "--robust", 2, "--data", data, "--witness", witness, "--json")
    found = checked_json("bounds", done)["robustness"]
    assert found["proven"] + found["broken"] + found["unknown"] == len(found["samples"]) == 41
    assert found["broken"] > 0
    assert done.code == 1
    session = InferenceSession(str(model))
    broken = [sample["other"] for sample in found["samples"] if sample["verdict"] == "broken"]
    assert _classes(session, np.load(witness)["input"]).tolist() == broken


def test_robustness_is_that_of_samples() -> None:
    with pytest.raises(UsageError, match="robustness is that of samples"):
        npusim.certify(small(11).model(), robust=1)
