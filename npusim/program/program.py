"""The integer program: what lowering produces and the engines execute.

A program is a list of steps. A step is an :class:`IntegerLayer` (what the NPU computes), a :class:`QuantizeStage` (float32
values to codes, the input stage) or a :class:`HostOperation` (everything else, run by the host CPU as the graph says).
Every tensor of the original graph that still has a meaning is listed in :attr:`Program.tensors` and can be asked for by its
ONNX name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.graph import Array, Node
from npusim.graph.operators import evaluate_node
from npusim.graph.traits import Trait, is_a
from npusim.program.layers import IntegerLayer
from npusim.program.requantization import Clip

__all__ = ["Batching", "HostOperation", "Program", "QuantizeStage", "Step", "Tensor"]


class Batching(StrEnum):
    """How samples on the first axis go through a program.

    STACKED: all at once. SINGLE: one after the other, because some operation mixes the first axis with others. FIXED: the
    model declares a first axis that is not a batch of one, so inputs must have exactly the declared shapes.
    """

    STACKED = "stacked"
    SINGLE = "single"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the program.

    Codes are centred inside: a program computes with codes less their zero point, ``v = q - zero_point``, channels first, so
    that padding is 0 and a layer is linear in its input. Codes q, in the order of the file, stand only at the edges: in
    inputs, outputs and traces.

    Attributes
    ----------
    name
        ONNX name.
    shape
        Shape for one sample, the batch axis of size 1 included.
    dtype
        Element type the ONNX graph declares (float32 even where the values are integers).
    stored
        Element type npusim holds the values in: integer codes where the tensor is proven to hold integers only.
    lower, upper
        Proven range of the values; infinite where nothing is known.
    nan
        A value may be NaN, for inputs that are finite.
    negative_zero
        In float a zero may be -0, or which of the two it is differs between implementations.
    scale, zero_point
        A code q of the file stands for ``scale * (q - zero_point)``; None where the scale is not known. `lower` and `upper` are
        those of the centred values.
    order
        Axes of the array that is held in the order in which the file has them, ``(0, 2, 3, 1)`` for channels last; None where
        that is the same order.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    stored: np.dtype[np.generic]
    lower: float
    upper: float
    nan: bool = False
    negative_zero: bool = False
    scale: float | None = None
    zero_point: int = 0
    order: tuple[int, ...] | None = None

    @property
    def is_integer(self) -> bool:
        """True when every value is proven to be a whole number."""
        return self.stored.kind in "iub"

    @property
    def declared_shape(self) -> tuple[int, ...]:
        """The shape for one sample in the order of the file."""
        return self.shape if self.order is None else tuple(self.shape[axis] for axis in self.order)

    def as_declared(self, held: Array) -> Array:
        """An array as the file has it: in its order and element type, with the zero point.

        Examples
        --------
        >>> kinds = np.dtype(np.uint8), np.dtype(np.int16)
        >>> Tensor("x", (1, 3), *kinds, -128, 127, zero_point=128).as_declared(np.array([[-128, 0, 127]], np.int16))
        array([[  0, 128, 255]], dtype=uint8)
        """
        return self._turned(held, self.dtype)

    def as_shown(self, held: Array) -> Array:
        """An array for a trace: in the order of the file with the zero point; codes in an integer type that holds them."""
        plain = not self.zero_point and self.order is None
        return held if plain else self._turned(held, self.dtype if self.dtype.kind in "iu" else self.stored)

    def as_held(self, given: Array) -> Array:
        """An array of the file as the program holds it; the array itself where that is the same."""
        turned = given if self.order is None else given.transpose(tuple(int(axis) for axis in np.argsort(self.order)))
        if self.zero_point:
            turned = (turned.astype(np.int64) - self.zero_point).astype(self.stored)
        elif self.dtype.kind == "f" and self.is_integer:
            turned = turned.astype(self.stored, copy=False)
        # unlike ascontiguousarray, this leaves a number without axes one
        return given if turned is given else np.asarray(turned, order="C")

    def _turned(self, held: Array, dtype: np.dtype[np.generic]) -> Array:
        turned = held if self.order is None else np.ascontiguousarray(held.transpose(self.order))
        codes = turned.astype(np.int64) + self.zero_point if self.zero_point else turned
        return np.asarray(codes.astype(dtype, copy=False))


@dataclass(frozen=True, slots=True)
class QuantizeStage:
    """Float32 values to codes, operation by operation in graph order: additions and multiplications, a floor, a clip.

    The host CPU computes it; at the input of a network it is the input stage.

    Attributes
    ----------
    name
        Name of the first node, made unique.
    input, output
        Tensor names.
    nodes
        The ONNX nodes in order; each is computed in the element type of the graph.
    offset, multiplier
        float32, broadcastable to the input: ``floor((x + offset) * multiplier)`` up to float32 rounding. They describe the
        stage, `nodes` defines it.
    clip
        Range of the codes.
    nearest
        It rounds to the nearest code, halves to the even one, where the others round down; half a code is part of `offset`.
    """

    name: str
    input: str
    output: str
    nodes: tuple[Node, ...]
    offset: npt.NDArray[np.float64]
    multiplier: npt.NDArray[np.float64]
    clip: Clip
    nearest: bool = False

    @property
    def floor(self) -> Node:
        """The node that makes whole numbers."""
        return next(node for node in self.nodes if is_a(node.op_type, Trait.ROUNDS))

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of all tensors the stage can give."""
        return tuple(node.outputs[0] for node in self.nodes)

    @property
    def codes_range(self) -> Clip:
        """What the codes can be."""
        return self.clip

    def values(self, value: Array, constants: Mapping[str, Array], opset: int) -> dict[str, Array]:
        """All tensors of the stage, its input included, in the element types of the graph.

        Parameters
        ----------
        value
            Its input in the element type that the graph declares.
        constants, opset
            Those of the program.
        """
        known = {self.input: value}
        for node in self.nodes:
            read = {name: constants[name] for name in node.inputs if name in constants}
            (known[node.outputs[0]],) = evaluate_node(node, {**read, **known}, opset)
        return known


