"""What is stated of formats that are not the NPU's: int32 in the runtime, and nothing of floats, digits and registers."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import npusim
from npusim.bounds import Property
from npusim.schemas import load_schema
from support import FORMATS
from support.command_line import call, checked_json
from support.match_models import chain
from support.tflite_models import one_operator, tensor

NPU_WORDS = ("onnxruntime", "onnx- ", "2^24", "digit", "18 bit", "NPU", "soft library", "float32", "scale_width", "bias_width")


def dense(inputs: int, weight: int = 127, bias: int = 0, element: str = "INT8") -> bytes:
    """A fully connected layer with two outputs; the second has half the weights, of the other sign, and no bias."""
    signs = np.array([[2], [-1]])
    wide = element == "INT16"
    tensors = (
        tensor("x", element, (1, inputs), 0.05, 0 if wide else -128),
        tensor("w", "INT8", (2, inputs), 0.01, 0, weight * signs // 2 * np.ones(inputs, int)),
        tensor("b", "INT64" if wide else "INT32", (2,), 0.0005, 0, [bias, 0]),
    )
    return one_operator("FULLY_CONNECTED", tensors, tensor("y", element, (1, 2), 1e4, 0), version=7)


def judged(model: bytes) -> tuple[str, str]:
    proof = npusim.certify(model).proof
    assert list(proof.model) == [Property.ACCUMULATOR_INT32]
    return str(proof.verdicts.accumulator_int32), proof.reasons.accumulator_int32


def test_sums_that_fit_are_proven_and_those_that_do_not_are_violated() -> None:
    """255 * 127 * n passes int32 from n = 66312 on; x - zero point is 0 to 255."""
    assert 255 * 127 * 66311 < 2**31 <= 255 * 127 * 66312
    verdict, reason = judged(dense(66311))
    assert verdict == "proven", reason
    verdict, reason = judged(dense(66312))
    assert verdict == "violated"
    assert f"{255 * 127 * 66312:,}" in reason
    assert not npusim.certify(dense(66312)).ok


def test_a_bias_counts() -> None:
    """A bias brings the sum over the limit by one, or back what passes it only on the way."""
    most = 2**31 - 1 - 255 * 127 * 66311
    assert judged(dense(66311, bias=most))[0] == "proven"
    assert judged(dense(66311, bias=most + 1))[0] == "violated"
    verdict, reason = judged(dense(66311 + 1, bias=-(10**8)))
    assert verdict == "unknown"
    assert "comes back" in reason


def test_wider_codes_are_not_judged_as_int32() -> None:
    verdict, reason = judged(dense(1000, element="INT16"))
    assert verdict == "unknown"
    assert "16-bit codes" in reason
    assert judged(dense(100, element="INT16"))[0] == "proven"


@pytest.mark.parametrize(("addend", "verdict"), [(2**31 - 128, "proven"), (2**31, "violated")])
def test_the_product_of_a_match_layer(addend: int, verdict: str) -> None:
    """k * phi + lambda with a largest phi of 255 * 100 * 3 and k = 1024; the addend is a float32."""
    found = npusim.certify(chain(weight=100, factor=1024, addend=addend - 255 * 100 * 3 * 1024))
    assert list(found.proof.model) == [Property.ACCUMULATOR_INT32, Property.PRODUCT_INT32]
    assert found.proof.verdicts.accumulator_int32 == "proven"
    assert found.proof.verdicts.product_int32 == verdict
    assert found.ok == (verdict == "proven")
    assert found.layers[0].step.scaled[1] == addend


def test_text_and_json_hold_what_applies(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(dense(8))
    text = " ".join(call("bounds", path, "--channels").out.split())
    assert not [word for word in NPU_WORDS if word in text]
    assert "times scale" not in text
    assert text.endswith("proven nothing overflows the int32 accumulators of the runtime")
    value = checked_json("bounds", call("bounds", path, "--channels", "--json"))
    layer = value["layers"][0]
    assert layer["accumulator"] == [-8 * 64 * 255, 8 * 127 * 255]
    assert layer["scaled"] is layer["digit_accumulator"] is layer["onnxruntime_optimized"] is None
    assert layer["channels"]["scaled"] is layer["channels"]["digit_accumulators"] is None
    assert layer["verdicts"] == {
        "onnxruntime_exact": None,
        "soft_int32": None,
        "digit_18bit": None,
        "accumulator_int32": "proven",
    }
    assert value["verdicts"] == layer["verdicts"]
    assert {key for key, room in layer["room"].items() if room is not None} == {"int32", "accumulator_int32"}
    assert layer["room"]["accumulator_int32"] == 32 - 1 - (8 * 127 * 255).bit_length()


def test_certificates_are_checked_again(tmp_path: Path) -> None:
    path, certificate = tmp_path / "model.tflite", tmp_path / "certificate.json"
    path.write_bytes(dense(8))
    assert call("bounds", path, "-o", certificate).code == 0
    value = json.loads(certificate.read_text())
    jsonschema.validate(value, load_schema("certificate"))
    assert call("bounds", path, "--check", certificate).code == 0
    for wrong, code in (("unknown", 1), (None, 2), ("perhaps", 2)):
        value["verdicts"]["accumulator_int32"] = wrong
        certificate.write_text(json.dumps(value))
        assert call("bounds", path, "--check", certificate).code == code, wrong


@pytest.mark.formats
@pytest.mark.parametrize(
    ("name", "statements"),
    [
        ("public/public_match_arcane_mnist/model.onnx", {"accumulator_int32", "product_int32"}),
        ("public/public_dory_dscnn_test/model.onnx", {"accumulator_int32", "product_int32"}),
        ("public/public_tflm_hello_world_int8/model.tflite", {"accumulator_int32"}),
        ("other/ort_mlp__qdq_u8s8_perch/model.onnx", {"accumulator_int32"}),
        ("other/ort_mlp__qoperator_u8s8_perch/model.onnx", {"accumulator_int32"}),
    ],
)
def test_real_models(name: str, statements: set[str]) -> None:
    found = call("bounds", FORMATS / name)
    assert found.code == 0
    assert not [word for word in NPU_WORDS if word in " ".join(found.out.split())]
    value = checked_json("bounds", call("bounds", FORMATS / name, "--json"))
    assert {key: verdict for key, verdict in value["verdicts"].items() if verdict} == dict.fromkeys(statements, "proven")
