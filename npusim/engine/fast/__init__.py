"""The fast engine: the same integers as the reference engine, carried by float BLAS wherever that is proven exact."""

from __future__ import annotations

from npusim.engine.fast.plan import FastPlan, make_plan

__all__ = ["FastPlan", "make_plan"]
