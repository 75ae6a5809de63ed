"""A program as C99 source, layer by layer: loops with constant bounds over arrays of codes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from string import Template
from typing import Final

import numpy as np

from npusim import __version__
from npusim.engine.oracle.helpers import helpers_for
from npusim.engine.oracle.layers import CFunction, layer_function, number_array
from npusim.engine.oracle.storage import Area, CType, Moved, Storage, moved_elements, plan_storage
from npusim.engine.session import InferenceSession
from npusim.errors import UnsupportedError
from npusim.files.c_text import array_lines, c_name, c_numbers, comment, float_literal
from npusim.graph import Array, Node
from npusim.graph.c_expressions import element_expression
from npusim.program import HostOperation, IntegerLayer, Program, QuantizeStage, Step
from npusim.program.input_stage import DeviceStage
from npusim.program.intervals import RangeAnalysis, analyse

__all__ = ["OracleSource", "oracle_source"]

_ENDS: Final[Mapping[str, str]] = {
    "float32": "float",
    "int8": "npusim_s8",
    "uint8": "npusim_u8",
    "int16": "int_least16_t",
    "int32": "int32_t",
}
"""C types of the inputs and outputs of a model, by its own element types."""

_AREA_TYPES: Final[Mapping[Area, str]] = {
    Area.CODES_8: "npusim_s8",
    Area.CODES_16: "int_least16_t",
    Area.CODES_32: "int32_t",
    Area.FLOATS: "float",
}

MOST_RUNS: Final = 8
"""Runs of elements that are copied one after the other; more are listed in a table."""


@dataclass(frozen=True, slots=True)
class OracleSource:
    """A model as C.

    Attributes
    ----------
    name
        What its symbols begin with.
    header, source
        The text of ``name.h`` and ``name.c``.
    layers
        Names of the tensors that the hook is called with, in order.
    types
        How each of them is held.
    shapes
        Their shapes, for one sample.
    flash_bytes, arena_bytes
        What constants and the arena take, on a machine with bytes of 8 bits.
    """

    name: str
    header: str
    source: str
    layers: tuple[str, ...]
    types: tuple[CType, ...]
    shapes: tuple[tuple[int, ...], ...]
    flash_bytes: int
    arena_bytes: int


def oracle_source(session: InferenceSession, name: str = "npusim_model") -> OracleSource:
    """Write a model as C99.

    Parameters
    ----------
    session
        A model whose integer layers sum, shift and saturate, such as one for the NPU; with the graph's own input stage.
    name
        What all symbols begin with, so that two models link together.

    Raises
    ------
    UnsupportedError
        If there is no C for a step: a layer of other arithmetic, or a host operation whose bits IEEE 754 does not define.

    Examples
    --------
    >>> oracle_source(InferenceSession("golden/vibration_w8.onnx"), "vibration").arena_bytes  # doctest: +SKIP
    768
    """
    return _Writer(session, c_name(name)).write()


@dataclass
class _Writer:
    session: InferenceSession
    name: str
    flash_bytes: int = 0
    _moves: dict[str, Moved] = field(default_factory=dict)

    def write(self) -> OracleSource:
        """The whole text."""
        program = self.session.program
        where = self.session.model.label
        if any(program.tensors[name].shape[:1] not in ((1,), ()) for name in program.inputs):
            raise UnsupportedError(f"{where} has no batch axis of one sample; C is written for one sample")
        self._moves = {step.name: moved for step in program.steps if (moved := moved_elements(program, step)) is not None}
        storage = plan_storage(program, self._moves, where)
        ranges = analyse(program)
        functions, calls = [], []
        for number, step in enumerate(program.steps):
            text, call = self._step(number, step, storage, ranges)
            functions.extend(text)
            kind = storage.types[step.tensors[-1]]
            size = math.prod(program.tensors[step.tensors[-1]].shape)
            pointer = self._pointer(step.tensors[-1], storage)
            calls += [
                *call,
                "    if (hook != 0) {",
                f"        hook(context, {number}, {pointer}, {size}, NPUSIM_TYPE_{kind.name});",
                "    }",
            ]
        calls += self._outputs(storage)
        return self._filled(storage, functions, calls)

    def _step(self, number: int, step: Step, storage: Storage, ranges: RangeAnalysis) -> tuple[list[str], list[str]]:
        """The functions of a step, and its call."""
        program, function = self.session.program, f"{self.name}_{number}"
        output = step.tensors[-1]
        moved = self._moves.get(step.name)
        if output in storage.views:
            return [], []
        title = f"/* {number}: {comment(step.name)} */"
        if moved is not None:
            made = _copies(function, moved, storage, output, program)
            names: Sequence[str] = moved.sources
        elif isinstance(step, IntegerLayer):
            inputs = [storage.types[name] for name in step.inputs]
            made = layer_function(function, step, inputs, storage.types[output], ranges.layers.get(step.name))
            names = step.inputs
        else:
            nodes = step.nodes if isinstance(step, QuantizeStage) else (step.node,)
            if isinstance(step, DeviceStage):
                raise UnsupportedError("C is written for the graph's own input stage; leave --input-stage out")
            names = tuple(dict.fromkeys(program.inputs_of(step)))
            made = self._elementwise(function, step, nodes, names, storage)
        self.flash_bytes += made.flash_bytes
        pointers = [self._pointer(name, storage, const=True) for name in names]
        return [title, made.text], [f"    {function}({', '.join([*pointers, self._pointer(output, storage)])});"]

    def _pointer(self, name: str, storage: Storage, *, const: bool = False) -> str:
        """Where a tensor lies, as an expression."""
        program = self.session.program
        home = storage.home(name)
        if home in program.inputs:
            return _parameter("input", program.inputs.index(home), len(program.inputs))
        area, offset = storage.types[home].area, storage.offsets[home]
        place = f"arena.{area.value} + {offset}" if offset else f"arena.{area.value}"
        wanted = storage.types[name].label
        if wanted == _AREA_TYPES[area]:
            return place
        return f"({'const ' if const else ''}{wanted} *)({place})"

    def _elementwise(
        self, function: str, step: QuantizeStage | HostOperation, nodes: Sequence[Node], names: Sequence[str], storage: Storage
    ) -> CFunction:
        """Float operations, one element after the other; each is assigned to a float, so that none is computed wider."""
        program, output = self.session.program, step.tensors[-1]
        shape = program.tensors[output].shape
        operands = {name: _element("xrst"[place], program.tensors[name].shape, shape) for place, name in enumerate(names[:4])}
        values = {name: f"(float){text}" if storage.types[name] is not CType.F32 else text for name, text in operands.items()}
        constants, lines = [], []
        for place, node in enumerate(nodes):
            given: list[str | None] = []
            for number, name in enumerate(node.inputs):
                if not name:
                    given.append(None)
                elif name in values:
                    given.append(values[name])
                else:
                    text, made = self._constant(f"{function}_{place}_{number}", program.constants[name], shape)
                    constants.extend(made)
                    given.append(text)
            expression = element_expression(node, given)
            if expression is None or len(names) > 4 or program.tensors[output].dtype != np.float32:
                raise UnsupportedError(
                    f"host operation '{step.name}' ({node.op_type}) has no C: IEEE 754 does not define its result to the last "
                    "bit, or it is not of float32; leave the oracle out, or keep this operation out of the model"
                )
            lines.append(f"        float v{place} = {expression};")
            values[node.outputs[0]] = f"v{place}"
        last, kind = values[output], storage.types[output]
        head = ", ".join(f"const {storage.types[name].label} *{'xrst'[place]}" for place, name in enumerate(names))
        stored = last if kind is CType.F32 else f"({kind.label})(int32_t){last}"
        body = [
            f"static void {function}({head}, {kind.label} *y)",
            "{",
            "    int32_t i;",
            f"    for (i = 0; i < {math.prod(shape)}; i++) {{",
            *lines,
            f"        y[i] = {stored};",
            "    }",
            "}",
            "",
        ]
        flash = sum(made.flash_bytes for made in constants)
        return CFunction("\n".join([*(made.text for made in constants), *body]), flash)

    def _constant(self, name: str, values: Array, shape: tuple[int, ...]) -> tuple[str, list[CFunction]]:
        """A constant as an expression, and the array where it is not one number."""
        if values.dtype != np.float32 or not np.isfinite(values).all():
            raise UnsupportedError("a constant of a host operation is not a finite float32; C is written for those")
        if values.size == 1:
            return float_literal(values.reshape(-1)[0]), []
        text = "\n".join([f"static const float {name}[{values.size}] = {{", *array_lines(c_numbers(values)), "};"])
        return _element(name, values.shape, shape), [CFunction(text, 4 * values.size)]

    def _outputs(self, storage: Storage) -> list[str]:
        """Copies of what the model gives."""
        program, lines = self.session.program, []
        for number, name in enumerate(program.outputs):
            source = program.resolve(name)
            target = _parameter("output", number, len(program.outputs))
            if source not in storage.types:
                raise UnsupportedError(f"output '{name}' is a constant; no C is written for it")
            tensor = program.tensors[source]
            kind = storage.types[source]
            lines += [
                "    {",
                "        int32_t i;",
                f"        const {kind.label} *values = {self._pointer(source, storage, const=True)};",
                f"        for (i = 0; i < {math.prod(tensor.shape)}; i++) {{",
                f"            {target}[i] = ({_end_type(name, tensor.dtype)})values[i];",
                "        }",
                "    }",
            ]
        return lines

    def _filled(self, storage: Storage, functions: Sequence[str], calls: Sequence[str]) -> OracleSource:
        program = self.session.program
        names = tuple(step.tensors[-1] for step in program.steps)
        arguments, sizes = [], []
        for what, ends in (("input", program.inputs), ("output", program.outputs)):
            for number, name in enumerate(ends):
                tensor = program.tensors[program.resolve(name)]
                text = _parameter(what, number, len(ends))
                arguments.append(f"{'const ' if what == 'input' else ''}{_end_type(name, tensor.dtype)} *{text}")
                sizes.append(
                    f"#define {self.name.upper()}_{text.upper()}_SIZE {math.prod(tensor.shape)} /* '{comment(name)}' */"
                )
        areas = [f"    {_AREA_TYPES[area]} {area.value}[{size}];" for area, size in storage.sizes.items()]
        layers = "\n".join(functions)
        fields = {
            "model": comment(self.session.model.label),
            "version": __version__,
            "sha256": self.session.model.sha256,
            "flash_bytes": str(self.flash_bytes),
            "arena_bytes": str(storage.arena_bytes),
            "guard": f"{self.name.upper()}_H",
            "name": self.name,
            "upper": self.name.upper(),
            "header": f"{self.name}.h",
            "layer_count": str(len(names)),
            "sizes": "\n".join(sizes),
            "arguments": ", ".join(arguments),
            "areas": "\n".join(areas) or "    char none;",
            "helpers": helpers_for(layers),
            "layers": layers,
            "names": "\n".join(f'    "{comment(name).replace(chr(34), chr(39))}",' for name in names) or "    0",
            "calls": "\n".join(calls),
        }
        return OracleSource(
            self.name,
            Template(_template("oracle.h.txt")).substitute(fields),
            Template(_template("oracle.c.txt")).substitute(fields),
            names,
            tuple(storage.types[name] for name in names),
            tuple(program.tensors[name].shape for name in names),
            self.flash_bytes,
            storage.arena_bytes,
        )


def _template(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _parameter(what: str, number: int, count: int) -> str:
    return what if count == 1 else f"{what}{number}"


def _end_type(name: str, dtype: np.dtype[np.generic]) -> str:
    if dtype.name not in _ENDS:
        raise UnsupportedError(f"'{name}' is {dtype.name}; C is written for {', '.join(_ENDS)}")
    return _ENDS[dtype.name]


def _element(array: str, shape: tuple[int, ...], out: tuple[int, ...]) -> str:
    """The element of an operand, broadcast to the shape of the result, that stands at ``i`` there."""
    sizes = (1,) * (len(out) - len(shape)) + tuple(shape)
    if math.prod(sizes) == 1:
        return f"{array}[0]"
    if sizes == tuple(out):
        return f"{array}[i]"
    terms = []
    for axis, size in enumerate(sizes):
        if size > 1:
            inner, stride = math.prod(out[axis + 1 :]), math.prod(sizes[axis + 1 :])
            place = f"i / {inner}" if inner > 1 else "i"
            place = f"{place} % {size}" if math.prod(out[:axis]) > 1 else place
            terms.append(f"({place}) * {stride}" if stride > 1 else place)
    return f"{array}[{' + '.join(terms)}]"


def _copies(function: str, moved: Moved, storage: Storage, output: str, program: Program) -> CFunction:
    """A function that puts elements where they belong: by runs, or by a table of places."""
    kind = storage.types[output]
    names = "xrstuvabcd"
    if len(moved.sources) > len(names):
        raise UnsupportedError(f"'{output}' is made of {len(moved.sources)} tensors; C is written for {len(names)} at most")
    head = ", ".join(f"const {storage.types[name].label} *{names[place]}" for place, name in enumerate(moved.sources))
    start = f"static void {function}({head}, {kind.label} *y)"
    breaks = np.flatnonzero((np.diff(moved.source) != 0) | (np.diff(moved.place) != 1)) + 1
    starts = [0, *breaks.tolist()]
    if len(starts) <= MOST_RUNS and (moved.source >= 0).all():
        lines = ["    int32_t i;"]
        for begin, end in zip(starts, [*starts[1:], moved.source.size], strict=True):
            array, place = names[int(moved.source[begin])], int(moved.place[begin])
            lines += [
                f"    for (i = 0; i < {end - begin}; i++) {{",
                f"        y[{begin} + i] = ({kind.label}){array}[{place} + i];",
                "    }",
            ]
        return CFunction("\n".join([start, "{", *lines, "}", ""]), 0)
    sizes = [math.prod(program.tensors[name].shape) for name in moved.sources]
    starts_of = np.cumsum([0, *sizes])
    places = number_array(f"{function}_places", np.where(moved.source < 0, -1, moved.place + starts_of[moved.source]))
    chosen = f"({kind.label}){names[0]}[place]"
    for number in range(1, len(sizes)):
        part = f"({kind.label}){names[number]}[place - {starts_of[number]}]"
        chosen = f"place >= {starts_of[number]} ? {part} : {chosen}"
    if (moved.source < 0).any():
        chosen = f"place < 0 ? 0 : {chosen}"
    lines = [
        "    int32_t i;",
        f"    for (i = 0; i < {moved.source.size}; i++) {{",
        f"        int32_t place = {function}_places[i];",
        f"        y[i] = {chosen};",
        "    }",
    ]
    return CFunction("\n".join([places.text, start, "{", *lines, "}", ""]), places.flash_bytes)
