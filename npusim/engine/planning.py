"""From a model file to a program: reading, folding and lowering in one call, for the shapes the inputs fix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from npusim.errors import InputError, UnsupportedError, UsageError
from npusim.graph import Array, Graph, TensorType
from npusim.graph.folding import fold
from npusim.graph.onnx_reader import infer_node
from npusim.program import Program
from npusim.program.input_stage import InputStage, input_stages
from npusim.program.lowering.arithmetic import ARITHMETICS
from npusim.program.lowering.match import ARITHMETICS as MATCH_ARITHMETICS
from npusim.program.lowering.match import (
    default_arithmetic,
    is_as_written,
    is_match,
    is_valid_in_integers,
    lower_match,
    plain_graph,
)
from npusim.program.lowering.match.input_stage import InputAlpha, ends_by_input, with_input_quantizers
from npusim.program.lowering.quantized import is_quantized, lower_quantized
from npusim.program.lowering.tflite import ARITHMETICS as TFLITE_ARITHMETICS
from npusim.program.lowering.tflite import lower_tflite
from npusim.program.lowering.tinpu import lower

__all__ = [
    "FORMATS",
    "MATCH",
    "InputAlpha",
    "InputOptions",
    "OpenShapeError",
    "choose_arithmetic",
    "ends_by_input",
    "format_of",
    "may_decide_shapes",
    "needs_inputs",
    "plan",
]


class OpenShapeError(UnsupportedError):
    """Raised when sizes follow neither from the model nor from the inputs given so far."""


def needs_inputs(graph: Graph) -> str | None:
    """Why a program cannot be planned before inputs are seen, as the name of the first input with an open size; None if it can.

    An open first axis is the batch and does not count.
    """
    for name in graph.inputs:
        shape = graph.types[name].shape
        if shape is None or any(not isinstance(size, int) for size in shape[1:]):
            return name
    return None


MATCH: Final = "match"
"""The PLiNIO and MATCH family."""

FORMATS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "tinpu": ("npu",),
        "qdq": tuple(ARITHMETICS),
        "qoperator": tuple(ARITHMETICS),
        "tflite": tuple(TFLITE_ARITHMETICS),
        MATCH: tuple(MATCH_ARITHMETICS),
    }
)
"""The arithmetics of each format, the default first."""


def format_of(graph: Graph) -> str:
    """What a graph as read was written in: one of :data:`FORMATS`."""
    if graph.format == "tflite":
        return "tflite"
    return MATCH if is_match(graph) else is_quantized(graph) or "tinpu"


def choose_arithmetic(graph: Graph, name: str | None) -> str:
    """The arithmetic of a graph: its format's default, or one that the format has.

    Raises
    ------
    UsageError
        If the format has no arithmetic of that name.
    """
    found = format_of(graph)
    choices = FORMATS[found]
    if name is not None and name not in choices:
        raise UsageError(
            f"there is no arithmetic '{name}' for a model of the format '{found}'; wanted one of: {', '.join(choices)}"
        )
    if name is not None:
        return name
    return default_arithmetic(graph) if found == MATCH else choices[0]


def _lower(original: Graph, folded: Graph, chosen: str, inputs: InputOptions) -> Program:
    found = format_of(original)
    if found == MATCH:
        program = _lower_match(original, folded, chosen, inputs.codes)
        return program if inputs.alpha is None else with_input_quantizers(program, inputs.alpha)
    if found == "tinpu":
        program = lower(folded, input_stage=inputs.stage)
        return program if program.layers else replace(program, format="float")
    return lower_quantized(folded, ARITHMETICS[chosen], found)


def _lower_match(original: Graph, folded: Graph, chosen: str, input_codes: str | None) -> Program:
    in_integers = None
    if is_valid_in_integers(original):
        # a file that has a meaning in ONNX's own integers must keep ONNX's rules of types
        types = {name: replace(folded.types[name], dtype=original.types[name].dtype) for name in folded.inputs}
        in_integers = fold(original, infer_node, known={}, input_types=types)
    program = replace(lower_match(folded, original, chosen, input_codes), format=MATCH, arithmetic=chosen)
    if in_integers is None or chosen != "onnx" or is_as_written(program):
        return program
    return lower_quantized(in_integers, ARITHMETICS[chosen], MATCH)


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What is known of the inputs beside the file.

    Attributes
    ----------
    codes
        Codes of float inputs of a model of the MATCH family, ``"u8"`` or ``"s8"``; None where the file tells.
    alpha
        Ends of the quantizers in front of such a model: its inputs are real then; None where they are codes.
    stage
        Whose implementation makes codes of float inputs of a model for TI's NPU.
    """

    codes: str | None = None
    alpha: InputAlpha | None = None
    stage: InputStage = InputStage.GRAPH


