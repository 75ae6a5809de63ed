"""Why a quantized model is worse than its float model: rules, what they look at, and what they found."""

from __future__ import annotations

from npusim.comparison.findings.alignment_check import alignment_findings
from npusim.comparison.findings.causes import RULES, Finding, Rule, find_causes, load_rules, weight_of
from npusim.comparison.findings.limits import Limits, limit_findings
from npusim.comparison.findings.output_rules import AGREEING
from npusim.comparison.findings.scene import CodeObservation, observe_codes

__all__ = [
    "AGREEING",
    "RULES",
    "CodeObservation",
    "Finding",
    "Limits",
    "Rule",
    "alignment_findings",
    "find_causes",
    "limit_findings",
    "load_rules",
    "observe_codes",
    "weight_of",
]
