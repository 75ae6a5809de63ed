"""Golden C files of models whose inputs and outputs are integers: compiled with gcc, run against right and wrong results."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from npusim.golden.folder import read_manifest
from support import FORMATS
from support.command_line import call
from support.models import model_of
from support.tflite_models import one_operator, tensor

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed, and C files cannot be compiled")

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror"]
ENDS = {"INT8": ("int8_t", -3), "UINT8": ("uint8_t", 120), "INT16": ("int16_t", 0)}


def dense(element: str) -> bytes:
    """A fully connected layer of 6 inputs and 4 outputs: of TensorFlow Lite, or for uint8 an operator of ONNX."""
    rng = np.random.default_rng(3)
    zero_point = ENDS[element][1]
    if element == "UINT8":
        held = {"w": rng.integers(0, 256, (6, 4)).astype(np.uint8), "zero": np.uint8(zero_point)}
        scales = {"sx": np.float32(0.05), "sw": np.float32(0.01), "middle": np.uint8(128)}
        names = ["x", "sx", "zero", "w", "sw", "middle", "sx", "zero"]
        node = helper.make_node("QLinearMatMul", names, ["y"])
        return model_of([node], {"x": (np.uint8, (1, 6))}, {"y": (np.uint8, (1, 4))}, {**held, **scales})
    tensors = (
        tensor("x", element, (1, 6), 0.05, zero_point),
        tensor("w", "INT8", (4, 6), 0.01, 0, rng.integers(-127, 128, (4, 6))),
        tensor("b", "INT64" if element == "INT16" else "INT32", (4,), 0.0005, 0, rng.integers(-500, 500, 4)),
    )
    return one_operator("FULLY_CONNECTED", tensors, tensor("y", element, (1, 4), 0.05, zero_point), version=4)


def run(folder: Path, values: np.ndarray) -> int:
    """The exit code of a program with the harness and an application that replays these outputs."""
    kind = f"{values.dtype}_t"
    numbers = ", ".join(map(str, values.ravel().tolist()))
    size = values[0].size
    wrapped = ""
    if "tvmgen" in (folder / "npusim_check.c").read_text():
        # a model that a compiler has made a function of: it has structures of pointers
        (folder / "tvmgen_default.h").write_text(
            "#include <stdint.h>\n"
            "struct tvmgen_default_inputs { void *x; };\nstruct tvmgen_default_outputs { void *y; };\n"
            "int32_t tvmgen_default_run(struct tvmgen_default_inputs *i, struct tvmgen_default_outputs *o);\n"
        )
        wrapped = (
            '#include "tvmgen_default.h"\nint32_t npusim_invoke(const npusim_input *input, npusim_output *output);\n'
            "int32_t tvmgen_default_run(struct tvmgen_default_inputs *i, struct tvmgen_default_outputs *o)\n"
            "{\n    return npusim_invoke(i->x, o->y);\n}\n"
        )
    (folder / "main.c").write_text(
        f'#include <string.h>\n#include "npusim_check.h"\n{wrapped}'
        f"static const {kind} replayed[{values.size}] = {{ {numbers} }};\n"
        "int32_t npusim_invoke(const npusim_input *input, npusim_output *output)\n{\n"
        "    uint32_t set;\n    for (set = 0; set < NPUSIM_ALL_SETS; set++) {\n"
        "        if (memcmp(input, npusim_check_input(set), sizeof(npusim_input) * NPUSIM_INPUT_VALUES) == 0) {\n"
        f"            memcpy(output, replayed + set * {size}u, sizeof(npusim_output) * NPUSIM_OUTPUT_VALUES);\n"
        "            return 0;\n        }\n    }\n    return 1;\n}\n"
        "int main(void)\n{\n    npusim_report report;\n    return (int)npusim_check_all(&report);\n}\n"
    )
    sources = ["main.c", "npusim_check.c", "test_vector.c"]
    done = subprocess.run(["gcc", *STRICT, *sources, "-o", "device"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return subprocess.run([str(folder / "device")], check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize("element", ENDS)
def test_right_codes_pass_and_each_wrong_one_fails(element: str, tmp_path: Path) -> None:
    model, folder = tmp_path / "model.tflite", tmp_path / "golden"
    model.write_bytes(dense(element))
    done = call("golden", "write", model, "-o", folder, "--samples", 3)
    assert done.code == 0, done.err
    assert call("golden", "verify", folder).code == 0
    arrays = np.load(folder / "vectors.npz")
    x, y = (arrays[item["key"]] for item in read_manifest(folder)["tensors"] if item["name"] in ("x", "y"))
    assert x.dtype.name == y.dtype.name == element.lower()
    source = (folder / "test_vector.c").read_text(encoding="ascii")
    kind = ENDS[element][0]
    numbers = ", ".join(map(str, x[0].ravel().tolist()))
    assert f"{kind} model_test_input[6] = {{\n{numbers},\n}} ;" in source
    numbers = ", ".join(map(str, y[0].ravel().tolist()))
    assert f"{kind} golden_output[4] = {{\n{numbers},\n}} ;" in source
    assert "#define OUTPUT_INT\n" in (folder / "user_input_config.h").read_text(encoding="ascii")
    assert run(folder, y) == 0
    for place in (0, y.size - 1):
        wrong = y.copy()
        wrong.flat[place] ^= 1
        assert run(folder, wrong) == 1, place


def test_format_and_arithmetic_are_named(tmp_path: Path) -> None:
    model, folder = tmp_path / "model.tflite", tmp_path / "golden"
    model.write_bytes(dense("INT8"))
    assert call("golden", "write", model, "-o", folder, "--samples", 1, "--arithmetic", "litert_ref").code == 0
    named = "Format: tflite; arithmetic: litert_ref. The vectors hold for this arithmetic only."
    for name in ("test_vector.c", "npusim_check.h"):
        assert named in (folder / name).read_text(encoding="ascii")
    found = read_manifest(folder)["model"]
    assert (found["format"], found["arithmetic"]) == ("tflite", "litert_ref")


@pytest.mark.formats
@pytest.mark.parametrize("name", ["public/public_tflm_hello_world_int8/model.tflite", "model.h"])
def test_real_models(name: str, tmp_path: Path) -> None:
    done = call("golden", "write", FORMATS / name, "-o", tmp_path / "golden", "--samples", 2)
    assert done.code == 0, done.err
    assert call("golden", "verify", tmp_path / "golden").code == 0
    manifest = read_manifest(tmp_path / "golden")
    (key,) = [item["key"] for item in manifest["tensors"] if item["role"] == "output"]
    y = np.load(tmp_path / "golden" / "vectors.npz")[key]
    assert run(tmp_path / "golden", y) == 0
    assert run(tmp_path / "golden", y ^ 1) == 1


@pytest.mark.slow
def test_samples_are_made_for_models_with_channels_last(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    tensors = (
        tensor("x", "INT8", (1, 5, 3, 2), 0.05, -3),
        tensor("w", "INT8", (4, 3, 2, 2), 0.01, 0, rng.integers(-127, 128, (4, 3, 2, 2))),
        tensor("b", "INT32", (4,), 0.0005, 0, rng.integers(-500, 500, 4)),
    )
    options = {"padding": "VALID", "stride_h": 1, "stride_w": 1}
    model = one_operator("CONV_2D", tensors, tensor("y", "INT8", (1, 3, 2, 4), 0.05, 7), options, version=3)
    (tmp_path / "model.tflite").write_bytes(model)
    done = call("golden", "write", tmp_path / "model.tflite", "-o", tmp_path / "golden", "--samples", 4)
    assert done.code == 0, done.err
    assert call("golden", "verify", tmp_path / "golden").code == 0
    item = next(item for item in read_manifest(tmp_path / "golden")["tensors"] if item["name"] == "x")
    x = np.load(tmp_path / "golden" / "vectors.npz")[item["key"]]
    assert x.shape == (4, 5, 3, 2)
