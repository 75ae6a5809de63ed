"""The C files of golden folders, compiled with gcc against a fake model that replays right and corrupted results."""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from npusim.golden.folder.c_files import FIRST_VALUES, check_header, check_source, checked_layers, input_config
from npusim.golden.folder.c_files import test_vector as vector_text
from npusim.golden.folder.vectors import Vectors, compute_vectors, little_endian
from support import ROOT
from support.golden_models import KINDS, samples, session_of

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed, and C files cannot be compiled")

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Wsign-conversion", "-Wshadow", "-Wundef", "-Werror"]
VALUE, CRC, LENGTH, RUN_FAILED, NO_SUCH = 1, 2, 3, 4, 5
WIDE = {"int8": "int16", "uint8": "uint16"}
"""Element types in memory where the smallest addressable unit has 16 bits."""

DEVICE_HEADER = """#ifndef DEVICE_H
#define DEVICE_H
typedef short int8_t;
typedef unsigned short uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
#endif
"""
MODEL_HEADER = """#ifdef __TMS320C2000__
#include "device.h"
#else
#include <stdint.h>
#endif
struct tvmgen_default_inputs { void *input; };
struct tvmgen_default_outputs { void *@OUTPUT@; };
int32_t tvmgen_default_run(struct tvmgen_default_inputs *inputs, struct tvmgen_default_outputs *outputs);
"""


@dataclass
class Device:
    """A program that replays a tape, and what is to be on it."""

    vectors: Vectors
    program: Path
    wide: bool
    layers: list[tuple[int, int]] = field(default_factory=list)
    """Numbers of layers to hand over, and in which order of axes."""
    surplus: int = 0
    """Added to the lengths that are said of them."""

    def memory(self, values: np.ndarray) -> np.ndarray:
        """Values as the device holds them."""
        return values.astype(WIDE.get(values.dtype.name, values.dtype)) if self.wide else values

    def play(
        self, change: Callable[[int, str, np.ndarray], np.ndarray] = lambda _, __, values: values, status: int = 0
    ) -> list[int]:
        """Run on all sets; `change` may corrupt values of a set: ``input``, ``output`` or a layer, by its number."""
        tape = self.program.with_suffix(".tape")
        known = checked_layers(self.vectors)
        content = bytearray()
        for number in range(self.vectors.sets):

            def block(name: str, values: np.ndarray, number: int = number) -> bytes:
                held = change(number, name, self.memory(values).ravel().copy()).tobytes()
                return struct.pack("<i", len(held)) + held

            content += struct.pack("<i", status)
            content += block("input", self.vectors[self.vectors.calls[0]].values[number])
            content += block("output", self.vectors.tensors[-1].values[number])
            if status == 0:
                content += struct.pack("<i", len(self.layers))
            for layer, order in self.layers if status == 0 else ():
                values = (known[layer].channels_last() if order else known[layer].values)[number]
                content += struct.pack("<iii", layer, values.size + self.surplus, order) + block(str(layer), values)
        tape.write_bytes(bytes(content))
        done = subprocess.run([str(self.program), str(tape)], capture_output=True, text=True, check=True)
        return [int(text) for text in done.stdout.split()]


@pytest.fixture(name="build", scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Device]:
    made: dict[object, Device] = {}

    def build(kind: str = "int8", *, wide: bool = False, from_codes: bool = False, macros: Iterable[str] = ()) -> Device:
        key = (kind, wide, from_codes, tuple(macros))
        if key not in made:
            made[key] = compile_device(tmp_path_factory.mktemp("c"), *key)
        return Device(made[key].vectors, made[key].program, wide)

    return build


