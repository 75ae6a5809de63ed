"""What a golden folder is about: the sets' inputs, and every tensor that the device must compute from them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from npusim.engine.replay import run_with
from npusim.engine.session import InferenceSession
from npusim.errors import InternalMismatchError, UnsupportedError
from npusim.graph import Array
from npusim.program import Batching, Program, QuantizeStage
from npusim.program.input_stage import InputStage, input_stages
from npusim.program.trace import matching_names, step_kind
from npusim.verification.dump_reading import device_output

__all__ = ["GoldenTensor", "Role", "Vectors", "byte_sum_of", "compute_vectors", "crc_of", "little_endian"]


class Role(StrEnum):
    """INPUT: what the model is given. CODES: what its input stage makes of it. LAYER: inside of it. OUTPUT: what it gives."""

    INPUT = "input"
    CODES = "codes"
    LAYER = "layer"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class GoldenTensor:
    """One tensor over all sets.

    Attributes
    ----------
    name
        ONNX name.
    layer, kind
        Step that computes it and that step's kind; None for inputs.
    role
        What it is to the model.
    values
        ``[sets, ...]`` in ONNX layout: integer codes as the device holds them, else the declared type.
    """

    name: str
    layer: str | None
    kind: str | None
    role: Role
    values: Array

    @property
    def layout(self) -> str:
        """The axes in order: ``NCHW`` for two spatial axes, ``NCW`` for one, ``NC`` for none; numbered beyond that."""
        return {1: "N", 2: "NC", 3: "NCW", 4: "NCHW"}.get(self.values.ndim, f"NC{self.values.ndim - 2}D")

    def channels_last(self) -> Array:
        """``[sets, ..., channels]``, as the NPU holds them; the same as `values` without spatial axes."""
        return self.values if self.values.ndim < 3 else np.ascontiguousarray(np.moveaxis(self.values, 1, -1))


@dataclass(frozen=True, slots=True)
class Vectors:
    """All tensors of a golden folder, inputs first, then in execution order.

    Attributes
    ----------
    tensors
        Each at most once.
    variant
        The implementation of the input stage they come from.
    calls
        Names of the tensors that the compiled model is called with: its inputs, or their codes where the application
        makes them.
    """

    tensors: tuple[GoldenTensor, ...]
    variant: InputStage
    calls: tuple[str, ...]

    def of(self, role: Role) -> tuple[GoldenTensor, ...]:
        """The tensors of a role."""
        return tuple(tensor for tensor in self.tensors if tensor.role is role)

    @property
    def sets(self) -> int:
        """Number of sets."""
        return len(self.tensors[0].values)

    def __getitem__(self, name: str) -> GoldenTensor:
        return next(tensor for tensor in self.tensors if tensor.name == name)


def compute_vectors(
    session: InferenceSession,
    inputs: Mapping[str, Array],
    *,
    variant: InputStage = InputStage.GRAPH,
    patterns: Sequence[str] = ("*",),
    from_codes: bool = False,
) -> Vectors:
    """Compute everything that a golden folder holds, with both engines.

    Parameters
    ----------
    session
        The model, with the graph's own input stage.
    inputs
        The sets by input name, one for each entry of the first axis.
    variant
        Whose input stage.
    patterns
        Which layers to keep besides the outputs and the codes: names or patterns; ``*`` stands for the result of every step,
        any other pattern for whatever tensors it matches. Empty for none.
    from_codes
        The application makes the codes.

    Raises
    ------
    UnsupportedError
        If the model's first axis is not a batch of one, or it has no input stage where one is asked for.
    UnknownTensorError
        If a pattern matches no tensor.
    """
    _check(session, variant, from_codes)
    session = session.with_input_stage(variant)
    program = session.program
    stages = {stage.output for stage in input_stages(program)}
    chosen = _names(program, stages, patterns)
    # a result without axes is that of the only set
    arrays = {name: np.atleast_1d(values) for name, values in run_with(program, inputs, {}, chosen).items()}
    _confirm(session, inputs, arrays)
    steps = {name: step for step in program.steps for name in step.tensors}
    tensors = [GoldenTensor(name, None, None, Role.INPUT, inputs[name]) for name in program.inputs]
    for name in chosen:
        outputs = [output for output in program.outputs if program.resolve(output) == name]
        role = Role.OUTPUT if outputs else Role.CODES if name in stages else Role.LAYER
        values = device_output(program, name, arrays[name]) if outputs else arrays[name]
        tensors.extend(
            GoldenTensor(label, steps[name].name, step_kind(steps[name]), role, values) for label in outputs or [name]
        )
    return Vectors(tuple(tensors), variant, _calls(program, from_codes))


def little_endian(values: Array) -> bytes:
    """The values in C order, each with its lowest byte first."""
    return np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def byte_sum_of(values: Array) -> int:
    """The sum of all bytes of an array, lowest byte first, each read as unsigned: what MATCH and DORY compare of a layer.

    Notes
    -----
    DORY, Hardware_targets/PULP/Common/Templates/network.c.t calls ``checksum(name, data, size, wanted)`` with each layer's
    output, and net_utils.c adds up ``uint8_t`` in a ``uint32_t``; MATCH does the same.

    Examples
    --------
    >>> byte_sum_of(np.array([-1, 2], np.int8))
    257
    """
    return int(np.frombuffer(little_endian(values), np.uint8).sum(dtype=np.uint64))


def crc_of(values: Array) -> str:
    """CRC-32 (that of zip and Ethernet) of the little-endian bytes, as 8 hexadecimal digits.

    Examples
    --------
    >>> crc_of(np.array([1, -1], np.int8)), crc_of(np.array([1], np.float32))
    ('75c0cc33', 'aca16a6a')
    """
    return f"{zlib.crc32(little_endian(values)):08x}"


def _check(session: InferenceSession, variant: InputStage, from_codes: bool) -> None:
    program = session.program
    if program.batching is Batching.FIXED:
        raise UnsupportedError(
            f"{session.model.label} has no batch axis of one sample, so its inputs cannot be sets; export it with batch 1"
        )
    made = {name for step in program.steps for name in step.tensors}
    if not any(program.resolve(name) in made for name in program.outputs):
        raise UnsupportedError(
            f"no output of {session.model.label} is computed from an input, so none can show anything about a device; "
            "give a model that computes one"
        )
    if (from_codes or variant is not InputStage.GRAPH) and not input_stages(program):
        raise UnsupportedError(
            f"{session.model.label} has no input stage, so there is nothing for the application to compute before it; "
            "leave out --input-stage and --skip-normalize"
        )


def _calls(program: Program, from_codes: bool) -> tuple[str, ...]:
    """What the compiled model is called with."""
    if not from_codes:
        return program.inputs
    names = []
    for name in program.inputs:
        readers = [step for step in program.steps if name in map(program.resolve, program.inputs_of(step))]
        stages = [step for step in readers if isinstance(step, QuantizeStage)]
        if stages and len(readers) > 1:
            raise UnsupportedError(
                f"input '{name}' is read by {len(readers)} steps, so no single tensor of codes stands in for it; "
                "leave out --skip-normalize"
            )
        names.append(stages[0].output if stages else name)
    return tuple(names)


def _names(program: Program, codes: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Names of the tensors to keep in execution order."""
    order = {name: place for place, name in enumerate(name for step in program.steps for name in step.tensors)}
    results = [step.tensors[-1] for step in program.steps]
    wanted = {*codes, *(program.resolve(name) for name in program.outputs)}
    for pattern in patterns:
        wanted.update(results if pattern == "*" else map(program.resolve, matching_names([pattern], program.tensors)))
    return sorted((name for name in wanted if name in order), key=order.__getitem__)


def _confirm(session: InferenceSession, inputs: Mapping[str, Array], arrays: Mapping[str, Array]) -> None:
    """Compare with the session's engine: a golden vector has to be beyond doubt."""
    trace = session.trace(inputs, list(arrays))
    for name, values in arrays.items():
        if trace[name].dtype != values.dtype or trace[name].tobytes() != values.tobytes():
            raise InternalMismatchError(f"the engines disagree about tensor '{name}'; please report this")
