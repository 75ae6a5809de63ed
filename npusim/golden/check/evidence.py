"""How far a supposed cause accounts for differences, and whether chance would do as well."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from npusim.graph import Array
from npusim.schemas.derivation import Choice, Finite, Minimum

__all__ = ["CAUSES", "ENOUGH", "NO_TIE", "OTHER_LAYERS", "UNLISTED", "Hypothesis", "Ranking", "WeighedCause", "judge", "rank"]

CAUSES: Final = (
    "channels_last",
    "channels_first",
    "axes_permuted",
    "bytes_swapped",
    "read_as_uint8",
    "read_as_int8",
    "read_as_uint16",
    "read_as_uint32",
    "words_of_16_bits",
    "padded_channels",
    "codes_for_values",
    "other_tensor",
    "stale_previous_set",
    "wrong_set",
    "constant_buffer",
    "truncated_buffer",
    "shifted_buffer",
    "printed_decimals",
    "rounded_parameters",
    "round_half_up",
    "round_half_even",
    "round_half_away",
    "toward_zero",
    "missing_bias",
    "missing_clip",
    "inner_clip_512",
    "no_inner_clip",
    "accumulator_wraps_18",
    "accumulator_wraps_24",
    "product_wraps_32",
    "digits_wrap_18",
    "digits_saturate_18",
    "input_stage_c28",
    "input_stage_mspm0",
    "input_stage_onnx",
    "input_stage_truncated",
    "input_stage_rounded",
    "scale_of_first_channel",
    "missing_input_zero_point",
    "missing_output_zero_point",
    "padding_without_zero_point",
    "unlisted",
)
"""Kinds of causes. ``unlisted`` is never stated: something that is no common mistake, but would do as well as one."""

UNLISTED: Final = "unlisted"

OTHER_LAYERS: Final = "whether other layers do so too does not show"

NO_TIE: Final = "no tie shows where halves go"

_NEAREST: Final = ("round_half_up", "round_half_even", "round_half_away")
"""Causes that are one where no tie is seen; the first stands for all."""

ENOUGH: Final = 5.0
"""Bits of evidence, less the logarithm of the number of causes tried, from which on a cause is stated: 1 chance in 32."""

LEAST_SHARE: Final = 0.5
"""A cause that leaves more differences than it explains is not even listed."""

SMOOTHING: Final = 4.0
"""Differences that count as much as what is expected before any is seen."""

USUAL: Final = 1 / 64
"""Chance that an arbitrary error of an 8-bit code is a given one."""


@dataclass(frozen=True, slots=True, eq=False)
class Hypothesis:
    """A cause and what the device would have written because of it.

    Attributes
    ----------
    cause
        What kind of cause.
    message
        The cause as a sentence.
    remedy
        What to do about it.
    predicted
        ``[sets, values]``, in the order of the dump.
    known
        Where the cause says what is written; None for everywhere.
    step
        Name of the layer or input stage that it is in; null where it is in none or in all.
    price
        Bits for choosing it among others of its family that are not listed.
    fitted
        Number of values that were used to choose it, and so prove nothing.
    chance
        Chance that it meets a value by accident, where that cannot be seen from the values.
    note
        What the dump leaves open about it; empty where that is nothing.
    """

    cause: Annotated[str, Choice(CAUSES)]
    message: str
    remedy: str
    predicted: Array
    known: npt.NDArray[np.bool_] | None = None
    step: str | None = None
    price: float = 0.0
    fitted: int = 0
    chance: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class WeighedCause:
    """Something that accounts for differences: a hypothesis held against a dump.

    Attributes
    ----------
    hypothesis
        The cause.
    explained
        Differing values that it predicts.
    broken
        Right values that it would have made wrong.
    differing
        Values that differ.
    bits
        How much better than chance it does, in bits.
    complete
        Whether it accounts for every difference of which it says anything, and for no other value.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *(
            "cause=hypothesis.cause",
            "layer=hypothesis.step",
            "message=hypothesis.message",
            "note=hypothesis.note",
            "remedy=hypothesis.remedy",
        ),
        *("explained", "differing", "bits=rounded_bits"),
    )

    hypothesis: Hypothesis
    explained: Annotated[int, Minimum(1)]
    broken: int
    differing: Annotated[int, Minimum(1)]
    bits: float
    complete: bool = True

    @property
    def rounded_bits(self) -> Annotated[float, Finite()]:
        """How much better than chance it does, in bits, before the number of causes tried is paid for."""
        return round(self.bits, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """What is left after weighing causes.

    Attributes
    ----------
    stated
        The cause that explains all differences, without contradiction and better than chance, while no other does; empty where
        there is none. A fault in a layer that would give the same in all layers is stated of the layer: true in both cases.
    possible
        Causes without contradiction that are not stated: several that explain everything, one that does no better than chance,
        or those that fit a part of the differences.
    tried
        How many different predictions were tried.
    untried
        Layers in whose arithmetic no other rounding is tried, since none is known.
    """

    stated: tuple[WeighedCause, ...]
    possible: tuple[WeighedCause, ...]
    tried: int
    untried: tuple[str, ...] = ()


def judge(hypothesis: Hypothesis, observed: Array, expected: Array) -> WeighedCause:
    """Count what a cause explains, and weigh it.

    Two things speak for a cause: that values it predicts are met, which chance does as often as the values and the
    errors repeat; and that it changes only values which do differ.

    Parameters
    ----------
    hypothesis
        The cause.
    observed, expected
        What the device wrote and what is right, both ``[sets, values]`` in the order of the dump.

    Examples
    --------
    >>> right, seen = np.array([[1, 2, 3, 4]]), np.array([[1, 9, 7, 4]])
    >>> found = judge(Hypothesis("x", "", "", np.array([[1, 9, 7, 4]])), seen, right)
    >>> found.explained, found.broken, found.differing
    (2, 0, 2)
    """
    predicted = hypothesis.predicted
    known = np.ones(observed.shape, np.bool_) if hypothesis.known is None else hypothesis.known
    differs = observed != expected
    met = (observed == predicted) & known
    explained = int((differs & met).sum())
    broken = int((~differs & known & ~met).sum())
    differing = int(differs.sum())
    weighed = differs & known
    bits = 0.0
    if explained and not broken:
        chance = _chance(observed[weighed], expected[weighed], predicted[weighed])
        chance = chance if hypothesis.chance is None else hypothesis.chance
        count = int(weighed.sum()) - hypothesis.fitted
        bits = _value_bits(max(explained - hypothesis.fitted, 0), count, chance)
        if hypothesis.chance is None:
            bits += _place_bits(int(known.sum()), int(weighed.sum()), int(((predicted != expected) & known).sum()))
    complete = bool(met[weighed].all()) and not broken and explained > 0
    return WeighedCause(hypothesis, explained, broken, differing, bits - hypothesis.price, complete)


def rank(hypotheses: Iterable[Hypothesis], observed: Array, expected: Array) -> Ranking:
    """Weigh causes against each other.

    Parameters
    ----------
    hypotheses
        All causes to try.
    observed, expected
        As for :func:`judge`.
    """
    predictions: set[bytes] = set()
    kept: list[WeighedCause] = []
    for hypothesis in hypotheses:
        if hypothesis.cause != UNLISTED:
            predictions.add(hashlib.sha256(np.ascontiguousarray(hypothesis.predicted).tobytes()).digest())
        judged = judge(hypothesis, observed, expected)
        if judged.explained and not judged.broken and judged.explained >= LEAST_SHARE * judged.differing:
            kept.append(judged)
    tried = max(len(predictions), 1)
    price = math.log2(tried)
    kept.sort(key=lambda item: (-item.explained, -item.bits))
    complete = [item for item in kept if item.complete]
    complete = _merged(complete)
    settled = _settled(complete)
    if settled is not None and settled.bits - price >= ENOUGH:
        return Ranking((settled,), (), tried)
    if complete:
        return Ranking((), tuple(complete), tried)
    enough = [item for item in kept if item.bits - price >= ENOUGH]
    return Ranking((), tuple(item for item in enough if item.explained == enough[0].explained), tried)


def _merged(causes: Sequence[WeighedCause]) -> list[WeighedCause]:
    """Roundings to nearest that are one here, in one entry each; what is not of the list stands last."""
    kept: list[WeighedCause] = []
    nearest: dict[str | None, list[WeighedCause]] = {}
    for item in causes:
        group = nearest.setdefault(item.hypothesis.step, []) if item.hypothesis.cause in _NEAREST else None
        if group is None or not group:
            kept.append(item)
        if group is not None:
            group.append(item)
    for group in nearest.values():
        if len(group) > 1:
            chosen = min(group, key=lambda item: _NEAREST.index(item.hypothesis.cause))
            kept[kept.index(group[0])] = _noted(chosen, NO_TIE)
    return sorted(kept, key=lambda item: item.hypothesis.cause == UNLISTED)


def _settled(causes: Sequence[WeighedCause]) -> WeighedCause | None:
    """The one cause that several complete ones come to, saying no more than all of them; None where they exclude each other."""
    kinds = {item.hypothesis.cause for item in causes}
    steps = {item.hypothesis.step for item in causes}
    if len(kinds) != 1 or UNLISTED in kinds or len(steps - {None}) > 1 or len(steps) < len(causes):
        return None
    if len(causes) == 1:
        return causes[0]
    alone = next(item for item in causes if item.hypothesis.step is not None)
    return _noted(alone, OTHER_LAYERS)


def _noted(item: WeighedCause, note: str) -> WeighedCause:
    notes = "; ".join(filter(None, (item.hypothesis.note, note)))
    return replace(item, hypothesis=replace(item.hypothesis, note=notes))


def _chance(observed: npt.NDArray[Any], expected: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> float:
    """The chance that a prediction meets a value if it were made for another place: by equal values, or by equal errors."""
    wide = np.float64 if observed.dtype.kind == "f" else np.int64
    values = _coincidence(observed.astype(wide), predicted.astype(wide))
    errors = _coincidence(observed.astype(wide) - expected.astype(wide), predicted.astype(wide) - expected.astype(wide))
    seen = observed.size / (observed.size + SMOOTHING)
    return max(values, errors) * seen + USUAL * (1 - seen)


def _coincidence(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """The chance that two values drawn at random, one from each array, are equal."""
    _, inverse = np.unique(np.concatenate([first, second]), return_inverse=True)
    kinds = int(inverse.max()) + 1
    shares = [np.bincount(part, minlength=kinds) / first.size for part in (inverse[: first.size], inverse[first.size :])]
    return float(shares[0] @ shares[1])


def _value_bits(met: int, count: int, chance: float) -> float:
    """Bits against meeting at least so many of `count` values by chance (Chernoff's bound)."""
    if met <= 0 or count <= 0 or met / count <= chance:
        return 0.0
    share = min(met / count, 1.0)
    divergence = share * math.log2(share / chance)
    if share < 1:
        divergence += (1 - share) * math.log2((1 - share) / (1 - chance))
    return count * divergence


def _place_bits(size: int, differing: int, changed: int) -> float:
    """Bits against `changed` places that all lie among the differing ones, halved since errors come in clusters."""
    if changed > differing:
        return 0.0
    return 0.5 * (_log2_choices(size, differing) - _log2_choices(size - changed, differing - changed))


def _log2_choices(total: int, chosen: int) -> float:
    return (math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)) / math.log(2)
