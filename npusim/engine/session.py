"""The session: a model planned once, run many times; shaped like onnxruntime's so that it drops in."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from npusim.engine.input_checks import check_codes, check_finite, check_names_and_types, check_shapes
from npusim.engine.planning import (
    MATCH,
    InputAlpha,
    InputOptions,
    OpenShapeError,
    choose_arithmetic,
    ends_by_input,
    format_of,
    may_decide_shapes,
    needs_inputs,
    plan,
)
from npusim.engine.runner import ChunkRunner, Progress, available_threads, run_chunked
from npusim.engine.selection import ENGINES, make_runner
from npusim.errors import InputError, UnsupportedError, UsageError
from npusim.graph import Array, Dimension, ModelMetadata, TensorType
from npusim.graph.model_file import ModelFile, open_model
from npusim.graph.model_reader import read_model
from npusim.program import Batching, Program
from npusim.program.input_stage import InputStage
from npusim.program.trace import Trace, matching_names, unknown_tensor

__all__ = ["InferenceSession", "NodeArg"]

KEPT_PLANS = 8
"""Programs kept of a model whose inputs fix its shapes: one for each of the last shapes seen."""

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


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A program and what runs it."""

    program: Program
    runner: ChunkRunner


class InferenceSession:
    """A model, planned for exact simulation.

    Parameters
    ----------
    model
        Path of an ``.onnx`` file, or its content as bytes.
    sess_options, providers
        Taken and ignored, so that a program written for onnxruntime runs as it is: none of their settings has a meaning here.
    engine
        ``"fast"``: float BLAS wherever a bound proves it exact; ``"reference"``: plain int64 arithmetic. Same results.
    threads
        Chunks of samples computed at the same time; by default as many as there are processors.
    check_finite
        Refuse NaN and infinity in inputs. Off is for pure float models only.
    arithmetic
        How integer layers are computed; None for the default of the model's format. QDQ and QOperator models: ``"ort"`` (ONNX
        Runtime's fused kernels, the default), ``"onnx"`` (the graph as written), ``"tvm"`` (generated C code; inferred).
        TensorFlow Lite models: ``"tflm"`` (default), ``"tflm_single"``, ``"litert_ref"``, ``"litert"``, ``"xnnpack"``. Models
        for TI's NPU: ``"npu"``.
    input_codes
        The codes of an input that is declared float but holds integers, for example ``"u8"``; for formats that need it.
    input_alpha
        The end of the range of PLiNIO's quantizer in front of a model of the MATCH family, or both ends of a signed one, or
        these by input. Its file does not hold them; with them real samples are taken, and codes are
        ``floor((2**bits - 1) / (high - low + 0.001) * clamp(x, low, high))``, in float32.
    input_stage
        Whose implementation makes codes of measured values, of a model for TI's NPU: ``"graph"`` (the graph as written, the
        default), ``"c28"`` (C2000 and AM26x), ``"mspm0"`` (MSPM0 and the formula in the compiler's header) or ``"truncated"``
        (the graph's float converted to an integer as C does it). They make different codes of some values; whatever is
        computed or proven holds for the one that is named.

    Raises
    ------
    ModelError
        If the model cannot be read.
    UnsupportedError
        If it cannot be simulated exactly, or has no such implementation of an input stage.
    UsageError
        If there is no such engine or input stage, or no such arithmetic for the model's format.

    Examples
    --------
    >>> session = InferenceSession("golden/motor_8bit.onnx")  # doctest: +SKIP
    >>> (y,) = session.run(None, {"input": x})  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        sess_options: object = None,
        providers: object = None,
        *,
        engine: str = "fast",
        threads: int | None = None,
        check_finite: bool = True,
        arithmetic: str | None = None,
        input_codes: str | None = None,
        input_alpha: InputAlpha | None = None,
        input_stage: str = "graph",
    ) -> None:
        if engine not in ENGINES:
            raise UsageError(f"there is no engine '{engine}'; the engines are {', '.join(ENGINES)}")
        if threads is not None and threads < 1:
            raise UsageError(f"threads is {threads}, wanted at least 1")
        if input_stage not in (*InputStage, "onnx"):
            raise UsageError(f"there is no input stage '{input_stage}'; the input stages are {', '.join(InputStage)}")
        self._input_stage = InputStage(input_stage)
        self._threads = available_threads() if threads is None else threads
        self._model = open_model(model)
        self._engine = engine
        self._check_finite = check_finite
        self._graph = read_model(self._model)
        self._input_codes, self._input_alpha = input_codes, input_alpha
        self._arithmetic = choose_arithmetic(self._graph, arithmetic)
        if input_codes is not None and format_of(self._graph) != MATCH:
            raise UsageError(
                f"input_codes is '{input_codes}', but the inputs of {self._model.label} say themselves what they hold"
            )
        if input_alpha is not None and format_of(self._graph) != MATCH:
            raise UsageError(f"input_alpha is given, but {self._model.label} has no quantizer of PLiNIO's left out of it")
        self._open_input = needs_inputs(self._graph)
        self._plans: dict[tuple[object, ...], _Prepared] = {}
        self._open_reason = ""
        self._static = self._plan_static()

    @property
    def model(self) -> ModelFile:
        """The model's bytes and where they came from."""
        return self._model

    @property
    def engine(self) -> str:
        """Name of the engine."""
        return self._engine

    @property
    def format(self) -> str:
        """What the model is written in: ``tinpu``, ``qdq``, ``qoperator``, ``tflite``, ``float``."""
        return format_of(self._graph) if self._static is None else self._static.program.format

    @property
    def arithmetic(self) -> str:
        """How its integer layers are computed."""
        return self._arithmetic

    @property
    def input_codes(self) -> str | None:
        """The codes that inputs were said to hold; None where the file tells."""
        return self._input_codes

    @property
    def input_alpha(self) -> Mapping[str, tuple[float, float]] | None:
        """Ends of the quantizer in front of each input that has one; None where inputs are codes."""
        return None if self._input_alpha is None else ends_by_input(self._graph.inputs, self._input_alpha)

    @property
    def input_stage(self) -> str:
        """Whose implementation makes codes of measured values: ``graph``, ``c28``, ``mspm0`` or ``truncated``."""
        return str(self._input_stage)

    def with_input_stage(self, input_stage: str) -> InferenceSession:
        """The same model with another implementation of its input stage; the session itself where that is its own.

        Parameters
        ----------
        input_stage
            As for the class.

        Raises
        ------
        UnsupportedError
            If the model has no such implementation.
        """
        wanted = InputStage(input_stage)
        return self if wanted is self._input_stage else self._planned_anew(input_stage=wanted)

    def with_engine(self, engine: str) -> InferenceSession:
        """The same model run by another engine; the session itself where that is its own.

        Parameters
        ----------
        engine
            As for the class.
        """
        return self if engine == self._engine else self._planned_anew(engine=engine)

    def _planned_anew(self, *, input_stage: InputStage | None = None, engine: str | None = None) -> InferenceSession:
        other = copy(self)
        other._input_stage = self._input_stage if input_stage is None else input_stage
        other._engine = self._engine if engine is None else engine
        other._plans = {}
        other._static = other._plan_static()
        return other

    @property
    def program(self) -> Program:
        """The integer program.

        Raises
        ------
        UnsupportedError
            If the model leaves sizes open, so that a program exists only for given inputs.
        """
        if self._static is None:
            name = self._open_input
            if name is None:
                raise UnsupportedError(f"{self._model.label} leaves sizes open: {self._open_reason}")
            seen = f"leaves sizes open (input '{name}')"
            if self._graph.types[name].shape is None:
                seen = f"declares no shape at all for its input '{name}'"
            raise UnsupportedError(
                f"{self._model.label} {seen}, so its program depends on the inputs; export it with fixed shapes"
            )
        return self._static.program

    def get_inputs(self) -> list[NodeArg]:
        """The inputs in declared order."""
        return [self._argument(name) for name in self._graph.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The outputs in declared order."""
        return [self._argument(name) for name in self._graph.outputs]

    def get_modelmeta(self) -> ModelMetadata:
        """What the file says about itself: producer, names, version, and texts by name."""
        return self._graph.metadata

    def __call__(self, *inputs: Array) -> Array | list[Array]:
        """Compute all outputs for inputs in declared order: ``y = session(x)``.

        Parameters
        ----------
        inputs
            An array for each input, as for :meth:`run`.

        Returns
        -------
        array or list of arrays
            The output of a model that has one, else all in declared order.

        Raises
        ------
        InputError
            If their number or one of them is wrong.
        """
        names = self._graph.inputs
        if len(inputs) != len(names):
            wanted = ", ".join(f"'{name}'" for name in names)
            raise InputError(f"{len(inputs)} arrays are given, wanted {len(names)}: the model's inputs are {wanted}")
        outputs = self.run(None, dict(zip(names, inputs, strict=True)))
        return outputs[0] if len(outputs) == 1 else outputs

    def run(
        self,
        output_names: Sequence[str] | None,
        feeds: Mapping[str, Array],
        run_options: object = None,
        *,
        progress: Progress | None = None,
    ) -> list[Array]:
        """Compute outputs.

        Parameters
        ----------
        output_names
            Names of outputs, or of any other tensor; None for all outputs.
        feeds
            Input arrays by name, in the declared element type; any number of samples on the first axis of a model with batch 1.
            Memory-mapped arrays are read chunk by chunk.
        run_options
            Taken and ignored, as `sess_options`.
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
        UsageError
            If `output_names` is a text instead of a list of texts.
        """
        return self._outputs(self._plan_for(feeds), feeds, output_names, 0, progress)

    def run_chunks(
        self, chunks: Iterable[Mapping[str, Array]], output_names: Sequence[str] | None = None
    ) -> Iterator[list[Array]]:
        """Compute outputs for more samples than memory holds: each chunk is run when its results are taken, then forgotten.

        No result depends on how the samples are cut; some hundred in a chunk keep all threads busy.

        Parameters
        ----------
        chunks
            Feeds as for :meth:`run`, each with any number of samples; taken one at a time.
        output_names
            As for :meth:`run`.

        Yields
        ------
        list of arrays
            What :meth:`run` gives for each chunk.

        Raises
        ------
        InputError, UnknownTensorError
            As :meth:`run`, when such a chunk is reached; samples in messages are counted over all chunks.

        Examples
        --------
        >>> samples = np.load("many.npy", mmap_mode="r")  # doctest: +SKIP
        >>> chunks = ({"input": samples[i : i + 1000]} for i in range(0, len(samples), 1000))  # doctest: +SKIP
        >>> for (y,) in session.run_chunks(chunks):  # doctest: +SKIP
        ...     print(y.argmax(axis=1))
        """
        first = 0
        for feeds in chunks:
            chosen = self._plan_for(feeds)
            yield self._outputs(chosen, feeds, output_names, first, None)
            first += _samples(chosen, feeds)

    def trace(
        self,
        feeds: Mapping[str, Array],
        tensors: str | Sequence[str] = "*",
        *,
        first: int = 0,
        progress: Progress | None = None,
    ) -> Trace:
        """Run and keep inner tensors.

        Parameters
        ----------
        feeds
            As for :meth:`run`.
        tensors
            Names or patterns with ``*``, ``?`` and ``[...]`` of what to keep; everything by default.
        first
            Number of the first sample, from which messages count.
        progress
            As for :meth:`run`.

        Raises
        ------
        UnknownTensorError
            If a pattern matches no tensor.
        """
        return self._trace(self._plan_for(feeds), feeds, tensors, first, progress)

    def trace_chunks(
        self, chunks: Iterable[Mapping[str, Array]], tensors: str | Sequence[str] = "*", *, progress: Progress | None = None
    ) -> Iterator[Trace]:
        """Keep inner tensors of more samples than memory holds, as :meth:`run_chunks` computes outputs of them.

        Parameters
        ----------
        chunks
            Feeds as for :meth:`run`, each with any number of samples; taken one at a time.
        tensors
            As for :meth:`trace`.
        progress
            As for :meth:`run`, within each chunk.

        Yields
        ------
        Trace
            What :meth:`trace` gives for each chunk.

        Raises
        ------
        InputError, UnknownTensorError
            As :meth:`trace`, when such a chunk is reached; samples in messages are counted over all chunks.
        """
        first = 0
        for feeds in chunks:
            chosen = self._plan_for(feeds)
            yield self._trace(chosen, feeds, tensors, first, progress)
            first += _samples(chosen, feeds)

    def _trace(
        self,
        chosen: _Prepared,
        feeds: Mapping[str, Array],
        tensors: str | Sequence[str],
        first: int,
        progress: Progress | None,
    ) -> Trace:
        names = matching_names([tensors] if isinstance(tensors, str) else tensors, chosen.program.tensors)
        arrays = self._execute(chosen, feeds, names, first, progress)
        return Trace(chosen.program, {name: chosen.program.tensors[name].as_shown(held) for name, held in arrays.items()})

    def held(self, feeds: Mapping[str, Array], tensors: Sequence[str]) -> dict[str, Array]:
        """Run and keep tensors as the program holds them: codes less their zero points, in the program's own order of axes.

        That is what layers compute on; :meth:`trace` shows the same tensors as the file has them. Both agree where a tensor has
        neither a zero point nor another order.

        Parameters
        ----------
        feeds
            As for :meth:`run`.
        tensors
            Names of what to keep.

        Raises
        ------
        UnknownTensorError
            If there is no tensor of a name.
        """
        return self._execute(self._plan_for(feeds), feeds, list(tensors), 0, None)

    def _argument(self, name: str) -> NodeArg:
        kind = self._graph.types.get(name)
        if kind is None and self._static is not None:
            program = self._static.program
            held = program.constants[name] if name in program.constants else program.tensors[name]
            kind = TensorType(held.dtype, held.shape)
        if kind is None:
            return NodeArg(name, [], "tensor(float)")
        label = _TYPE_NAMES.get(kind.dtype.name, kind.dtype.name)
        return NodeArg(name, list(kind.shape or ()), f"tensor({label})")

    def _plan_static(self) -> _Prepared | None:
        try:
            return self._prepare(None)
        except OpenShapeError as error:
            self._open_reason = str(error)
            if self._open_input or any(may_decide_shapes(self._graph.types[name]) for name in self._graph.inputs):
                return None
            raise

    def _plan_for(self, feeds: Mapping[str, Array]) -> _Prepared:
        check_names_and_types(self._graph, feeds)
        if self._static is not None:
            check_shapes(self._static.program, feeds)
            return self._static
        key = tuple(
            (name, feeds[name].shape, feeds[name].tobytes() if may_decide_shapes(self._graph.types[name]) else b"")
            for name in self._graph.inputs
        )
        if key not in self._plans:
            if len(self._plans) == KEPT_PLANS:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = self._prepare(feeds)
        check_shapes(self._plans[key].program, feeds)
        return self._plans[key]

    def _prepare(self, feeds: Mapping[str, Array] | None) -> _Prepared:
        program = plan(
            self._graph, feeds, self._arithmetic, InputOptions(self._input_codes, self._input_alpha, self._input_stage)
        )
        return _Prepared(program, make_runner(program, self._engine))

    def _as_declared(self, chosen: _Prepared, name: str, held: Array) -> Array:
        tensor = chosen.program.tensors.get(name)
        return held.astype(chosen.program.constants[name].dtype, copy=False) if tensor is None else tensor.as_declared(held)

    def _outputs(
        self,
        chosen: _Prepared,
        feeds: Mapping[str, Array],
        output_names: Sequence[str] | None,
        first: int,
        progress: Progress | None,
    ) -> list[Array]:
        if isinstance(output_names, str):
            raise UsageError(f"output_names is the text '{output_names}', wanted a list of names, ['{output_names}'], or None")
        names = list(self._graph.outputs if output_names is None else output_names)
        arrays = self._execute(chosen, feeds, names, first, progress)
        return [self._as_declared(chosen, name, arrays[name]) for name in names]

    def _execute(
        self, chosen: _Prepared, feeds: Mapping[str, Array], names: Sequence[str], first: int, progress: Progress | None
    ) -> dict[str, Array]:
        """Compute tensors; `first` is the number of the first sample, for messages."""
        program = chosen.program
        resolved = {}
        for name in names:
            target = program.resolve(name)
            if target not in program.tensors and target not in program.constants:
                raise unknown_tensor(name, program.tensors)
            resolved[name] = target

        def check(chunk: Mapping[str, Array], start: int) -> None:
            check_finite(chunk, first + start)
            check_codes(program, chunk, first + start)

        arrays = run_chunked(
            program,
            chosen.runner,
            feeds,
            resolved.values(),
            threads=self._threads,
            check=check if self._check_finite or program.layers else None,
            progress=progress,
        )
        return {name: arrays[target] for name, target in resolved.items()}


def _samples(chosen: _Prepared, feeds: Mapping[str, Array]) -> int:
    """Samples of a chunk, as messages count them."""
    program = chosen.program
    return 0 if program.batching is Batching.FIXED or not program.inputs else len(feeds[program.inputs[0]])
