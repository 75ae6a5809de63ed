"""How one element of a layer came about: its inputs and weights, and every value up to the code, in Python integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from npusim.engine.session import InferenceSession
from npusim.errors import UnknownTensorError, UsageError
from npusim.graph import Array
from npusim.graph.folding import evaluate_node
from npusim.program import (
    Accumulating,
    Batching,
    Clip,
    HostOperation,
    IntegerLayer,
    Program,
    QuantizeStage,
    Step,
    TextRow,
)
from npusim.program.terms import padded_count
from npusim.program.trace import StepKind, step_kind, unknown_tensor
from npusim.schemas.derivation import Count
from npusim.schemas.objects import UNLISTED
from npusim.verification.contributions import Contribution, contributions_of

__all__ = ["ElementArithmetic", "FloatOperation", "explain_element", "explain_step", "find_step"]


@dataclass(frozen=True, slots=True)
class FloatOperation:
    """One float32 operation of a quantize stage at an element.

    Attributes
    ----------
    operator
        The ONNX operator.
    operands
        Values of its constants there.
    result
        What it gives.
    """

    operator: str
    operands: tuple[float, ...]
    result: float


@dataclass(frozen=True, slots=True)
class ElementArithmetic:
    """How an element comes about; what a kind of layer does not have is null.

    ``biased = accumulator + bias``, ``scaled = biased * scale``, ``unclipped = scaled >> shift`` (floor), and the code is
    `unclipped` within `clip`. With a residual, `unclipped` is first brought into `inner_clip` (`inner_code`), the residual is
    added and the sum brought into `clip`. What a kind of layer does not have is None.

    Attributes
    ----------
    layer
        The layer.
    kind
        Kind of layer, QUANTIZE or HOST.
    tensor
        The tensor of its codes.
    inputs
        Names of the tensors it reads.
    sample
        Number of the sample.
    index
        Position in the sample.
    contributions
        Codes and weights whose products the accumulator is the sum of; for MAXPOOL what the maximum is taken of.
    padded
        Weights that meet padding, which contributes nothing.
    accumulator
        Sum of the products.
    bias
        Added to it.
    scale
        Multiplied with it.
    shift
        Bits it is shifted by.
    biased
        accumulator + bias
    scaled
        biased * scale
    unclipped
        scaled >> shift
    rows
        The arithmetic of the requantization as text.
    residual
        Added behind the inner clip.
    inner_clip
        For PWCONVRES: saturation before the residual is added.
    inner_code
        unclipped within inner_clip
    clip
        Final saturation.
    operations
        For QUANTIZE: the float32 operations in order.
    value
        For QUANTIZE: the float it starts from.
    code
        The result.
    """

    layer: str
    kind: StepKind
    tensor: str
    inputs: tuple[str, ...]
    sample: Count
    index: tuple[Count, ...]
    code: int
    contributions: tuple[Contribution, ...] = ()
    padded: Count = 0
    accumulator: int | None = None
    bias: int | None = None
    scale: int | None = None
    shift: int | None = None
    biased: int | None = None
    scaled: int | None = None
    unclipped: int | None = None
    residual: int | None = None
    inner_clip: Clip | None = None
    inner_code: int | None = None
    rows: tuple[TextRow, ...] = field(default=(), metadata=UNLISTED)
    clip: Clip | None = None
    operations: tuple[FloatOperation, ...] = ()
    value: float | None = None

    def __str__(self) -> str:
        """The block that people read; see :func:`npusim.verification.arithmetic_text.arithmetic_lines`."""
        from npusim.verification.arithmetic_text import arithmetic_lines

        return "\n".join(arithmetic_lines(self))


def explain_element(
    session: InferenceSession, feeds: Mapping[str, Array], layer: str, sample: int, index: Sequence[int]
) -> ElementArithmetic:
    """Show how one element of a layer's codes comes about.

    Parameters
    ----------
    session
        The model.
    feeds
        Inputs by name, samples on the first axis.
    layer
        Name of the layer, or of a tensor that it gives.
    sample
        Number of the sample.
    index
        Position in the layer's codes, without the sample axis.

    Returns
    -------
    ElementArithmetic
        Prints as one block.

    Raises
    ------
    UnknownTensorError
        If there is no such layer.
    UsageError
        If there is no such sample or element, or the host computes the layer in the graph's float operations.

    Examples
    --------
    >>> arithmetic = explain_element(session, {"input": x}, "/fc/Gemm", 0, (2,))  # doctest: +SKIP
    >>> (arithmetic.biased * arithmetic.scale) >> arithmetic.shift == arithmetic.unclipped  # doctest: +SKIP
    True
    """
    program = session.program
    step = find_step(program, layer)
    count = len(next(iter(feeds.values()))) if feeds else 0
    if not 0 <= sample < count:
        raise UsageError(f"there is no sample {sample}; there are {count}, counted from 0")
    fixed = program.batching is Batching.FIXED
    one = dict(feeds) if fixed else {name: values[sample : sample + 1] for name, values in feeds.items()}
    names = [name for name in program.inputs_of(step) if name not in program.constants]
    trace = session.trace(one, names)
    place = sample if fixed else 0
    return explain_step(program, step, {name: trace[name][place] for name in names}, sample, index)


def find_step(program: Program, name: str) -> Step:
    """The step of this name, or the one that gives the tensor of this name.

    Raises
    ------
    UnknownTensorError
        If there is none.
    """
    target = program.resolve(name)
    for step in program.steps:
        if name == step.name or target in step.tensors:
            return step
    if name in program.inputs:
        raise UnknownTensorError(f"'{name}' is an input of the model: no layer computes it")
    raise unknown_tensor(name, {step.name: step for step in program.steps})


def explain_step(
    program: Program, step: Step, inputs: Mapping[str, Array], sample: int, index: Sequence[int]
) -> ElementArithmetic:
    """Show how one element of a step's codes comes about from given inputs.

    Parameters
    ----------
    program
        The program of the step.
    step
        The step.
    inputs
        Values of the tensors that it reads, for one sample, without the sample axis.
    sample
        Number of the sample; it is only reported.
    index
        Position in the step's codes, without the sample axis.

    Raises
    ------
    UsageError
        If there is no such element, or the host computes the step.
    """
    if isinstance(step, HostOperation):
        raise UsageError(
            f"'{step.name}' ({step.operator}) runs on the host as the graph says, not in integers; "
            "ask for a layer that 'npusim inspect' does not call HOST"
        )
    shape = program.tensors[step.tensors[-1]].shape[1:]
    place = tuple(int(item) for item in index)
    if len(place) != len(shape) or not all(0 <= at < size for at, size in zip(place, shape, strict=True)):
        raise UsageError(
            f"there is no element {list(place)} in '{step.tensors[-1]}', which has shape {list(shape)} for one sample"
        )
    if isinstance(step, QuantizeStage):
        return _explain_stage(program, step, inputs[step.input], sample, place)
    return _explain_layer(step, [inputs[name] for name in step.inputs], sample, place)


def _explain_layer(layer: IntegerLayer, inputs: Sequence[Array], sample: int, index: tuple[int, ...]) -> ElementArithmetic:
    inner = _accumulator_index(layer, index)
    contributions = contributions_of(layer, inputs, inner)
    largest = max((one.code for one in contributions), default=0)
    element = ElementArithmetic(layer.name, step_kind(layer), layer.output, layer.inputs, sample, index, largest, contributions)
    if not isinstance(layer, Accumulating):
        return element
    channel = inner[layer.channel_axis - 1]
    part = layer.requantization.for_channels([channel])
    parameters = {name: int(values[0]) for name, values in part.parameters.items()}
    accumulator = sum(one.product for one in contributions)
    sums = np.array([accumulator], np.int64)
    unclipped = part.unclipped(sums)
    added = layer.residual_of(inputs)
    residual = None if added is None else int(added[index])
    return replace(
        element,
        code=int(layer.finish(unclipped, None if residual is None else np.array([residual], np.int64))[0]),
        padded=padded_count(layer, len(contributions)),
        accumulator=accumulator,
        bias=parameters.get("bias"),
        scale=parameters.get("scale"),
        shift=parameters.get("shift"),
        biased=int(part.biased(sums)[0]),
        scaled=int(part.scaled(sums)[0]),
        unclipped=int(unclipped[0]),
        clip=layer.output_clip,
        rows=part.text(accumulator, 0),
        residual=residual,
        inner_clip=None if residual is None else part.clip,
        inner_code=None if residual is None else int(part.clip.apply(unclipped)[0]),
    )


def _accumulator_index(layer: IntegerLayer, index: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(layer, Accumulating) or layer.accumulator_shape == layer.output_shape:
        return index
    flat = int(np.ravel_multi_index(index, layer.output_shape[1:]))
    return tuple(int(item) for item in np.unravel_index(flat, layer.accumulator_shape[1:]))


def _explain_stage(
    program: Program, stage: QuantizeStage, values: Array, sample: int, index: tuple[int, ...]
) -> ElementArithmetic:
    known = {stage.input: values.astype(program.tensors[stage.input].dtype, copy=False)[np.newaxis]}
    operations = []
    for node in stage.nodes:
        constants = {name: program.constants[name] for name in node.inputs if name in program.constants}
        (result,) = evaluate_node(node, {**constants, **known}, program.opset)
        operands = tuple(float(np.broadcast_to(constant, result.shape)[(0, *index)]) for constant in constants.values())
        operations.append(FloatOperation(node.op_type, operands, float(result[(0, *index)])))
        known = {node.outputs[0]: result}
    start = np.broadcast_to(values, result.shape[1:])
    return ElementArithmetic(
        layer=stage.name,
        kind=step_kind(stage),
        tensor=stage.output,
        inputs=(stage.input,),
        sample=sample,
        index=index,
        code=int(operations[-1].result),
        clip=stage.clip,
        operations=tuple(operations),
        value=float(start[index]),
    )
