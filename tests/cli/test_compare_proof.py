"""``npusim compare --prove``: exit codes, the JSON object, certificates, and inputs that are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import npusim
from support import ROOT
from support.command_line import call, checked_json

W8, W4 = (str(ROOT / "golden" / f"vibration_{name}.onnx") for name in ("w8", "w4"))


def test_a_model_is_proven_equal_to_itself(tmp_path: Path) -> None:
    certificate = tmp_path / "equal.json"
    done = call("compare", W8, "--against", W8, "--prove", "--certificate", str(certificate), "--json")
    found = checked_json("compare", done)
    assert done.code == 0
    assert (found["ok"], found["verdict"], found["findings"]) == (True, "proven", [])
    assert all(layer["same"] == layer["values"] for layer in found["layers"])
    assert call("compare", W8, "--against", W8, "--prove", "--check", str(certificate)).code == 0
    other = call("compare", W8, "--against", W4, "--prove", "--check", str(certificate), "--json")
    assert other.code == 1
    assert [finding["rule"] for finding in checked_json("compare", other)["findings"]] == ["other_model"]


def test_a_difference_is_shown_with_inputs_that_give_it(tmp_path: Path) -> None:
    witness = tmp_path / "differs.npz"
    done = call("compare", W8, "--against", W4, "--prove", "--witness", str(witness), "--json")
    found = checked_json("compare", done)
    assert (done.code, found["verdict"]) == (1, "different")
    difference = found["difference"]
    inputs = dict(np.load(witness))
    outputs = [npusim.InferenceSession(path).run(None, inputs)[0][0] for path in (W8, W4)]
    place = tuple(difference["position"])
    assert [output[place] for output in outputs] == [difference["first"], difference["second"]]


def test_models_with_other_outputs_cannot_be_equal() -> None:
    done = call("compare", W8, "--against", str(ROOT / "golden" / "dense_w8.onnx"), "--prove")
    assert done.code == 2
    assert "cannot be equal" in done.err


@pytest.mark.parametrize("options", [["--witness", "x.npz"], ["--seconds", "3"], ["--against-arithmetic", "npu"]])
def test_options_of_proofs_are_refused_without_one(options: list[str]) -> None:
    done = call("compare", W8, "--against", W4, *options)
    assert done.code == 2
    assert "--prove" in done.err


def test_a_damaged_certificate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "equal.json"
    path.write_text('{"equality_certificate": 1, "models": []}')
    done = call("compare", W8, "--against", W8, "--prove", "--check", str(path))
    assert done.code == 2
    assert "is not a certificate of equality" in done.err
