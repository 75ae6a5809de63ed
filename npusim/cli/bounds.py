"""``npusim bounds``: the worst case of every integer, and what is proven for every input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import click

from npusim.bounds.arithmetics import Agreement
from npusim.bounds.certificate import Certificate, StepCertificate
from npusim.bounds.certificate_file import Comparison
from npusim.bounds.channels import ChannelBounds
from npusim.bounds.verdicts import Judgement, Property, Verdict
from npusim.bounds.widths import room_of
from npusim.cli.destinations import check_destination, force_option
from npusim.cli.input_stages import holds_for
from npusim.cli.options import (
    INPUT_FILES,
    allow_float_option,
    arithmetic_option,
    input_alpha_option,
    input_codes_option,
    input_stage_option,
    json_option,
    model_argument,
    quiet_option,
)
from npusim.cli.output import Column, Row, count, paragraph, print_json, render_table, terminal_width
from npusim.cli.paths import SOURCE, Destination
from npusim.cli.progress import progress
from npusim.engine.planning import InputAlpha
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.findings import Finding
from npusim.program.input_stage import input_stages
from npusim.program.intervals import Interval, hull_of
from npusim.results.certificate import ArithmeticsReport, RobustnessReport, certify

__all__ = ["bounds_command", "print_bounds", "print_comparison"]


@click.command("bounds", short_help="Prove what holds for every input.")
@model_argument
@click.option(
    "-o",
    "--output",
    type=Destination(".json"),
    metavar="CERT.json",
    help="Write the certificate to this file, whole or not at all.",
)
@click.option(
    "--check",
    "certified",
    type=SOURCE,
    metavar="CERT.json",
    help="Prove the statements of this certificate again, and compare.",
)
@click.option("--channels", is_flag=True, help="Show the intervals of each channel as well.")
@click.option("--strict", is_flag=True, help="Exit code 1 also where a statement is not proven for every input.")
@click.option(
    "--robust",
    type=click.IntRange(min=1),
    metavar="K",
    help="Say of each sample in --data whether its class can change when every input code moves by at most K.",
)
@click.option("--data", type=SOURCE, metavar="X.npz", help=f"With --robust: samples, a {INPUT_FILES} file.")
@click.option(
    "--witness", type=Destination(".npz"), metavar="W.npz", help="With --robust: write inputs at which the class changes."
)
@click.option(
    "--against-arithmetic",
    metavar="NAME",
    help="Say of each layer and of the model whether this arithmetic gives the same codes, for every input.",
)
@force_option
@allow_float_option
@quiet_option
@arithmetic_option
@input_codes_option
@input_alpha_option
@input_stage_option
@json_option
def bounds_command(
    model: str,
    output: str | None,
    certified: str | None,
    channels: bool,
    strict: bool,
    robust: int | None,
    data: str | None,
    witness: str | None,
    against_arithmetic: str | None,
    force: bool,
    allow_float: bool,
    quiet: bool,
    arithmetic: str | None,
    input_codes: str | None,
    input_alpha: InputAlpha | None,
    input_stage: str,
    as_json: bool,
) -> int:
    """Find the range of every integer in MODEL, an .onnx file, over all inputs, and prove what follows from it.

    Three statements are judged for each layer of a model for the NPU: onnxruntime, running the graph as it is written, gives
    the integers' codes; (accumulator + bias) * scale does not overflow int32 in the soft library; no accumulator of a 2-bit
    weight digit leaves the 18 bits in which the NPU is read out. Each is proven, violated (an input exists that breaks it) or
    unknown. Whether bias, scale and shift fit the bits in which the NPU stores them is checked too. Of QDQ, QOperator, MATCH
    and TensorFlow Lite models it is judged whether anything can overflow the int32 accumulators of the runtime, and in MATCH
    models whether k * phi + lambda can.

    The exit code is 0 when nothing is violated and all widths hold, and 1 when not. With --strict, what is unknown counts as
    violated. With --check it is 0 when every statement of the certificate is found again for this model, 1 when one is not or
    the certificate is of another model, and 2 when the certificate is damaged. With --robust it is 1 as well when the class of
    a sample changes, and always when nothing of the model is quantized.

    \b
    Example: npusim bounds model.onnx -o certificate.json
    Example: npusim bounds model.onnx --robust 1 --data recorded.npz
    Example: npusim bounds model.tflite --arithmetic tflm --against-arithmetic litert_ref
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    _check_files(model, output, certified, data, witness, force=force)
    session = InferenceSession(
        model, arithmetic=arithmetic, input_codes=input_codes, input_alpha=input_alpha, input_stage=input_stage
    )
    with progress("bounds", quiet=quiet or robust is None) as report:
        result = certify(
            session,
            strict=strict,
            channels=channels,
            output=output,
            check=certified,
            robust=robust,
            inputs=data,
            witness=witness,
            against_arithmetic=against_arithmetic,
            allow_float=allow_float,
            progress=report,
        )
    stage = holds_for(session.input_stage) if input_stages(session.program) else None
    if as_json:
        print_json(result)
    elif result.compared is not None and certified is not None:
        print_comparison(result.proof, result.compared, result.findings, certified, terminal_width(), stage)
    else:
        print_bounds(result.proof, result.findings, terminal_width(), channels=channels, written=output, stage=stage)
    if result.robustness is not None and not as_json:
        _print_robustness(result.robustness, terminal_width())
    if result.arithmetics is not None and not as_json:
        _print_arithmetics(result.model.arithmetic, result.arithmetics, terminal_width())
    return 0 if result else 1


