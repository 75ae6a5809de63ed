"""``npusim compare --prove``: two models, for every input."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import click

from npusim.cli.destinations import check_destination
from npusim.cli.output import Column, Row, paragraph, print_json, render_table, terminal_width
from npusim.cli.progress import progress
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.results.comparison import RUNTIME
from npusim.results.equality import EqualityResult, prove_equal
from npusim.verification.equality import DEFAULT_SECONDS, EqualityVerdict

__all__ = ["ProofOptions", "compare_proof"]

COLUMNS = (
    Column("layer", shrinks=True),
    Column("same as", shrinks=True),
    Column("values", right=True),
    Column("same", right=True),
)


@dataclass(frozen=True, slots=True)
class ProofOptions:
    """What is for proofs alone.

    Attributes
    ----------
    certificate, check_file, witness
        Files to write a certificate to, to prove again, and to write inputs to.
    seconds
        For the search; None for the usual time.
    arithmetic
        Of the other model; None for the one that its format has.
    """

    certificate: str | None
    check_file: str | None
    witness: str | None
    seconds: float | None
    arithmetic: str | None

    def check(self, sources: Iterable[str | None], *, asked: bool, force: bool) -> None:
        """Refuse what could not be written, and options for proofs where none is asked for.

        Raises
        ------
        UsageError
            If it is so.
        """
        given = (self.certificate, self.check_file, self.witness, self.seconds, self.arithmetic)
        if not asked and any(item is not None for item in given):
            names = "--certificate, --check, --witness, --seconds and --against-arithmetic"
            raise UsageError(f"{names} are for --prove; add it, or leave them out")
        check_destination(self.certificate, sources, force=force, suffixes=(".json",))
        check_destination(self.witness, sources, force=force, suffixes=(".npz",))

    def other(self, against: str, input_stage: str, threads: int | None) -> InferenceSession:
        """The other model.

        Raises
        ------
        UsageError
            If it is not a model.
        """
        if against == RUNTIME:
            raise UsageError("--prove compares two models; --against ort names a runtime, which computes samples only")
        return InferenceSession(against, threads=threads, arithmetic=self.arithmetic, input_stage=input_stage)


def compare_proof(
    session: InferenceSession,
    other: InferenceSession,
    samples: str | None,
    options: ProofOptions,
    *,
    seed: int | None,
    quiet: bool,
    as_json: bool,
) -> int:
    """Prove, print, and give the exit code: 0 where the models are proven equal, else 1."""
    with progress("prove", quiet=quiet) as report:
        result = prove_equal(
            session,
            other,
            samples,
            seconds=DEFAULT_SECONDS if options.seconds is None else options.seconds,
            seed=0 if seed is None else seed,
            output=options.certificate,
            check=options.check_file,
            witness=options.witness,
            progress=report,
        )
    if as_json:
        print_json(result)
    else:
        _print(result, terminal_width())
    return 0 if result else 1


def _print(result: EqualityResult, width: int) -> None:
    rows = [
        Row((step.name, step.same_as or "-", f"{step.values:,}", f"{step.same:,}"), step.same < step.values)
        for step in result.layers
    ]
    for line in render_table(COLUMNS, rows, width):
        click.echo(click.style(line, fg="red") if line.startswith("!!") else line)
    click.echo()
    if result.difference is not None:
        found = result.difference
        place = "" if not found.position else f"[{', '.join(map(str, found.position))}]"
        click.echo(
            paragraph(
                f"'{found.output}'{place} is {found.first:g} in the first model and {found.second:g} in the second.", width
            )
        )
        if found.inputs is not None:
            click.echo(paragraph(f"The inputs are in {found.inputs}.", width))
    for finding in result.findings:
        where = "" if finding.layer is None else f" '{finding.layer}':"
        click.echo(paragraph(f"{finding.severity} ({finding.rule}){where} {finding.message}; {finding.remedy}.", width))
    said = {
        EqualityVerdict.PROVEN: f"proven equal for every input: {result.reason}",
        EqualityVerdict.DIFFERENT: "DIFFERENT",
        EqualityVerdict.UNKNOWN: "unknown: neither proven equal nor seen to differ",
    }
    click.echo(paragraph(said[result.verdict], width))