def compile_device(folder: Path, kind: str, wide: bool, from_codes: bool, macros: tuple[str, ...]) -> Device:
    session = session_of(kind)
    vectors = compute_vectors(session, samples().inputs, from_codes=from_codes)
    output = session.get_outputs()[0].name
    texts = {
        "npusim_check.h": check_header(vectors, "default", session.model.sha256),
        "npusim_check.c": check_source(vectors, "default"),
        "test_vector.c": vector_text(vectors, range(vectors.sets), session.model.sha256),
        "user_input_config.h": input_config(vectors),
        "device.h": DEVICE_HEADER,
        "tvmgen_default.h": MODEL_HEADER.replace("@OUTPUT@", output),
        "main.c": (Path(__file__).with_name("fake_device.c.txt")).read_text(encoding="utf-8").replace("@OUTPUT@", output),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="ascii")
    defines = [
        f"-D{macro}" for macro in (*macros, "NPUSIM_LAYER_HOOK=hand_over_layers", *(["__TMS320C2000__"] if wide else []))
    ]
    sources = ["main.c", "npusim_check.c", "test_vector.c"]
    command = ["gcc", *STRICT, *defines, *sources, "-o", "device"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return Device(vectors, folder / "device", wide)


def swapped(values: np.ndarray, index: int) -> np.ndarray:
    """The same values but for one, which becomes one more or one less."""
    if values.dtype.kind == "f":
        values[index] = np.nextafter(values[index], np.float32(np.inf))
    else:
        values[index] = values[index] - 1 if values[index] > 0 else values[index] + 1
    return values


@pytest.mark.parametrize("from_codes", [False, True])
@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_right_results_pass_and_one_wrong_value_is_found(
    build: Callable[..., Device], kind: str, wide: bool, bounded: bool, from_codes: bool
) -> None:
    device = build(kind, wide=wide, from_codes=from_codes, macros=["NPUSIM_CHECK_BOUNDED"] * bounded)
    assert device.play() == [0, 3 * 48, 0, 0, -1, -1, -1, 0, 0]
    for index in (0, FIRST_VALUES - 1, FIRST_VALUES, 47):
        found = device.play(lambda number, name, v, i=index: swapped(v, i) if (number, name) == (1, "output") else v)
        known = index < FIRST_VALUES or not bounded
        assert found[:7] == [1, 3 * 48, 1, VALUE if known else CRC, 1, -1, index if known else -1]
        wanted = device.vectors.tensors[-1].values[1].ravel()
        right = wanted[index : index + 1] if known else np.array([zlib.crc32(little_endian(wanted))], np.uint32)
        bits = right.view(np.uint32) if right.dtype.itemsize == 4 else right.astype(np.int64) % 2**32
        assert found[8] == bits[0]
        assert found[7] != found[8]


@pytest.mark.parametrize("wide", [False, True])
def test_layers_are_compared_in_both_orders(build: Callable[..., Device], wide: bool) -> None:
    device = build("int8", wide=wide)
    known = checked_layers(device.vectors)
    sizes = [layer.values[0].size for layer in known]
    assert [layer.values.dtype.name for layer in known] == ["int8", "uint8", "int8"]
    assert min(sizes) > FIRST_VALUES
    for order in (0, 1):
        device.layers = [(number, order) for number in range(len(known))]
        assert device.play()[:3] == [0, 3 * (48 + sum(sizes)), 0]
        for layer, size in enumerate(sizes):
            for index in (0, FIRST_VALUES - 1, FIRST_VALUES, size - 1):
                found = device.play(
                    lambda number, name, v, i=index, at=layer: swapped(v, i) if (number, name) == (2, str(at)) else v
                )
                inside = index < FIRST_VALUES
                assert found[2:7] == [1, VALUE if inside else CRC, 2, layer, index if inside else -1]


def test_the_wrong_order_of_axes_is_a_mismatch(build: Callable[..., Device]) -> None:
    device = build("int8")
    layer = checked_layers(device.vectors)[1]
    device.layers = [(1, 0)]
    other = layer.channels_last()
    found = device.play(lambda number, name, v: other[number].ravel() if name == "1" else v)
    assert found[0] == 1
    assert found[3:6] == [VALUE, 0, 1]


def test_bytes_in_wider_elements_count_whatever_their_sign_and_other_values_do_not(build: Callable[..., Device]) -> None:
    device = build("uint8", wide=True)
    assert device.play(lambda _, name, v: v.astype(np.uint8).view(np.int8).astype(np.int16) if name == "output" else v)[0] == 0
    device = build("int8", wide=True)
    assert device.play(lambda _, name, v: v & 0xFF if name == "output" else v)[0] == 0
    # the low byte is right, the value is not a byte
    for index in (3, 30):
        for macros in ((), ("NPUSIM_CHECK_BOUNDED",)):
            device = build("int8", wide=True, macros=macros)
            found = device.play(
                lambda _, name, v, i=index: np.where(np.arange(v.size) == i, v ^ 0x100, v) if name == "output" else v
            )
            assert (found[0], found[3], found[6]) == (1, VALUE, index)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_writes_nothing_or_stops_early_is_noticed(build: Callable[..., Device], kind: str) -> None:
    device = build(kind)
    found = device.play(lambda _, name, v: v[:0] if name == "output" else v)
    assert found[2] == 3 * 48
    assert found[3:7] == [VALUE, 0, -1, 0]
    found = device.play(lambda number, name, v: v[:47] if (number, name) == (2, "output") else v)
    assert found[2:7] == [1, VALUE, 2, -1, 47]


def test_a_stale_buffer_is_noticed(build: Callable[..., Device]) -> None:
    device = build("int8")
    first = device.vectors.tensors[-1].values[0].ravel()
    found = device.play(lambda _, name, v: first if name == "output" else v)
    assert found[0] == 1
    assert found[3:6] == [VALUE, 1, -1]


def test_a_run_that_fails_is_reported_with_its_status(build: Callable[..., Device]) -> None:
    assert build("int8").play(status=7) == [1, 0, 3, RUN_FAILED, 0, -1, -1, 7, 0]


def test_the_model_gets_exactly_the_printed_input(build: Callable[..., Device]) -> None:
    for from_codes in (False, True):
        device = build("int8", from_codes=from_codes)
        found = device.play(lambda number, name, v: swapped(v, 71) if (number, name) == (1, "input") else v)
        assert found[2:5] == [1, RUN_FAILED, 1]
        assert found[7] == 99


def test_wrong_lengths_and_numbers_are_refused(build: Callable[..., Device]) -> None:
    device = build("int8", macros=["NPUSIM_CHECK_SETS=1"])
    device.layers = [(1, 2)]
    assert device.play() == [1, 48, 1, NO_SUCH, 0, 1, -1, 2, 0]
    device.layers, device.surplus = [(1, 1)], -1
    assert device.play() == [1, 48, 1, LENGTH, 0, 1, -1, 4 * 24 - 1, 4 * 24]


def test_test_vector_defines_what_device_projects_expect(build: Callable[..., Device], tmp_path: Path) -> None:
    """Compiled like the application: each set made active in turn, read back from memory, and equal to the vectors."""
    for kind in KINDS:
        device = build(kind)
        source = (device.program.parent / "test_vector.c").read_text(encoding="ascii")
        config = (device.program.parent / "user_input_config.h").read_text(encoding="ascii")
        floats = kind == "float32"
        assert ("#define OUTPUT_INT\n" in config) is not floats
        assert "#define FE_STACKING_CHANNELS 3\n#define FE_STACKING_FRAME_WIDTH 24\n#define FE_NN_OUT_SIZE 48\n" in config
        assert "SKIP_NORMALIZE" not in config
        head, *sets = source.split("//Set: ")
        assert len(sets) == 2 * 3
        for number in range(3):
            text = head + "".join(f"//Set: {part}" for part in sets[2 * number : 2 * number + 2])
            active = text.replace("*/", "").replace("/*", "").replace(head.replace("*/", "").replace("/*", ""), head)
            write = "fwrite(model_test_input, 4, 72, stdout); fwrite(golden_output, sizeof golden_output, 1, stdout);"
            main = f"#include <stdio.h>\n{active}\nint main(void) {{ {write} return 0; }}\n"
            (tmp_path / "main.c").write_text(main, encoding="ascii")
            subprocess.run(["gcc", *STRICT, "main.c", "-o", "main"], cwd=tmp_path, check=True)
            held = subprocess.run([str(tmp_path / "main")], capture_output=True, check=True).stdout
            wanted = little_endian(device.vectors["input"].values[number]) + little_endian(
                device.vectors.tensors[-1].values[number]
            )
            assert held == wanted


def test_the_files_of_two_modules_link_together(tmp_path: Path) -> None:
    objects = []
    for module, kind in (("motor", "int8"), ("fan", "float32")):
        vectors = compute_vectors(session_of(kind), samples().inputs)
        folder = tmp_path / module
        folder.mkdir()
        output = session_of(kind).get_outputs()[0].name
        texts = {
            "npusim_check.h": check_header(vectors, module, session_of(kind).model.sha256),
            "npusim_check.c": check_source(vectors, module),
            f"tvmgen_{module}.h": MODEL_HEADER.replace("@OUTPUT@", output).replace("default", module),
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="ascii")
        done = subprocess.run(
            ["gcc", *STRICT, "-DNPUSIM_PUTCHAR=put", "-DNPUSIM_GETCHAR=get", "-c", "npusim_check.c"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        objects.append(folder / "npusim_check.o")
    main = """#include <stdio.h>
#include "motor/npusim_check.h"
#include "motor/tvmgen_motor.h"
#include "fan/npusim_check.h"
#include "fan/tvmgen_fan.h"
void put(char letter);
void put(char letter) { if (letter == '\\n') { putchar('.'); } }
int32_t get(void);
int32_t get(void) { return -1; }
int32_t tvmgen_motor_run(struct tvmgen_motor_inputs *i, struct tvmgen_motor_outputs *o) { return i == 0 && o == 0 ? 0 : 7; }
int32_t tvmgen_fan_run(struct tvmgen_fan_inputs *i, struct tvmgen_fan_outputs *o) { return i == 0 && o == 0 ? 0 : 8; }
int main(void)
{
    npusim_motor_report motor;
    npusim_fan_report fan;
    const int32_t verdicts = npusim_motor_check_all(&motor) + npusim_fan_check_all(&fan);
    printf("%d %u %u %d", (int)verdicts, (unsigned)motor.seen, (unsigned)fan.seen, NPUSIM_MOTOR_ALL_SETS + NPUSIM_FAN_LAYERS);
    return 0;
}
"""
    (tmp_path / "main.c").write_text(main, encoding="ascii")
    subprocess.run(["gcc", *STRICT, "main.c", *map(str, objects), "-o", "main"], cwd=tmp_path, check=True)
    said = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=True).stdout
    layers = len(checked_layers(compute_vectors(session_of("float32"), samples().inputs)))
    # each prints that it starts, that it ends and that it waits
    assert said == f"......2 7 8 {3 + layers}"


@pytest.mark.parametrize("name", ["vibration_w4", "vibration_w8"])
def test_committed_vectors_compile(name: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "golden" / name, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tvmgen_default.h").write_text(MODEL_HEADER.replace("@OUTPUT@", "output"), encoding="ascii")
    done = subprocess.run(
        ["gcc", *STRICT, "-c", "npusim_check.c", "test_vector.c"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_skip_normalize_stands_in_the_configuration() -> None:
    vectors = compute_vectors(session_of("int8"), samples().inputs, from_codes=True)
    assert "#define SKIP_NORMALIZE\n#define OUTPUT_INT\n" in input_config(vectors)
