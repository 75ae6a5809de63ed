"""Exact repairs: a model that breaks fewer rules and computes the same outputs to the last bit."""

from __future__ import annotations

from npusim.rules.fix.repair import Fixed, Repair, fix_model

__all__ = ["Fixed", "Repair", "fix_model"]
