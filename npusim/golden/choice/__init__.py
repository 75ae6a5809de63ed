"""Which samples become golden vectors: the user's own, chosen to reach the most goals, or made and searched for."""

from __future__ import annotations

from npusim.golden.choice.choice import ChosenSamples, choose_samples
from npusim.golden.choice.samples import DEFAULT_SETS, Origin, Samples, pick_samples, read_samples
from npusim.golden.choice.search import measure_coverage

__all__ = [
    "DEFAULT_SETS",
    "ChosenSamples",
    "Origin",
    "Samples",
    "choose_samples",
    "measure_coverage",
    "pick_samples",
    "read_samples",
]
