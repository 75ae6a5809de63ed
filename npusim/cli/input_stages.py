"""What commands say of the input stage: whose they ran, and on how many samples the others make other codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from npusim.cli.output import count
from npusim.engine.input_stages import StageDifference
from npusim.program.input_stage import InputStage

__all__ = ["FORMULAS", "changes_of", "difference_text", "holds_for"]

FORMULAS: Final[Mapping[InputStage, str]] = {
    InputStage.GRAPH: "floor((x + offset) * multiplier)",
    InputStage.C28: "int32(floor((x + offset) * multiplier)) >> shift",
    InputStage.MSPM0: "int32((x + offset) * multiplier) >> shift, int32() cutting off toward zero",
    InputStage.TRUNCATED: "int32((x + offset) * multiplier * 2^-shift), int32() cutting off toward zero",
}
"""What is saturated, by implementation."""


def difference_text(item: Mapping[str, Any], where: str, noun: str) -> str:
    """How an implementation of the input stage differs from the graph's, from its JSON object.

    Parameters
    ----------
    item
        A :class:`~npusim.engine.input_stages.StageDifference` as JSON.
    where
        What the values stand in.
    noun
        What one sample is called.
    """
    if item["undefined"] is not None:
        return f"input stage {item['variant']}: {item['undefined']}"
    return (
        f"input stage {item['variant']}: another code than the graph's for {item['different_values']:,} of "
        f"{count(item['values'], 'value')} in {where}, which changes the outputs of {item['changed_outputs']:,} of "
        f"{count(item['samples'], noun)}"
    )


def changes_of(differences: Sequence[StageDifference]) -> list[str]:
    """On how many samples implementations make other codes than the graph's, and other outputs; a sentence, or none."""
    if not differences:
        return []
    shown = [
        f"{item.variant} not defined"
        if item.undefined is not None
        else f"{item.variant} {item.different_samples:,} and {item.changed_outputs:,}"
        for item in differences
    ]
    samples = max(item.samples for item in differences)
    return [f"Of {count(samples, 'sample')}, these have other codes and other outputs than the graph's: {', '.join(shown)}."]


def holds_for(input_stage: str) -> str:
    """For which input stage what a command says next is equal or proven."""
    whose = "graph's" if input_stage == InputStage.GRAPH else f"'{input_stage}'"
    given = "" if input_stage == InputStage.GRAPH else "; onnxruntime, which computes the graph's, is given its codes"
    return f"What follows holds for the {whose} input stage{given}."
