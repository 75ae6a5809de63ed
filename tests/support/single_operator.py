"""One operator at a time: computed by npusim, computed by onnxruntime, and compared bit by bit."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import strategies as st
from onnx import helper

from npusim.graph import Attribute
from npusim.graph.operators import lookup
from npusim.graph.operators.call import Call
from support.models import model_of, outputs_of_onnxruntime, type_of

__all__ = [
    "bits",
    "compute",
    "compute_all",
    "compute_by_onnxruntime",
    "f32",
    "nearest_float32",
    "run_by_onnxruntime",
    "same_bits",
]

Array = npt.NDArray[np.generic]

OPSET = 17

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
any_float = st.floats(width=32)
integer_dtypes = st.sampled_from([np.dtype(name) for name in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")])


def compute(op_type: str, *inputs: Array | None, opset: int = OPSET, **attributes: Attribute) -> Array:
    """The only output of an operator, as npusim computes it."""
    (result,) = compute_all(op_type, *inputs, opset=opset, **attributes)
    return result


def compute_all(
    op_type: str, *inputs: Array | None, opset: int = OPSET, outputs: int = 1, **attributes: Attribute
) -> tuple[Array, ...]:
    """All outputs of an operator, as npusim computes them; the inputs must come out of it unchanged."""
    operator = lookup(op_type)
    assert operator is not None
    before = [None if item is None else item.copy() for item in inputs]
    result = operator(Call(opset, attributes, outputs), *inputs)
    results = result if isinstance(result, tuple) else (result,)
    for item, copy in zip(inputs, before, strict=True):
        assert item is None or same_bits(item, copy)
    assert len(results) == outputs
    assert all(type(item) is np.ndarray for item in results)
    return results


def compute_by_onnxruntime(op_type: str, *inputs: Array | None, opset: int = OPSET, **attributes: object) -> Array:
    """The only output of an operator, as onnxruntime computes it."""
    feeds = {f"x{index}": item for index, item in enumerate(inputs) if item is not None}
    names = [f"x{index}" if item is not None else "" for index, item in enumerate(inputs)]
    return run_by_onnxruntime([helper.make_node(op_type, names, ["y"], **attributes)], [feeds], opset=opset)[0]


def run_by_onnxruntime(
    nodes: Sequence[onnx.NodeProto], feeds: Sequence[dict[str, Array]], *, opset: int = OPSET
) -> list[Array]:
    """Output ``y`` of a graph for each of several feeds of the same shapes: onnxruntime, not optimizing, one thread."""
    model = model_of(nodes, {name: type_of(item) for name, item in feeds[0].items()}, {"y": None}, opset=opset)
    return [output for (output,) in outputs_of_onnxruntime(model, *feeds, optimized=False)]


def bits(x: Array) -> Array:
    """Floats as the integers that hold them, every NaN as the same one; other dtypes as they are."""
    if x.dtype.kind != "f":
        return x
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    return np.where(
        np.isnan(x), np.asarray(np.nan, x.dtype).view(unsigned), np.ascontiguousarray(x).reshape(x.shape).view(unsigned)
    )


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays have the same dtype, shape and bits (the sign of zero counts, the payload of NaN does not)."""
    return a.dtype == b.dtype and a.shape == b.shape and bool(np.array_equal(bits(a), bits(b)))


def as_float32(value: float) -> float:
    """A double rounded to float32 by the C compiler's conversion, infinity past the largest one."""
    return ctypes.c_float(value).value


def wrapped(value: int, dtype: np.dtype) -> int:
    """The low bits of an integer, read as `dtype` reads them."""
    size = 2 ** (8 * dtype.itemsize)
    value %= size
    return value - size if dtype.kind == "i" and value >= size // 2 else value


def check_float32(result: np.ndarray, wanted: list[float]) -> None:
    """Equality of every bit; rounding a double result of one +, -, *, / or sqrt of float32 to float32 is correct rounding."""
    assert same_bits(result, np.array([as_float32(item) for item in wanted], np.float32))


def f32(*values: float) -> npt.NDArray[np.float32]:
    """A float32 vector."""
    return np.array(values, np.float32)


def nearest_float32(value: Decimal) -> np.float32:
    """The float32 nearest to a number that is not exactly halfway between two."""
    guess = np.float32(ctypes.c_float(float(value)).value)
    nearby = (guess, np.nextafter(guess, np.float32(np.inf)), np.nextafter(guess, np.float32(-np.inf)))
    return min((item for item in nearby if np.isfinite(item)), key=lambda item: abs(Decimal(float(item)) - value))
