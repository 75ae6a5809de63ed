"""``npusim golden check``: a device dump against golden vectors, and what explains its differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from npusim.cli.board import board_lines
from npusim.cli.options import INPUT_FILES, Invocation, arithmetic_option, input_alpha_option, input_codes_option, json_option
from npusim.cli.output import Column, Row, count, number, paragraph, print_json, render_table, terminal_width
from npusim.cli.paths import DUMP_SOURCE, SOURCE, as_given
from npusim.cli.progress import progress
from npusim.engine.planning import InputAlpha
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError, printable
from npusim.files.dumps import FORMATS, Dump, read_dump
from npusim.golden.board import MARK
from npusim.golden.check import Check, WeighedCause, is_folder
from npusim.program.input_stage import InputStage
from npusim.results.board import BoardCheckResult, check_board, check_board_text
from npusim.results.golden import check_golden
from npusim.verification import LAYOUTS

__all__ = ["check_command", "check_lines"]


def _remember(context: click.Context, _parameter: click.Parameter, value: str) -> str:
    invocation = context.find_object(Invocation)
    if invocation is not None and not is_folder(value):
        invocation.model = value
    return value


@click.command("check", short_help="Compare a device dump, and explain differences.")
@click.argument("source", type=SOURCE, metavar="DIR|MODEL", callback=_remember)
@click.option(
    "--dump",
    "dumped",
    type=DUMP_SOURCE,
    metavar="FILE",
    help="What was written, - for standard input; its format is found out. A folder holds out_layerK.txt.",
)
@click.option("--inputs", type=SOURCE, metavar="INPUTS", help=f"With MODEL: what the device ran on, a {INPUT_FILES} file.")
@click.option(
    "--model", "given_model", type=SOURCE, metavar="MODEL", help="With DIR: the model, where the folder holds no copy of it."
)
@click.option("--set", "set_index", type=click.IntRange(min=0), metavar="K", help="The set, or sample, that the device ran.")
@click.option("--tensor", metavar="NAME", help="ONNX name of the tensor in FILE.  [default: the model's output]")
@click.option(
    "--layout", type=click.Choice(LAYOUTS), default="nchw", show_default=True, help="Order of the values of a set in FILE."
)
@click.option(
    "--input-stage",
    "stage",
    type=click.Choice([*map(str, InputStage), "onnx"]),
    help="With MODEL: whose implementation of the input stage is right; onnx is the graph's.  [default: graph]",
)
@click.option("--format", "format_name", type=click.Choice(FORMATS), help="Read FILE as this, whatever its content looks like.")
@click.option("--dtype", metavar="TYPE", help="Element type in FILE, as int8 or float32; values that do not fit are refused.")
@click.option("--base", type=click.Choice(["10", "16"]), help="16 for hexadecimal numbers without 0x.")
@click.option(
    "--match",
    metavar="REGEX",
    help="Of a log, what holds the numbers: the group 'value', else the first group; 'name' names arrays.",
)
@click.option("--port", metavar="PORT", help="With DIR: read what npusim_check.c prints while the board runs, as /dev/ttyACM0.")
@click.option(
    "--baud", type=click.IntRange(min=1), default=115200, show_default=True, metavar="N", help="Bits a second of PORT."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds that PORT may be silent.",
)
@click.option(
    "--record", metavar="NEWFILE", default="board.log", show_default=True, help="Keeps every byte that came from PORT."
)
@click.option(
    "--one-buffer", is_flag=True, help="With PORT: each run gives one layer; the first wrong one is searched by halves."
)
@arithmetic_option
@input_codes_option
@input_alpha_option
@json_option
def check_command(
    source: str,
    dumped: str | None,
    inputs: str | None,
    given_model: str | None,
    set_index: int | None,
    tensor: str | None,
    layout: str,
    stage: str | None,
    format_name: str | None,
    dtype: str | None,
    base: str | None,
    match: str | None,
    port: str | None,
    baud: int,
    timeout: float,
    record: str,
    one_buffer: bool,
    arithmetic: str | None,
    input_codes: str | None,
    input_alpha: InputAlpha | None,
    as_json: bool,
) -> int:
    """Compare FILE, a dump of device memory or of a console, with what the device must compute, value by value and exactly.

    DIR is a folder of 'npusim golden write'. With MODEL, an .onnx file, the inputs come from --inputs, or from FILE where that
    is a test_vector.c with inputs. FILE may be numbers, a log with other text around them, C source, what debuggers print
    (gdb, OpenOCD, J-Link, CCS), hex dumps, S-records, TI-TXT, Intel hex, JSON, a CCS data file (.dat), raw bytes (.bin), .npy,
    .npz or .csv. Of a generated model header, the parameters of the input stage are compared.

    With --port, DIR's npusim_check.c runs on the board and prints a CRC-32 of every layer: the first one that differs is named,
    its values are asked for, and the element is shown with its arithmetic. FILE may be what it printed.

    Where values differ, causes are tried, those about arithmetic by simulating a device with that fault. A cause is stated
    only if it predicts all that differs, breaks nothing that is right, does so better than chance, and no other does as well.

    The exit code is 0 when all values are equal, 1 when one differs, 2 when FILE cannot be read or has another length.

    \b
    Example: npusim golden check golden_vectors --dump uart.txt --set 2
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    _check_options(source, inputs, given_model, stage)
    board = _board(source, dumped, given_model, port, baud, timeout, record, one_buffer, as_json=as_json)
    if board is not None:
        if as_json:
            print_json(board)
        else:
            for line in board_lines(board, terminal_width()):
                click.echo(as_given(printable(line, keep="\n")))
        return 0 if board else 1
    if dumped is None:
        raise UsageError("Missing option '--dump', or '--port' for a board that runs npusim_check.c")
    dump = read_dump(dumped, format=format_name, dtype=_dtype(dtype), base=None if base is None else int(base), match=match)
    result = check_golden(
        source
        if arithmetic is None and input_codes is None and input_alpha is None
        else InferenceSession(source, arithmetic=arithmetic, input_codes=input_codes, input_alpha=input_alpha),
        dump,
        inputs=inputs,
        model=given_model,
        set_index=set_index,
        tensor=tensor,
        layout=layout,
        input_stage=str(InputStage.GRAPH) if stage is None else stage,
    )
    if as_json:
        print_json(result)
    else:
        for line in check_lines(result.layers, dump, terminal_width()):
            click.echo(as_given(printable(line, keep="\n")))
    return 0 if result else 1


