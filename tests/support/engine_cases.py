"""Networks built by hand, one for each kind and geometry that an engine treats in its own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from support.models import model_of
from support.sketch import Sketch

__all__ = ["CASES", "integer_input_model"]

Sizes = Sequence[int]


def convolution(
    shape: Sizes, outputs: int, kernel: Sizes, *, group: int = 1, strides: Sizes = (), pads: Sizes = (), dilations: Sizes = ()
) -> bytes:
    rank = len(kernel)
    sketch = Sketch(*shape)
    geometry = {
        "group": group,
        "strides": tuple(strides) or (1,) * rank,
        "pads": tuple(pads) or (0,) * (2 * rank),
        "dilations": tuple(dilations) or (1,) * rank,
    }
    return sketch.finish(sketch.layer(sketch.weights(outputs, shape[0] // group, *kernel), **geometry))


def transposed(shape: Sizes, outputs: int, kernel: Sizes, *, group: int = 1, **geometry: object) -> bytes:
    sketch = Sketch(*shape)
    weights = sketch.weights(shape[0], outputs // group, *kernel)
    scale = sketch.generator.integers(-200, 255, outputs)
    made = sketch.layer(weights, outputs=outputs, transposed=True, group=group, scale=scale, clip=(-128, 127), **geometry)
    return sketch.finish(made)


def maximum(shape: Sizes, kernel: Sizes, **geometry: object) -> bytes:
    """Max pooling of signed codes, itself an output and read by a layer."""
    sketch = Sketch(*shape)
    pooled = sketch.graph.node("MaxPool", sketch.codes, kernel_shape=kernel, **geometry)
    return sketch.finish(pooled, sketch.layer(sketch.weights(4, shape[0], *(1,) * len(kernel)), source=pooled))


def average(shape: Sizes, kernel: Sizes, strides: Sizes, pads: Sizes, scale: int = 1) -> bytes:
    """Average pooling, itself an output and read by a padded layer."""
    sketch = Sketch(*shape)
    pooled = sketch.graph.average_pool(sketch.codes, kernel, strides, pads, 3, scale, 3, (-128, 127))
    rank = len(kernel)
    weights = sketch.weights(4, shape[0], 3, *(1,) * (rank - 1))
    pads_behind = (1, *(0,) * (rank - 1)) * 2
    return sketch.finish(pooled, sketch.layer(weights, source=pooled, pads=pads_behind))


def reduction(axes: Sizes, *, keepdims: bool, per_channel: bool = True) -> bytes:
    sketch = Sketch(3, 6, 5)
    graph = sketch.graph
    summed = graph.node("ReduceSum", sketch.codes, graph.constant(axes, np.int64), keepdims=int(keepdims))
    rank = 4 if keepdims else 4 - len(axes)
    channels = 3 if per_channel else 1
    shape = (1, channels, *(1,) * (rank - 2))
    scale, shift = [-1, 2, 3][:channels], [2, 3, 4][:channels]
    return sketch.finish(graph.requantize(graph.node("Round", summed), shape, [1, 2, 3][:channels], scale, shift, (-128, 127)))


def two_readers(shape: Sizes, first: tuple[Sizes, Sizes], second: tuple[Sizes, Sizes], *, depthwise: bool) -> bytes:
    """Two convolutions of one tensor, each with a kernel and pads of its own, a max pool and the tensor itself."""
    channels = shape[0]
    sketch = Sketch(*shape)
    shared = sketch.layer(sketch.weights(channels, channels, *(1,) * len(first[0])), clip=(-128, 127))
    group = channels if depthwise else 1
    results = [
        sketch.layer(sketch.weights(channels, channels // group, *kernel), source=shared, pads=pads, group=group)
        for kernel, pads in (first, second)
    ]
    pooled = sketch.graph.node("MaxPool", shared, kernel_shape=[min(2, size) for size in shape[1:]])
    return sketch.finish(*results, pooled, shared)


def residual(shape: Sizes, *, plain: bool, wide: bool = False) -> bytes:
    """A pointwise convolution and its own input added to it: PWCONVRES when plain, ADD otherwise; a padded reader behind."""
    channels = shape[0]
    sketch = Sketch(*shape, bits=16 if wide else 8)
    limit = 2**24 - 1 if wide else 255
    branch = sketch.layer(sketch.weights(channels, channels, 1, 1, largest=127), clip=(-limit, limit))
    summed = sketch.graph.node("Add", branch, sketch.codes)
    if plain:
        result = sketch.graph.saturate(summed, (-limit, limit) if wide else (-100, 90))
    else:
        scale = sketch.generator.integers(-3, 4, channels)
        parameters = (sketch.generator.integers(-9, 9, channels), scale, [0, 1] * (channels // 2))
        result = sketch.graph.requantize(summed, (1, channels, 1, 1), *parameters, (-128, 127))
    if wide:
        return sketch.finish(result)
    return sketch.finish(result, sketch.layer(sketch.weights(2, channels, 3, 3), source=result, pads=(1, 1, 1, 1)))


def moved(kind: str) -> bytes:
    """A layer, an operation of the host that moves its codes about, and a layer behind that."""
    sketch = Sketch(4, 6, 2)
    graph = sketch.graph
    first = sketch.layer(sketch.weights(3, 4, 3, 1), pads=(1, 0, 1, 0))
    second = sketch.layer(sketch.weights(5, 4, 1, 1), clip=(-128, 127))
    channels = 3
    if kind == "concat":
        source, channels = graph.node("Concat", first, second, first, axis=1), 11
    elif kind == "concat_rows":
        source = graph.node("Concat", first, first, axis=2)
    elif kind == "resize":
        source = graph.node("Resize", first, "", graph.constant([1, 1, 2, 1.5]))
    elif kind == "resize_to_sizes":
        source = graph.node("Resize", first, "", "", graph.constant([1, 3, 12, 3], np.int64))
    elif kind == "reshape":
        source, channels = graph.node("Reshape", first, graph.constant([1, 6, 6, 1], np.int64)), 6
    elif kind == "transpose":
        source, channels = graph.node("Transpose", first, perm=[0, 2, 3, 1]), 6
    elif kind == "pad_and_slice":
        padded = graph.node("Pad", first, graph.constant([0, 0, 1, 1, 0, 0, 2, 0], np.int64))
        parts = (graph.constant([value], np.int64) for value in (1, 5, 2))
        source = graph.node("Slice", padded, *parts)
    else:
        source = graph.node(
            "Squeeze", graph.node("Unsqueeze", first, graph.constant([1], np.int64)), graph.constant([1], np.int64)
        )
    behind = sketch.layer(sketch.weights(4, channels, 3, 1), source=source, pads=(2, 0, 1, 0))
    return sketch.finish(behind, source, second)


def fully_connected(*shape: int, scale: Sequence[int] = (-3, 0, 5, -255, 1)) -> bytes:
    """Flatten, a fully connected layer with scales of all signs, and the final scaling of an output."""
    sketch = Sketch(*shape)
    flat = sketch.graph.node("Flatten", sketch.codes, axis=1) if len(shape) > 1 else sketch.codes
    weights = sketch.weights(int(np.prod(shape)), len(scale), largest=127)
    bias = sketch.generator.integers(-300, 300, len(scale))
    made = sketch.graph.fully_connected(flat, weights, bias, scale, [7] * len(scale), (-128, 127))
    return sketch.finish(sketch.graph.binary("Mul", made, 0.05), made)


def fully_connected_rows() -> bytes:
    """A MatMul over the last of three axes."""
    sketch = Sketch(5, 4)
    made = sketch.graph.node("MatMul", sketch.codes, sketch.graph.constant(sketch.weights(4, 6)))
    bias = sketch.generator.integers(-9, 9, 6)
    return sketch.finish(sketch.graph.requantize(made, (1, 1, 6), bias, [3, -1, 0, 5, 1, 1], [5] * 6, (-128, 127)))


def float_island(kind: str) -> bytes:
    """Codes, float operations on them, a stage that makes codes again, and a layer."""
    sketch = Sketch(4, 6, 2)
    graph = sketch.graph
    codes = sketch.layer(sketch.weights(3, 4, 3, 1), pads=(1, 0, 1, 0), clip=(-128, 127), scale=[-3, 1, 0])
    if kind == "functions":
        floats = graph.node("Sigmoid", graph.binary("Add", graph.binary("Mul", codes, 0.013), 0.1))
    elif kind == "arithmetic":
        scaled = graph.node("Sub", graph.binary("Mul", codes, [[[[0.3]], [[-0.7]], [[0.11]]]]), codes)
        floats = graph.node("Round", graph.node("Abs", graph.node("Neg", graph.binary("Div", scaled, 3.0))))
    elif kind == "minimum":
        floats = graph.node("Relu", graph.binary("Min", graph.binary("Max", graph.binary("Mul", codes, 0.3), -5.3), 7.1))
    else:  # the sign of a zero decides the sign of an infinity
        negated = graph.average_pool(sketch.codes, (1, 1), (1, 1), (0, 0, 0, 0), 0, -1, 0, (-128, 127))
        inverse = graph.clip(graph.node("Div", graph.constant(1.0), negated), -9.0, 9.0)
        floats = graph.node("Slice", inverse, *(graph.constant([value], np.int64) for value in (0, 3, 1)))
    again = graph.clip(graph.node("Floor", graph.binary("Mul", graph.binary("Add", floats, 0.2), 50.0)), -128, 127)
    return sketch.finish(sketch.layer(sketch.weights(2, 3, 3, 1), source=again, pads=(2, 0, 1, 0)), floats, again)


def wide_layer(bits: int, scale: Sequence[int], shift: Sequence[int], features: int = 40) -> bytes:
    """A fully connected layer on wide codes: the larger its sums, the wider its carrier."""
    sketch = Sketch(features, bits=bits, multiplier=4095)
    weights = sketch.weights(features, 4, largest=255)
    made = sketch.graph.fully_connected(sketch.codes, weights, [2**20, -(2**20), 5, 0], scale, shift, (-(2**20), 2**20))
    return sketch.finish(sketch.graph.binary("Mul", made, 0.05), made)


def integer_input_model(kind: int = TensorProto.INT8) -> bytes:
    """Integer codes as the model's input, cast to float for a layer and back behind it."""
    weights = np.random.default_rng(0).integers(-9, 9, (4, 3, 3, 1)).astype(np.float32)
    constants = {"w": weights, "m": np.array(2.0**-5), "lo": np.array(-128.0), "hi": np.array(127.0)}
    nodes = [
        helper.make_node("Cast", ["input"], ["codes"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["codes", "w"], ["sums"], kernel_shape=[3, 1], pads=[1, 0, 1, 0]),
        helper.make_node("Mul", ["sums", "m"], ["scaled"]),
        helper.make_node("Floor", ["scaled"], ["floored"]),
        helper.make_node("Clip", ["floored", "lo", "hi"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["output"], to=kind),
    ]
    constants = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    return model_of(nodes, {"input": (kind, [1, 3, 8, 1])}, {"output": (kind, [1, 4, 8, 1])}, constants)


def two_inputs() -> bytes:
    """Two float inputs, a stage for each, and their codes added."""
    sketch = Sketch(4, 6, 1)
    other = sketch.graph.clip(sketch.graph.node("Floor", sketch.graph.binary("Mul", "second", 9.5)), -128, 127)
    summed = sketch.graph.node("Add", sketch.codes, other)
    made = sketch.graph.requantize(summed, (1, 1, 1, 1), [1], [1], [1], (-128, 127))
    model = onnx.load_from_string(sketch.finish(sketch.layer(sketch.weights(3, 4, 3, 1), source=made, pads=(1, 0, 1, 0))))
    model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1, 4, 6, 1]))
    return bytes(model.SerializeToString())


