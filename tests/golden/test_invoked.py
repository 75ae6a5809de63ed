"""The C harness of models that the application runs: TensorFlow Lite and the MATCH family."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from npusim import InferenceSession, verify_golden, write_golden
from npusim.golden.folder.c_files import c_name
from npusim.kernels.input_quantizer import quantize_input
from npusim.quantization import quantize
from support.float_networks import FloatBuilder, samples

MAIN = """
#include <stdio.h>
#include "npusim_check.h"

static uint32_t calls;

int32_t npusim_invoke(const npusim_input *input, npusim_output *output)
{
    uint32_t set, index;
    for (set = 0; set < NPUSIM_CHECK_SETS; set++) {
        uint32_t same = 0;
        for (index = 0; index < NPUSIM_INPUT_VALUES; index++) {
            same += input[index] == npusim_check_input(set)[index];
        }
        if (same == NPUSIM_INPUT_VALUES) {
            for (index = 0; index < NPUSIM_OUTPUT_VALUES; index++) {
                output[index] = answers[set][index];
            }
            output[0] = (npusim_output)(output[0] + WRONG);
            calls++;
            return 0;
        }
    }
    return 7;
}

int main(void)
{
    npusim_report report;
    int32_t verdict = npusim_check_all(&report);
    printf("%d %u %d %u %u\\n", (int)verdict, (unsigned)report.mismatches, (int)report.set, (unsigned)calls,
           (unsigned)npusim_layer_sum(1, 0));
    return 0;
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("to", ["tflite", "match"])
def test_the_application_runs_the_model(tmp_path: Path, to: str) -> None:
    graph = FloatBuilder((1, 2, 12), seed=5)
    graph.conv(3, 3)
    graph.relu()
    graph.flatten()
    graph.linear(4)
    x = np.abs(samples(graph.shape))
    found = quantize(graph.model(), x, to=to)
    session = InferenceSession(found.content)
    given = session.get_inputs()[0]
    values = np.random.default_rng(1).integers(-128, 128, (3, *given.shape[1:])).astype(np.int8)
    if to == "match":
        values = quantize_input(x[:3], *found.input_alpha["input"], 8)
    folder = tmp_path / "golden"
    assert write_golden(session, folder, {given.name: values}, sets=3)
    assert verify_golden(folder)
    assert "tvmgen" not in "".join((folder / name).read_text() for name in ("npusim_check.h", "npusim_check.c"))
    (outputs,) = session.run(None, {given.name: values})
    rows = ",\n".join("{" + ", ".join(str(int(value)) for value in row) + "}" for row in outputs.reshape(3, -1))
    answers = f"static const int answers[3][{outputs[0].size}] = {{{rows}}};\n"
    (folder / "main.c").write_text(MAIN.replace("static uint32_t calls;", f"static uint32_t calls;\n{answers}"))
    (label,) = re.findall(r"#define NPUSIM_LAYER_(\w+) 0$", (folder / "npusim_check.h").read_text(), re.MULTILINE)
    trace = session.trace({given.name: values})
    (first,) = [name for name in trace if c_name(name).lstrip("_") == label]
    layer = trace[first][1]
    for wrong in (0, 1):
        strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", f"-DWRONG={wrong}"]
        command = ["gcc", *strict, "main.c", "npusim_check.c", "-o", "device"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told = subprocess.run([folder / "device"], capture_output=True, text=True, check=True).stdout.split()
        verdict, mismatches, place, calls, summed = (int(number) for number in told)
        assert (verdict, place, calls) == (wrong, -1 + wrong, 3)
        assert (mismatches > 0) == bool(wrong)
        assert summed == sum(int(code) % 256 for code in layer.ravel())
