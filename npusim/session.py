"""The session: a model planned once, run many times; shaped like onnxruntime's so that it drops in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from npusim.engine.fast import make_plan
from npusim.engine.runner import ChunkRunner, Progress, ReferenceRunner, available_threads, run_chunked
from npusim.errors import InputError, UnsupportedError, UsageError
from npusim.graph import Array, Dimension, TensorType
from npusim.onnx_reader import ModelFile, open_model, read_graph
from npusim.planning import Plan, may_decide_shapes, needs_inputs, plan
from npusim.program import Batching, Program
from npusim.trace import Trace, unknown_tensor

__all__ = ["ENGINES", "InferenceSession", "NodeArg"]

ENGINES = ("fast", "reference")
"""Names of the engines; all give the same results on every input."""

CHUNK = 64
"""Samples the reference engine runs at once: bounds the memory, changes no result."""

_TYPE_NAMES = {"float32": "float", "float64": "double"}


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output of a model.

    Attributes
    ----------
    name
        ONNX name.
    shape
        Declared shape; names or None for sizes that are not fixed.
    type
        For example ``tensor(float)``.
    """

    name: str
    shape: list[Dimension]
    type: str


class InferenceSession:
    """A model, planned for exact simulation.

    Parameters
    ----------
    model
        Path of an ``.onnx`` file, or its content as bytes.
    engine
        ``"fast"``: float BLAS wherever a bound proves it exact; ``"reference"``: plain int64 arithmetic. Same results.
    threads
        Chunks of samples computed at the same time; by default as many as there are processors.
    check_finite
        Refuse NaN and infinity in inputs. Off is for pure float models only.

    Raises
    ------
    ModelError
        If the model cannot be read.
    UnsupportedError
        If it cannot be simulated exactly.
    UsageError
        If there is no such engine.

    Examples
    --------
    >>> session = InferenceSession("golden/motor_8bit.onnx")  # doctest: +SKIP
    >>> (y,) = session.run(None, {"input": x})  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        engine: str = "fast",
        threads: int | None = None,
        check_finite: bool = True,
    ) -> None:
        if engine not in ENGINES:
            raise UsageError(f"there is no engine '{engine}'; the engines are {', '.join(ENGINES)}")
        if threads is not None and threads < 1:
            raise UsageError(f"threads is {threads}, wanted at least 1")
        self._threads = available_threads() if threads is None else threads
        self._model = open_model(model)
        self._engine = engine
        self._check_finite = check_finite
        self._graph = read_graph(self._model)
        self._open_input = needs_inputs(self._graph)
        self._plans: dict[tuple[object, ...], Plan] = {}
        self._runners: dict[int, ChunkRunner] = {}
        self._static = None if self._open_input else self._plan_static()
        if self._static is not None:
            self._runner(self._static)

    @property
    def model(self) -> ModelFile:
        """The model's bytes and where they came from."""
        return self._model

    @property
    def engine(self) -> str:
        """Name of the engine."""
        return self._engine

    @property
    def program(self) -> Program:
        """The integer program.

        Raises
        ------
        UnsupportedError
            If the model leaves sizes open, so that a program exists only for given inputs.
        """
        if self._static is None:
            raise UnsupportedError(
                f"{self._model.label} leaves sizes open (input '{self._open_input or self._graph.inputs[0]}'), so its program "
                "depends on the inputs; export it with fixed shapes"
            )
        return self._static.program

    def get_inputs(self) -> list[NodeArg]:
        """The inputs in declared order."""
        return [self._argument(name) for name in self._graph.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs in declared order."""
        return [self._argument(name) for name in self._graph.outputs]

    def run(
        self, output_names: Sequence[str] | None, feeds: Mapping[str, Array], *, progress: Progress | None = None
    ) -> list[Array]:
        """Compute outputs.

        Parameters
        ----------
        output_names
            Names of outputs, or of any other tensor; None for all outputs.
        feeds
            Input arrays by name, in the declared element type; any number of samples on the first axis of a model with batch 1.
            Memory-mapped arrays are read chunk by chunk.
        progress
            Called with the number of samples done and the number of all, after each chunk.

        Returns
        -------
        list of arrays
            In the element types the ONNX model declares.

        Raises
        ------
        InputError
            If an input is missing, unknown, of another type or shape, or not finite.
        UnknownTensorError
            If there is no tensor of a name.
        """
        chosen = self._plan_for(feeds)
        names = list(self._graph.outputs if output_names is None else output_names)
        arrays = self._execute(chosen, feeds, names, progress)
        return [arrays[name].astype(self._declared_dtype(chosen, name), copy=False) for name in names]

    def trace(self, feeds: Mapping[str, Array], tensors: str | Sequence[str] = "*") -> Trace:
        """Run and keep inner tensors.

        Parameters
        ----------
        feeds
            As for :meth:`run`.
        tensors
            Names or patterns with ``*``, ``?`` and ``[...]`` of what to keep; everything by default.

        Raises
        ------
        UnknownTensorError
            If a pattern matches no tensor.
        """
        chosen = self._plan_for(feeds)
        known = chosen.program.tensors
        patterns = [tensors] if isinstance(tensors, str) else list(tensors)
        names: list[str] = []
        for pattern in patterns:
            matches = [pattern] if pattern in known else [name for name in known if fnmatchcase(name, pattern)]
            if not matches:
                raise unknown_tensor(pattern, known)
            names.extend(matches)
        return Trace(chosen.program, self._execute(chosen, feeds, list(dict.fromkeys(names)), None))

    def _argument(self, name: str) -> NodeArg:
        kind = self._graph.types.get(name)
        if kind is None and self._static is not None:
            tensor = self._static.program.tensors[name]
            kind = TensorType(tensor.dtype, tensor.shape)
        if kind is None:
            return NodeArg(name, [], "tensor(float)")
        label = _TYPE_NAMES.get(kind.dtype.name, kind.dtype.name)
        return NodeArg(name, list(kind.shape or ()), f"tensor({label})")

    def _plan_static(self) -> Plan | None:
        try:
            return plan(self._graph)
        except UnsupportedError:
            if any(may_decide_shapes(self._graph.types[name]) for name in self._graph.inputs):
                return None
            raise

    def _plan_for(self, feeds: Mapping[str, Array]) -> Plan:
        self._check_names(feeds)
        for name in self._graph.inputs:
            self._check_array(name, feeds[name])
        if self._static is not None:
            self._check_shapes(self._static.program, feeds)
            return self._static
        key = tuple(
            (name, feeds[name].shape, feeds[name].tobytes() if may_decide_shapes(self._graph.types[name]) else b"")
            for name in self._graph.inputs
        )
        if key not in self._plans:
            self._plans[key] = plan(self._graph, feeds)
        self._check_shapes(self._plans[key].program, feeds)
        return self._plans[key]

    def _check_names(self, feeds: Mapping[str, Array]) -> None:
        wanted = ", ".join(f"'{name}'" for name in self._graph.inputs)
        for name in feeds:
            if name not in self._graph.inputs:
                raise InputError(f"the model has no input '{name}'; its inputs are {wanted}")
        for name in self._graph.inputs:
            if name not in feeds:
                raise InputError(f"input '{name}' is missing; the model's inputs are {wanted}")

    def _check_array(self, name: str, array: object) -> None:
        wanted = self._graph.types[name].dtype
        if not isinstance(array, np.ndarray):
            raise InputError(f"input '{name}' is a {type(array).__name__}, wanted a NumPy array of {wanted}")
        if array.dtype != wanted:
            raise InputError(
                f"input '{name}' has element type {array.dtype}, wanted {wanted}; convert it yourself, npusim never casts"
            )

    def _check_finite_chunk(self, feeds: Mapping[str, Array], start: int) -> None:
        for name, array in feeds.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                place = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
                shown = [place[0] + start, *place[1:]] if place else []
                raise InputError(
                    f"input '{name}' holds {array[place]} at index {shown}; finite numbers are wanted, clean the data"
                )

    def _check_shapes(self, program: Program, feeds: Mapping[str, Array]) -> None:
        counts = {}
        for name in program.inputs:
            shape, wanted = feeds[name].shape, program.tensors[name].shape
            free = 0 if program.batching is Batching.FIXED else 1
            if len(shape) != len(wanted) or shape[free:] != wanted[free:]:
                shown = [*(["N"] if free else []), *wanted[free:]]
                raise InputError(f"input '{name}' has shape {list(shape)}, wanted [{', '.join(str(size) for size in shown)}]")
            if free:
                counts[name] = shape[0]
        if counts and (len(set(counts.values())) > 1 or 0 in counts.values()):
            shown_counts = ", ".join(f"'{name}' has {count}" for name, count in counts.items())
            raise InputError(f"the inputs need one common number of samples, at least 1, on their first axis: {shown_counts}")

    def _declared_dtype(self, chosen: Plan, name: str) -> np.dtype[np.generic]:
        tensor = chosen.program.tensors.get(name)
        return tensor.dtype if tensor is not None else chosen.program.constants[name].dtype

    def _execute(
        self, chosen: Plan, feeds: Mapping[str, Array], names: Sequence[str], progress: Progress | None
    ) -> dict[str, Array]:
        program = chosen.program
        resolved = {}
        for name in names:
            target = program.resolve(name)
            if target not in program.tensors and target not in program.constants:
                raise unknown_tensor(name, program.tensors)
            resolved[name] = target
        arrays = run_chunked(
            program,
            self._runner(chosen),
            feeds,
            resolved.values(),
            threads=self._threads,
            check=self._check_finite_chunk if self._check_finite or program.layers else None,
            progress=progress,
        )
        return {name: arrays[target] for name, target in resolved.items()}

    def _runner(self, chosen: Plan) -> ChunkRunner:
        key = id(chosen)
        if key not in self._runners:
            program = chosen.program
            if self._engine == "fast" and program.batching is Batching.STACKED and program.layers:
                self._runners[key] = make_plan(program)
            else:
                self._runners[key] = ReferenceRunner(program, 1 if program.batching is Batching.SINGLE else CHUNK)
        return self._runners[key]