def pooled(kind: str) -> bytes:
    """A layer whose codes a max pooling reads, and a padded layer behind it."""
    sketch = Sketch(3, 9, 8)
    graph = sketch.graph
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    scale = [-3, 5, 0, 255] if kind == "scales_of_all_signs" else None
    clip = (-128, 127) if kind == "signed" else (0, 255)
    if kind == "padded":
        pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    elif kind == "no_tap_everywhere":  # of the first window one tap lies in the padding, of the last one the other
        pool = {"kernel_shape": [2, 2], "strides": [4, 4], "pads": [1, 1, 2, 2], "dilations": [2, 2]}
    codes = sketch.layer(sketch.weights(4, 3, 3, 3), pads=(1, 1, 1, 1), scale=scale, clip=clip)
    if kind == "sum":
        other = sketch.layer(sketch.weights(4, 3, 1, 1))
        codes = graph.requantize(
            graph.node("Add", codes, other), (1, 4, 1, 1), [1, -2, 3, 0], [3, 1, 2, 255], [2, 1, 3, 8], clip
        )
    elif kind.startswith("wide"):  # scales too wide to be folded
        summed = graph.node("Conv", codes, graph.constant(sketch.weights(4, 4, 3, 3, largest=127)))
        last = -131 if kind == "wide_negative" else 131
        codes = graph.requantize(summed, (1, 4, 1, 1), [1, -2, 3, 0], [255, 129, 200, last], [13, 12, 13, 12], clip)
    result = graph.node("MaxPool", codes, **pool)
    if kind == "twice":
        result = graph.node("MaxPool", result, kernel_shape=[2, 1])
    behind = sketch.layer(sketch.weights(2, 4, 3, 3), source=result, pads=(1, 1, 1, 1))
    return sketch.finish(behind, *([codes] if kind == "codes_given_out" else []))


