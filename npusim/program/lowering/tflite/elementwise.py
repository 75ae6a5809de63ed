"""Operators that compute codes one by one: ADD, SUB, MUL, activations, QUANTIZE, DEQUANTIZE, SOFTMAX."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from npusim.errors import ModelError, UnsupportedError
from npusim.graph import Node
from npusim.kernels.qlinear import Affine
from npusim.kernels.tflite import Activation
from npusim.program.direct import Elementwise, Table
from npusim.program.layers import LayerKind
from npusim.program.lowering.tflite.arithmetic import Codes, NotComputed
from npusim.program.lowering.tflite.sums import centred_clip
from npusim.program.lowering.tflite.walk import Walk, channels_first, file_order
from npusim.program.program import QuantizeStage
from npusim.program.requantization import Clip
from npusim.program.runtime_layers import RuntimeCombination, RuntimeFunction, RuntimeSoftmax, TailedCombination, TailedTable

__all__ = ["ELEMENTWISE"]

LARGEST_TABLE: Final = 2**16

_FLOAT: Final = 1
_DOUBLE: Final = 11
"""ONNX's numbers of the element types float32 and float64."""


def two_operands(walk: Walk, node: Node) -> None:
    """ADD, SUB and MUL; one operand may be constant, smaller ones are broadcast as in NumPy."""
    first, second, output = node.inputs[0], node.inputs[1], node.outputs[0]
    shapes = walk.shape(first), walk.shape(second)
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise ModelError(f"{node} has operands of shapes {shapes[0]} and {shapes[1]}, which do not fit each other") from None
    affine = tuple(walk.affine(name) for name in (first, second, output))
    kind = LayerKind.MUL if node.op_type == "MUL" else LayerKind.ADD
    points, scalar = tuple(item.zero_point for item in affine), _has_scalar(*shapes)
    main, rest = (
        RuntimeCombination(kind, _formula(walk, node, *affine, tail=tail, scalar=scalar), *points) for tail in (False, True)
    )
    variable = [name for name in (first, second) if name in walk.places]
    if not variable:
        raise UnsupportedError(f"{node} has two constant operands; convert the model with folded constants")
    # held with the channels first only where that is the order of all operands
    ranks = {len(walk.place(name).shape) for name in variable}
    held_first = len(shape) > 2 and ranks == {len(shape)} and any(walk.place(name).first for name in variable)
    constant, place_of = None, None
    for position, name in enumerate((first, second)):
        if name not in walk.places:
            constant = _constant(walk, name, affine[position], len(shape), held_first)
            place_of = position
    held = tuple(walk.held(name, first=held_first) for name in (first, second) if name in walk.places)
    place = walk.declare(output, shape, first=held_first)
    left = walk.left_over(place, _row(*shapes))
    combination = TailedCombination(main, rest, left) if walk.arithmetic.optimized and left.any() else main
    walk.steps.append(
        Elementwise(
            **walk.fields(node, held, place),
            combination=combination,
            constant=constant,
            constant_first=place_of == 0,
        )
    )


def _formula(walk: Walk, node: Node, first: Affine, second: Affine, result: Affine, *, tail: bool, scalar: bool) -> Codes:
    clip = centred_clip(node, result)
    ends = (clip.lower + result.zero_point, clip.upper + result.zero_point)
    if len({(item.lower, item.upper) for item in (first, second, result)}) > 1:
        raise UnsupportedError(f"{node} has operands and result of different element types; convert the model again")
    if node.op_type == "MUL":
        return walk.arithmetic.multiply(first, second, result, ends)
    powers = all(np.frexp(item.scale)[0] == 0.5 for item in (first, second, result))
    if first.upper > 255 and powers and node.integer("pot_scale_int16", 1) and not walk.arithmetic.micro:
        raise NotComputed("LiteRT has a formula of its own for 16-bit codes whose scales are powers of two")
    return walk.arithmetic.add(first, second, result, ends, subtract=node.op_type == "SUB", tail=tail, scalar=scalar)


