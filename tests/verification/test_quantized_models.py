"""verify of models with zero points: fused layers as operators on codes, the file itself in onnxruntime's settings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from npusim import InferenceSession
from npusim import verify as verify_publicly
from npusim.engine import second_opinion
from npusim.engine.second_opinion import SETTINGS, RuntimeSetting, SecondOpinion
from npusim.graph import Array
from npusim.graph.model_reader import read_model
from npusim.program import Program
from npusim.program.lowering import qoperator_copy
from npusim.program.lowering.qoperator_copy import OnCodes, on_codes
from npusim.search.sampling import generate_inputs
from npusim.verification import explain_element, verify
from support.qdq_networks import qdq_network

SAMPLES = 12


def verified(session: InferenceSession):
    return verify(session, generate_inputs(session.program, SAMPLES, seed=3))


def operators(session: InferenceSession, **options: bool) -> OnCodes:
    graph = read_model(session.model)
    present = {*graph.inputs, *graph.constants, *(name for node in graph.nodes for name in node.outputs)}
    return on_codes(session.program, present, fused=True, **options)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_every_fused_layer_is_one_operator_on_codes_and_equal(dtype: str) -> None:
    session = InferenceSession(qdq_network(dtype))
    found = {node.op_type for node in operators(session).nodes} - {"Cast", "Div", "Round", "Add", "Max", "Min"}
    assert found == {"QLinearConv", "QLinearAdd", "QLinearMul", "QLinearAveragePool", "QLinearGlobalAveragePool", "QGemm"}
    result = verified(session)
    assert result.ok, [step for step in result.steps if step.mismatches]
    assert all(step.comparison == "exact" for step in result.steps if step.kind != "CONSTANT")
    assert result.settings[0].setting == "default"


@pytest.mark.parametrize("opset", [17, 19])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_the_graph_as_written_is_equal_up_to_the_order_of_float_sums(dtype: str, opset: int) -> None:
    result = verified(InferenceSession(qdq_network(dtype, opset=opset), arithmetic="onnx"))
    assert result.ok, [step for step in result.steps if step.mismatches]
    assert {step.comparison for step in result.steps} == {"exact", "exact_given_inputs", "bounded"}
    assert not result.settings


def test_16_bits_stay_in_float_and_differ_within_what_the_order_of_sums_can_change() -> None:
    session = InferenceSession(qdq_network("int16", opset=21))
    assert not operators(session).written
    result = verified(session)
    assert result.ok, [step for step in result.steps if step.mismatches]
    limits = [step.limit for step in result.steps if step.comparison == "bounded"]
    assert limits
    assert max(limits) <= 1
    # onnxruntime multiplies by quantized weights in a kernel that rounds the other operand to 8 bits, unless told otherwise
    mismatches = {setting.setting: setting.mismatches for setting in result.settings}
    least = mismatches.get("session.qdq_matmulnbits_accuracy_level=1", 0)
    assert least <= 2 or least < mismatches["default"] / 4


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_a_wrong_layer_is_found(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = InferenceSession(qdq_network(dtype))

    def shifted(program: Program, present: object, *, fused: bool, unsigned_weights: bool = False) -> OnCodes:
        made = on_codes(program, present, fused=fused, unsigned_weights=unsigned_weights)
        name = next(name for name in made.constants if name.endswith("/bias"))
        made.constants[name] = made.constants[name] + np.int32(3000)
        return made

    monkeypatch.setattr(second_opinion, "on_codes", shifted)
    result = verified(session)
    assert not result.ok
    differing = [step for step in result.steps if step.mismatches]
    assert differing[0].kind == "GCONV"


def test_processors_that_saturate_get_weights_without_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    session = InferenceSession(qdq_network("uint8"))
    monkeypatch.setattr(second_opinion, "adds_in_16_bits", lambda: True)
    made = operators(session, unsigned_weights=True)
    weights = {name: value for name, value in made.constants.items() if name.endswith("/w")}
    assert weights
    assert {value.dtype for value in weights.values()} == {np.dtype(np.uint8)}
    assert verified(session).ok


def test_this_processor_adds_exactly_or_the_probe_says_so() -> None:
    assert second_opinion.adds_in_16_bits() in (False, True)


@pytest.mark.parametrize(("wrong", "ok"), [({"default"}, True), ({setting.name for setting in SETTINGS}, False)])
def test_a_file_that_differs_in_all_settings_contradicts_its_layers(
    wrong: set[str], ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(SecondOpinion):
        """onnxruntime with other outputs in some settings."""

        changed = False

        @classmethod
        def original(cls, session: InferenceSession, setting: RuntimeSetting) -> SecondOpinion:
            made = super().original(session, setting)
            made.changed = setting.name in wrong
            return made

        @classmethod
        def of(cls, session, tensors=(), *, optimized=False, constants=()):
            made = super().of(session, tensors, optimized=optimized, constants=constants)
            made.changed = optimized
            return made

        def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
            found = super().run(feeds)
            return {name: values + self.changed * np.float32(0.03) for name, values in found.items()} if self.changed else found

    monkeypatch.setattr("npusim.verification.runtime.SecondOpinion", Other)
    session = InferenceSession(qdq_network("uint8"))
    result = verify_publicly(session, samples=3)
    assert bool(result) is ok
    (finding,) = result.findings
    assert finding.rule == ("runtime_setting" if ok else "file_differs")
    assert finding.severity == ("warning" if ok else "error")
    settings = result.to_dict()["onnxruntime"]["settings"]
    computed = {entry["setting"] for entry in settings if entry["mismatches"] and entry["optimized"]}
    assert computed == {entry["setting"] for entry in settings if entry["optimized"]} & wrong


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_every_element_of_every_layer_can_be_explained(dtype: str) -> None:
    session = InferenceSession(qdq_network(dtype, opset=21))
    feeds = generate_inputs(session.program, 2, seed=1)
    for layer in session.program.layers:
        codes = session.trace(feeds, layer.output)[layer.output]
        place = tuple(size - 1 for size in codes.shape[1:])
        assert explain_element(session, feeds, layer.name, 1, place).code == codes[(1, *place)], layer


def test_layers_that_no_kernel_computes_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise qoperator_copy._NotWritten

    monkeypatch.setattr(qoperator_copy._Layer, "_pair", refuse)
    session = InferenceSession(qdq_network("uint8"))
    assert not {node.op_type for node in operators(session).nodes} & {"QLinearAdd", "QLinearMul"}
