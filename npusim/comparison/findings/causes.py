"""Why a quantized model is worse than its float model: findings with evidence and remedies, the most important first."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from npusim.comparison.findings import data_rules, float_rules, output_rules, structure_rules
from npusim.comparison.findings.fault_rules import suspected
from npusim.comparison.findings.scene import CodeObservation, Scene, Sign
from npusim.errors import UsageError
from npusim.findings import Finding
from npusim.program import Program

if TYPE_CHECKING:
    from npusim.comparison.result import FloatComparison

__all__ = ["RULES", "Finding", "Rule", "find_causes", "load_rules", "weight_of"]

SEVERITIES: Final = ("error", "warning", "info")

NOTEWORTHY_DB: Final = 0.5
"""Effects on the output below this do not change the order of findings."""

RULES: Final[Mapping[str, Callable[[Scene], Iterator[Sign]]]] = MappingProxyType(
    {
        "weights_off": suspected("weights_off"),
        "channels_swapped": suspected("channels_swapped"),
        "shift_off": suspected("shift_off"),
        "scale_off": suspected("scale_off"),
        "clip_narrowed": suspected("clip_narrowed"),
        "declared_scale": suspected("declared_scale"),
        "activation_missing": suspected("activation_missing"),
        "input_offset": suspected("input_offset"),
        "average_gain": structure_rules.average_gain,
        "rounding_twice": structure_rules.rounding_twice,
        "pool_offset": structure_rules.pool_offset,
        "signed_to_unsigned": structure_rules.signed_to_unsigned,
        "clip_in_real_units": structure_rules.clip_in_real_units,
        "lost_bit": structure_rules.lost_bit,
        "wide_codes": structure_rules.wide_codes,
        "float_layer_on_codes": structure_rules.float_layer_on_codes,
        "function_on_codes": structure_rules.function_on_codes,
        "fractional_codes": structure_rules.fractional_codes,
        "bias_width": structure_rules.bias_width,
        "weight_width": structure_rules.weight_width,
        "input_range": data_rules.input_range,
        "saturation": data_rules.saturation,
        "channel_range": data_rules.channel_range,
        "too_few_bits": float_rules.too_few_bits,
        "zero_point": float_rules.zero_point,
        "mixed_scales": float_rules.mixed_scales,
        "bias_off": float_rules.bias_off,
        "dead_channels": float_rules.dead_channels,
        "output_scale": output_rules.output_scale,
        "scales_apart": output_rules.scales_apart,
    }
)
"""How each rule is recognised. Its words are data, in rules.toml."""


FAULT_WEIGHT: Final = 1000.0
"""A contradiction to the float model comes before everything that is only costly: all that follows it is its symptom."""

MASKED_WEIGHT: Final = 500.0
"""Of causes that mask each other at the output the worst layer comes first, before what the output wins by single layers."""

SYMPTOMS: Final = frozenset(
    (
        "saturation",
        "channel_range",
        "dead_channels",
        "bias_off",
        "too_few_bits",
        "output_scale",
        "scales_apart",
        "wide_codes",
        "signed_to_unsigned",
        "zero_point",
        "mixed_scales",
    )
)
"""Rules that look at what codes do, which is another layer's doing where one before it is wrong."""


BY_EFFECT: Final = frozenset(("bias_off", "too_few_bits", "output_scale"))
"""Rules that look at what the output wins, which is another layer's doing where any is wrong."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The words of a rule.

    Attributes
    ----------
    name
        Its id.
    severity
        ``error``, ``warning`` or ``info``, unless an occurrence says otherwise.
    message
        What is the case, with keys of the evidence in braces.
    remedy
        What to do about it, likewise.
    """

    name: str
    severity: str
    message: str
    remedy: str

    def finding(self, sign: Sign) -> Finding:
        """The finding of one occurrence."""
        evidence: dict[str, Any] = dict(sign.evidence)
        message, remedy = (text.format(**evidence) for text in (self.message, self.remedy))
        return Finding(self.name, sign.severity or self.severity, sign.layer, message, remedy, evidence)


def load_rules() -> Mapping[str, Rule]:
    """The words of all rules by id.

    Raises
    ------
    UsageError
        If the file of rules does not have exactly the rules that are recognised.

    Examples
    --------
    >>> load_rules()["average_gain"].severity
    'warning'
    """
    table = tomllib.loads((files(__package__) / "rules.toml").read_text(encoding="utf-8"))
    if set(table) != set(RULES):
        raise UsageError(f"rules.toml and the rules differ in {sorted(set(table) ^ set(RULES))}; install npusim again")
    return {name: Rule(name, **words) for name, words in table.items()}


