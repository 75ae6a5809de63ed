"""Will it run on the NPU: public device rules as data, held against every layer, and what a model costs."""

from __future__ import annotations

from npusim.rules.judgement import LayerVerdict, Placement
from npusim.rules.report import LintedLayer, LintReport, lint_graph, lint_model
from npusim.rules.rule_types import DEFAULT_COMPILER, Device, Rule, Rulebook, Source, devices
from npusim.rules.rulebook import rulebook

__all__ = [
    "DEFAULT_COMPILER",
    "Device",
    "LayerVerdict",
    "LintReport",
    "LintedLayer",
    "Placement",
    "Rule",
    "Rulebook",
    "Source",
    "devices",
    "lint_graph",
    "lint_model",
    "rulebook",
]
