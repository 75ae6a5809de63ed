"""Dumps of devices: every format gives the same values."""

from __future__ import annotations

from pathlib import Path

import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim.errors import InputError, UsageError
from npusim.files.dumps import Dump, Role, read_dump
from support.dump_files import CODES, intel_hex, npy, npz, save, words

FLOATS = np.array([0.1, -2.5, 3e-8, 1e9, 0.0, 16777216.0], np.float32)


DECIMAL = [str(int(value)) for value in CODES]

WRITTEN = {
    "commas": ("log.txt", ", ".join(DECIMAL), "text"),
    "blanks": ("log", " ".join(DECIMAL), "text"),
    "lines": ("log.txt", "\r\n".join(DECIMAL) + "\r\n", "text"),
    "trailing comma": ("log.txt", ",\n".join(DECIMAL) + ",\n", "text"),
    "tabs and signs": ("log.txt", "\t".join(f"{int(value):+d}" for value in CODES), "text"),
    "hexadecimal": ("log.txt", " ".join(words(CODES)), "text"),
    "byte order mark": ("log.txt", b"\xef\xbb\xbf" + ",".join(DECIMAL).encode(), "text"),
    "utf-16": ("log.txt", ("\ufeff" + ",".join(DECIMAL)).encode("utf-16-le"), "text"),
    "braces": ("log.txt", "{" + ", ".join(DECIMAL) + ",}", "c"),
    "c array": ("dump.c", f"static const int8_t y[8] = {{ {', '.join(DECIMAL)}, }} ;\n", "c"),
    "c array of macros": ("dump.txt", f"int8_t y[FE_NN_OUT_SIZE] = {{{','.join(words(CODES))}}};", "c"),
    "two dimensions": ("dump.c", f"int8_t y[2][4]={{{{{','.join(DECIMAL[:4])}}}, {{{','.join(DECIMAL[4:])}}}}};", "c"),
    "ccs hexadecimal": ("save.dat", "1651 1 c000 0 8\n" + "\n".join(words(CODES)), "ccs"),
    "ccs integer": ("save", "1651 2 0xc000 0 8\n" + "\n".join(DECIMAL), "ccs"),
    "ccs new format": ("save.dat", "1651 9 88675cac 0 8 c\n" + "\n".join(words(CODES, "{:02x}")), "ccs"),
    "raw": ("dump.bin", CODES.tobytes(), "bin"),
    "raw without suffix": ("dump", CODES.tobytes(), "bin"),
    "intel hex": ("dump.hex", intel_hex(CODES.tobytes(), 0x1FFF8, 4), "ihex"),
    "intel hex of words": ("dump.hex", intel_hex(CODES.tobytes(), 0x9000, 4, unit=2), "ihex"),
    "npy": ("dump.npy", npy(CODES), "npy"),
    "npy without suffix": ("dump", npy(CODES), "npy"),
    "npz": ("dump.npz", npz(output=CODES), "npz"),
    "csv": ("dump.csv", ",".join(DECIMAL) + "\n", "csv"),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_gives_the_same_codes(tmp_path: Path, name: str) -> None:
    file, content, kind = WRITTEN[name]
    dump = read_dump(save(tmp_path / file, content), dtype=np.int8)
    assert dump.format == kind
    values = dump.only.values
    assert values.dtype == np.int8
    assert values.ravel().tolist() == CODES.tolist()
    assert not values.flags.writeable


FLOAT_TEXT = [f"{value:.9g}" for value in FLOATS]

FLOATS_WRITTEN = {
    "text": ("log.txt", " ".join(FLOAT_TEXT)),
    "c": ("x.c", f"float y[6] = {{ {', '.join(f'{item}f' if '.' in item else item for item in FLOAT_TEXT)} }};"),
    "ccs": ("x.dat", "1651 4 c000 0 6\n" + "\n".join(FLOAT_TEXT)),
    "bits": ("x.txt", "\n".join(words(FLOATS, "0x{:08x}"))),
    "ccs bits": ("x.dat", "1651 1 c000 0 6\n" + "\n".join(words(FLOATS, "0x{:08X}"))),
    "bin": ("x.bin", FLOATS.tobytes()),
    "hex": ("x.hex", intel_hex(FLOATS.tobytes())),
    "npy": ("x.npy", npy(FLOATS)),
    "npz": ("x.npz", npz(y=FLOATS)),
    "csv": ("x.csv", ",".join(FLOAT_TEXT)),
}


@pytest.mark.parametrize("name", FLOATS_WRITTEN)
def test_every_format_gives_the_same_floats(tmp_path: Path, name: str) -> None:
    file, content = FLOATS_WRITTEN[name]
    values = read_dump(save(tmp_path / file, content), dtype="float32").only.values
    assert values.dtype == np.float32
    assert values.ravel().tolist() == FLOATS.tolist()


def test_without_a_type_numbers_are_held_as_written(tmp_path: Path) -> None:
    decimal = read_dump(save(tmp_path / "a.txt", "1 300 -5")).only
    assert (decimal.values.dtype, decimal.base, decimal.word_bits, decimal.is_integer) == (np.int64, 10, None, True)
    patterns = read_dump(save(tmp_path / "b.txt", "0x00FF 0x0001")).only
    assert (patterns.values.tolist(), patterns.base, patterns.word_bits) == ([255, 1], 16, 16)
    floats = read_dump(save(tmp_path / "c.txt", "1.5 2")).only
    assert (floats.values.dtype, floats.base, floats.is_integer) == (np.float64, None, False)
    raw = read_dump(save(tmp_path / "d.bin", b"\x01\xff")).only
    assert (raw.values.tolist(), raw.raw, raw.is_integer) == ([1, 255], True, False)
    large = read_dump(save(tmp_path / "e.txt", "18446744073709551615")).only
    assert large.values.tolist() == [2**64 - 1]


def test_numbers_without_prefix_are_read_in_base_16_on_demand(tmp_path: Path) -> None:
    path = save(tmp_path / "a.txt", "7F FF 00 80")
    assert read_dump(path, base=16, dtype="int8").only.values.tolist() == [127, -1, 0, -128]
    # digits that can be nothing else need no option
    assert read_dump(path, dtype="int8").only.values.tolist() == [127, -1, 0, -128]
    with pytest.raises(InputError, match=r"line 1, column 1: '7F' is not a decimal number; .* the base is 16"):
        read_dump(save(tmp_path / "a.txt", "7F FF 0 80"), format="text")
    assert read_dump(save(tmp_path / "a.txt", "10 20 30"), dtype="int8").only.values.tolist() == [10, 20, 30]


def test_segments_of_intel_hex_are_arrays(tmp_path: Path) -> None:
    first, second = intel_hex(b"\x01\x02", 0x20000), intel_hex(b"\x03", 0x30010)
    dump = read_dump(save(tmp_path / "a.hex", first.replace(":00000001FF\n", "") + second))
    assert [(array.name, array.values.tolist()) for array in dump.arrays] == [("0x20000", [1, 2]), ("0x30010", [3])]
    with pytest.raises(InputError, match="holds 2 arrays, '0x20000', '0x30010'"):
        assert dump.only


CURRENT = """/* a comment without arrays */
#if defined(__C29__) || defined(__TMS320C2000__)
#include "device.h"
#else
#include <stdint.h>
#endif
//Class: ok (Index: 3): ADC Data
float raw_input_test[2]= { 1.5, -2, } ;
//Class: ok (Index: 3): Extracted Features
float model_test_input[2] = { 0.25000, 0.5, } ;
//Class: ok (Index: 3): Expected Model Output
int8_t golden_output[2] = { 5, -128, } ;

/*
//Class: bad (Index: 9): Extracted Features
float model_test_input[2] = { 1.0, 2.0, } ;
//Class: bad (Index: 9): Expected Model Output
int8_t golden_output[2] = { 7, 8, } ;
*/
/*
float model_test_input[2] = { 3.0, 4.0, } ;
int8_t golden_output[2] = { 9, 10, } ;
*/
"""

OF_2025 = """#include "device.h"
float32_t raw_input_test[2] = {1, 2};
float32_t model_test_input[2] = {1.00000, 2.00000};
float32_t golden_output[1] = {0.125000};
"""

OF_2024 = """#include "device.h"
int16_t adc_normal_0[2] = {100, 200};
float32_t features_normal_0[2] = {0.1, 0.2};
int8_t output_normal_0[1] = {3};
int16_t adc_open_fault_1[2] = {-100, 200};
float32_t features_open_fault_1[2] = {0.3, 0.4};
int8_t output_open_fault_1[1] = {4};
"""


def layout(dump: Dump) -> list[tuple[int | None, str, bool, list[float]]]:
    return [(item.set_index, str(item.role), item.active, item.values.tolist()) for item in dump.arrays]


def test_current_test_vectors_have_commented_sets(tmp_path: Path) -> None:
    dump = read_dump(save(tmp_path / "test_vector.c", CURRENT))
    assert dump.format == "test_vector"
    assert layout(dump) == [
        (0, "raw_input", True, [1.5, -2.0]),
        (0, "input", True, [0.25, 0.5]),
        (0, "output", True, [5, -128]),
        (1, "input", False, [1.0, 2.0]),
        (1, "output", False, [7, 8]),
        (2, "input", False, [3.0, 4.0]),
        (2, "output", False, [9, 10]),
    ]
    assert dump["golden_output"].label == "Class: ok (Index: 3): Expected Model Output"
    assert dump["golden_output"].place == "line 12"
    assert [item.values.tolist() for item in dump.with_role(Role.OUTPUT, 1)] == [[7, 8]]


def test_inputs_printed_with_five_decimals_are_pointed_out(tmp_path: Path) -> None:
    text = "float model_test_input[4] = {0.12345, -1.50000, 2.00001, 3.25000};\nfloat golden_output[1] = {1.0};"
    (note,) = read_dump(save(tmp_path / "test_vector.c", text)).notes
    assert note.startswith("inputs are printed with five decimals")
    for other in ("0.123456", "0.5"):
        values = f"{other}, 1.5, 2.5, 3.5"
        path = save(tmp_path / "test_vector.c", f"float model_test_input[4] = {{{values}}};")
        assert read_dump(path).notes == ()


def test_test_vectors_of_2025_and_2024(tmp_path: Path) -> None:
    assert layout(read_dump(save(tmp_path / "test_vector.c", OF_2025))) == [
        (0, "raw_input", True, [1, 2]),
        (0, "input", True, [1.0, 2.0]),
        (0, "output", True, [0.125]),
    ]
    assert layout(read_dump(save(tmp_path / "test_vectors.c", OF_2024))) == [
        (0, "raw_input", True, [100, 200]),
        (0, "input", True, [0.1, 0.2]),
        (0, "output", True, [3]),
        (1, "raw_input", True, [-100, 200]),
        (1, "input", True, [0.3, 0.4]),
        (1, "output", True, [4]),
    ]


HEADER = """#ifndef TVMGEN_DEFAULT_H_
struct tvmgen_default_inputs { /* Inputs: Tensor[(1, 3, 128, 1), int8] */
  void* onnx__Add_0;
};
struct tvmgen_default_outputs {
  void* output0;
  void* output1;
};
__attribute__((weak)) float tvmgen_default_bias_data[] = {1.5, -2.25, 0.0};
__attribute__((weak)) int32_t tvmgen_default_scale_data[] = {10, -20, 30};
int32_t tvmgen_default_shift_data[] = {4};
int32_t tvmgen_default_run(struct tvmgen_default_inputs*, struct tvmgen_default_outputs*);
"""


def test_generated_header(tmp_path: Path) -> None:
    dump = read_dump(save(tmp_path / "tvmgen_default.h", HEADER))
    assert (dump.format, dump.inputs, dump.outputs) == ("tvmgen", ("onnx__Add_0",), ("output0", "output1"))
    assert [(str(item.role), item.values.tolist()) for item in dump.arrays] == [
        ("bias", [1.5, -2.25, 0.0]),
        ("scale", [10, -20, 30]),
        ("shift", [4]),
    ]
    other = HEADER.replace("tvmgen_default", "tvmgen_motor")
    assert read_dump(save(tmp_path / "tvmgen_motor.h", other)).inputs == ("onnx__Add_0",)


def test_a_format_can_be_demanded(tmp_path: Path) -> None:
    path = save(tmp_path / "digits", "1234")
    assert read_dump(path).only.values.tolist() == [1234]
    assert read_dump(path, format="bin").only.values.tolist() == [49, 50, 51, 52]
    assert read_dump(save(tmp_path / "digits.bin", "1234"), dtype="uint8").only.values.tolist() == [49, 50, 51, 52]
    assert read_dump(save(tmp_path / "digits.bin", "1234"), format="text").only.values.tolist() == [1234]


@settings(max_examples=60)
@given(
    arrays_of.arrays(st.sampled_from([np.int8, np.uint8, np.int16, np.int32]), st.integers(1, 40)),
    st.sampled_from([", ", " ", "\n"]),
)
def test_any_integers_come_back_from_text(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, separator: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    for text in (separator.join(map(str, values)), separator.join(words(values, f"0x{{:0{2 * values.itemsize}x}}"))):
        assert read_dump(save(path, text), dtype=values.dtype).only.values.tolist() == values.tolist()


def test_a_pattern_finds_the_numbers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.txt", "t=1 a=-43 b=1\nt=2 a=5 b=2\n")
    assert read_dump(path, match=r"a=(\S+)").only.values.tolist() == [-43, 5]
    named = read_dump(path, match=r"(?P<name>[ab])=(?P<value>\S+)")
    assert [(array.name, array.values.tolist()) for array in named.arrays] == [("a", [-43, 5]), ("b", [1, 2])]
    assert read_dump(save(tmp_path / "b.txt", "y: d5 05"), match="y: (.*)", base=16).only.values.tolist() == [0xD5, 5]
    with pytest.raises(InputError, match="nothing matches 'z='"):
        read_dump(path, match="z=")
    with pytest.raises(InputError, match="line 1, column 1: 't=1' is not a number"):
        read_dump(path, match=".*")
    with pytest.raises(UsageError, match="is not a regular expression"):
        read_dump(path, match="(")
    with pytest.raises(UsageError, match="the format asked for is 'npy'"):
        read_dump(path, match="a", format="npy")


def test_arrays_that_nothing_uses_may_not_fit_their_type(tmp_path: Path) -> None:
    text = "int16_t adc_ok_7[2] = { 62681, -3, };\nfloat32_t features_ok_7[1] = { 1.5 };\nint8_t output_ok_7[1] = { 43 };\n"
    dump = read_dump(save(tmp_path / "test_vectors.c", text))
    assert dump.notes == ("line 1: array 'adc_ok_7' of int16_t holds 62681 at index 0, which is out of -32768..32767",)
    assert dump["output_ok_7"].values.tolist() == [43]


@pytest.mark.parametrize(
    "declared",
    [
        "extern const float tvmgen_default_bias_data[] __attribute__((weak)) = {-3.5};",
        "__attribute__((weak)) extern const float tvmgen_default_bias_data[] = {-3.5};",
        'const float tvmgen_default_bias_data[1] __attribute__((section(".a"), aligned(4))) __attribute__((weak)) = {-3.5};',
        "float tvmgen_other[2]; const float tvmgen_default_bias_data[1] PROGMEM = {-3.5f};",
    ],
)
def test_attributes_on_either_side_of_a_declarator(tmp_path: Path, declared: str) -> None:
    dump = read_dump(save(tmp_path / "tvmgen_default.h", f"#include <stdint.h>\n{declared}\n"))
    assert [(array.name, array.values.tolist()) for array in dump.arrays] == [("tvmgen_default_bias_data", [-3.5])]
