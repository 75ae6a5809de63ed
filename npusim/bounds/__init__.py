"""What every integer of a program can be, for all inputs: reachable intervals, and what is proven by them."""

from __future__ import annotations

from npusim.bounds.certificate import Certificate, StepCertificate, certify
from npusim.bounds.verdicts import Judgement, Property, Refutation, Verdict
from npusim.program.intervals import Interval, LayerBounds, RangeAnalysis, analyse

__all__ = [
    "Certificate",
    "Interval",
    "Judgement",
    "LayerBounds",
    "Property",
    "RangeAnalysis",
    "Refutation",
    "StepCertificate",
    "Verdict",
    "analyse",
    "certify",
]
