"""What ``npusim inspect`` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from npusim.engine.session import InferenceSession
from npusim.findings import SourcedFinding
from npusim.program import Batching
from npusim.program.inspection import Inspection, LayerSummary, TensorSummary, Totals
from npusim.results.base import CommandResult, identity_of
from npusim.schemas.derivation import Minimum

__all__ = ["InspectResult", "inspect_result"]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class InspectResult(CommandResult):
    """What a model consists of.

    Attributes
    ----------
    ok
        True: the command judges nothing.
    layers
        In execution order.
    findings
        What a tool between the exporter and npusim has done to the file; what a device runs is not judged.
    totals
        Sums over the layers.
    inputs, outputs
        Of the model.
    opset
        Version of the ONNX operators.
    batching
        How samples are run: all at once, one after the other, or with exactly the declared shapes.
    """

    ok: Literal[True] = field(default=True, init=False)
    layers: tuple[LayerSummary, ...]
    findings: tuple[SourcedFinding, ...] = ()
    totals: Totals
    inputs: tuple[TensorSummary, ...]
    outputs: tuple[TensorSummary, ...]
    opset: Annotated[int, Minimum(1)]
    batching: Batching

    def summary(self) -> str:
        """Sums over the layers."""
        totals = self.totals
        return f"{totals.layers} layers, {totals.parameters:,} parameters, {totals.multiply_accumulates:,} multiply-accumulates"


def inspect_result(model: InferenceSession, found: Inspection, findings: Sequence[SourcedFinding] = ()) -> InspectResult:
    """What a model consists of, as one result."""
    return InspectResult(
        model=identity_of(model),
        layers=found.layers,
        findings=tuple(findings),
        totals=found.totals,
        inputs=found.inputs,
        outputs=found.outputs,
        opset=found.opset,
        batching=found.batching,
    )