def by_channels(kind: str) -> bytes:
    """Pointwise and depthwise layers in a row, which work channel by channel."""
    sketch = Sketch(4, 7, 6)
    points = sketch.layer(sketch.weights(6, 4, 1, 1))
    if kind == "wide_rows":
        sketch = Sketch(2, 3, 70)
        points = sketch.layer(sketch.weights(6, 2, 1, 1))
    strides = (2, 2) if kind == "strided" else (1, 1)
    rows = sketch.layer(sketch.weights(6, 1, 3, 3), source=points, pads=(1, 1, 1, 1), group=6, strides=strides)
    if kind == "residual":
        other = sketch.layer(sketch.weights(6, 6, 1, 1), source=rows, clip=(-128, 127))
        rows = sketch.graph.saturate(sketch.graph.node("Add", other, points), (-100, 90))
    elif kind == "row_beside_points":
        also = sketch.layer(sketch.weights(3, 6, 3, 3), source=points, pads=(2, 1, 0, 1))
        return sketch.finish(sketch.layer(sketch.weights(5, 6, 1, 1), source=rows), also)
    elif kind == "dense_behind":
        return sketch.finish(sketch.layer(sketch.weights(3, 6, 3, 2), source=rows, pads=(1, 1, 1, 0)))
    elif kind == "through_the_host":
        rows = sketch.graph.node("Transpose", sketch.graph.node("Transpose", rows, perm=[0, 3, 1, 2]), perm=[0, 2, 3, 1])
    again = sketch.layer(sketch.weights(6, 6, 1, 1), source=rows)
    last = sketch.layer(sketch.weights(6, 1, 2, 3), source=again, pads=(0, 1, 1, 1), group=6)
    return sketch.finish(sketch.layer(sketch.weights(3, 6, 1, 1), source=last, clip=(-128, 127)))


