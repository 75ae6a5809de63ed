"""The schema of TensorFlow Lite files as far as npusim needs it: operators by number, options by slot, element types.

The numbers are those of ``schema.fbs`` (version 3 of the format, identifier ``TFL3``); a slot is a field's offset in a
table's vtable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

__all__ = ["CUSTOM", "DTYPES", "ENUMERATIONS", "OPERANDS", "OPERATORS", "OPTIONS", "TYPE_NAMES", "OptionField", "OptionTable"]

OPERATORS: Final = tuple(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
    FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM
    MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS
    SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND
    TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT
    LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL
    LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
    ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
    REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS
    SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG
    ROUND HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
    BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS HASHTABLE
    HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE
    BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1
    UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR
    RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE
    STABLEHLO_CLAMP STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE
    STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR
    STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT
    STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
    STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE
    STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT
    """.split()
)
"""Names of the built-in operators; the index is the number."""

CUSTOM: Final = OPERATORS.index("CUSTOM")

TYPE_NAMES: Final = tuple(
    """
    FLOAT32 FLOAT16 INT32 UINT8 INT64 STRING BOOL INT16 COMPLEX64 INT8 FLOAT64 COMPLEX128 UINT64 RESOURCE VARIANT UINT32 UINT16
    INT4 BFLOAT16
    """.split()
)
"""Names of the element types; the index is the number."""

DTYPES: Final[Mapping[str, np.dtype[np.generic]]] = MappingProxyType(
    {
        name: np.dtype(name.lower())
        for name in "FLOAT32 FLOAT16 INT32 UINT8 INT64 BOOL INT16 INT8 FLOAT64 UINT64 UINT32 UINT16".split()
    }
)
"""Element types that NumPy has; tensors of the others are refused."""


@dataclass(frozen=True, slots=True)
class OptionField:
    """One option of an operator.

    Attributes
    ----------
    name
        As in the schema.
    slot
        Offset in the vtable.
    kind
        ``int32``, ``int8``, ``bool``, ``float32``, ``int32s`` (a list), or the name of an enumeration, whose numbers are one
        byte wide.
    default
        Number meant where the field is left out.
    """

    name: str
    slot: int
    kind: str
    default: int | float = 0


@dataclass(frozen=True, slots=True)
class OptionTable:
    """The options of an operator: the number of their table in the union, and the fields."""

    number: int
    fields: tuple[OptionField, ...]


ENUMERATIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "padding": ("SAME", "VALID"),
        "activation": ("NONE", "RELU", "RELU_N1_TO_1", "RELU6", "TANH", "SIGN_BIT"),
        "weights_format": ("DEFAULT", "SHUFFLED4x16INT8"),
        "type": TYPE_NAMES,
    }
)
"""Names of the numbers of enumerations."""


def _table(number: int, *fields: str) -> OptionTable:
    """Fields in the order of their slots, each as ``name:kind`` or ``name:kind=default``."""
    read = []
    for index, text in enumerate(fields):
        name, _, rest = text.partition(":")
        kind, _, default = rest.partition("=")
        read.append(OptionField(name, 4 + 2 * index, kind, float(default or 0) if kind == "float32" else int(default or 0)))
    return OptionTable(number, tuple(read))


_POOL = _table(
    5, "padding:padding", "stride_w:int32", "stride_h:int32", "filter_w:int32", "filter_h:int32", "activation:activation"
)

OPTIONS: Final[Mapping[str, OptionTable]] = MappingProxyType(
    {
        "CONV_2D": _table(
            1,
            "padding:padding",
            "stride_w:int32",
            "stride_h:int32",
            "activation:activation",
            "dilation_w:int32=1",
            "dilation_h:int32=1",
        ),
        "DEPTHWISE_CONV_2D": _table(
            2,
            "padding:padding",
            "stride_w:int32",
            "stride_h:int32",
            "depth_multiplier:int32",
            "activation:activation",
            "dilation_w:int32=1",
            "dilation_h:int32=1",
        ),
        "AVERAGE_POOL_2D": _POOL,
        "MAX_POOL_2D": _POOL,
        "FULLY_CONNECTED": _table(8, "activation:activation", "weights_format:weights_format", "keep_num_dims:bool"),
        "SOFTMAX": _table(9, "beta:float32"),
        "CONCATENATION": _table(10, "axis:int32", "activation:activation"),
        "ADD": _table(11, "activation:activation", "pot_scale_int16:bool=1"),
        "RESHAPE": _table(17, "new_shape:int32s"),
        "MUL": _table(21, "activation:activation"),
        "MEAN": _table(27, "keep_dims:bool"),
        "SUB": _table(28, "activation:activation", "pot_scale_int16:bool=1"),
        "SQUEEZE": _table(30, "squeeze_dims:int32s"),
        "STRIDED_SLICE": _table(
            32,
            "begin_mask:int32",
            "end_mask:int32",
            "ellipsis_mask:int32",
            "new_axis_mask:int32",
            "shrink_axis_mask:int32",
            "offset:bool",
        ),
        "SPLIT": _table(35, "num_splits:int32"),
        "TRANSPOSE_CONV": _table(49, "padding:padding", "stride_w:int32", "stride_h:int32", "activation:activation"),
        "SHAPE": _table(55, "out_type:type"),
        "PACK": _table(59, "values_count:int32", "axis:int32"),
        "RESIZE_NEAREST_NEIGHBOR": _table(74, "align_corners:bool", "half_pixel_centers:bool"),
        "LEAKY_RELU": _table(75, "alpha:float32"),
        "PAD": _table(22),
        "BATCH_TO_SPACE_ND": _table(24),
        "SPACE_TO_BATCH_ND": _table(25),
        "TRANSPOSE": _table(26),
        "DEQUANTIZE": _table(38),
        "PADV2": _table(43),
        "EXPAND_DIMS": _table(52),
        "QUANTIZE": _table(89),
        "HARD_SWISH": _table(91),
    }
)
"""Options of the operators that npusim simulates. RELU, RELU6, LOGISTIC and TANH have none."""

OPERANDS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        **dict.fromkeys(
            "AVERAGE_POOL_2D CONCATENATION DEQUANTIZE HARD_SWISH LEAKY_RELU LOGISTIC MAX_POOL_2D PACK QUANTIZE RELU RELU6 "
            "RESHAPE "
            "SHAPE SOFTMAX SQUEEZE TANH".split(),
            (1, 1),
        ),
        **dict.fromkeys(
            "ADD CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS FULLY_CONNECTED MEAN MUL PAD RESIZE_NEAREST_NEIGHBOR SPLIT SUB "
            "TRANSPOSE".split(),
            (2, 1),
        ),
        **dict.fromkeys("BATCH_TO_SPACE_ND PADV2 SPACE_TO_BATCH_ND TRANSPOSE_CONV".split(), (3, 1)),
        "STRIDED_SLICE": (4, 1),
    }
)
"""Fewest inputs and outputs of the operators that npusim simulates."""
