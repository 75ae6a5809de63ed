"""Integer layers as C functions: loops with constant bounds, sums in int32 where no partial sum leaves it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npusim.engine.oracle.storage import CType
from npusim.errors import UnsupportedError
from npusim.files.c_text import array_lines
from npusim.program import (
    Accumulating,
    Add,
    AveragePool,
    Convolution,
    FullyConnected,
    IntegerArray,
    IntegerLayer,
    MaxPool,
    TransposedConvolution,
    Weighted,
)
from npusim.program.intervals import Interval, LayerBounds
from npusim.program.layers import Window
from npusim.program.shift_floor import ShiftFloor

__all__ = ["CFunction", "layer_function", "number_array"]


@dataclass(frozen=True, slots=True)
class CFunction:
    """A function of C.

    Attributes
    ----------
    text
        Constants, then the function.
    flash_bytes
        What the constants take, on a machine with bytes of 8 bits.
    """

    text: str
    flash_bytes: int


def layer_function(
    name: str, layer: IntegerLayer, inputs: Sequence[CType], output: CType, bounds: LayerBounds | None
) -> CFunction:
    """A layer as a function ``void name(const T *x, U *y)``, with a second operand ``r`` where it has one.

    Parameters
    ----------
    name
        Of the function, and the beginning of the names of its constants.
    layer
        The layer.
    inputs, output
        How its tensors are held.
    bounds
        Its intervals; None for one without an accumulator.

    Raises
    ------
    UnsupportedError
        If there is no C for it.
    """
    head = f"static void {name}(const {inputs[0].label} *x"
    head += "".join(f", const {kind.label} *r" for kind in inputs[1:2]) + f", {output.label} *y)"
    if len(inputs) > 2:
        raise UnsupportedError(f"layer '{layer.name}' has {len(inputs)} inputs; no C is written for it")
    match layer:
        case MaxPool():
            return CFunction("\n".join([head, "{", *_maximum(layer, output), "}", ""]), 0)
        case Accumulating() if isinstance(layer.requantization, ShiftFloor) and bounds is not None:
            return _accumulating(name, head, layer, layer.requantization, output, bounds)
        case _:
            raise UnsupportedError(
                f"layer '{layer.name}' of kind {layer.kind} has no C: it is written for sums that are shifted, and maxima"
            )


def number_array(name: str, values: IntegerArray) -> CFunction:
    """Whole numbers as a constant array of the narrowest type."""
    lower, upper = int(values.min()), int(values.max())
    for kind, least, most, size in (
        ("npusim_s8", -128, 127, 1),
        ("npusim_u8", 0, 255, 1),
        ("int_least16_t", -(2**15), 2**15 - 1, 2),
        ("int32_t", -(2**31) + 1, 2**31 - 1, 4),
    ):
        if least <= lower and upper <= most:
            lines = array_lines(map(str, values.reshape(-1).tolist()))
            return CFunction("\n".join([f"static const {kind} {name}[{values.size}] = {{", *lines, "};"]), size * values.size)
    raise UnsupportedError(f"a constant of {name} does not fit 32 bits, the widest that C is written for")


def _accumulating(name: str, head: str, layer: Accumulating, part: ShiftFloor, output: CType, bounds: LayerBounds) -> CFunction:
    weights, weight = _weights(name, layer) if isinstance(layer, Weighted) else (CFunction("", 0), "")
    wide_sum = not _fits(bounds.partial, bounds.accumulator)
    code = _Code(
        name, layer, part, output, "int64_t" if wide_sum else "int32_t", wide_sum or not _fits(bounds.biased, bounds.scaled)
    )
    body = ["{", *_loops(layer, weight, code), "}"]
    pieces = [weights.text, *(array.text for array in code.arrays.values()), code.text, "\n".join([head, *body])]
    flash = weights.flash_bytes + sum(array.flash_bytes for array in code.arrays.values())
    return CFunction("\n".join(piece for piece in pieces if piece) + "\n", flash)


def _fits(*intervals: Interval) -> bool:
    return all(int(one.lower.min()) > -(2**31) and int(one.upper.max()) < 2**31 for one in intervals)


def _weights(name: str, layer: Weighted) -> tuple[CFunction, str]:
    """The packed weights in the order in which loops read them, and the expression for the one with number ``at``."""
    values = layer.weights.T if isinstance(layer, FullyConnected) else layer.weights
    flat = values.reshape(-1)
    for bits in (2, 4):
        if layer.weight_bits <= bits and flat.min() >= -(2 ** (bits - 1)) and flat.max() < 2 ** (bits - 1):
            each = 8 // bits
            padded = np.concatenate([flat, np.zeros(-flat.size % each, np.int64)]).reshape(-1, each) & (2**bits - 1)
            packed = (padded << (np.arange(each) * bits)).sum(axis=1)
            lines = array_lines(map(str, packed.tolist()))
            text = "\n".join([f"static const npusim_u8 {name}_w[{packed.size}] = {{", *lines, "};"])
            return CFunction(text, packed.size), f"npusim_weight{bits}({name}_w, at)"
    return number_array(f"{name}_w", flat), f"(int32_t){name}_w[at]"


class _Code:
    """The function from a sum to a code, and the constants that it reads.

    Parameters
    ----------
    name
        Of the layer's function.
    layer, part, output
        The layer, its requantization, and how its codes are held.
    sum_type
        Of sums.
    wide
        Whether what is computed of them may leave int32.
    """

    def __init__(self, name: str, layer: Accumulating, part: ShiftFloor, output: CType, sum_type: str, wide: bool) -> None:
        self.sum_type = sum_type
        self._name, self._residual = name, layer.residual is not None
        kind, shifted = ("int64_t", "npusim_shift64") if wide else ("int32_t", "npusim_shift32")
        self.arrays: dict[str, CFunction] = {}
        terms = {field: self._term(field, getattr(part, field)) for field in ("bias", "scale", "addend", "shift")}
        lines = [f"    {kind} value = {'' if kind == sum_type else f'({kind})'}sum;"]
        neutral = {"bias": ("+=", "0"), "scale": ("*=", "1"), "addend": ("+=", "0")}
        for field, (sign, nothing) in neutral.items():
            if terms[field] != nothing:
                lines.append(f"    value {sign} {terms[field]};")
        if terms["shift"] != "0" and part.toward_zero:
            lines.append(f"    value = value >= 0 ? value >> {terms['shift']} : -(-value >> {terms['shift']});")
        elif terms["shift"] != "0":
            lines.append(f"    value = {shifted}(value, {terms['shift']});")
        lines += _clipped(part.clip.lower, part.clip.upper)
        if self._residual:
            lines += ["    value += added;", *_clipped(layer.output_clip.lower, layer.output_clip.upper)]
        parameters = [
            f"{sum_type} sum",
            *(["int32_t o"] if self.arrays else []),
            *(["int32_t added"] if self._residual else []),
        ]
        head = f"static {output.label} {name}_code({', '.join(parameters)})"
        self.text = "\n".join([head, "{", *lines, f"    return ({output.label})value;", "}"])

    def _term(self, field: str, values: IntegerArray) -> str:
        """One number for all channels as it is, else an element of an array."""
        if (values == values[0]).all() and abs(int(values[0])) < 2**31:
            return str(int(values[0]))
        self.arrays[field] = number_array(f"{self._name}_{field}", values)
        return f"{self._name}_{field}[o]"

    def call(self, place: str) -> str:
        """The code of ``sum`` in channel ``o``, for the element of the output at a place."""
        given = ["sum", *(["o"] if self.arrays else []), *([f"(int32_t)r[{place}]"] if self._residual else [])]
        return f"{self._name}_code({', '.join(given)})"


def _clipped(lower: int, upper: int) -> list[str]:
    return [f"    value = value < {lower} ? {lower} : value > {upper} ? {upper} : value;"]


@dataclass(frozen=True, slots=True)
class _Plane:
    """Window and sizes with two spatial axes; a missing one has size 1."""

    sizes: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    begins: tuple[int, int]
    dilations: tuple[int, int]

    @classmethod
    def of(cls, layer: IntegerLayer, window: Window, out: Sequence[int]) -> _Plane:
        sizes = layer.input_shape[2:]
        rank = len(sizes)
        if rank not in (1, 2):
            raise UnsupportedError(f"layer '{layer.name}' has {rank} spatial axes; C is written for one or two")
        dilations = window.dilations if len(window.dilations) == rank else (1,) * rank
        parts = (sizes, tuple(out), window.kernel_shape, window.strides, window.pads[:rank], dilations)
        filled = [part if rank == 2 else (*part, fill) for part, fill in zip(parts, (1, 1, 1, 1, 0, 1), strict=True)]
        return cls(*((int(part[0]), int(part[1])) for part in filled))


def _indented(depth: int, lines: Sequence[str]) -> list[str]:
    return [f"{'    ' * depth}{line}" for line in lines]


def _loops(layer: Accumulating, weight: str, code: _Code) -> list[str]:
    """The body of a layer that sums up."""
    match layer:
        case Add():
            return _added(layer, code)
        case FullyConnected():
            return _dense(layer, weight, code)
        case Convolution():
            return _convolution(layer, weight, code)
        case TransposedConvolution():
            return _transposed(layer, weight, code)
        case AveragePool():
            return _average(layer, code)
        case _:
            raise UnsupportedError(f"layer '{layer.name}' of kind {layer.kind} has no C")


def _added(layer: Accumulating, code: _Code) -> list[str]:
    if layer.accumulator_shape != layer.input_shape:
        raise UnsupportedError(f"layer '{layer.name}' adds tensors of different shapes; no C is written for it")
    size, channels = math.prod(layer.output_shape), layer.accumulator_shape[layer.channel_axis]
    inner = math.prod(layer.accumulator_shape[layer.channel_axis + 1 :])
    channel = [f"        int32_t o = i / {inner} % {channels};"] if code.arrays else []
    return [
        "    int32_t i;",
        f"    for (i = 0; i < {size}; i++) {{",
        *channel,
        f"        {code.sum_type} sum = ({code.sum_type})x[i] + r[i];",
        f"        y[i] = {code.call('i')};",
        "    }",
    ]


def _dense(layer: FullyConnected, weight: str, code: _Code) -> list[str]:
    inputs, outputs = layer.weights.shape
    rows = math.prod(layer.accumulator_shape) // outputs
    return [
        "    int32_t n, o, c;",
        f"    for (n = 0; n < {rows}; n++) {{",
        f"        for (o = 0; o < {outputs}; o++) {{",
        f"            {code.sum_type} sum = 0;",
        f"            for (c = 0; c < {inputs}; c++) {{",
        f"                int32_t at = o * {inputs} + c;",
        f"                sum += ({code.sum_type})x[n * {inputs} + c] * {weight};",
        "            }",
        f"            y[n * {outputs} + o] = {code.call(f'n * {outputs} + o')};",
        "        }",
        "    }",
    ]


def _taps(plane: _Plane, inside: Sequence[str]) -> list[str]:
    """Loops over the taps of a window that lie on data, ``row`` and ``column`` in the input."""
    return [
        f"for (i = 0; i < {plane.kernel[0]}; i++) {{",
        f"    int32_t row = h * {plane.strides[0]} + i * {plane.dilations[0]} - {plane.begins[0]};",
        f"    if (row < 0 || row >= {plane.sizes[0]}) {{",
        "        continue;",
        "    }",
        f"    for (j = 0; j < {plane.kernel[1]}; j++) {{",
        f"        int32_t column = w * {plane.strides[1]} + j * {plane.dilations[1]} - {plane.begins[1]};",
        f"        if (column >= 0 && column < {plane.sizes[1]}) {{",
        *_indented(3, inside),
        "        }",
        "    }",
        "}",
    ]


def _over_places(channels: int, plane: _Plane, declared: str, inside: Sequence[str]) -> list[str]:
    return [
        f"    int32_t {declared};",
        f"    for (o = 0; o < {channels}; o++) {{",
        f"        for (h = 0; h < {plane.out[0]}; h++) {{",
        f"            for (w = 0; w < {plane.out[1]}; w++) {{",
        *_indented(4, inside),
        "            }",
        "        }",
        "    }",
    ]


def _output_place(plane: _Plane) -> str:
    return f"(o * {plane.out[0]} + h) * {plane.out[1]} + w"


def _convolution(layer: Convolution, weight: str, code: _Code) -> list[str]:
    plane = _Plane.of(layer, layer.window, layer.accumulator_shape[2:])
    outputs, within = layer.weights.shape[:2]
    first = "0" if layer.group == 1 else f"o / {outputs // layer.group} * {within}"
    taps = _taps(
        plane,
        [
            f"int32_t at = ((o * {within} + c) * {plane.kernel[0]} + i) * {plane.kernel[1]} + j;",
            f"sum += ({code.sum_type})x[((first + c) * {plane.sizes[0]} + row) * {plane.sizes[1]} + column] * {weight};",
        ],
    )
    inside = [
        f"{code.sum_type} sum = 0;",
        f"int32_t first = {first};",
        f"for (c = 0; c < {within}; c++) {{",
        *_indented(1, taps),
        "}",
        f"y[{_output_place(plane)}] = {code.call(_output_place(plane))};",
    ]
    return _over_places(outputs, plane, "o, h, w, c, i, j", inside)


def _transposed(layer: TransposedConvolution, weight: str, code: _Code) -> list[str]:
    """Each output collects the taps whose input lies at a whole number of strides."""
    plane = _Plane.of(layer, layer.window, layer.accumulator_shape[2:])
    inputs, of_group = layer.weights.shape[:2]
    within = inputs // layer.group
    inside = [
        f"{code.sum_type} sum = 0;",
        f"int32_t group = o / {of_group};",
        f"for (c = 0; c < {within}; c++) {{",
        f"    for (i = 0; i < {plane.kernel[0]}; i++) {{",
        f"        int32_t row = h + {plane.begins[0]} - i * {plane.dilations[0]};",
        f"        if (row < 0 || row % {plane.strides[0]} != 0 || row / {plane.strides[0]} >= {plane.sizes[0]}) {{",
        "            continue;",
        "        }",
        f"        for (j = 0; j < {plane.kernel[1]}; j++) {{",
        f"            int32_t column = w + {plane.begins[1]} - j * {plane.dilations[1]};",
        f"            int32_t from = group * {within} + c;",
        f"            int32_t whole = column >= 0 && column % {plane.strides[1]} == 0;",
        f"            if (whole && column / {plane.strides[1]} < {plane.sizes[1]}) {{",
        f"                int32_t at = ((from * {of_group} + o % {of_group}) * {plane.kernel[0]} + i) * {plane.kernel[1]} + j;",
        f"                int32_t place = (from * {plane.sizes[0]} + row / {plane.strides[0]}) * {plane.sizes[1]};",
        f"                sum += ({code.sum_type})x[place + column / {plane.strides[1]}] * {weight};",
        "            }",
        "        }",
        "    }",
        "}",
        f"y[{_output_place(plane)}] = {code.call(_output_place(plane))};",
    ]
    return _over_places(layer.group * of_group, plane, "o, h, w, c, i, j", inside)


def _average(layer: AveragePool, code: _Code) -> list[str]:
    channels = layer.input_shape[1]
    rank = len(layer.input_shape) - 2
    window = layer.window
    spans = zip(layer.input_shape[2:], window.kernel_shape, window.strides, window.pads[:rank], window.pads[rank:], strict=True)
    out = [(size + begin + end - kernel) // stride + 1 for size, kernel, stride, begin, end in spans]
    plane = _Plane.of(layer, window, out)
    taps = _taps(plane, [f"sum += x[(o * {plane.sizes[0]} + row) * {plane.sizes[1]} + column];"])
    inside = [f"{code.sum_type} sum = 0;", *taps, f"y[{_output_place(plane)}] = {code.call(_output_place(plane))};"]
    return _over_places(channels, plane, "o, h, w, i, j", inside)


def _maximum(layer: MaxPool, output: CType) -> list[str]:
    plane = _Plane.of(layer, layer.window, layer.output_shape[2:])
    taps = _taps(
        plane,
        [
            f"{output.label} value = x[(o * {plane.sizes[0]} + row) * {plane.sizes[1]} + column];",
            "if (!found || value > largest) {",
            "    largest = value;",
            "}",
            "found = 1;",
        ],
    )
    inside = [f"{output.label} largest = 0;", "int found = 0;", *taps, f"y[{_output_place(plane)}] = largest;"]
    return _over_places(layer.input_shape[1], plane, "o, h, w, i, j", inside)