def find_causes(
    program: Program,
    *,
    observations: Mapping[str, CodeObservation] | None = None,
    comparison: FloatComparison | None = None,
) -> tuple[Finding, ...]:
    """Find what is wrong, or at least costly, in a quantized model.

    Parameters
    ----------
    program
        The model's program.
    observations
        What its codes do on data (:func:`npusim.comparison.findings.observe_codes`); without them rules that need data
        find nothing.
    comparison
        The comparison with its float model; without it rules that need one find nothing.

    Returns
    -------
    tuple of Finding
        Samples that make most of the error by themselves first, for they stand behind all other numbers. Then those of layers
        with a measured effect on the output, the largest first; then by severity, then in execution order. The effect, in dB
        that the output would win with the layer in float, is in the evidence as ``output_gain_db``; of ``output_scale`` it is
        what the output wins with the factor that fits.

    Examples
    --------
    >>> for finding in find_causes(session.program):  # doctest: +SKIP
    ...     print(finding.severity, finding.layer, finding.message)
    warning /gap/ReduceSum its codes are 1.5 times the average: ...
    """
    scene = Scene(program, {} if observations is None else observations, comparison)
    words = load_rules()
    found = [_measured(scene, words[name].finding(sign)) for name, detect in RULES.items() for sign in detect(scene)]
    order = {step.name: position for position, step in enumerate(program.steps)}

    def rank(finding: Finding) -> tuple[float, int, int]:
        return -weight_of(finding), SEVERITIES.index(finding.severity), order.get(finding.layer or "", len(order))

    found = _without_symptoms(scene, found)

    return tuple(sorted(found, key=rank))


def weight_of(finding: Finding) -> float:
    """What a finding counts in the order of findings: its effect on the output in dB, where that is worth mentioning.

    Infinite for samples outside of the input's range that make most of its error: other numbers mean little before these are
    left out.

    Examples
    --------
    >>> weight_of(Finding("average_gain", "warning", "pool", "", "", {"output_gain_db": 12.0}))
    12.0
    >>> weight_of(Finding("average_gain", "warning", "pool", "", "", {"output_gain_db": 0.25}))
    0.0
    """
    if finding.rule == "input_range" and finding.severity == "warning":
        return math.inf
    evidence = finding.evidence or {}
    gain = float(evidence.get("output_gain_db") or 0.0)
    counted = gain if gain >= NOTEWORTHY_DB else 0.0
    if "alone_sqnr_db" in evidence:
        return MASKED_WEIGHT - float(evidence["alone_sqnr_db"])
    return FAULT_WEIGHT + counted if evidence.get("fault") else counted


def _without_symptoms(scene: Scene, found: list[Finding]) -> list[Finding]:
    """Findings without those that say what the codes of a layer do behind another layer's fault, which lists them."""
    faults = {finding.layer: finding for finding in found if (finding.evidence or {}).get("fault")}
    kept: list[Finding] = []
    symptoms: dict[str, list[str]] = {}
    for finding in found:
        if finding.layer is None or finding.layer in faults:
            causes: set[str | None] = set()
        elif finding.rule in BY_EFFECT:
            causes = set(faults)
        else:
            causes = scene.before(finding.layer) & faults.keys()
        if finding.rule in SYMPTOMS and not (finding.evidence or {}).get("fault") and causes:
            for cause in causes:
                symptoms.setdefault(str(cause), []).append(f"{finding.rule} in '{finding.layer}'")
        else:
            kept.append(finding)
    return [
        replace(finding, evidence={**(finding.evidence or {}), "symptoms": symptoms.get(finding.layer or "", [])})
        if (finding.evidence or {}).get("fault")
        else finding
        for finding in kept
    ]


def _measured(scene: Scene, finding: Finding) -> Finding:
    """The finding with the effect of its layer on the output, where that was measured."""
    compared = None if finding.layer is None else scene.compared(finding.layer)
    if (
        "output_gain_db" in (finding.evidence or {})
        or compared is None
        or compared.effect is None
        or math.isnan(compared.effect.if_float_gain_db)
    ):
        return finding
    evidence = {**(finding.evidence or {}), "output_gain_db": compared.effect.if_float_gain_db}
    return Finding(finding.rule, finding.severity, finding.layer, finding.message, finding.remedy, evidence)
