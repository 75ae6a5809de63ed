"""The runtimes of TensorFlow Lite as second opinions: tflite-micro and ai-edge-litert run the same file, sample by sample."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final, TypeAlias

import numpy as np

from npusim.errors import ModelError, UnsupportedError, UsageError
from npusim.graph import Array
from npusim.graph.c_header import find_model
from npusim.graph.model_file import ModelFile
from npusim.graph.tflite_reader import is_tflite, parse_tflite, tensor_names

__all__ = ["TfliteRuntime"]

Ask: TypeAlias = Callable[[list[Array]], list[Array]]
"""From the inputs of one sample to the tensors asked for."""

_PACKAGES: Final = {
    "tflm": "tflite-micro",
    "litert_ref": "ai-edge-litert",
    "litert": "ai-edge-litert",
    "xnnpack": "ai-edge-litert",
}


class TfliteRuntime:
    """A model in the runtime that an arithmetic is that of.

    TFLM and LiteRT's reference kernels hand over every tensor, the others the outputs.

    Parameters
    ----------
    model
        The model file, or C source that holds it.
    arithmetic
        Whose runtime.

    Raises
    ------
    UsageError
        If the runtime is not installed; the message says what to install.
    UnsupportedError
        If there is no runtime to install that computes so.
    """

    def __init__(self, model: ModelFile, arithmetic: str) -> None:
        if arithmetic not in _PACKAGES:
            raise UnsupportedError(
                f"no runtime that computes as '{arithmetic}' can be installed; TFLM is built with two roundings there: "
                "verify 'tflm'"
            )
        package = _PACKAGES[arithmetic]
        try:
            self.package, self.version = package, version(package)
        except PackageNotFoundError:
            raise UsageError(
                f"{package} is not installed; it is what '{arithmetic}' is held against: pip install '.[tflite]'"
            ) from None
        held = model.content if is_tflite(model.content) else find_model(model.content, model.label)
        self._content, self._model, self._arithmetic = held or model.content, model, arithmetic
        self._file = parse_tflite(self._content, model.label)
        self._names = tensor_names(self._file)
        operators = self._file.operators
        computed = {index for operator in operators for index in operator.outputs}
        every = arithmetic in ("tflm", "litert_ref")
        self._asked = sorted(computed if every else computed & set(self._file.outputs))

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The tensors of all samples by name, samples on the first axis."""
        with _quiet():
            try:
                ask = self._micro() if self._arithmetic == "tflm" else self._litert()
                inputs = [feeds[self._names[index]] for index in self._file.inputs]
                rows = [ask([item[at : at + 1] for item in inputs]) for at in range(len(inputs[0]))]
            except (RuntimeError, ValueError) as error:
                raise ModelError(
                    f"{self.package} {self.version} refuses {self._model.label}: {str(error).splitlines()[0]}"
                ) from None
        return {self._names[index]: np.concatenate([row[at] for row in rows]) for at, index in enumerate(self._asked)}

    def _micro(self) -> Ask:
        from tflite_micro.python.tflite_micro import runtime

        arena = max(2**21, 20 * len(self._content))
        keep = runtime.InterpreterConfig.kPreserveAllTensors
        interpreter = runtime.Interpreter.from_bytes(self._content, arena_size=arena, intrepreter_config=keep)

        def ask(sample: list[Array]) -> list[Array]:
            for position, array in enumerate(sample):
                interpreter.set_input(np.ascontiguousarray(array), position)
            interpreter.invoke()
            return [np.array(interpreter.GetTensor(index, 0)["tensor_data"]) for index in self._asked]

        return ask

    def _litert(self) -> Ask:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kinds = {
            "litert_ref": OpResolverType.BUILTIN_REF,
            "litert": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "xnnpack": OpResolverType.AUTO,
        }
        interpreter = Interpreter(
            model_content=self._content,
            experimental_op_resolver_type=kinds[self._arithmetic],
            experimental_preserve_all_tensors=self._arithmetic == "litert_ref",
            num_threads=1,
        )
        interpreter.allocate_tensors()

        def ask(sample: list[Array]) -> list[Array]:
            for index, array in zip(self._file.inputs, sample, strict=True):
                interpreter.set_tensor(index, np.ascontiguousarray(array))
            interpreter.invoke()
            return [np.array(interpreter.get_tensor(index)) for index in self._asked]

        return ask


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The runtimes write to the standard error stream of the process, past Python."""
    sys.stderr.flush()
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)
