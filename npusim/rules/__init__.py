"""Will it run on the NPU: public device rules as data, held against every layer, and what a model costs."""

from __future__ import annotations

from npusim.rules.layer_verdict import LayerVerdict, Placement
from npusim.rules.report import LintedLayer, LintReport, lint_graph, lint_model
from npusim.rules.rulebook import DEFAULT_COMPILER, Device, Rule, Rulebook, Source, devices, rulebook

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
