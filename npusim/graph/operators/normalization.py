"""BatchNormalization with given statistics, and LayerNormalization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from npusim.errors import OperatorError
from npusim.graph.graph import Array
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table
from npusim.kernels.normalization import batch_normalize, layer_normalize

__all__ = ["OPERATORS"]


def _batch_normalization(call: Call, x: Array, scale: Array, bias: Array, mean: Array, variance: Array) -> Array:
    # The operator says that it trains with an attribute since version 14, with more outputs since 7, and with is_test before.
    training = call.integer("training_mode", 0) if call.opset >= 14 else call.output_count > 1
    if training or (call.opset < 7 and not call.integer("is_test", 0)):
        raise OperatorError("it computes batch statistics (training mode), wanted inference; export the model in eval mode")
    return batch_normalize(x, scale, bias, mean, variance, epsilon=call.real("epsilon", 1e-5))


def _layer_normalization(call: Call, x: Array, scale: Array, bias: Array | None = None) -> tuple[Array, ...]:
    axis = call.integer("axis", -1) % max(1, x.ndim)
    return layer_normalize(x, scale, bias, axis=axis, epsilon=call.real("epsilon", 1e-5))[: call.output_count]


OPERATORS: Final[Mapping[str, Operator]] = refusing_table(
    {"BatchNormalization": _batch_normalization, "LayerNormalization": _layer_normalization}
)
