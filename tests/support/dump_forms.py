"""Ways in which consoles, debuggers and tools write values: each makes a file of codes ``[sets, values]``."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from support.dump_files import intel_hex, npy, npz

__all__ = ["FLOAT_FORMS", "FORMS", "Form"]

Form = Callable[[np.ndarray], tuple[str, str | bytes]]
"""Codes of int8 or uint8, ``[sets, values]``, as the name and the content of a file."""


def texts(values: np.ndarray, pattern: str = "%d") -> list[str]:
    return [pattern % value for value in values.ravel().tolist()]


def hexadecimal(values: np.ndarray, bits: int, pattern: str = "0x%0{}X") -> list[str]:
    return texts(values.astype(np.int64) & (2**bits - 1), pattern.format(bits // 4))


def rows(values: np.ndarray, width: int, separator: str = " ", pattern: str = "%d") -> list[str]:
    found = texts(values, pattern)
    return [separator.join(found[start : start + width]) for start in range(0, len(found), width)]


def addressed(
    data: bytes,
    size: int,
    width: int,
    line: str,
    *,
    separator: str = " ",
    pattern: str = "",
    start: int = 0x20000100,
    unit: int = 1,
) -> str:
    """Memory as words of `size` bytes, `width` bytes a line; `line` has places for address and values."""
    lines = []
    data += bytes(-len(data) % size)
    for place in range(0, len(data), width):
        part = data[place : place + width]
        held = [int.from_bytes(part[at : at + size], "little") for at in range(0, len(part), size)]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        values = separator.join((pattern or f"%0{2 * size}x") % value for value in held)
        lines.append(line.format(start + place // unit, values, shown))
    return "\n".join(lines) + "\n"


def raw(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values).tobytes()


def xxd(values: np.ndarray, group: int = 2) -> str:
    data, lines = raw(values), []
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        words = " ".join(part[at : at + group].hex() for at in range(0, len(part), group))
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}: {words:<{2 * 16 + 16 // group - 1}}  {shown}")
    return "\n".join(lines) + "\n"


def s_records(values: np.ndarray, kind: str = "1", address: int = 0xA800) -> str:
    size = {"1": 2, "2": 3, "3": 4}[kind]
    data, lines = raw(values), ["S00600004844521B"]
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        content = bytes([len(part) + size + 1]) + (address + start).to_bytes(size, "big") + part
        lines.append(f"S{kind}{(content + bytes([255 - sum(content) % 256])).hex().upper()}")
    end = bytes([size + 1]) + bytes(size)
    return (
        "\n".join([*lines, f"S{ {'1': 9, '2': 8, '3': 7}[kind] }{(end + bytes([255 - sum(end) % 256])).hex().upper()}"]) + "\n"
    )


def ti_txt(values: np.ndarray) -> str:
    data = raw(values)
    lines = [data[start : start + 16].hex(" ").upper() for start in range(0, len(data), 16)]
    return "@A800\n" + "\n".join(lines) + "\nq\n"


def gdb_repeats(values: np.ndarray) -> str:
    parts, found, at = [], values.ravel().tolist(), 0
    while at < len(found):
        end = at
        while end < len(found) and found[end] == found[at]:
            end += 1
        if end - at > 10:
            parts.append(f"{found[at]} <repeats {end - at} times>")
        else:
            parts += [str(found[at])] * (end - at)
        at = end
    return f"$1 = {{{', '.join(parts)}}}\n"


def gdb_characters(values: np.ndarray) -> str:
    shown = [f"{value} '\\{value & 255:03o}'" for value in values.ravel().tolist()]
    return f"$2 = {{{', '.join(shown)}}}\n"


def gdb_string(values: np.ndarray) -> str:
    return '$3 = "' + "".join(f"\\{byte:03o}" for byte in raw(values)) + '"\n'


def gdb_examine(values: np.ndarray, pattern: str, size: int, width: int = 8) -> str:
    lines, held = [], values.ravel().tolist()
    for start in range(0, len(held), width):
        at = f"+{start * size}" if start else ""
        lines.append(
            f"0x{0x20000100 + start * size:08x} <model_output{at}>:\t"
            + "\t".join(pattern % v for v in held[start : start + width])
        )
    return "\n".join(lines) + "\n"


def expressions(values: np.ndarray) -> str:
    kind = "signed char" if values.dtype == np.int8 else "unsigned char"
    lines = [f"model_output\t{kind}[{values.size}]\t[...]\t0x0000A800@Data\t"]
    lines += [f"\t[{i}]\t{kind}\t{v} '.'\t0x{0xA800 + i:08X}@Data\t" for i, v in enumerate(values.ravel().tolist())]
    return "\n".join(lines) + "\n"


def ccs(values: np.ndarray, kind: str, lines: list[str]) -> str:
    return f"1651 {kind} a800 1 {len(lines):x}\n" + "\n".join(lines) + "\n"


def elements(values: np.ndarray, line: str, first: int = 0) -> str:
    """One line for each value, set by set."""
    return "".join(line.format(i=i + first, v=v) + "\n" for row in values.tolist() for i, v in enumerate(row))


BOOT = "U-Boot 2021.01\nCPU: C28x at 150 MHz\nModel loaded, 3 layers\n"
DONE = "Inference took 1234 us\nAll tests have passed!!\n"


def c_type(values: np.ndarray) -> str:
    return f"{values.dtype.name}_t"


def c_array(values: np.ndarray, before: str = "", behind: str = "", name: str = "result") -> str:
    return f"{before}{c_type(values)} {name}[{values.size}]{behind} = {{ {', '.join(texts(values))}, }};\n"


def log_of_sets(values: np.ndarray, line: str, first: int = 0) -> str:
    return "".join(line.format(k=k + first, v=", ".join(texts(row))) + "\n" for k, row in enumerate(values))


def words_of(values: np.ndarray, bits: int) -> list[int]:
    data = raw(values) + bytes(-values.nbytes % (bits // 8))
    return np.frombuffer(data, f"<u{bits // 8}").tolist()


def table(values: np.ndarray) -> str:
    return "\n".join(rows(values, values.shape[1], ",")) + "\n"


FORMS: dict[str, Form] = {
    "decimals a line": lambda v: ("a.txt", "\n".join(texts(v))),
    "decimals with CRLF": lambda v: ("a.txt", "\r\n".join(texts(v)) + "\r\n"),
    "decimals with CR and tabs": lambda v: ("a.log", "\t".join(texts(v)) + "\r\n"),
    "rows of sixteen with commas": lambda v: ("a.txt", ",\n".join(rows(v, 16, ", ")) + "\n"),
    "unsigned 8": lambda v: ("a.txt", "\n".join(texts(v.astype(np.int64) & 0xFF))),
    "unsigned 16": lambda v: ("a.txt", " ".join(texts(v.astype(np.int64) & 0xFFFF))),
    "unsigned 32": lambda v: ("a.txt", ",".join(texts(v.astype(np.int64) & 0xFFFFFFFF))),
    "whole floats": lambda v: ("a.txt", "\n".join(texts(v, "%.6f"))),
    "0x of 8 bits": lambda v: ("a.txt", " ".join(hexadecimal(v, 8))),
    "0x of 16 bits": lambda v: ("a.txt", "\n".join(hexadecimal(v, 16))),
    "0x of 32 bits": lambda v: ("a.txt", ", ".join(hexadecimal(v, 32))),
    "0x of any length": lambda v: ("a.txt", " ".join(texts(v.astype(np.int64) & 0xFFFFFFFF, "0x%x"))),
    "brackets of Python": lambda v: ("a.txt", str(v.tolist()) + "\n"),
    "flat list of Python": lambda v: ("a.txt", str(v.ravel().tolist()) + "\n"),
    "tuple of Python": lambda v: ("a.txt", str(tuple(v.ravel().tolist())) + "\n"),
    "array of NumPy": lambda v: ("a.txt", np.array2string(v, threshold=10**6) + "\n"),
    "repr of NumPy": lambda v: ("a.txt", f"array({v.ravel().tolist()}, dtype=int8)\n"),
    "tensor of torch": lambda v: ("a.txt", f"tensor({v.tolist()}, dtype=torch.int8)\n"),
    "JSON list": lambda v: ("a.json", json.dumps(v.ravel().tolist())),
    "JSON object": lambda v: ("a.json", json.dumps({"board": "LP-F28P55X", "us": 1234, "output": v.tolist()}, indent=2)),
    "JSON lines": lambda v: (
        "a.txt",
        "\n".join(json.dumps({"set": k, "output": row}) for k, row in enumerate(v.tolist())) + "\n",
    ),
    "JSON in a .txt": lambda v: ("a.txt", json.dumps({"result": {"codes": v.ravel().tolist()}})),
    "CSV rows": lambda v: ("a.csv", table(v)),
    "element a line": lambda v: ("a.txt", elements(v, "y[{i}] = {v}")),
    "element with colon": lambda v: ("a.txt", elements(v, "y[{i}]: {v}")),
    "element with arrow": lambda v: ("a.txt", elements(v, "output[{i}] -> {v}")),
    "element without a name": lambda v: ("a.txt", elements(v, "[{i}] {v}")),
    "element in a sentence": lambda v: ("a.txt", BOOT + elements(v, "result of output[{i}] = {v} (raw)") + DONE),
    "number and colon": lambda v: ("a.txt", elements(v, "{i}: {v}")),
    "elements from 1": lambda v: ("a.txt", elements(v, "y[{i}] = {v}", 1)),
    "times of a terminal": lambda v: ("a.txt", elements(v, "[00:00:01.{i:03d}] out[{i}]={v}")),
    "times before numbers": lambda v: ("a.txt", elements(v, "12:34:56.{i:03d} -> {v}")),
    "dates before elements": lambda v: ("a.txt", elements(v, "2025-01-31 12:34:56,{i:03d} y[{i}]: {v}")),
    "seconds since start": lambda v: ("a.txt", elements(v, "[   12.{i:06d}] {v}")),
    "levels of ESP-IDF": lambda v: ("a.txt", "I (101) boot: ok\n" + elements(v, "I (1{i}) npu: y[{i}] = {v}")),
    "levels of Zephyr": lambda v: ("a.txt", elements(v, "[00:00:01.234,000] <inf> main: y[{i}]: {v}")),
    "name of the core": lambda v: ("a.txt", "[C28xx_CPU1] Start\n" + elements(v, "[C28xx_CPU1] y[{i}] = {v}")),
    "colours": lambda v: ("a.txt", elements(v, "\x1b[0;32my[{i}] = {v}\x1b[0m")),
    "label and list": lambda v: ("a.txt", f"{BOOT}I: out: {', '.join(texts(v))}\n{DONE}"),
    "label and brackets": lambda v: ("a.txt", f"{BOOT}output = [{', '.join(texts(v))}]\n{DONE}"),
    "label and braces": lambda v: ("a.txt", f"output: {{{', '.join(texts(v))}}}\n"),
    "label and rows": lambda v: ("a.txt", f"{BOOT}Output:\n" + "\n".join(rows(v, 8, " ")) + f"\n{DONE}"),
    "label and values a line": lambda v: ("a.txt", f"{BOOT}Output:\n" + "\n".join(texts(v)) + f"\n{DONE}"),
    "label and hexadecimal": lambda v: ("a.txt", f"{BOOT}out: {' '.join(hexadecimal(v, 8))}\n"),
    "label and pairs": lambda v: ("a.txt", f"{BOOT}out: {' '.join(hexadecimal(v, 8, '%0{}x'))}\n"),
    "label a set": lambda v: ("a.txt", BOOT + log_of_sets(v, "out: {v}") + DONE),
    "labels that count": lambda v: ("a.txt", log_of_sets(v, "set {k}: {v}")),
    "labels that count from 1": lambda v: ("a.txt", log_of_sets(v, "Sample {k} result: [{v}]", 1)),
    "sets under labels": lambda v: ("a.txt", log_of_sets(v, "=== inference {k} ===\nOutput:\n{v}\nTime: 12 ms")),
    "rows between boot and end": lambda v: ("a.txt", BOOT + ",\n".join(rows(v, 16, ", ")) + "\n" + DONE),
    "prompt of a shell": lambda v: ("a.txt", f"uart:~$ run 3\n{' '.join(texts(v))}\nuart:~$\n"),
    "label with the length": lambda v: ("a.txt", f"{BOOT}out[{v.size}]: {' '.join(texts(v))}\n"),
    "bars between": lambda v: ("a.txt", " | ".join(texts(v)) + "\n"),
    "casts": lambda v: ("a.txt", ", ".join(texts(v, "(int8_t) %d")) + "\n"),
    "remarks behind": lambda v: (
        "a.txt",
        "# set by set\n" + "".join(f"{text}, // code {i}\n" for i, text in enumerate(texts(v))),
    ),
    "string of digits": lambda v: ("a.txt", raw(v).hex().upper() + "\n"),
    "CRLF log": lambda v: ("a.txt", (BOOT + f"out: {', '.join(texts(v))}\n" + DONE).replace("\n", "\r\n")),
    "expressions of CCS": lambda v: ("a.txt", expressions(v)),
    "gdb print": lambda v: ("a.txt", f"$1 = {{{', '.join(texts(v))}}}\n"),
    "gdb print with rows": lambda v: ("a.txt", "(gdb) p output\n$1 = {{" + "}, {".join(rows(v, v.shape[1], ", ")) + "}}\n"),
    "gdb with repeats": lambda v: ("a.txt", gdb_repeats(v)),
    "gdb with characters": lambda v: ("a.txt", gdb_characters(v)),
    "gdb string": lambda v: ("a.txt", gdb_string(v)),
    "gdb print of a name": lambda v: ("a.txt", f"(gdb) output model_output\nmodel_output = {{{', '.join(texts(v))}}}\n"),
    "gdb x/db": lambda v: ("a.txt", gdb_examine(v, "%d", 1)),
    "gdb x/xb": lambda v: ("a.txt", gdb_examine(v.view(np.uint8), "0x%02x", 1)),
    "gdb x/xw": lambda v: ("a.txt", gdb_examine(np.array(words_of(v, 32)), "0x%08x", 4, 4)),
    "OpenOCD mdb": lambda v: ("a.txt", addressed(raw(v), 1, 16, "0x{:08x}: {} ")),
    "OpenOCD mdh": lambda v: ("a.txt", addressed(raw(v), 2, 32, "0x{:08x}: {} ")),
    "OpenOCD mdw": lambda v: ("a.txt", "> mdw 0x20000100 1\n" + addressed(raw(v), 4, 32, "0x{:08x}: {} ")),
    "J-Link mem8": lambda v: ("a.txt", addressed(raw(v), 1, 16, "{:08X} = {} ", pattern="%02X")),
    "J-Link mem32": lambda v: ("a.txt", addressed(raw(v), 4, 16, "{:08X} = {}", pattern="%08X")),
    "memory view of CCS": lambda v: ("a.txt", addressed(raw(v), 1, 16, "0x{:08X}\t{}", pattern="%02X")),
    "words of C28x": lambda v: ("a.txt", addressed(raw(v.astype(np.int16)), 2, 16, "0x{:08X}  {}", pattern="%04X", unit=2)),
    "lldb memory read": lambda v: ("a.txt", addressed(raw(v), 1, 16, "0x{:08x}: {}  {}")),
    "xxd": lambda v: ("a.txt", xxd(v)),
    "xxd -g1": lambda v: ("a.txt", xxd(v, 1)),
    "hexdump -C": lambda v: ("a.txt", addressed(raw(v), 1, 16, "{:08x}  {}  |{}|", start=0) + f"{v.nbytes:08x}\n"),
    "od -tx1": lambda v: ("a.txt", addressed(raw(v), 1, 16, "{:07o} {}", start=0) + f"{v.nbytes:07o}\n"),
    "od -td1": lambda v: (
        "a.txt",
        "".join(f"{16 * k:07o} {row}\n" for k, row in enumerate(rows(v, 16, " ", "%4d"))) + f"{v.nbytes:07o}\n",
    ),
    "S-record S1": lambda v: ("a.s19", s_records(v)),
    "S-record S3": lambda v: ("a.srec", s_records(v, "3", 0x20000100)),
    "S-record of words": lambda v: ("a.txt", s_records(v.astype(np.int16), "2")),
    "TI-TXT": lambda v: ("a.txt", ti_txt(v)),
    "Intel hex": lambda v: ("a.hex", intel_hex(raw(v), 0x1FFF8)),
    "Intel hex of words": lambda v: ("a.hex", intel_hex(raw(v.astype(np.int16)), 0x9000, unit=2)),
    "CCS hexadecimal": lambda v: ("a.dat", ccs(v, "1", hexadecimal(v, 16))),
    "CCS packed words": lambda v: ("a.dat", ccs(v, "1", [f"0x{word:08X}" for word in words_of(v, 32)])),
    "CCS integers": lambda v: ("a.dat", ccs(v, "2", texts(v))),
    "bin of 8 bits": lambda v: ("a.bin", raw(v)),
    "bin of 16 bits": lambda v: ("a.bin", raw(v.astype(np.int16))),
    "bin of 32 bits": lambda v: ("a.bin", raw(v.astype(np.int32))),
    "bin of float32": lambda v: ("a.bin", raw(v.astype(np.float32))),
    "npy": lambda v: ("a.npy", npy(v)),
    "npz of int32": lambda v: ("a.npz", npz(result=v.astype(np.int32))),
    "C array": lambda v: ("a.c", c_array(v)),
    "C array, attribute before": lambda v: ("a.c", c_array(v, '__attribute__((section(".npu"))) const ')),
    "C array, attribute behind": lambda v: ("a.c", c_array(v, "static const ", " __attribute__((aligned(4), weak))")),
    "C array, alignment": lambda v: ("a.h", "#pragma once\n" + c_array(v, "alignas(16) const ", " PROGMEM")),
    "C array in a log": lambda v: ("a.txt", f"{BOOT}{c_array(v)}{DONE}"),
    "several C arrays": lambda v: ("a.c", c_array(np.arange(7, dtype=np.int8), name="other") + c_array(v)),
    "C array of unsigned": lambda v: ("a.c", f"uint8_t result[] = {{{', '.join(texts(v.astype(np.int64) & 0xFF))}}};"),
}

FLOAT_FORMS: dict[str, Form] = {
    "%f": lambda v: ("a.txt", "\n".join(texts(v, "%f"))),
    "%.9g": lambda v: ("a.txt", " ".join(texts(v, "%.9g"))),
    "%g": lambda v: ("a.txt", " ".join(texts(v, "%g"))),
    "%e": lambda v: ("a.txt", " ".join(texts(v, "%e"))),
    "%.4f with labels": lambda v: ("a.txt", elements(v, "y[{i}] = {v:.4f}")),
    "patterns": lambda v: ("a.txt", " ".join(f"0x{word:08X}" for word in v.ravel().view(np.uint32).tolist())),
    "bin": lambda v: ("a.bin", raw(v)),
    "gdb": lambda v: ("a.txt", f"$1 = {{{', '.join(texts(v, '%.9g'))}}}\n"),
    "gdb x/f": lambda v: ("a.txt", gdb_examine(v, "%.9g", 4, 4)),
    "mdw": lambda v: ("a.txt", addressed(raw(v), 4, 32, "0x{:08x}: {} ")),
    "CCS float": lambda v: ("a.dat", ccs(v, "4", texts(v, "%f"))),
    "JSON": lambda v: ("a.json", json.dumps(v.ravel().astype(np.float64).tolist())),
}
