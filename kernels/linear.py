"""Matrix products: MatMul and Gemm.

Float products are accumulated in float64, independently of the batch, and rounded once to the output dtype; integer products
stay integers and wrap like their dtype.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .accumulation import chunks, contract, digit_bits, split

__all__ = ["gemm", "matmul"]


def matmul(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], /) -> npt.NDArray[np.generic]:
    """Matrix product with the shapes of `numpy.matmul`: ``y[..., i, j] = sum_k a[..., i, k] * b[..., k, j]``.

    Parameters
    ----------
    a, b
        Same dtype, float16, float32, float64 or an integer one; vectors count as one row or one column.

    Returns
    -------
    ndarray
        Same dtype. A row of a float result depends on its own row of `a` only, whatever else is computed with it.

    Raises
    ------
    ValueError
        If shapes do not fit or the dtypes differ or are not numbers.

    Examples
    --------
    >>> matmul(np.array([[1, 2]]), np.array([[3], [4]]))
    array([[11]])
    """
    _check_numbers(a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError("a matrix product needs vectors or matrices, got a scalar")
    rows = a[np.newaxis, :] if a.ndim == 1 else a
    columns = b[:, np.newaxis] if b.ndim == 1 else b
    _check_inner(rows, columns)
    if np.issubdtype(a.dtype, np.integer):
        return np.asarray(np.matmul(a, b))
    with np.errstate(all="ignore"):
        y = _float_product(rows, columns).astype(a.dtype)
    if b.ndim == 1:
        y = y[..., 0]
    return np.squeeze(y, axis=y.ndim - min(b.ndim, 2)) if a.ndim == 1 else y


def gemm(
    a: npt.NDArray[np.generic],
    b: npt.NDArray[np.generic],
    c: npt.NDArray[np.generic] | None = None,
    /,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> npt.NDArray[np.generic]:
    """Scaled matrix product with an addend: ``y = alpha * a @ b + beta * c``.

    Parameters
    ----------
    a, b
        Matrices of one dtype, transposed first where asked for.
    c
        Broadcasts to the product; None means 0.
    alpha, beta
        Factors; whole numbers where the dtype is an integer one.

    Returns
    -------
    ndarray
        Same dtype as `a`. Floats: product, scaling and addition in float64, then one rounding.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, or a factor is fractional for integers.

    Examples
    --------
    >>> gemm(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([0.5]), beta=2.0)
    array([[12.]])
    """
    _check_numbers(a, b)
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"Gemm takes matrices, got shapes {a.shape} and {b.shape}")
    rows = a.T if transpose_a else a
    columns = b.T if transpose_b else b
    _check_inner(rows, columns)
    shape = (rows.shape[0], columns.shape[1])
    if c is not None and np.broadcast_shapes(c.shape, shape) != shape:
        raise ValueError(f"the addend of shape {c.shape} does not broadcast to the product's shape {shape}")
    if np.issubdtype(a.dtype, np.integer):
        return _integer_gemm(rows, columns, c, alpha=alpha, beta=beta)
    with np.errstate(all="ignore"):
        y = _float_product(rows, columns) * alpha
        if c is not None:
            y += c.astype(np.float64) * beta
        return np.asarray(y.astype(a.dtype))


def _integer_gemm(
    a: npt.NDArray[np.generic],
    b: npt.NDArray[np.generic],
    c: npt.NDArray[np.generic] | None,
    *,
    alpha: float,
    beta: float,
) -> npt.NDArray[np.generic]:
    if not (float(alpha).is_integer() and float(beta).is_integer()):
        raise ValueError(f"alpha {alpha} and beta {beta} must be whole numbers for {a.dtype}")
    y = np.asarray(np.matmul(a, b) * np.array(int(alpha)).astype(a.dtype))
    return y if c is None else np.asarray(y + c * np.array(int(beta)).astype(a.dtype))


def _float_product(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Stacked product in float64, in blocks that keep the temporaries small."""
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, inner, columns = *a.shape[-2:], b.shape[-1]
    bits = digit_bits(inner)
    if b.ndim == 2:
        right = split(b, axes=(0,), bits=bits)
        flat = a.reshape(math.prod(a.shape[:-1]), inner)
        y = np.empty((flat.shape[0], columns))
        for part in chunks(flat.shape[0], item_bytes=8 * (inner + columns)):
            y[part] = contract(split(flat[part], axes=(1,), bits=bits), right)
        return y.reshape(*stack, rows, columns)
    count = math.prod(stack)
    left = np.broadcast_to(a, (*stack, rows, inner)).reshape(count, rows, inner)
    right_stack = np.broadcast_to(b, (*stack, inner, columns)).reshape(count, inner, columns)
    y = np.empty((count, rows, columns))
    for part in chunks(count, item_bytes=8 * (rows * inner + inner * columns + rows * columns)):
        y[part] = contract(split(left[part], axes=(2,), bits=bits), split(right_stack[part], axes=(1,), bits=bits))
    return y.reshape(*stack, rows, columns)


def _check_numbers(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> None:
    if a.dtype != b.dtype:
        raise ValueError(f"operands have dtypes {a.dtype} and {b.dtype}, wanted the same")
    if not (np.issubdtype(a.dtype, np.floating) or np.issubdtype(a.dtype, np.integer)):
        raise ValueError(f"a matrix product of dtype {a.dtype} is not implemented")


def _check_inner(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> None:
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(f"a product of matrices of shapes {a.shape} and {b.shape} does not fit: inner sizes differ")