def _board(
    source: str,
    dumped: str | None,
    model: str | None,
    port: str | None,
    baud: int,
    timeout: float,
    record: str,
    one_buffer: bool,
    *,
    as_json: bool,
) -> BoardCheckResult | None:
    """What the harness printed, on a port or in FILE; None where FILE is another dump."""
    if port is not None:
        if dumped is not None or not is_folder(source):
            raise UsageError("--port reads the harness of a golden folder; give DIR, and leave out --dump")
        with progress("board", quiet=as_json, unit="CRC-32s") as report:
            return check_board(
                source,
                port,
                baud=baud,
                timeout=timeout,
                record=record,
                one_buffer=one_buffer,
                model=model,
                progress=report,
            )
    if dumped is None or not is_folder(source) or not Path(dumped).is_file():
        return None
    with Path(dumped).open("rb") as file:
        of_harness = MARK in file.read(LONGEST_BOOT)
    return check_board_text(source, dumped, model=model) if of_harness else None


def _check_options(source: str, inputs: str | None, given_model: str | None, stage: str | None) -> None:
    if is_folder(source):
        if inputs is not None or stage is not None:
            option = "--inputs" if inputs is not None else "--input-stage"
            raise UsageError(
                f"{source} is a golden folder, which holds its inputs and names its input stage; leave out {option}"
            )
    elif given_model is not None:
        raise UsageError(f"--model goes with a golden folder, and {source} is none; leave it out")


def _dtype(name: str | None) -> str | None:
    known = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
    if name is not None and name not in known:
        raise UsageError(f"there is no element type '{name}'; the types are {', '.join(known)}")
    return name


