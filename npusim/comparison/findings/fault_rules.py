"""Rules for what contradicts the float model in one layer; what is wrong stands in the suspicions of the comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from npusim.comparison.findings.scene import Scene, Sign

if TYPE_CHECKING:
    from npusim.comparison.faults import Suspicion

__all__ = ["suspected"]

COSTLY_DB: Final = 3.0
"""From this gain at the output on a fault is an error."""

LEAST_DB: Final = 0.5
LEAST_SHARE: Final = 0.03
"""What wins less at the output and makes less of its layer's error is not worth a word."""

EXPLAINED_SHARE: Final = 0.3
"""Channels with faults make at least this share of the error that their layer introduces."""

EXPLAINED_DB: Final = 2.0
"""A factor of all codes of a layer costs the output at least this."""

POOR_DB: Final = 15.0
"""A layer that introduces so much error by itself is in error whatever hides it at the output."""

CUT_SHARE: Final = 0.02
"""Share of a layer's values that is cut off where its clip is too narrow."""

CLIPPING_SHARE: Final = 0.3
"""A clip is too narrow where it makes this share of its layer's error."""


def suspected(rule: str) -> Callable[[Scene], Iterator[Sign]]:
    """The rule that states the suspicions of a name which matter."""

    def detect(scene: Scene) -> Iterator[Sign]:
        for one in () if scene.comparison is None else scene.comparison.suspicions:
            if one.rule == rule and _matters(scene, one):
                fault = {} if one.rule == "declared_scale" else {"fault": True}
                yield Sign(one.step, {**one.evidence, **_words(one), **fault}, _severity(one))

    return detect


def _matters(scene: Scene, one: Suspicion) -> bool:
    if one.rule == "declared_scale":
        return True
    gain, share = _gain(one), float(one.evidence.get("share_of_introduced", 0.0))
    if (gain < LEAST_DB and share < LEAST_SHARE) or not _explains(scene, one):
        return False
    return not one.needs_effect or _cuts_off(scene, one)


def _explains(scene: Scene, one: Suspicion) -> bool:
    """Whether what is suspected is a cause: it costs the output much, or makes much of the error that its layer introduces.

    Training moves all weights and biases. Channels that differ from the float model's beside others that are as bad do not
    explain the layer; that all codes of a layer are too large by some factor must be seen behind it.
    """
    if _gain(one) >= COSTLY_DB or "share_of_introduced" not in one.evidence:
        return True
    if one.channels:
        beside = () if scene.comparison is None else scene.comparison.suspicions
        shares = [float(other.evidence.get("share_of_introduced", 0.0)) for other in beside if _same_sort(one, other)]
        return sum(shares) >= EXPLAINED_SHARE
    return one.rule != "scale_off" or _gain(one) >= EXPLAINED_DB


def _same_sort(one: Suspicion, other: Suspicion) -> bool:
    return other.step == one.step and bool(other.channels)


def _cuts_off(scene: Scene, one: Suspicion) -> bool:
    """Whether a step cuts many values off, or most of what it does wrong is that."""
    layer = scene.compared(one.step)
    if layer is None or layer.attribution is None:
        return False
    seen = scene.observations.get(one.step)
    if seen is not None and seen.values and max(seen.above, seen.below * (layer.codes.lower < 0)) >= CUT_SHARE * seen.values:
        return True
    found = layer.attribution
    whole = found.introduced.root_mean_square_error**2
    return whole > 0 and found.clipping.root_mean_square_error**2 >= CLIPPING_SHARE * whole


def _severity(one: Suspicion) -> str | None:
    poor = float(one.evidence.get("introduced_sqnr_db", math.inf)) < POOR_DB
    return "error" if _gain(one) >= COSTLY_DB or poor else None


def _gain(one: Suspicion) -> float:
    gain = float(one.evidence.get("output_gain_db", 0.0))
    return 0.0 if math.isnan(gain) else gain


def _words(one: Suspicion) -> dict[str, Any]:
    """Clauses for the messages."""
    if one.rule == "shift_off":
        octaves = int(one.evidence["octaves"])
        too = "small" if octaves > 0 else "large"
        times = f"{2.0**octaves:g} times" if octaves > 0 else f"1/{2.0**-octaves:g} of"
        return {"too": too, "bits": abs(octaves), "times": times}
    return {"fits": ""} if one.rule == "bias_off" else {}
