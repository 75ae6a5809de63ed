"""What a sweep measures of a model's first output: counts and sums over chunks of samples, which merge without rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.engine.cluster import Feeds
from npusim.engine.session import InferenceSession
from npusim.errors import InputError, UsageError
from npusim.graph import Array

__all__ = ["LABELLED", "LABELS", "LESS_IS_BETTER", "METRICS", "REFERRING", "Scores", "scoring", "value_of"]

LABELLED: Final = frozenset({"accuracy", "mean_absolute_error", "root_mean_square_error"})
REFERRING: Final = frozenset({"agreement", "fitted_sqnr_db"})

METRICS: Final = ("accuracy", "agreement", "fitted_sqnr_db", "mean_absolute_error", "root_mean_square_error")
"""What a sweep can measure: against labels, the float model's classes, its output, and targets."""

LESS_IS_BETTER: Final = frozenset({"mean_absolute_error", "root_mean_square_error"})

LABELS: Final = "\0labels"
"""Under this name labels are cut together with the inputs; no input has it."""


@dataclass(slots=True)
class Scores:
    """Counts and sums over samples; fractions hold the sums of chunks exactly, so that the order of merging does not matter."""

    samples: int = 0
    values: int = 0
    labelled: int = 0
    right: int = 0
    agreeing: int = 0
    sums: dict[str, Fraction] = field(default_factory=dict)

    def merge(self, other: Scores) -> None:
        """Add those of other samples."""
        self.samples += other.samples
        self.values += other.values
        self.labelled += other.labelled
        self.right += other.right
        self.agreeing += other.agreeing
        for name, value in other.sums.items():
            self.sums[name] = self.sums.get(name, Fraction(0)) + value


def scoring(session: InferenceSession, *others: Any) -> Callable[[Feeds, int], Scores]:  # noqa: ANN401 - reference, metrics
    """What is measured of a chunk."""
    *references, metrics = others
    output = session.get_outputs()[0].name
    wanted = frozenset(metrics)

    def score(cut: Feeds, _: int) -> Scores:
        feeds = {name: array for name, array in cut.items() if name != LABELS}
        rows = _rows(session.run([output], feeds)[0])
        found = Scores(len(rows))
        if "accuracy" in wanted:
            _count_right(found, rows, np.asarray(cut[LABELS]), session)
        if wanted & LESS_IS_BETTER:
            _add_errors(found, rows, np.asarray(cut[LABELS]), session)
        for reference in references:
            names = (one.name for one in reference.get_inputs())
            other = _rows(reference.run(None, dict(zip(names, feeds.values(), strict=True)))[0])
            if other.shape != rows.shape:
                seen = f"{rows.shape[1]} values for a sample, the reference {other.shape[1]}"
                raise InputError(f"'{output}' of {session.model.label} has {seen}; give the float model of this network")
            found.agreeing = int((rows.argmax(axis=1) == other.argmax(axis=1)).sum())
            products = {"product": rows * other, "energy": rows * rows, "reference": other * other}
            found.sums.update({name: Fraction(float(values.sum())) for name, values in products.items()})
        return found

    return score


def _rows(values: Array) -> npt.NDArray[np.float64]:
    return values.reshape(len(values), -1).astype(np.float64)


def _count_right(found: Scores, rows: npt.NDArray[np.float64], labels: npt.NDArray[Any], session: InferenceSession) -> None:
    classes = rows.shape[1]
    if labels.shape != (len(rows),) or labels.dtype.kind not in "iu" or classes < 2 or int(labels.max()) >= classes:
        raise InputError(
            f"accuracy: labels are {labels.dtype} of shape {list(labels.shape)} up to {labels.max()}, wanted one class number "
            f"for each sample, below the {classes} scores of {session.model.label}"
        )
    known = labels >= 0
    found.labelled = int(known.sum())
    found.right = int((rows.argmax(axis=1) == labels)[known].sum())


def _add_errors(found: Scores, rows: npt.NDArray[np.float64], targets: npt.NDArray[Any], session: InferenceSession) -> None:
    output = session.program.tensors.get(session.program.resolve(session.program.outputs[0]))
    if output is not None and output.is_integer:
        raise UsageError(f"{session.model.label} gives codes, which have no unit to compare with targets; use fitted_sqnr_db")
    if targets.size != rows.size:
        raise InputError(f"targets have shape {list(targets.shape)}, outputs {list(rows.shape)}; give one for each value")
    error = rows - targets.reshape(rows.shape).astype(np.float64)
    found.values = rows.size
    found.sums["absolute"] = Fraction(float(np.abs(error).sum()))
    found.sums["squared"] = Fraction(float((error * error).sum()))


def value_of(name: str, total: Scores) -> float:
    """A metric from the sums."""
    sums = total.sums
    if name == "accuracy":
        return total.right / total.labelled if total.labelled else math.nan
    if name == "agreement":
        return total.agreeing / total.samples
    if name == "mean_absolute_error":
        return float(sums["absolute"] / total.values)
    if name == "root_mean_square_error":
        return math.sqrt(sums["squared"] / total.values)
    energy = sums["energy"] * sums["reference"]
    if not energy:
        return math.inf if sums["energy"] == sums["reference"] else 0.0
    left = 1 - sums["product"] ** 2 / energy
    return -10 * math.log10(left) if left > 0 else math.inf