def long_way() -> bytes:
    """Layers of all sizes one after the other, and the first one's codes again at the end."""
    sketch = Sketch(3, 12, 1)
    early = current = sketch.layer(sketch.weights(5, 3, 1, 1))
    for outputs, inputs in ((9, 5), (2, 9), (7, 2), (11, 7), (5, 11)):
        current = sketch.layer(sketch.weights(outputs, inputs, 1, 1), source=current)
    joined = sketch.graph.node("Concat", early, current, early, axis=1)
    return sketch.finish(sketch.layer(sketch.weights(4, 15, 1, 1), source=joined))


CASES: dict[str, Callable[[], bytes]] = {
    f"{name}_{label}": lambda shape=shape, outputs=outputs, group=group, geometry=geometry: convolution(
        shape, outputs, group=group, **geometry
    )
    for label, shape, geometry in (
        ("column", (6, 20, 1), {"kernel": (3, 1), "strides": (2, 1), "pads": (2, 0, 1, 0)}),
        ("column_dilated", (6, 20, 1), {"kernel": (3, 1), "dilations": (2, 1), "pads": (2, 0, 2, 0)}),
        ("row", (6, 1, 25), {"kernel": (1, 4), "strides": (1, 3), "pads": (0, 1, 0, 2)}),
        ("row_dilated", (6, 1, 25), {"kernel": (1, 3), "dilations": (1, 2), "strides": (1, 2), "pads": (0, 1, 0, 2)}),
        ("plane", (6, 10, 9), {"kernel": (3, 3), "strides": (2, 1), "pads": (1, 0, 1, 2)}),
        ("plane_dilated", (6, 10, 9), {"kernel": (3, 3), "dilations": (2, 2), "pads": (2, 2, 2, 2)}),
        ("plane_dilated_rows", (6, 10, 9), {"kernel": (3, 3), "dilations": (1, 3), "strides": (2, 2), "pads": (1, 3, 0, 2)}),
        ("line", (6, 25), {"kernel": (5,), "strides": (2,), "pads": (1, 3)}),
        ("line_dilated", (6, 25), {"kernel": (3,), "dilations": (2,), "pads": (1, 2)}),
        ("solid", (6, 4, 5, 3), {"kernel": (2, 3, 2), "strides": (1, 2, 1), "pads": (1, 1, 0, 0, 1, 1)}),
        ("solid_dilated", (6, 4, 5, 3), {"kernel": (2, 3, 2), "dilations": (2, 1, 2), "pads": (1, 1, 0, 0, 1, 1)}),
        ("point", (6, 5, 4), {"kernel": (1, 1), "strides": (2, 2), "pads": (1, 0, 0, 1)}),
    )
    for name, outputs, group in (
        ("dense", 5, 1),
        ("depthwise", 6, 6),
        ("depthwise_twice", 12, 6),
        ("two_groups", 4, 2),
        ("three_groups", 9, 3),
    )
}
CASES |= {
    "one_channel": lambda: convolution((1, 9, 5), 4, (3, 2), strides=(2, 1), pads=(1, 1, 0, 0)),
    "many_channels": lambda: convolution((40, 6, 5), 33, (3, 3), pads=(1, 1, 1, 1)),
    "transposed_column": lambda: transposed((4, 9, 1), 3, (4, 1), strides=(2, 1), pads=(1, 0, 1, 0), output_padding=(1, 0)),
    "transposed_plane": lambda: transposed(
        (4, 5, 6), 6, (3, 3), group=2, strides=(2, 3), pads=(1, 0, 2, 1), output_padding=(1, 2), dilations=(2, 1)
    ),
    "transposed_depthwise": lambda: transposed((4, 5, 6), 8, (2, 3), group=4, strides=(2, 3), dilations=(1, 2)),
    "transposed_line": lambda: transposed((4, 11), 2, (3,), strides=(3,), pads=(0, 1), output_padding=(2,), dilations=(2,)),
    "transposed_cropped": lambda: transposed((4, 3, 3), 2, (2, 2), strides=(3, 3), pads=(2, 0, 3, 4)),
    "maximum_plane": lambda: maximum((3, 10, 9), (3, 2), strides=(2, 2), pads=(1, 1, 1, 0), ceil_mode=1),
    "maximum_dilated": lambda: maximum((3, 10, 9), (3, 2), strides=(2, 2), pads=(2, 1, 1, 1), dilations=(2, 1)),
    "maximum_ceil": lambda: maximum((3, 10, 9), (2, 2), strides=(3, 3), pads=(1, 0, 1, 1), ceil_mode=1),
    "maximum_line": lambda: maximum((3, 11), (3,), strides=(2,), pads=(1, 1), dilations=(2,), ceil_mode=1),
    "maximum_point": lambda: maximum((3, 5, 5), (1, 1), strides=(2, 2)),
    "average_plane": lambda: average((3, 10, 9), (3, 2), (2, 2), (1, 1, 1, 0)),
    "average_whole": lambda: average((3, 4, 3), (4, 3), (1, 1), (0, 0, 0, 0), scale=-5),
    "average_whole_padded_at_the_end": lambda: average((3, 4, 1), (4, 1), (1, 1), (0, 0, 2, 0)),
    "average_line": lambda: average((3, 8), (3,), (2,), (1, 2)),
    "sum_plane": lambda: reduction((2, 3), keepdims=False),
    "sum_plane_kept": lambda: reduction((2, 3), keepdims=True),
    "sum_rows": lambda: reduction((3,), keepdims=False),
    "sum_rows_kept": lambda: reduction((3,), keepdims=True),
    "sum_columns": lambda: reduction((2,), keepdims=False),
    "sum_one_scale": lambda: reduction((2, 3), keepdims=False, per_channel=False),
    "residual_plain": lambda: residual((4, 6, 5), plain=True),
    "residual_scaled": lambda: residual((4, 6, 5), plain=False),
    "residual_wide": lambda: residual((4, 6, 5), plain=True, wide=True),
    "connected_row": lambda: fully_connected(7),
    "connected_flattened": lambda: fully_connected(3, 4, 2),
    "connected_rows": fully_connected_rows,
    "carrier_float32": lambda: wide_layer(8, [4095, -4095, 2049, 0], [12, 11, 9, 3]),
    "carrier_float64": lambda: wide_layer(20, [4095, -4095, 255, 1], [31, 20, 15, 12]),
    "carrier_integer": lambda: wide_layer(24, [4095, -4095, 255, 1], [31, 20, 15, 12], features=3000),
    "two_inputs": two_inputs,
    "int8_input": integer_input_model,
    "uint8_input": lambda: integer_input_model(TensorProto.UINT8),
}
CASES |= {
    f"readers_{label}_{'depthwise' if depthwise else 'dense'}": (
        lambda shape=shape, first=first, second=second, depthwise=depthwise: two_readers(
            shape, first, second, depthwise=depthwise
        )
    )
    for label, shape, first, second in (
        ("column", (4, 20, 1), ((3, 1), (1, 0, 1, 0)), ((5, 1), (0, 0, 3, 0))),
        ("column_and_plane", (4, 20, 1), ((3, 3), (1, 1, 1, 1)), ((5, 1), (2, 0, 2, 0))),
        ("column_and_point", (4, 9, 1), ((3, 3), (1, 1, 1, 1)), ((1, 1), (0, 0, 0, 0))),
        ("row_and_plane", (4, 1, 9), ((3, 3), (1, 1, 1, 1)), ((1, 5), (0, 2, 0, 1))),
        ("plane", (4, 9, 9), ((3, 3), (1, 1, 1, 1)), ((5, 5), (2, 0, 1, 3))),
    )
    for depthwise in (False, True)
}
CASES |= {
    f"moved_{kind}": (lambda kind=kind: moved(kind))
    for kind in ("concat", "concat_rows", "resize", "resize_to_sizes", "reshape", "transpose", "pad_and_slice", "squeeze")
}
CASES |= {
    f"island_{kind}": (lambda kind=kind: float_island(kind)) for kind in ("functions", "arithmetic", "minimum", "sign_of_zero")
}
CASES |= {
    f"pooled_{kind}": (lambda kind=kind: pooled(kind))
    for kind in (
        "plainly",
        "signed",
        "padded",
        "no_tap_everywhere",
        "scales_of_all_signs",
        "sum",
        "wide_positive",
        "wide_negative",
        "twice",
        "codes_given_out",
    )
}
CASES |= {
    f"by_channels_{kind}": (lambda kind=kind: by_channels(kind))
    for kind in ("plainly", "strided", "wide_rows", "residual", "row_beside_points", "dense_behind", "through_the_host")
}
CASES["long_way"] = long_way
