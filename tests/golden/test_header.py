"""The input stage's parameters in a generated model header against those of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from npusim.engine.input_stages import stage_parameters
from npusim.program.input_stage import input_stages
from support import ROOT
from support.command_line import call, check_error, checked_json
from support.dump_files import save
from support.golden_check_models import session_for, write_golden

MODEL = ROOT / "golden" / "vibration_w8.onnx"


def header(offset: np.ndarray, multiplier: np.ndarray, shift: np.ndarray) -> str:
    arrays = {"float": ("bias", offset), "int32_t": ("scale", multiplier), "int": ("shift", shift)}
    lines = [
        f"{c_type} tvmgen_default_{name}_data[] = {{{', '.join(f'{value:.9g}' for value in values.ravel())}}};"
        for c_type, (name, values) in arrays.items()
    ]
    return "struct tvmgen_default_inputs { void* input; };\n" + "\n".join(lines)


def test_parameters_in_a_generated_header(tmp_path: Path) -> None:
    program = session_for("vibration_w8").program
    known = stage_parameters(program, input_stages(program)[0])
    path = save(tmp_path / "tvmgen_default.h", header(known.offset, known.multiplier, known.shift))
    for source in (MODEL, write_golden(tmp_path / "vectors")):
        outcome = call("golden", "check", source, "--dump", path, "--json")
        assert checked_json("golden_check", outcome)["totals"] == {"tensors": 3, "values": 9, "differing": 0, "explained": 0}
    old = save(tmp_path / "tvmgen_default.h", header(np.rint(known.offset), known.multiplier, known.shift))
    value = checked_json("golden_check", call("golden", "check", MODEL, "--dump", old, "--json"))
    assert [layer["differing"] for layer in value["layers"]] == [3, 0, 0]
    assert [cause["cause"] for cause in value["layers"][0]["causes"]] == ["rounded_parameters"]
    assert "before 2.1.1" in value["layers"][0]["causes"][0]["message"]
    bare = save(tmp_path / "tvmgen_default.h", "struct tvmgen_default_inputs { void* input; };")
    check_error("golden_check", MODEL, "--dump", bare, code=2, kind="InputError", says="holds no parameters")