AGREEMENT_COLUMNS: Final = (Column("layer", shrinks=True), Column("agreement"), Column("element"), Column("codes", right=True))


def _print_arithmetics(name: str | None, found: ArithmeticsReport, width: int) -> None:
    """A row for each layer, then the verdict on the model."""
    click.echo()
    rows = []
    for layer in found.layers:
        part = layer.found
        place = "" if part.position is None else f"[{', '.join(map(str, part.position))}]"
        codes = "" if part.codes is None else f"{part.codes[0]} / {part.codes[1]}"
        rows.append(Row((part.layer, str(part.agreement), place, codes), part.agreement is not Agreement.EQUAL))
    for line in render_table(AGREEMENT_COLUMNS, rows, width):
        click.echo(line)
    click.echo()
    click.echo(paragraph(f"Model in the arithmetics '{name}' and '{found.against}': {found.verdict}: {found.reason}.", width))


def _print_robustness(found: RobustnessReport, width: int) -> None:
    """How many samples keep their class, in a sentence."""
    click.echo(
        paragraph(
            f"Class of {count(len(found.samples), 'sample')} when each input code moves by at most {found.codes}: "
            f"{found.proven} proven to stay, {found.broken} changed by an input that was found, {found.unknown} unknown.",
            width,
        )
    )
    if found.witness is not None:
        click.echo(paragraph(f"The inputs are in {found.witness}.", width))


def _check_files(
    model: str, output: str | None, certified: str | None, data: str | None, witness: str | None, *, force: bool
) -> None:
    """Refuse before any work what could not be written after it."""
    if output is not None and certified is not None:
        raise UsageError("--check compares with a certificate and -o writes one; give one of them")
    check_destination(output, (model,), force=force)
    check_destination(witness, (model, data), force=force)


INTERVAL_COLUMNS: Final = (
    Column("#", right=True),
    Column("kind"),
    Column("layer", shrinks=True),
    Column("accumulator", right=True),
    Column("weight digits", right=True),
    Column("before clip", right=True),
)

ROOM_COLUMNS: Final = (
    Column("#", right=True),
    Column("sum\n2^24", right=True),
    Column("product\n2^24", right=True),
    Column("product\nint32", right=True),
    Column("digits\n18 bit", right=True),
    Column("bias", right=True),
    Column("scale", right=True),
    Column("onnx-\nruntime"),
    Column("soft\nlibrary"),
    Column("NPU\ndigits"),
)

