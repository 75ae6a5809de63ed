"""``npusim.write_oracle``: the whole model as C99, and what it gives beside the simulator."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np

from npusim.engine.oracle import compile_oracle, find_compiler, oracle_source
from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.files.writing import replacing_folder
from npusim.findings import Finding
from npusim.graph import Array
from npusim.program.trace import StepKind, step_kind
from npusim.results.base import CommandResult, Model, identity_of, session_of
from npusim.schemas.derivation import Count, Rules

__all__ = ["OracleLayer", "OracleOpinion", "OracleResult", "OracleTotals", "compare_with_oracle", "write_oracle"]

AT_ONCE: Final = 64
"""Samples that are compared together."""


@dataclass(frozen=True, slots=True)
class OracleLayer:
    """A layer of the C source; the hook is called with its values.

    Attributes
    ----------
    name
        Name of the step.
    tensor
        The ONNX tensor that it gives.
    kind
        Kind of layer.
    values
        Elements for one sample.
    type
        The C type of an element.
    """

    name: str
    tensor: str
    kind: StepKind
    values: Count
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleTotals:
    """Sums over the layers.

    Attributes
    ----------
    layers
        Layers.
    flash_bytes
        What the constants take, on a machine with bytes of 8 bits; code comes on top.
    arena_bytes
        What the memory for all tensors takes.
    """

    layers: Count
    flash_bytes: Count
    arena_bytes: Count


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class OracleResult(CommandResult):
    """The C source that was written; always true.

    Attributes
    ----------
    layers
        In the order in which the hook is called.
    findings
        Always empty.
    totals
        Sums.
    folder
        As given.
    files
        Names of the files in it.
    """

    layers: tuple[OracleLayer, ...]
    findings: Annotated[tuple[Finding, ...], Rules(())]
    totals: OracleTotals
    folder: str
    files: tuple[str, ...]

    def summary(self) -> str:
        """The files, and what they take."""
        return (
            f"{' and '.join(self.files)} in '{self.folder}': {self.totals.layers} layers, {self.totals.flash_bytes:,} bytes of "
            f"constants, {self.totals.arena_bytes:,} bytes of memory"
        )


@dataclass(frozen=True, slots=True)
class OracleOpinion:
    """The model's C source, compiled and run on the same samples, against npusim.

    Attributes
    ----------
    compiler
        What compiled it.
    layers
        Layers compared, outputs not among them.
    elements
        Values compared, outputs included.
    mismatches
        Values that differ.
    first
        The first layer that differs, or the first output; null where none does.
    """

    compiler: str
    layers: Count
    elements: Count
    mismatches: Count
    first: str | None


def write_oracle(
    model: Model, output: str | os.PathLike[str], *, name: str = "npusim_model", overwrite: bool = False
) -> OracleResult:
    """Write a model as C99: exact, in integers, without a library.

    It runs on a computer as an oracle that does not depend on NumPy, and on a device beside the vendor's library. A hook is
    called with what each layer gives. See docs/oracle.md.

    Parameters
    ----------
    model
        A session, the path of an ``.onnx`` file, or its content.
    output
        The folder; it appears whole or not at all.
    name
        What files and symbols begin with, so that two models link together.
    overwrite
        Replace a folder that exists.

    Returns
    -------
    OracleResult
        Always true.

    Raises
    ------
    UnsupportedError
        If a step has no C: a layer of other arithmetic, or a host operation whose bits IEEE 754 does not define.
    UsageError
        If the folder cannot be written.
    ModelError
        If the model cannot be read.

    Examples
    --------
    >>> npusim.write_oracle("golden/vibration_w8.onnx", "oracle", name="vibration").totals.arena_bytes  # doctest: +SKIP
    768
    """
    session = session_of(model)
    made = oracle_source(session, name)
    with replacing_folder(output, overwrite=overwrite) as folder:
        for suffix, text in ((".h", made.header), (".c", made.source)):
            (Path(folder) / f"{made.name}{suffix}").write_text(text, encoding="utf-8")
    steps = session.program.steps
    layers = tuple(
        OracleLayer(step.name, tensor, step_kind(step), int(np.prod(shape)), kind.label)
        for step, tensor, shape, kind in zip(steps, made.layers, made.shapes, made.types, strict=True)
    )
    return OracleResult(
        model=identity_of(session),
        ok=True,
        layers=layers,
        findings=(),
        totals=OracleTotals(layers=len(layers), flash_bytes=made.flash_bytes, arena_bytes=made.arena_bytes),
        folder=os.fspath(output),
        files=(f"{made.name}.h", f"{made.name}.c"),
    )


def compare_with_oracle(
    session: InferenceSession, feeds: Mapping[str, Array], progress: Progress | None = None
) -> OracleOpinion:
    """Compile a model's C source, run samples, and compare every layer and output for equality.

    Raises
    ------
    UnsupportedError
        If a step has no C.
    UsageError
        If there is no compiler.
    """
    made = oracle_source(session)
    count = len(next(iter(feeds.values())))
    elements, wrong = 0, dict.fromkeys((*made.layers, *session.program.outputs), 0)
    with compile_oracle(made, session.program) as compiled:
        for start in range(0, count, AT_ONCE):
            part = {name: np.asarray(array[start : start + AT_ONCE]) for name, array in feeds.items()}
            outputs, layers = compiled.run(part)
            held = session.held(part, made.layers)
            expected = dict(zip(session.program.outputs, session.run(None, part), strict=True))
            pairs = [(name, layers[name], held[name]) for name in made.layers]
            pairs += [(name, output, expected[name]) for name, output in zip(session.program.outputs, outputs, strict=True)]
            for name, mine, theirs in pairs:
                elements += mine.size
                wrong[name] += int((mine != theirs).sum())
            if progress is not None:
                progress(min(start + AT_ONCE, count), count)
    first = next((name for name, number in wrong.items() if number), None)
    return OracleOpinion(find_compiler() or "", len(made.layers), elements, sum(wrong.values()), first)
