"""ONNX Runtime as the second opinion: it computes the same graph in float32, sample by sample, and hands over every tensor.

It never defines what is right; it is what results are checked against.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from npusim.engine.planning import MATCH
from npusim.errors import ModelError
from npusim.graph import Array, TensorType
from npusim.graph.model_file import ModelFile
from npusim.graph.model_reader import read_model
from npusim.graph.onnx_reader import expose_tensors, extract
from npusim.graph.onnx_writer import with_producers, write_model
from npusim.program import Batching
from npusim.program.input_stage import DeviceStage
from npusim.program.lowering.match.copy import runtime_copy
from npusim.program.lowering.qoperator_copy import on_codes, saturation_probe

if TYPE_CHECKING:
    import onnxruntime

    from npusim.engine.session import InferenceSession

__all__ = [
    "SETTINGS",
    "RuntimeSetting",
    "SecondOpinion",
    "adds_in_16_bits",
    "copies_fused_layers",
    "make_runtime_session",
    "runtime_version",
]

FUSED: Final = "ort"
"""The arithmetic of onnxruntime's fused kernels."""

QUANTIZED: Final = ("qdq", "qoperator")
"""Formats of ONNX whose tensors hold codes with zero points."""


def runtime_version() -> str:
    """Version of the installed onnxruntime."""
    import onnxruntime

    return str(onnxruntime.__version__)


