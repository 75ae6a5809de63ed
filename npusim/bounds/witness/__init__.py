"""Inputs that show where a statement fails: at a layer by exact solution, in the model by search."""

from __future__ import annotations

from npusim.bounds.witness.finder import STATEMENTS, find_model_witnesses, find_witness
from npusim.bounds.witness.results import NoWitness, Rounding, Witness

__all__ = ["STATEMENTS", "NoWitness", "Rounding", "Witness", "find_model_witnesses", "find_witness"]