LONGEST_BOOT: Final = 2**20
"""Bytes of a file in which the first line of the harness is looked for."""

COLUMNS = (
    Column("tensor", shrinks=True),
    Column("kind"),
    Column("sets", right=True),
    Column("values", right=True),
    Column("differing", right=True),
    Column("largest\ndifference", right=True),
)

FEW_VALUES = 2
"""Values of a set from which hardly anything can be told."""

SHOWN = 6
"""Causes listed for one array."""


def check_lines(checks: Sequence[Check], dump: Dump, width: int) -> Iterator[str]:
    """A table of what was compared, and for each difference what explains it, line by line."""
    rows = [
        Row(
            (
                check.tensor,
                check.kind,
                _sets(check.sets),
                f"{check.values:,}",
                f"{check.differing:,}",
                number(check.largest) if check.differing else "-",
            ),
            marked=not check,
        )
        for check in checks
    ]
    yield from render_table(COLUMNS, rows, width)
    yield ""
    for note in (*dump.notes, *dict.fromkeys(check.note for check in checks if check.note)):
        yield paragraph(f"Reading: {note}.", width)
    for check in checks:
        if not check:
            yield from _difference(check, width)
    differing, values = (sum(item) for item in zip(*((check.differing, check.values) for check in checks), strict=True))
    verdict = f"{differing:,} of {count(values, 'value')} differ" if differing else f"{count(values, 'value')}, all equal"
    yield f"{dump.path} ({dump.format}): {verdict}"


def _sets(sets: Sequence[int]) -> str:
    return str(sets[0]) if len(sets) == 1 else f"{sets[0]}-{sets[-1]}"


def _difference(check: Check, width: int) -> Iterator[str]:
    if check.first is not None:
        place = ", ".join(str(item) for item in check.first.index)
        yield paragraph(
            f"First difference in {check.array}: set {check.first.set_index}, value {check.first.position}, which is "
            f"{check.tensor}[{place}]: seen {number(check.first.seen)}, wanted {number(check.first.wanted)}.",
            width,
        )
    causes = check.causes
    if causes is None:
        return
    if causes.stated:
        yield "Explained by:" if len(causes.stated) == 1 else "Explained equally well by each of:"
        yield from _causes(causes.stated, width)
    else:
        tried = count(causes.tried, "cause")
        alone = "none" if not causes.possible else "no single one"
        yield paragraph(f"Unexplained: {alone} of {tried} accounts for all differences better than chance.", width)
        if causes.possible:
            yield paragraph(_heading(causes.possible), width)
            yield from _causes(causes.possible, width)
        if check.untried:
            layers = count(len(check.untried), "layer")
            yield paragraph(
                f"Not tried: every other rounding in {layers} whose arithmetic is not a shift or a division.", width
            )
        if check.values // len(check.sets) <= FEW_VALUES:
            few = count(check.values // len(check.sets), "value")
            text = f"A set has {few} here, which many faults change alike: dump an inner tensor too, and give it with --tensor."
            yield paragraph(text, width)
    yield ""


def _heading(causes: Sequence[WeighedCause]) -> str:
    """What is to be said of causes that are not stated."""
    if not causes[0].complete:
        return "Fits a part:"
    if len(causes) > 1:
        return "Each of these would account for all differences, so that the dump does not tell which it is:"
    return "Too few values differ to tell it from chance; this would fit:"


def _causes(causes: Sequence[WeighedCause], width: int) -> Iterator[str]:
    for item in causes[:SHOWN]:
        cause = item.hypothesis
        share = f"{item.explained:,} of {item.differing:,} differences"
        share = share if item.complete else f"fits {share}, so it is not the whole cause"
        share = f"{share}; {cause.note}" if cause.note else share
        text = f"* {cause.message} ({share}). To do: {cause.remedy}."
        yield "  " + paragraph(text, width - 4).replace("\n", "\n    ")
    if len(causes) > SHOWN:
        yield f"  and {len(causes) - SHOWN} more"
