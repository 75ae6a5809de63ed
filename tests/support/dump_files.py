"""Files as devices and debuggers write them, for tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

__all__ = ["CODES", "intel_hex", "npy", "npz", "save", "words"]

CODES = np.array([0, 1, -1, 127, -128, 9, 10, -10], np.int8)


def save(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def intel_hex(data: bytes, address: int = 0, size: int = 16, unit: int = 1) -> str:
    records = []
    for start in range(0, len(data), size):
        part = data[start : start + size]
        place = address + start // unit
        if start == 0 or place % 65536 < size // unit:
            records.append(bytes([2, 0, 0, 4]) + (place >> 16).to_bytes(2, "big"))
        records.append(bytes([len(part)]) + (place & 0xFFFF).to_bytes(2, "big") + b"\0" + part)
    records.append(bytes([0, 0, 0, 1]))
    return "".join(f":{(item + bytes([-sum(item) % 256])).hex().upper()}\n" for item in records)


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def words(values: np.ndarray, pattern: str = "0x{:02X}") -> list[str]:
    return [pattern.format(int(value)) for value in values.view(f"u{values.itemsize}")]