def _row(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Elements that a kernel of two operands takes in one go: those of the last axes that both have, or only one has."""
    rank = max(len(first), len(second))
    one, other = ((1,) * (rank - len(shape)) + shape for shape in (first, second))
    pairs = [pair for pair in zip(one, other, strict=True) if pair != (1, 1)]
    row, kind = 1, None
    for sizes in reversed(pairs):
        alike = "both" if sizes[0] == sizes[1] else "first" if sizes[1] == 1 else "second"
        if kind not in (None, alike):
            break
        kind, row = alike, row * max(sizes)
    return row


def _has_scalar(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether one operand is a single number within each row of the other."""
    rank = max(len(first), len(second))
    pairs = zip((1,) * (rank - len(first)) + first, (1,) * (rank - len(second)) + second, strict=True)
    last = [pair for pair in pairs if pair != (1, 1)][-1:]
    return bool(last) and last[0][0] != last[0][1]


def _constant(walk: Walk, name: str, affine: Affine, rank: int, first: bool) -> np.ndarray:
    """A constant operand less its zero point, arranged as the other one is held."""
    value = walk.known[name].astype(np.int64) - affine.zero_point
    if not first:
        return np.asarray(value)
    return np.asarray(value.reshape((1,) * (rank - value.ndim) + value.shape).transpose(channels_first(rank)))


def unary(walk: Walk, node: Node) -> None:
    """RELU and its like, LEAKY_RELU, LOGISTIC, TANH, HARD_SWISH: tables of all codes."""
    source, output = node.inputs[0], node.outputs[0]
    affine, result = walk.affine(source), walk.affine(output)
    if (affine.lower, affine.upper) != (result.lower, result.upper):
        raise UnsupportedError(f"{node} has source and result of different element types; convert the model again")
    formula = _UNARY[node.op_type](walk, node, affine, result)
    _apply(walk, node, formula, affine, result)


def _apply(walk: Walk, node: Node, formula: Codes, affine: Affine, result: Affine, tail: Codes | None = None) -> None:
    source, output = node.inputs[0], node.outputs[0]
    before = walk.place(source)
    place = walk.declare(output, before.shape, first=before.first)
    common = walk.fields(node, (before.name,), place)
    if affine.upper - affine.lower >= LARGEST_TABLE:
        function = RuntimeFunction(
            **common, label=node.op_type, formula=formula, source=affine.zero_point, result=result.zero_point
        )
        walk.steps.append(function)
        return
    every = np.arange(affine.lower, affine.upper + 1, dtype=np.int64)
    values, lowest = formula(every) - result.zero_point, affine.lower - affine.zero_point
    left, others = walk.left_over(place, math.prod(place.shape)), values if tail is None else tail(every) - result.zero_point
    if left.any() and not np.array_equal(values, others):
        walk.steps.append(TailedTable(**common, label=node.op_type, lowest=lowest, main=values, tail=others, left=left))
        return
    walk.steps.append(Table(**common, label=node.op_type, lowest=lowest, values=values))


_UNARY: Final = {
    "RELU": lambda walk, node, affine, result: walk.arithmetic.relu(affine, result, Activation.RELU),
    "RELU6": lambda walk, node, affine, result: walk.arithmetic.relu(affine, result, Activation.RELU6),
    "LEAKY_RELU": lambda walk, node, affine, result: walk.arithmetic.leaky_relu(affine, result, node.real("alpha", 0.0)),
    "LOGISTIC": lambda walk, node, affine, result: walk.arithmetic.sigmoid(affine, result, hyperbolic=False),
    "TANH": lambda walk, node, affine, result: walk.arithmetic.sigmoid(affine, result, hyperbolic=True),
    "HARD_SWISH": lambda walk, node, affine, result: walk.arithmetic.hard_swish(affine, result),
}


def quantize(walk: Walk, node: Node) -> None:
    """QUANTIZE from float32, or from codes to other codes."""
    source, output = node.inputs[0], node.outputs[0]
    result = walk.affine(output)
    if walk.is_coded(source):
        affine = walk.affine(source)
        formula, other = (walk.arithmetic.quantize(affine, result, tail=tail) for tail in (False, True))
        _apply(walk, node, formula, affine, result, other)
        return
    if walk.graph.types[source].dtype != np.float32:
        raise UnsupportedError(f"{node} quantizes {walk.graph.types[source].dtype}, wanted float32 or codes")
    before = walk.place(source)
    place = walk.declare(output, before.shape, first=before.first)
    clip = Clip(result.lower, result.upper)
    scale = np.float32(result.scale)
    names = (walk, before.name, place.name)
    # XNNPACK has no rest; the rest of LiteRT's vectors is computed as in its reference kernels
    left, delegated = walk.left_over(before, math.prod(before.shape)), walk.arithmetic.xnnpack and result.upper <= 255
    if not walk.arithmetic.optimized or (left.all() and not delegated):
        nodes = _rounded_half_away(*names, scale, result.zero_point, clip, wide=walk.arithmetic.optimized)
    elif not left.any() or delegated:
        nodes = _rounded_by_inverse(*names, scale, result.zero_point, clip)
    else:
        rest, vectors = f"{place.name}:rest", f"{place.name}:vectors"
        tail = _rounded_half_away(walk, before.name, rest, scale, result.zero_point, clip, wide=True)
        main = _rounded_by_inverse(walk, before.name, vectors, scale, result.zero_point, clip)
        back = Node("Cast", "", (rest,), (f"{rest}:float",), {"to": _FLOAT})
        # the stage sees the file's order
        there = left.transpose(file_order(left.ndim)) if before.first else left
        choice = Node("Where", "", (walk.constant(there, output), f"{rest}:float", vectors), (place.name,))
        nodes = (*tail, back, *main, choice)
    doubles = {name for part in nodes if part.op_type == "Cast" and part.attributes["to"] == _DOUBLE for name in part.outputs}
    for part in nodes[:-1]:
        # what follows from a double is one, until it is cast back
        wide = part.outputs[0] in doubles or (part.op_type != "Cast" and not doubles.isdisjoint(part.inputs))
        if wide:
            doubles.update(part.outputs)
        kind = np.dtype(np.float64 if wide else np.float32)
        walk.tensors[part.outputs[0]] = replace(walk.tensors[before.name], name=part.outputs[0], dtype=kind, stored=kind)
    offset, factor = np.array(float(scale) / 2), np.array(1.0 / float(scale))
    centred = Clip(clip.lower - result.zero_point, clip.upper - result.zero_point)
    walk.steps.append(QuantizeStage(place.name, before.name, place.name, nodes, offset, factor, centred))


def _rounded_by_inverse(
    walk: Walk, source: str, output: str, scale: np.float32, zero_point: int, clip: Clip
) -> tuple[Node, ...]:
    """``rint(f32(x * f32(1 / scale)))``, halves to even: LiteRT's kernels for x86, and XNNPACK."""
    inverse = walk.constant(np.float32(1) / scale, output)
    ends = (walk.constant(np.array(end, np.float32), output) for end in (clip.lower, clip.upper))
    point = walk.constant(np.array(zero_point, np.float32), output)
    quotient, whole, raised = (f"{output}:{part}" for part in ("quotient", "rounded", "code"))
    return (
        Node("Mul", "", (source, inverse), (quotient,)),
        Node("Round", "", (quotient,), (whole,)),
        Node("Add", "", (whole, point), (raised,)),
        Node("Clip", "", (raised, *ends), (output,)),
    )


def _rounded_half_away(
    walk: Walk, source: str, output: str, scale: np.float32, zero_point: int, clip: Clip, *, wide: bool = False
) -> tuple[Node, ...]:
    """``round(f32(x / scale))``, halves away from zero, as TFLM does; of a quotient of doubles where `wide`.

    The sign times ``floor(magnitude + 0.5)`` in double precision, where the sum is exact.
    """
    divisor = walk.constant(np.array(scale, np.float64 if wide else np.float32), output)
    half, point = walk.constant(np.array(0.5), output), walk.constant(np.array(float(zero_point)), output)
    ends = (walk.constant(np.array(end, np.float64), output) for end in (clip.lower, clip.upper))
    names = [f"{output}:{part}" for part in ("first", "quotient", "sign", "magnitude", "raised", "floor", "rounded", "code")]
    first, quotient, sign, magnitude, raised, floor, whole, code = names
    divided = (Node("Div", "", (source, divisor), (first,)), Node("Cast", "", (first,), (quotient,), {"to": _DOUBLE}))
    if wide:
        divided = (Node("Cast", "", (source,), (first,), {"to": _DOUBLE}), Node("Div", "", (first, divisor), (quotient,)))
    return (
        *divided,
        Node("Sign", "", (quotient,), (sign,)),
        Node("Abs", "", (quotient,), (magnitude,)),
        Node("Add", "", (magnitude, half), (raised,)),
        Node("Floor", "", (raised,), (floor,)),
        Node("Mul", "", (floor, sign), (whole,)),
        Node("Add", "", (whole, point), (code,)),
        Node("Clip", "", (code, *ends), (output,)),
    )


def dequantize(walk: Walk, node: Node) -> None:
    """DEQUANTIZE: ``f32(scale * (code - zero_point))``."""
    source, output = node.inputs[0], node.outputs[0]
    if source not in walk.places:
        raise UnsupportedError(
            f"{node} makes floats of the constant '{source}' ({walk.graph.types[source].dtype}): the model computes in float "
            "with "
            "compressed weights; convert it to full integers"
        )
    affine, before = walk.affine(source), walk.place(source)
    place = walk.declare(output, before.shape, first=before.first)
    scale = walk.constant(np.array(affine.scale, np.float32), output)
    point = walk.constant(np.array(affine.zero_point, walk.graph.types[source].dtype), output)
    walk.host("DequantizeLinear", (before.name, scale, point), place.name, "it makes real numbers of codes")


def softmax(walk: Walk, node: Node) -> None:
    """SOFTMAX over the last axis."""
    source, output = node.inputs[0], node.outputs[0]
    affine, result = walk.affine(source), walk.affine(output)
    fixed = (1 / 32768, 0) if result.upper > 255 else (1 / 256, result.lower)
    if (affine.lower, affine.upper) != (result.lower, result.upper) or (result.scale, result.zero_point) != fixed:
        raise UnsupportedError(
            f"{node} has a result with scale {result.scale} and zero point {result.zero_point}, runtimes want {fixed[0]} and "
            f"{fixed[1]}"
        )
    formula = walk.arithmetic.softmax(affine, result, node.real("beta", 1.0))
    before = walk.place(source)
    held = walk.held(source, first=False)
    place = walk.declare(output, before.shape, first=False)
    walk.steps.append(
        RuntimeSoftmax(
            **walk.fields(node, (held,), place),
            formula=formula,
            source=affine.zero_point,
            result=result,
        )
    )


ELEMENTWISE: Final = {
    **dict.fromkeys(("ADD", "SUB", "MUL"), two_operands),
    **dict.fromkeys(_UNARY, unary),
    "QUANTIZE": quantize,
    "DEQUANTIZE": dequantize,
    "SOFTMAX": softmax,
}
"""The operators that compute codes one by one (or row by row), and what lowers them."""
