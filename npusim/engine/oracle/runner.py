"""Compiling the C of a model and running it: a second opinion that NumPy has no part in."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np

from npusim.engine.oracle.source import OracleSource
from npusim.engine.oracle.storage import CType
from npusim.errors import UnsupportedError, UsageError
from npusim.graph import Array
from npusim.program import Program

__all__ = ["CompiledOracle", "compile_oracle", "find_compiler"]

FLAGS: Final = ("-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fPIC")

_NAMES: Final = ("cc", "gcc", "clang")

_TYPES: Final[Mapping[CType, type[np.generic]]] = {
    CType.S8: np.int8,
    CType.U8: np.uint8,
    CType.S16: np.int16,
    CType.S32: np.int32,
    CType.F32: np.float32,
}

_HOOK: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint16, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int)


def find_compiler() -> str | None:
    """The C compiler: what the environment variable CC names, else the first of cc, gcc and clang; None where there is none."""
    named = os.environ.get("CC")
    if named and shutil.which(named):
        return named
    return next((name for name in _NAMES if shutil.which(name)), None)


class CompiledOracle:
    """A model's C in this process.

    Parameters
    ----------
    source
        The C.
    program
        The program that it was written from.
    folder
        Where it was compiled; removed when this is closed.
    library
        The shared library.
    """

    def __init__(self, source: OracleSource, program: Program, folder: tempfile.TemporaryDirectory[str], library: Path) -> None:
        self._source, self._program, self._folder = source, program, folder
        self._run: Callable[..., Any] = getattr(ctypes.CDLL(str(library)), f"{source.name}_run")
        self._run.restype = None

    def __enter__(self) -> CompiledOracle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._folder.cleanup()

    def run(self, feeds: Mapping[str, Array], *, layers: bool = True) -> tuple[list[Array], dict[str, Array]]:
        """The outputs of samples, and what each layer gives, by the name of its tensor.

        Parameters
        ----------
        feeds
            Inputs by name in their declared types, samples on the first axis.
        layers
            Whether to keep what layers give; without, that is left empty.
        """
        program = self._program
        count = len(next(iter(feeds.values())))
        ends = [program.tensors[program.resolve(name)] for name in program.outputs]
        outputs = [np.zeros((count, *tensor.shape[1:]), tensor.dtype) for tensor in ends]
        kept = {
            name: np.zeros((count, *shape[1:]), _TYPES[kind])
            for name, shape, kind in zip(self._source.layers, self._source.shapes, self._source.types, strict=True)
            if layers
        }
        for sample in range(count):

            def keep(_context: object, layer: int, values: int, size: int, _kind: int, sample: int = sample) -> None:
                target = kept[self._source.layers[layer]]
                ctypes.memmove(target[sample].ctypes.data, values, size * target.itemsize)

            given = [np.ascontiguousarray(feeds[name][sample]) for name in program.inputs]
            made = [output[sample : sample + 1] for output in outputs]
            self._run(
                *(ctypes.c_void_p(array.ctypes.data) for array in (*given, *made)), _HOOK(keep) if layers else _HOOK(), None
            )
        return outputs, kept


def compile_oracle(
    source: OracleSource, program: Program, compiler: str | None = None, flags: Sequence[str] = FLAGS
) -> CompiledOracle:
    """Compile the C of a model.

    Parameters
    ----------
    source
        The C.
    program
        The program that it was written from.
    compiler
        The compiler; None for what :func:`find_compiler` gives.
    flags
        Such that it makes a shared library.

    Raises
    ------
    UsageError
        If there is no compiler.
    UnsupportedError
        If it fails.
    """
    chosen = find_compiler() if compiler is None else compiler
    if chosen is None:
        raise UsageError(
            f"there is no C compiler ({', '.join(_NAMES)}, or what CC names); install one, or leave the oracle out"
        )
    folder = tempfile.TemporaryDirectory(prefix="npusim-oracle-")
    place = Path(folder.name)
    (place / f"{source.name}.h").write_text(source.header, encoding="utf-8")
    (place / f"{source.name}.c").write_text(source.source, encoding="utf-8")
    library = place / "oracle.so"
    done = subprocess.run(
        [chosen, *flags, "-o", str(library), str(place / f"{source.name}.c")], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        folder.cleanup()
        cause = " ".join(done.stderr.split())[:300]
        raise UnsupportedError(f"{chosen} does not compile the C of the model: {cause}")
    return CompiledOracle(source, program, folder, library)