def make_runtime_session(
    content: bytes, label: str, *, optimized: bool, entries: Mapping[str, str] | None = None
) -> onnxruntime.InferenceSession:
    """An onnxruntime session on one thread.

    Parameters
    ----------
    content
        Serialized model.
    label
        How messages name the model.
    optimized
        With its default graph optimizations, or without any.
    entries
        Entries of its session options.

    Raises
    ------
    ModelError
        If onnxruntime refuses the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - the runtime raises many kinds, all meaning that it refuses the model
        raise ModelError(f"onnxruntime refuses {label}: {str(error).splitlines()[0]}") from None


def _ran(session: Any, names: Sequence[str], feeds: Mapping[str, Array]) -> Sequence[Any]:  # noqa: ANN401 - untyped
    """What onnxruntime computes; some of what a model asks for it refuses only then."""
    try:
        result: Sequence[Any] = session.run(names, dict(feeds))
    except Exception as error:  # noqa: BLE001 - the runtime raises many kinds, all meaning that it cannot run the model
        raise ModelError(f"onnxruntime cannot run the model: {str(error).splitlines()[0]}; export the model again") from None
    return result


class SecondOpinion:
    """A model in onnxruntime, asked sample by sample.

    Parameters
    ----------
    model
        The model file.
    tensors
        Names of the tensors to hand over besides the outputs.
    optimized
        With onnxruntime's default graph optimizations, or without any; inner tensors need them off.
    stacked
        True when the first axis of the inputs holds samples of a model with batch 1.
    constants
        Those tensors that do not depend on the inputs: they are given once, not for each sample.
    as_floats
        Whether the model takes float32 where the arrays that it is given hold integers.
    codes
        The part of the model that makes codes of its inputs is left out, and this gives them by tensor from the inputs; None
        for the whole model.
    entries
        Entries of onnxruntime's session options.
    """

    def __init__(
        self,
        model: ModelFile,
        tensors: Iterable[str] = (),
        *,
        optimized: bool = False,
        stacked: bool = True,
        constants: Collection[str] = (),
        as_floats: bool = False,
        codes: Callable[[Mapping[str, Array]], dict[str, Array]] | None = None,
        entries: Mapping[str, str] | None = None,
    ) -> None:
        names = list(tensors)
        content = expose_tensors(model, names) if names else model.content
        self._session = make_runtime_session(content, model.label, optimized=optimized, entries=entries)
        self._names = [output.name for output in self._session.get_outputs()]
        self._stacked = stacked
        self._constants = frozenset(constants)
        self._as_floats = as_floats
        self._codes = codes
        self._taken = {argument.name for argument in self._session.get_inputs()}

    @classmethod
    def of(
        cls,
        session: InferenceSession,
        tensors: Iterable[str] = (),
        *,
        optimized: bool = False,
        constants: Collection[str] = (),
    ) -> SecondOpinion:
        """A session's model in onnxruntime: the file itself, or the copy of it that onnxruntime takes.

        Of a session with another input stage than the graph's, onnxruntime is given the codes of that stage.

        The parameters are those of the class.
        """
        stacked = session.program.batching is not Batching.FIXED
        stages = [stage for stage in session.program.quantize_stages if isinstance(stage, DeviceStage)]
        if stages:
            return cls._behind(session, stages, tensors, optimized=optimized, constants=constants)
        model, is_copy = session.model, False
        if not optimized and session.format in QUANTIZED:
            model = _with_codes(session, list(tensors))
        if session.format == MATCH:
            graph = read_model(model)
            copy = runtime_copy(graph, session.program)
            if copy is not None:
                shapes = [
                    {name: session.program.tensors[session.program.resolve(name)].shape for name in names}
                    for names in (graph.inputs, graph.outputs)
                ]
                content = write_model(copy.nodes, copy.constants, inputs=shapes[0], outputs=shapes[1], opset=graph.opset)
                model, is_copy = ModelFile(model.path, content), True
        return cls(model, tensors, optimized=optimized, stacked=stacked, constants=constants, as_floats=is_copy)

    @classmethod
    def original(cls, session: InferenceSession, setting: RuntimeSetting) -> SecondOpinion:
        """The file itself in a setting of onnxruntime."""
        stacked = session.program.batching is not Batching.FIXED
        return cls(session.model, optimized=setting.optimized, stacked=stacked, entries=setting.entries)

    @classmethod
    def _behind(
        cls,
        session: InferenceSession,
        stages: Sequence[DeviceStage],
        tensors: Iterable[str],
        *,
        optimized: bool,
        constants: Collection[str],
    ) -> SecondOpinion:
        """What is behind input stages that the graph does not compute."""
        program = session.program
        made = {stage.output for stage in stages}
        given = {
            name: TensorType(program.tensors[name].dtype, program.tensors[name].declared_shape)
            for name in (*program.inputs, *sorted(made))
        }
        wanted = [name for name in dict.fromkeys((*program.outputs, *tensors)) if name not in given]

        def codes(feeds: Mapping[str, Array]) -> dict[str, Array]:
            return {
                stage.output: program.stage_values(stage, feeds[program.resolve(stage.input)])[stage.output] for stage in stages
            }

        part = extract(session.model, given, wanted)
        stacked = program.batching is not Batching.FIXED
        return cls(part, (), optimized=optimized, stacked=stacked, constants=constants, codes=codes)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All tensors asked for; the first axis of those that depend on the inputs holds the samples."""
        if self._codes is not None:
            made = self._codes(feeds)
            known = {name: values for name, values in {**feeds, **made}.items() if name in self._taken}
            return {**made, **self._computed(known)}
        return self._computed(feeds)

    def _computed(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if self._as_floats:
            feeds = {name: array.astype(np.float32, copy=False) for name, array in feeds.items()}
        if not self._stacked:
            return dict(zip(self._names, _ran(self._session, self._names, feeds), strict=True))
        count = len(next(iter(feeds.values())))
        rows = [self._one(feeds, index) for index in range(count)]
        return {
            name: rows[0][position] if name in self._constants else _stack([row[position] for row in rows])
            for position, name in enumerate(self._names)
        }

    def _one(self, feeds: Mapping[str, Array], index: int) -> Sequence[Any]:
        sample = {name: array[index : index + 1] for name, array in feeds.items()}
        result: Sequence[Any] = _ran(self._session, self._names, sample)
        return result


def copies_fused_layers(session: InferenceSession) -> bool:
    """Whether onnxruntime is given fused layers as operators on codes, instead of the file as it is.

    So it is with QDQ models, whose optimizer fuses other layers where inner tensors are asked for, and where the processor
    computes other sums for operators of the file than integers are.
    """
    return session.arithmetic == FUSED and (session.format == "qdq" or (session.format == "qoperator" and adds_in_16_bits()))


def _with_codes(session: InferenceSession, tensors: Sequence[str]) -> ModelFile:
    """A model with all tensors of codes that its program has."""
    graph = read_model(session.model)
    present = {*graph.inputs, *graph.constants, *(name for node in graph.nodes for name in node.outputs if name)}
    fused = copies_fused_layers(session)
    made = on_codes(session.program, present, fused=fused, unsigned_weights=fused and adds_in_16_bits())
    return with_producers(session.model, made.nodes, made.constants, tensors) if made.nodes else session.model


@dataclass(frozen=True, slots=True)
class RuntimeSetting:
    """A setting of onnxruntime in which it may give other outputs of one file.

    Attributes
    ----------
    name
        In words.
    optimized
        With its default graph optimizations.
    entries
        Entries of its session options.
    reason
        Why it makes a difference, as a clause; empty for the default.
    """

    name: str
    optimized: bool
    entries: Mapping[str, str]
    reason: str

    def applies(self, *, differs: bool) -> bool:
        """Whether it is worth asking for: always for the plain ones, for others where the default gives other outputs."""
        return differs or not self.entries


_INT8_FUSED, _EXACT_SUMS, _FLOAT_PRODUCTS = (
    {"session.qdqisint8allowed": "1"},
    {"session.x64quantprecision": "1"},
    {"session.qdq_matmulnbits_accuracy_level": "1"},
)

SETTINGS: Final = (
    RuntimeSetting("default", True, {}, ""),
    RuntimeSetting(
        "session.qdqisint8allowed=1",
        True,
        _INT8_FUSED,
        "on x86 processors onnxruntime makes uint8 codes of int8 codes, and leaves layers in float for which it cannot",
    ),
    RuntimeSetting(
        "session.x64quantprecision=1",
        True,
        _EXACT_SUMS,
        "onnxruntime adds products of uint8 and int8 codes in 16 bits on processors without VNNI, which saturates",
    ),
    RuntimeSetting(
        "session.qdq_matmulnbits_accuracy_level=1",
        True,
        _FLOAT_PRODUCTS,
        "onnxruntime multiplies float operands by dequantized weights in MatMulNBits, which makes 8-bit codes of the operands",
    ),
    RuntimeSetting(
        "these three together",
        True,
        {**_INT8_FUSED, **_EXACT_SUMS, **_FLOAT_PRODUCTS},
        "more than one of them makes a difference",
    ),
    RuntimeSetting("without optimizations", False, {}, "it computes in float between codes then, as the file is written"),
)
"""In the order in which they are asked. What the entries change was found by trying: documentation names them only."""


def adds_in_16_bits() -> bool:
    """Whether onnxruntime adds products of uint8 and int8 codes in 16 bits on this processor, which saturates.

    So it does on x86 processors with AVX2 and without VNNI: ``2 * 255 * 127`` is 64,770 and becomes 32,767.
    """
    content, feeds, wanted = saturation_probe()
    probe = make_runtime_session(content, "a probe of this processor", optimized=False)
    (found,) = probe.run(None, feeds)
    return bool(found.item() != wanted)


def _stack(rows: Sequence[Array]) -> Array:
    if len(rows) == 1:
        return rows[0]
    return np.stack(rows) if rows[0].ndim == 0 else np.concatenate(rows)
