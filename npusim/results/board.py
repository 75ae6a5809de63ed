"""``npusim.check_board``: what the harness of a golden folder prints, from a port or from a file that kept it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from npusim.engine.session import InferenceSession
from npusim.errors import InputError, UsageError, count
from npusim.findings import Finding
from npusim.golden.board import (
    FirstLayer,
    Judged,
    KnownLayer,
    KnownLayers,
    Line,
    Transcript,
    first_value,
    judge,
    known_layers,
    open_port,
    search_first,
)
from npusim.golden.board.line import Port
from npusim.golden.check import expected_of_folder
from npusim.golden.folder.manifest import read_manifest, session_of_manifest
from npusim.results.base import CommandResult, identity_of
from npusim.schemas.derivation import Count, Minimum, NotEmpty, Rules
from npusim.verification.arithmetic import explain_element

__all__ = ["BoardCheckResult", "BoardLayer", "BoardTotals", "FirstElement", "check_board", "check_board_text"]


@dataclass(frozen=True, slots=True)
class BoardLayer:
    """One layer over the sets.

    Attributes
    ----------
    name
        The step that makes the tensor.
    tensor, kind
        Its tensor and the step's kind.
    sets
        Sets of which a CRC-32 came.
    wrong
        Those in which it differs.
    """

    name: str
    tensor: str
    kind: str
    sets: tuple[Count, ...]
    wrong: tuple[Count, ...]

    def __bool__(self) -> bool:
        """Whether all are equal."""
        return bool(self.sets) and not self.wrong


@dataclass(frozen=True, slots=True)
class FirstElement:
    """The first value that differs in the first layer that does.

    Attributes
    ----------
    set
        The set.
    index
        Place in the tensor, in ONNX layout.
    position
        Place in what the board printed.
    seen, wanted
        The values.
    arithmetic
        How the wanted value comes about, line by line; empty where the host computes it.
    """

    set: Count
    index: tuple[Count, ...]
    position: Count
    seen: float
    wanted: float
    arithmetic: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardTotals:
    """Counts.

    Attributes
    ----------
    layers
        Layers of which a CRC-32 came, the output among them.
    sums
        CRC-32s compared.
    differing
        Those that differ.
    runs
        Runs of the board.
    damaged
        Lines that did not come whole.
    """

    layers: Annotated[int, Minimum(1)]
    sums: Annotated[int, Minimum(1)]
    differing: Count
    runs: Count
    damaged: Count


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class BoardCheckResult(CommandResult):
    """CRC-32s of a board's layers against what is right; true when all came and are equal.

    Attributes
    ----------
    layers
        In the order of execution.
    findings
        One for the first layer that differs, one for what is missing.
    totals
        Over all layers.
    first
        The first value that differs; null where none does, or its layer's values did not come.
    next
        What to do for more: what to define for the compiler; empty where nothing is left to find out.
    record
        The file that keeps what the board wrote.
    """

    layers: Annotated[tuple[BoardLayer, ...], NotEmpty()]
    findings: Annotated[tuple[Finding, ...], Rules(("differs", "missing"))]
    totals: BoardTotals
    first: FirstElement | None
    next: str
    record: str

    def summary(self) -> str:
        """Which layer differs first."""
        if self.ok:
            return f"{count(self.totals.sums, 'CRC-32')} of {count(self.totals.layers, 'layer')}, all equal"
        return self.findings[0].message


Report = Callable[[int, int], None]


def check_board(
    folder: str | os.PathLike[str],
    port: str | Port,
    *,
    baud: int = 115200,
    timeout: float = 10.0,
    record: str | os.PathLike[str] = "board.log",
    one_buffer: bool = False,
    model: str | os.PathLike[str] | None = None,
    progress: Report | None = None,
) -> BoardCheckResult:
    """Read what the harness of a golden folder prints while the board runs, and ask for the values that matter.

    Parameters
    ----------
    folder
        The golden folder.
    port
        Name of a serial port, or what `serial.Serial` gives.
    baud
        Bits a second.
    timeout
        Seconds without a line after which the board is given up.
    record
        A new file that keeps every byte.
    one_buffer
        Search the first layer that differs by halves: each run gives one layer.
    model
        The model, where the folder holds no copy of it.
    progress
        Called with the number of CRC-32s that came, and of those wanted.

    Raises
    ------
    InputError
        If the board stops, or sends something else.
    UsageError
        If the port or the file cannot be opened.
    """
    layers, session, feeds = _right(folder, model)
    opened = open_port(port, baud) if isinstance(port, str) else port
    with Line(opened, timeout, Path(record)) as line:
        transcript = line.transcript

        def first_run(found: Transcript) -> bool:
            if progress is not None and found.sets:
                progress(len(found.crcs), found.sets * (1 if one_buffer else found.layers + 1))
            return found.ends > 0

        line.read_until(first_run, lambda found: _missing(found, layers))
        _check_start(transcript, session)
        runs, first = 1, None
        chosen = _first_wrong(judge(transcript, layers))
        if chosen is not None and _waits(line):
            if one_buffer:
                asked = list[int]()

                def is_wrong(layer: KnownLayer) -> bool:
                    asked.append(layer.number)
                    _run(line, f"probe {layer.number}", layers)
                    return any(item.wrong for item in judge(transcript, layers) if item.layer is layer)

                inner = [layer for layer in layers if layer.number >= 0]
                layer = search_first(inner, is_wrong)
                runs += len(asked)
                chosen = next((item for item in judge(transcript, layers) if item.layer is layer), chosen)
            if chosen.layer.number < 0:
                chosen = _as_layer(chosen, layers)
            _run(line, f"values {chosen.wrong[0]} {chosen.layer.number}", layers)
            runs += 1
            first = first_value(transcript, chosen.layer, chosen.wrong[0])
        if transcript.ready:
            line.ask("quit")
        return _result(transcript, layers, session, feeds, first, runs, os.fspath(record))


def check_board_text(
    folder: str | os.PathLike[str], path: str | os.PathLike[str], *, model: str | os.PathLike[str] | None = None
) -> BoardCheckResult:
    """The same from a file that kept what the harness printed.

    Parameters
    ----------
    folder
        The golden folder.
    path
        The file.
    model
        The model, where the folder holds no copy of it.

    Raises
    ------
    InputError
        If no line of the harness is in it, or it is of another folder.
    """
    layers, session, feeds = _right(folder, model)
    transcript = Transcript()
    transcript.take(Path(path).read_bytes().decode("ascii", errors="replace"))
    if not transcript.crcs:
        raise InputError(f"{path}: holds no whole line of npusim_check.c with a CRC-32; {transcript.damaged} are damaged")
    _check_start(transcript, session)
    chosen = _first_wrong(judge(transcript, layers))
    first = None
    if chosen is not None:
        chosen = _as_layer(chosen, layers) if chosen.layer.number < 0 else chosen
        held = [number for number in chosen.wrong if (number, chosen.layer.number) in transcript.values]
        first = first_value(transcript, chosen.layer, held[0]) if held else None
    return _result(transcript, layers, session, feeds, first, max(transcript.ends, 1), os.fspath(path))


def _right(
    folder: str | os.PathLike[str], model: str | os.PathLike[str] | None
) -> tuple[KnownLayers, InferenceSession, dict[str, Any]]:
    manifest = read_manifest(folder)
    expected = expected_of_folder(folder, model=model)
    session = session_of_manifest(expected.model.path or "", manifest["model"])
    return known_layers(expected.expectation, manifest["tensors"]), session, dict(expected.expectation.feeds)


def _check_start(transcript: Transcript, session: InferenceSession) -> None:
    if transcript.starts and transcript.model != session.model.sha256[:8]:
        raise InputError(
            f"the board runs a harness for the model {transcript.model}..., the folder's is {session.model.sha256[:8]}...; "
            "flash the folder's own npusim_check.c"
        )
    if transcript.conflicts:
        raise InputError(f"{transcript.conflicts[0]}: the board restarted or does not repeat itself; run it once")


def _first_wrong(judged: tuple[Judged, ...]) -> Judged | None:
    return next((item for item in judged if item.wrong), None)


def _as_layer(judged: Judged, layers: KnownLayers) -> Judged:
    """The output under its number among the layers, whose values can be asked for."""
    same = next(layer for layer in layers if layer.tensor == judged.layer.tensor and layer.number >= 0)
    return Judged(same, judged.sets, judged.wrong)


def _waits(line: Line) -> bool:
    """Whether the board waits for requests; it says so at once, or never."""
    try:
        line.read_until(lambda found: found.ready, lambda _: "", timeout=1.0)
    except InputError:
        return False
    return True


def _run(line: Line, request: str, layers: KnownLayers) -> None:
    ends = line.transcript.ends
    line.ask(request)
    line.read_until(lambda found: found.ends > ends and found.ready, lambda found: _missing(found, layers))


def _missing(transcript: Transcript, layers: KnownLayers) -> str:
    """What a run still lacks."""
    came = {number for number, layer in transcript.crcs if layer < 0}
    lacking = [number for number in range(transcript.sets) if number not in came]
    if lacking:
        return f"of {transcript.sets} sets, the output of set {lacking[0]} is the first that is missing"
    return "the line that ends the run is missing"


def _result(
    transcript: Transcript,
    layers: KnownLayers,
    session: InferenceSession,
    feeds: dict[str, Any],
    first: FirstLayer | None,
    runs: int,
    record: str,
) -> BoardCheckResult:
    judged = judge(transcript, layers)
    missing = [number for number in range(transcript.sets) if (number, -1) not in transcript.crcs]
    findings = tuple(_findings(judged, missing, transcript, first))
    return BoardCheckResult(
        model=identity_of(session),
        ok=not findings,
        layers=tuple(
            BoardLayer(item.layer.layer, item.layer.tensor, item.layer.kind, item.sets, item.wrong) for item in judged
        ),
        findings=findings,
        totals=BoardTotals(
            layers=len(judged),
            sums=sum(len(item.sets) for item in judged),
            differing=sum(len(item.wrong) for item in judged),
            runs=runs,
            damaged=transcript.damaged,
        ),
        first=None if first is None else _element(session, feeds, first),
        next="" if first is not None else _next(judged, layers),
        record=record,
    )


def _findings(
    judged: tuple[Judged, ...], missing: list[int], transcript: Transcript, first: FirstLayer | None
) -> Iterator[Finding]:
    wrong = _first_wrong(judged)
    if wrong is not None:
        layer, numbers = (wrong.layer, wrong.wrong)
        before = [item.layer.layer for item in judged[: judged.index(wrong)]][-1:]
        right = f"; '{before[0]}' before it is right" if before else ""
        sets = f"{count(len(numbers), 'set')} of {len(wrong.sets)}, the first is {numbers[0]}"
        message = f"the first layer that differs is '{layer.layer}' ('{layer.tensor}'), in {sets}{right}"
        yield Finding("differs", "error", layer.layer, message, "compare its parameters, and how it reads the layer before")
    if missing or transcript.damaged:
        said = (
            f"the output of set {missing[0]} did not come" if missing else f"{count(transcript.damaged, 'line')} came damaged"
        )
        yield Finding("missing", "error", "", said, "run it again, with a lower --baud if lines are damaged")


def _next(judged: tuple[Judged, ...], layers: KnownLayers) -> str:
    """What to compile for more."""
    wrong = _first_wrong(judged)
    if wrong is None:
        return ""
    inner = [layer for layer in layers if layer.number >= 0]
    came = {item.layer.number for item in judged}
    right = [item.layer.number for item in judged if not item.wrong and item.layer.number >= 0]
    low = max(right) + 1 if right else 0
    high = inner[-1].number if wrong.layer.number < 0 else wrong.layer.number
    between = [layer.number for layer in inner if low <= layer.number < high and layer.number not in came]
    if between:
        middle = between[(len(between) - 1) // 2]
        left = math.ceil(math.log2(len(between) + 1))
        return f"define NPUSIM_PROBE={middle} and run again; {count(left, 'run')} of this kind at most find the layer"
    return f"define NPUSIM_PRINT_LAYER={high} and NPUSIM_PRINT_SET={wrong.wrong[0]} to see the values"


def _element(session: InferenceSession, feeds: dict[str, Any], first: FirstLayer) -> FirstElement:
    arithmetic = ""
    with suppress(UsageError):  # the host computes it
        arithmetic = str(explain_element(session, feeds, first.layer.tensor, first.set_index, first.index))
    lines = tuple(arithmetic.splitlines())
    return FirstElement(first.set_index, first.index, first.position, first.seen, first.wanted, lines)
