"""What every integer of a program can be, for all inputs: reachable intervals, and what follows from them."""

from __future__ import annotations

from npusim.bounds.intervals import Interval, LayerBounds, RangeAnalysis, analyse

__all__ = ["Interval", "LayerBounds", "RangeAnalysis", "analyse"]