SUM_COLUMN: Final = Column("sum\nint32", right=True)
PRODUCT_COLUMN: Final = Column("k*phi+lambda\nint32", right=True)
STATEMENT_COLUMNS: Final[Mapping[Property, Column]] = {
    Property.ACCUMULATOR_INT32: Column("sum\nfits"),
    Property.PRODUCT_INT32: Column("k*phi+lambda\nfits"),
}
"""Columns of formats that are not the NPU's."""

SCALED_COLUMN: Final = Column("times scale", right=True)
CHANNEL_COLUMNS: Final = (
    Column("channel", right=True),
    Column("accumulator", right=True),
    Column("with bias", right=True),
    SCALED_COLUMN,
    Column("before clip", right=True),
)

ROOM: Final = "Room in bits, negative where a limit is passed, and whether each statement is proven for every input:"

STATEMENTS: Final[Mapping[Property, str]] = {
    Property.ONNXRUNTIME_EXACT: "onnxruntime, running the graph as written, gives the integers' codes",
    Property.ONNXRUNTIME_OPTIMIZED: "so it does when it folds scales into weights, as its optimizations do",
    Property.SOFT_INT32: "nothing overflows int32 in the soft library",
    Property.DIGIT_18BIT: "no accumulator of a weight digit leaves the NPU's 18 bits",
    Property.ACCUMULATOR_INT32: "nothing overflows the int32 accumulators of the runtime",
    Property.PRODUCT_INT32: "k * phi + lambda does not overflow int32",
}

SHOWN_FINDINGS: Final = 10


def print_bounds(
    certificate: Certificate,
    findings: Sequence[Finding],
    width: int,
    *,
    channels: bool,
    written: str | None,
    stage: str | None = None,
) -> None:
    """Print intervals, room and verdicts of every layer, then what was found and what is proven of the model."""
    numbered = [(str(index), step) for index, step in enumerate(certificate.steps, 1)]
    of_npu = Property.DIGIT_18BIT in certificate.model
    titles = INTERVAL_COLUMNS if of_npu else (*INTERVAL_COLUMNS[:4], INTERVAL_COLUMNS[5])
    _print_lines(render_table(titles, [_interval_row(index, step) for index, step in numbered], width))
    broken = {finding.layer for finding in findings if finding.severity == "error"}
    click.echo()
    click.echo(paragraph(ROOM, width))
    rows = [_room_row(index, step, step.name in broken) for index, step in numbered]
    _print_lines(render_table(ROOM_COLUMNS if of_npu else _int32_columns(certificate), rows, width))
    if channels:
        _print_channels(numbered, width)
    exact = [index for index, step in numbered if step.bounds is not None and step.bounds.attained]
    click.echo()
    click.echo(paragraph(_what_intervals_are(exact), width))
    _print_findings(findings, width)
    _print_verdicts(certificate, width, stage)
    if written is not None:
        click.echo(paragraph(f"{written}: certificate written", width))


def print_comparison(
    certificate: Certificate,
    compared: Comparison,
    findings: Sequence[Finding],
    path: str,
    width: int,
    stage: str | None = None,
) -> None:
    """Print how a certificate compares with what is found now."""
    if compared:
        click.echo(paragraph(f"{path}: every statement is found again for this model", width))
    elif compared.other_model:
        click.echo(paragraph(f"{path}: OF ANOTHER MODEL", width))
    else:
        places = count(len(compared.deviations), "place")
        click.echo(paragraph(f"{path}: NOT FOUND AGAIN: differs in {places} from what is proven now", width))
    _print_findings(findings, width)
    _print_verdicts(certificate, width, stage)


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(click.style(line, fg="red") if line.startswith("!!") else line)


def _interval_row(index: str, step: StepCertificate) -> Row:
    bounds = step.bounds
    cells = ("-", "-", "-")
    if bounds is not None:
        digits = "?" if bounds.digits is None else _span(*bounds.digits)
        cells = (_span(bounds.accumulator), digits, _span(bounds.floored))
    return Row((index, step.kind, step.name, *(cells if step.is_of_npu else (cells[0], cells[2]))))


