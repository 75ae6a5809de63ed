"""MaxPool, AveragePool and their global forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from npusim.errors import OperatorError
from npusim.graph.graph import Array
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table
from npusim.graph.operators.window import Window, spatial_sizes, window_of
from npusim.kernels.pooling import average_pool, global_average_pool, global_max_pool, max_pool, max_pool_indices

__all__ = ["OPERATORS"]


def _max_pool(call: Call, x: Array) -> Array | tuple[Array, ...]:
    window = _pool_window(call, x)
    largest = max_pool(
        x,
        kernel_shape=window.kernel_shape,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        ceil_mode=window.ceil_mode,
    )
    if call.output_count < 2:
        return largest
    indices = max_pool_indices(
        x,
        kernel_shape=window.kernel_shape,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        ceil_mode=window.ceil_mode,
        column_major=bool(call.integer("storage_order", 0)),
    )
    return largest, indices


def _average_pool(call: Call, x: Array) -> Array:
    window = _pool_window(call, x)
    return average_pool(
        x,
        kernel_shape=window.kernel_shape,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        ceil_mode=window.ceil_mode,
        count_include_pad=bool(call.integer("count_include_pad", 0)),
    )


def _global_average_pool(_call: Call, x: Array) -> Array:
    spatial_sizes(x)
    return global_average_pool(x)


def _global_max_pool(_call: Call, x: Array) -> Array:
    spatial_sizes(x)
    return global_max_pool(x)


def _pool_window(call: Call, x: Array) -> Window:
    kernel_shape = call.integers("kernel_shape")
    if kernel_shape is None:
        raise OperatorError("attribute 'kernel_shape' is missing")
    return window_of(call, x, kernel_shape)


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {
        "AveragePool": _average_pool,
        "GlobalAveragePool": _global_average_pool,
        "GlobalMaxPool": _global_max_pool,
        "MaxPool": _max_pool,
    }
)