def plan(
    graph: Graph,
    feeds: Mapping[str, Array] | None = None,
    arithmetic: str | None = None,
    inputs: InputOptions | None = None,
) -> Program:
    """Plan a program for a graph.

    Parameters
    ----------
    graph
        A graph as read.
    feeds
        Inputs of one run; they fix open sizes, and where shapes depend on the values of inputs, those values: such inputs are
        constants of the program.
    arithmetic
        How layers are computed; None for the default of the format.
    inputs
        What is known of the inputs beside the file.

    Raises
    ------
    OpenShapeError
        If sizes stay open.
    UnsupportedError
        If something else of the graph cannot be simulated, or it has no such implementation of an input stage.
    """
    known = InputOptions() if inputs is None else inputs
    program = _planned(graph, feeds, arithmetic, known)
    if known.stage is not InputStage.GRAPH and (format_of(graph) == MATCH or not input_stages(program)):
        raise UnsupportedError(
            f"the model has no input stage, so none is computed as '{known.stage}' does; leave out the input stage, or give a "
            "model for TI's NPU that takes measured values"
        )
    return program


def _planned(graph: Graph, feeds: Mapping[str, Array] | None, arithmetic: str | None, inputs: InputOptions) -> Program:
    chosen = choose_arithmetic(graph, arithmetic)
    if graph.format == "tflite":
        return replace(lower_tflite(graph, chosen), format="tflite", arithmetic=chosen)
    given = {} if feeds is None else feeds
    declared, graph = graph, plain_graph(graph, chosen) if format_of(graph) == MATCH else graph
    types = {name: _input_type(graph.types[name], given.get(name)) for name in graph.inputs}
    folded = fold(graph, infer_node, known={}, input_types=types)
    open_tensor = _first_open(folded)
    if open_tensor is None:
        return _lower(declared, folded, chosen, inputs)
    values = {name: array for name, array in given.items() if may_decide_shapes(types[name])}
    if values:
        folded = fold(graph, infer_node, known=values, input_types=types)
        open_tensor = _first_open(folded)
        if open_tensor is None:
            remaining = tuple(name for name in graph.inputs if name not in values)
            return _lower(declared, replace(folded, inputs=remaining), chosen, inputs)
    source = next((f", the result of {node}," for node in folded.nodes if open_tensor in node.outputs), "")
    raise OpenShapeError(
        f"the shape of tensor '{open_tensor}'{source} is not fixed by the model{'' if feeds is None else ' or the inputs'}; "
        "export the model with fixed shapes, or give inputs that fix them"
    )


def may_decide_shapes(kind: TensorType) -> bool:
    """Whether an input may hold sizes rather than data: integers, or floats in at most one dimension (scales of a Resize).

    Parameters
    ----------
    kind
        The input's declared type.
    """
    return kind.dtype.kind in "iub" or (kind.shape is not None and len(kind.shape) <= 1)


def _first_open(graph: Graph) -> str | None:
    names = (*graph.inputs, *(name for node in graph.nodes for name in node.outputs if name), *graph.outputs)
    return next((name for name in names if name not in graph.types or not graph.types[name].is_static), None)


def _input_type(declared: TensorType, value: Array | None) -> TensorType:
    """The declared type with open sizes taken from a value; an open first axis is the batch, planned for one sample."""
    shape = declared.shape
    if shape is None:
        return declared if value is None else TensorType(declared.dtype, value.shape)
    if value is not None and len(shape) != value.ndim:
        raise InputError(f"an input has {value.ndim} axes, wanted {len(shape)}")
    sizes = [
        size if isinstance(size, int) else (size if value is None else value.shape[axis]) for axis, size in enumerate(shape)
    ]
    if sizes and not isinstance(shape[0], int):
        sizes[0] = 1
    return TensorType(declared.dtype, tuple(sizes))
