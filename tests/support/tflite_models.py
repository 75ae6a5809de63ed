"""Small TensorFlow Lite models, and what the runtimes compute for them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from npusim.graph.tflite_model import TfliteModel, TfliteOperator, TfliteTensor
from npusim.graph.tflite_writer import serialize_tflite

__all__ = ["ARITHMETICS", "LITERT", "litert", "one_operator", "operator", "runtime", "tensor", "tflite_micro", "write"]

ARITHMETICS = ("tflm", "litert_ref", "litert", "xnnpack")
"""The arithmetics that a runtime computes; tflm_single is a compile switch of TFLM."""

LITERT = ("litert_ref", "litert", "xnnpack")

LIMITS = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767)}


def tensor(
    name: str,
    element: str,
    shape: Sequence[int],
    scale: float | Sequence[float] | None = None,
    zero_point: int = 0,
    data: npt.ArrayLike | None = None,
    axis: int = 0,
    **more,
) -> TfliteTensor:
    """A tensor; scales are rounded to float32, data takes the element type."""
    scales = () if scale is None else tuple(np.atleast_1d(scale).astype(np.float32).tolist())
    array = None if data is None else np.asarray(data, element.lower()).reshape(shape)
    points = (zero_point,) * len(scales)
    return TfliteTensor(name, element, tuple(shape), (), array, scales, points, axis if len(scales) > 1 else 0, **more)


def operator(name: str, inputs: Sequence[int], outputs: Sequence[int], version: int = 1, **options) -> TfliteOperator:
    return TfliteOperator(name, tuple(inputs), tuple(outputs), options, version)


def write(
    tensors: Sequence[TfliteTensor], operators: Sequence[TfliteOperator], inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    return serialize_tflite(TfliteModel(tuple(tensors), tuple(operators), tuple(inputs), tuple(outputs), "npusim test"))


def one_operator(
    name: str,
    inputs: Sequence[TfliteTensor],
    output: TfliteTensor,
    options: Mapping[str, object] | None = None,
    version: int = 1,
) -> bytes:
    """A model of one operator; inputs without data are fed."""
    tensors = (*inputs, output)
    call = operator(name, range(len(inputs)), (len(inputs),), version, **(options or {}))
    return write(tensors, (call,), [index for index, item in enumerate(inputs) if item.data is None], (len(inputs),))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The runtimes write to the standard error stream of the process."""
    sys.stderr.flush()
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def tflite_micro(content: bytes, feeds: Sequence[npt.NDArray]) -> npt.NDArray:
    """TFLM's first output for one sample."""
    from tflite_micro import runtime as micro

    with quiet():
        interpreter = micro.Interpreter.from_bytes(content, arena_size=max(1_000_000, 20 * len(content)))
        for index, feed in enumerate(feeds):
            interpreter.set_input(feed, index)
        interpreter.invoke()
        return interpreter.get_output(0).copy()


def litert(content: bytes, feeds: Sequence[npt.NDArray], arithmetic: str) -> npt.NDArray:
    """LiteRT's first output; inputs are resized to the feeds."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kinds = {
        "litert_ref": OpResolverType.BUILTIN_REF,
        "litert": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "xnnpack": OpResolverType.AUTO,
    }
    with quiet():
        interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kinds[arithmetic], num_threads=1)
        for detail, feed in zip(interpreter.get_input_details(), feeds, strict=True):
            if tuple(detail["shape"]) != feed.shape:
                interpreter.resize_tensor_input(detail["index"], feed.shape)
        interpreter.allocate_tensors()
        for detail, feed in zip(interpreter.get_input_details(), feeds, strict=True):
            interpreter.set_tensor(detail["index"], feed)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()


def runtime(content: bytes, feeds: Sequence[npt.NDArray], arithmetic: str) -> npt.NDArray:
    """The first output of the runtime that computes so, for one sample."""
    return tflite_micro(content, feeds) if arithmetic == "tflm" else litert(content, feeds, arithmetic)
