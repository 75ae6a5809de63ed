"""The result of ``npusim.check``: parts, findings, layers, and the page that shows them."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Literal

from npusim.findings import SourcedFinding
from npusim.program.trace import StepKind
from npusim.results.base import CommandResult, SampleSource
from npusim.results.comparison import FloatCompareResult
from npusim.results.golden import GoldenVerifyResult
from npusim.results.lint import LintResult
from npusim.results.verification import VerifyResult
from npusim.rules.rulebook import Device
from npusim.schemas.derivation import Count
from npusim.schemas.objects import UNLISTED

__all__ = ["CheckFinding", "CheckLimits", "CheckPart", "CheckResult", "CheckTotals", "CheckedLayer", "Part", "listing"]

Part = Literal["verify", "bounds", "lint", "compare", "golden"]


@dataclass(frozen=True, slots=True)
class CheckPart:
    """One question of the check.

    Attributes
    ----------
    part
        The command that asks it.
    verdict
        Whether it was answered as it should; not_asked where what it needs was not given.
    statement
        The answer, one sentence.
    errors, warnings
        Findings of this severity.
    command
        The call that tells more.
    """

    part: Part
    verdict: Literal["passed", "failed", "not_asked"]
    statement: str
    errors: Count
    warnings: Count
    command: str


@dataclass(frozen=True, slots=True)
class CheckFinding(SourcedFinding):
    """A finding, and the part of the check that made it.

    Attributes
    ----------
    part
        Which part found it.
    """

    part: Part = field(kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLimits:
    """What was demanded; null where nothing was.

    Attributes
    ----------
    sqnr_db
        Lowest SQNR of the first output against the float model, in dB.
    agreement
        Lowest share of samples that get the float model's class, 0 to 1.
    coverage
        Lowest share of the reachable goals that golden vectors reach, 0 to 1.
    """

    sqnr_db: float | None
    agreement: float | None
    coverage: float | None


@dataclass(frozen=True, slots=True)
class CheckedLayer:
    """A step of the program, as the parts see it.

    Attributes
    ----------
    name
        Name of the layer.
    tensor
        The ONNX tensor that it produces.
    kind
        Kind of layer, QUANTIZE or HOST.
    placement
        Where the device computes it: npu, host or unknown; null for a stage that the host computes by design.
    mismatches
        Values that differ from the runtime's; null where the runtime does not hand them over.
    sqnr_db
        Against the float model, in dB; null where there is none, or nothing stands for the layer in it.
    findings
        Errors and warnings about it.
    """

    name: str
    tensor: str
    kind: StepKind
    placement: Literal["npu", "host", "unknown"] | None
    mismatches: Count | None
    sqnr_db: float | None
    findings: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTotals:
    """Sums over the parts.

    Attributes
    ----------
    parts
        Parts that were asked for.
    failed
        Parts that failed.
    errors, warnings
        Findings of this severity.
    layers
        Steps of the program.
    """

    parts: Count
    failed: Count
    errors: Count
    warnings: Count
    layers: Count


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CheckResult(CommandResult):
    """Whether a model is ready for a device; true when no part that was asked for fails.

    Attributes
    ----------
    layers
        In execution order.
    findings
        Errors before warnings, in the order of the parts.
    totals
        Sums over the parts.
    verdict
        The same as ok in a word.
    first
        What to do first.
    parts
        The questions and their answers.
    device
        What is public of the device.
    compiler
        Version of the compiler.
    limits
        What was demanded.
    inputs
        The samples.
    verified, linted, compared, proven_golden
        The results of the parts; None where one was not asked for.
    """

    layers: tuple[CheckedLayer, ...]
    findings: tuple[CheckFinding, ...]
    totals: CheckTotals
    verdict: Literal["ready", "not_ready"]
    first: str
    parts: tuple[CheckPart, ...]
    device: Device
    compiler: str
    limits: CheckLimits
    inputs: SampleSource
    verified: VerifyResult = field(metadata=UNLISTED)
    linted: LintResult = field(metadata=UNLISTED)
    compared: FloatCompareResult | None = field(metadata=UNLISTED)
    proven_golden: GoldenVerifyResult | None = field(metadata=UNLISTED)

    def headline(self) -> str:
        """Ready or not, for which device, and what was not looked at."""
        asked = [part.part for part in self.parts if part.verdict != "not_asked"]
        left = [part.part for part in self.parts if part.verdict == "not_asked"]
        failed = [part.part for part in self.parts if part.verdict == "failed"]
        word = f"READY for {self.device.title}" if self.ok else f"NOT READY for {self.device.title}"
        why = f"{listing(asked)} passed" if self.ok else f"{listing(failed)} failed"
        return f"{word}: {why}" + (f"; {listing(left)} not asked for" if left else "")

    def summary(self) -> str:
        """Ready or not, why, and what to do first."""
        return f"{self.headline()}. First: {self.first}"

    def page(self) -> str:
        """The check as one HTML page that opens offline."""
        style = (files("npusim.comparison.report") / "page.css").read_text(encoding="utf-8")
        return "\n".join(_page(self, style)) + "\n"

    def _repr_html_(self) -> str:
        return self.page()


def listing(words: Sequence[str]) -> str:
    """Words as a sentence lists them.

    Examples
    --------
    >>> listing(["verify"]), listing(["verify", "bounds", "lint"])
    ('verify', 'verify, bounds and lint')
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _page(found: CheckResult, style: str) -> Iterable[str]:
    """The lines of the page."""
    title = f"{found.model.path or 'model'}: {'ready' if found.ok else 'not ready'}"
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">'
    yield f"<title>{_text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>"
    yield f"<header>\n<h1>{_text(found.headline())}</h1>"
    yield (
        f'<p class="soft">npusim {found.npusim} · {_text(found.model.path or "the model given as bytes")} · '
        f"{_text(found.device.title)}, compiler {_text(found.compiler)} · SHA-256 <code>{found.model.sha256}</code></p>"
    )
    yield f"<p><b>First:</b> {_text(found.first)}.</p>\n</header>"
    yield '<section>\n<h2>Parts</h2>\n<div class="scroll"><table>'
    yield _row("th", ("part", "verdict", "answer", "errors", "warnings", "more"), left=3)
    for part in found.parts:
        numbers = ("", "") if part.verdict == "not_asked" else (str(part.errors), str(part.warnings))
        yield _row("td", (part.part, part.verdict.replace("_", " "), part.statement, *numbers, part.command), left=3)
    yield "</table></div>\n</section>"
    yield f"<section>\n<h2>Findings ({len(found.findings)})</h2>"
    for finding in found.findings:
        where = "" if finding.layer is None else f" <code>{_text(finding.layer)}</code>:"
        yield (
            f'<div class="finding {finding.severity}"><span class="tag">{finding.severity}</span>'
            f'<span class="tag">{finding.part}: {_text(finding.rule)}</span>{where} {_text(finding.message)}.'
            f"<br><b>To do:</b> {_text(finding.remedy)}.</div>"
        )
    yield '</section>\n<section>\n<h2>Layers</h2>\n<div class="scroll"><table>'
    yield _row("th", ("kind", "layer", "runs on", "mismatches", "SQNR, dB", "findings"), left=3)
    for layer in found.layers:
        differing = "" if layer.mismatches is None else f"{layer.mismatches:,}"
        sqnr = "" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}" if math.isfinite(layer.sqnr_db) else str(layer.sqnr_db)
        cells = (layer.kind, layer.name, layer.placement or "host, by design", differing, sqnr, str(layer.findings))
        yield _row("td", cells, left=3)
    yield "</table></div>\n</section>\n</body>\n</html>"


def _row(tag: str, cells: Sequence[str], *, left: int) -> str:
    """A row of a table whose first cells are flush left, and the last as well where it is a text."""
    flush = (' class="left"' if index < left else "" for index in range(len(cells)))
    shown = "".join(f"<{tag}{mark}>{_text(cell)}</{tag}>" for mark, cell in zip(flush, cells, strict=True))
    return f"<tr>{shown}</tr>"


def _text(value: str) -> str:
    return html.escape(value)