@dataclass(frozen=True, slots=True)
class HostOperation:
    """One ONNX node that runs on the host CPU as the graph says, in the element types of the graph.

    Attributes
    ----------
    name
        Name of the node, made unique.
    operator
        The ONNX operator of the graph.
    node
        What is executed: the node with the shapes in its constants generalised to any number of samples.
    reason
        Why this is not part of an NPU layer, as a sentence.
    """

    name: str
    operator: str
    node: Node
    reason: str

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors the operation gives."""
        return tuple(name for name in self.node.outputs if name)


Step: TypeAlias = IntegerLayer | QuantizeStage | HostOperation


@dataclass(frozen=True, slots=True, repr=False)
class Program:
    """The steps of a network in execution order.

    Attributes
    ----------
    inputs, outputs
        Tensor names in the order the model declares them.
    steps
        In execution order.
    tensors
        Every tensor that can be asked for, by ONNX name: inputs, constants that were folded, step results, inner tensors,
        and other names of the same tensor.
    constants
        Values that steps read.
    aliases
        Names that stand for another tensor (Identity, Dropout), to that tensor's name.
    opset
        Version of the default operator set.
    batching
        How samples on the first axis are run.
    format
        What the model was written in: ``tinpu``, ``qdq``, ``qoperator``, ... or ``float``.
    arithmetic
        How its layers are computed: ``npu``, ``ort``, ``onnx``, ``tvm``, ...
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Array]
    aliases: Mapping[str, str]
    opset: int
    batching: Batching
    format: str = "tinpu"
    arithmetic: str = "npu"

    def __repr__(self) -> str:
        sorts = (len(self.layers), "integer layers"), (len(self.quantize_stages), "quantize stages")
        counted = ", ".join(f"{count} {noun}" for count, noun in (*sorts, (len(self.host_operations), "host operations")))
        return f"<Program: {counted}; inputs {', '.join(self.inputs)}; outputs {', '.join(self.outputs)}>"

    @property
    def layers(self) -> tuple[IntegerLayer, ...]:
        """The integer layers in execution order."""
        return tuple(step for step in self.steps if isinstance(step, IntegerLayer))

    @property
    def host_operations(self) -> tuple[HostOperation, ...]:
        """What the host CPU computes as the graph says, in execution order."""
        return tuple(step for step in self.steps if isinstance(step, HostOperation))

    @property
    def quantize_stages(self) -> tuple[QuantizeStage, ...]:
        """Where float32 values become codes; the first is normally the input stage."""
        return tuple(step for step in self.steps if isinstance(step, QuantizeStage))

    def inputs_of(self, step: Step) -> tuple[str, ...]:
        """The tensors a step reads that are not constants."""
        if isinstance(step, IntegerLayer):
            return step.inputs
        if isinstance(step, QuantizeStage):
            return (step.input,)
        return tuple(name for name in step.node.inputs if name and name not in self.constants)

    def computes_in_float16(self, step: Step) -> bool:
        """Whether a step reads or makes float16.

        No runtime on a CPU computes in it: onnxruntime computes such nodes in float32, and rounds to float16 only what leaves
        the model. So do the engines; float16 tensors are held as float32, and nothing is claimed of them.
        """
        names = (*self.inputs_of(step), *step.tensors)
        return any(self.tensors[name].dtype == np.float16 for name in names if name in self.tensors)

    @property
    def read_by_steps(self) -> frozenset[str]:
        """The tensors that steps read."""
        return frozenset(name for step in self.steps for name in self.inputs_of(step))

    def resolve(self, name: str) -> str:
        """The tensor that a name stands for."""
        return self.aliases.get(name, name)

    def stage_values(self, stage: QuantizeStage, value: Array) -> dict[str, Array]:
        """All tensors of a quantize stage, its input included, in the element types of the graph.

        Parameters
        ----------
        stage
            A quantize stage of the program.
        value
            Its input in the element type that the graph declares.
        """
        return stage.values(value, self.constants, self.opset)

    def host_values(self, operation: HostOperation, values: Mapping[str, Array]) -> dict[str, Array]:
        """What the host computes, by tensor, from values in the element types of the graph; constants may be left out.

        Float16 is computed in float32, and a conversion between the two does nothing.
        """
        node = operation.node
        inputs = {name: values[name] if name in values else self.constants[name] for name in node.inputs if name}
        if self.computes_in_float16(operation):
            inputs = {name: value.astype(np.float32) if value.dtype == np.float16 else value for name, value in inputs.items()}
            made = self.tensors[operation.tensors[0]]
            first = inputs[node.inputs[0]]
            if is_a(node.op_type, Trait.CONVERTS) and first.dtype == np.float32 and made.dtype in (np.float16, np.float32):
                return {made.name: first}
        results = evaluate_node(node, inputs, self.opset)
        return {name: value for name, value in zip(node.outputs, results, strict=False) if name}