def _int32_columns(certificate: Certificate) -> tuple[Column, ...]:
    """Room and verdicts of a format that is not the NPU's."""
    product = (PRODUCT_COLUMN,) if Property.PRODUCT_INT32 in certificate.model else ()
    return (ROOM_COLUMNS[0], SUM_COLUMN, *product, *(STATEMENT_COLUMNS[statement] for statement in certificate.model))


def _room_row(index: str, step: StepCertificate, broken: bool) -> Row:
    room = None if step.bounds is None else room_of(step.bounds, of_npu=step.is_of_npu)
    if not step.is_of_npu:
        left = [None, None] if room is None else [room.accumulator_int32, room.int32]
        shown = left if Property.PRODUCT_INT32 in step.judgements else left[:1]
        cells = ("-" if number is None else str(number) for number in shown)
        return Row((index, *cells, *map(_word, step.judgements.values())), broken)
    numbers: list[int | None] = [None] * 6
    if room is not None:
        numbers = [room.float32_partial, room.float32_scaled, room.int32, room.digit_18bit, room.bias, room.scale]
    statements = (Property.ONNXRUNTIME_EXACT, Property.SOFT_INT32, Property.DIGIT_18BIT)
    verdicts = (_word(step.judgements[statement]) for statement in statements)
    return Row((index, *("-" if number is None else str(number) for number in numbers), *verdicts), broken)


def _print_channels(numbered: Sequence[tuple[str, StepCertificate]], width: int) -> None:
    for index, step in numbered:
        if step.bounds is not None:
            digits = (step.bounds.digits or ()) if step.is_of_npu else ()
            first = [column for column in CHANNEL_COLUMNS if step.scaled is not None or column is not SCALED_COLUMN]
            columns = (*first, *(Column(f"digit {digit}", right=True) for digit in range(len(digits))))
            click.echo()
            click.echo(paragraph(f"{index} {step.kind} '{step.name}'", width))
            _print_lines(render_table(columns, _channel_rows(step, step.bounds, digits), width))


def _channel_rows(step: StepCertificate, bounds: ChannelBounds, digits: Sequence[Interval]) -> list[Row]:
    scaled = () if step.scaled is None else (bounds.scaled,)
    parts = (bounds.accumulator, bounds.biased, *scaled, bounds.floored, *digits)
    return [
        Row((str(channel), *(f"{part.lower[channel]}..{part.upper[channel]}" for part in parts)))
        for channel in range(bounds.accumulator.lower.size)
    ]


def _what_intervals_are(exact: Sequence[str]) -> str:
    if not exact:
        return "Intervals are bounds that no input can leave."
    which = f"layer {exact[0]} are" if len(exact) == 1 else f"layers {', '.join(exact)} are"
    return f"Intervals of {which} exact: some input reaches each end. The others are bounds that no input can leave."


def _print_findings(findings: Sequence[Finding], width: int) -> None:
    for finding in findings[:SHOWN_FINDINGS]:
        where = "" if finding.layer is None else f" '{finding.layer}':"
        click.echo()
        click.echo(paragraph(f"{finding.severity} ({finding.rule}){where} {finding.message}; {finding.remedy}.", width))
    if len(findings) > SHOWN_FINDINGS:
        click.echo()
        click.echo(f"... and {len(findings) - SHOWN_FINDINGS} more; --json lists all.")


def _print_verdicts(certificate: Certificate, width: int, stage: str | None) -> None:
    if stage is not None:
        click.echo()
        click.echo(paragraph(stage, width))
    model = certificate.model
    rows = [Row((_word(model[statement]), text)) for statement, text in STATEMENTS.items() if statement in model]
    click.echo()
    _print_lines(render_table((Column("verdict"), Column("for every input")), rows, width))


def _word(judgement: Judgement) -> str:
    return "VIOLATED" if judgement.verdict is Verdict.VIOLATED else str(judgement.verdict)


def _span(*intervals: Interval) -> str:
    hull = hull_of(*intervals)
    return "-" if hull is None else f"{hull[0]}..{hull[1]}"
