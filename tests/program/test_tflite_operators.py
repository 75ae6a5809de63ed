"""Every operator of TensorFlow Lite that npusim reads, in models made here, against the runtimes, by both engines."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

import npusim
from npusim.errors import NpusimError, UnsupportedError, UsageError
from support.tflite_models import ARITHMETICS, one_operator, operator, runtime, tensor, write

needs_tflite = pytest.mark.needs_tflite


def check(content, feeds, arithmetic):
    """The session's output on one sample is the runtime's, by both engines, and the same twice over for two samples."""
    wanted = runtime(content, feeds, arithmetic)
    for engine in ("fast", "reference"):
        session = npusim.InferenceSession(content, arithmetic=arithmetic, engine=engine)
        names = [item.name for item in session.get_inputs()]
        (y,) = session.run([session.get_outputs()[0].name], dict(zip(names, feeds, strict=True)))
        assert (y.dtype, y.shape, y.tolist()) == (wanted.dtype, wanted.shape, wanted.tolist())
        (two,) = session.run(
            [session.get_outputs()[0].name],
            {name: np.concatenate([feed, feed]) for name, feed in zip(names, feeds, strict=True)},
        )
        if len(wanted) == 1:
            assert two.tolist() == np.concatenate([wanted, wanted]).tolist()


def codes(rng, shape, wide=False):
    return rng.integers(-32768, 32768, shape).astype(np.int16) if wide else rng.integers(-128, 128, shape).astype(np.int8)


def windows(size, kernel, stride, dilation, padding):
    return -(-size // stride) if padding == "SAME" else (size - (kernel - 1) * dilation - 1) // stride + 1


def layer(rng, name, data, weights, axis, shape, options, *, wide=False, per_channel=True, before=(), version=3):
    """A layer with weights, with scales that use most of the codes of its output."""
    outputs = shape[-1]
    scale, point = 0.05 / (256 if wide else 1), 0 if wide else int(rng.integers(-128, 128))
    scales = rng.uniform(0.003, 0.02, outputs if per_channel else 1).astype(np.float32)
    spread = 73 * 73 * 0.05 * float(scales.mean()) * np.sqrt(weights.size / outputs) / 40 / (256 if wide else 1)
    bias, element = ("INT64", "INT16") if wide else ("INT32", "INT8")
    inputs = [
        *before,
        tensor("w", "INT8", weights.shape, scales, 0, weights, axis),
        tensor("x", element, data.shape, scale, point),
        tensor("b", bias, (outputs,), np.float32(scale) * scales, 0, rng.integers(-3000, 3000, outputs)),
    ]
    order = [*range(len(before)), len(before) + 1, len(before), len(before) + 2]
    if name == "TRANSPOSE_CONV":
        order = list(range(len(inputs)))
    output = tensor("y", element, shape, spread, 0 if wide else 7)
    call = operator(name, order, (len(inputs),), version, **options)
    return write((*inputs, output), (call,), [len(before) + 1], [len(inputs)])


@needs_tflite
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("wide", [False, True], ids=["int8", "int16"])
class TestLayers:
    @pytest.mark.parametrize("padding", ["SAME", "VALID"])
    @pytest.mark.parametrize(("strides", "dilations"), [((1, 1), (1, 1)), ((2, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 1), (2, 3))])
    @pytest.mark.parametrize("per_channel", [True, False])
    def test_convolution(self, arithmetic, wide, padding, strides, dilations, per_channel):
        rng = np.random.default_rng(1)
        x, weights = codes(rng, (1, 13, 16, 5), wide), rng.integers(-127, 128, (12, 3, 2, 5))
        sizes = [windows(x.shape[1 + i], weights.shape[1 + i], strides[i], dilations[i], padding) for i in (0, 1)]
        options = {"padding": padding, "stride_h": strides[0], "stride_w": strides[1], "activation": "RELU"}
        options |= {"dilation_h": dilations[0], "dilation_w": dilations[1]}
        content = layer(rng, "CONV_2D", x, weights, 0, (1, *sizes, 12), options, wide=wide, per_channel=per_channel)
        check(content, [x], arithmetic)

    @pytest.mark.parametrize("padding", ["SAME", "VALID"])
    @pytest.mark.parametrize(("channels", "multiplier"), [(1, 3), (5, 1), (6, 2), (12, 1), (16, 1)])
    def test_depthwise_convolution(self, arithmetic, wide, padding, channels, multiplier):
        rng = np.random.default_rng(2)
        x, weights = codes(rng, (1, 17, 14, channels), wide), rng.integers(-127, 128, (1, 3, 3, channels * multiplier))
        sizes = [windows(size, 3, 2, 1, padding) for size in (17, 14)]
        options = {"padding": padding, "stride_h": 2, "stride_w": 2, "depth_multiplier": multiplier, "activation": "RELU6"}
        content = layer(rng, "DEPTHWISE_CONV_2D", x, weights, 3, (1, *sizes, channels * multiplier), options, wide=wide)
        check(content, [x], arithmetic)

    @pytest.mark.parametrize(
        ("padding", "strides", "kernel"), [("SAME", (2, 2), (3, 3)), ("SAME", (3, 2), (1, 2)), ("VALID", (2, 3), (3, 2))]
    )
    def test_transposed_convolution(self, arithmetic, wide, padding, strides, kernel):
        rng = np.random.default_rng(3)
        x, weights = codes(rng, (1, 9, 8, 6), wide), rng.integers(-127, 128, (10, *kernel, 6))
        sizes = [
            size * stride if padding == "SAME" else (size - 1) * stride + length
            for size, stride, length in zip((9, 8), strides, kernel, strict=True)
        ]
        shape = tensor("shape", "INT32", (4,), data=[1, *sizes, 10])
        options = {"padding": padding, "stride_h": strides[0], "stride_w": strides[1]}
        content = layer(rng, "TRANSPOSE_CONV", x, weights, 0, (1, *sizes, 10), options, wide=wide, before=[shape])
        check(content, [x], arithmetic)

    @pytest.mark.parametrize("per_channel", [True, False])
    @pytest.mark.parametrize(("shape", "keeps"), [((1, 40), 0), ((1, 1, 1, 40), 0), ((1, 3, 40), 1)])
    def test_fully_connected(self, arithmetic, wide, per_channel, shape, keeps):
        rng = np.random.default_rng(4)
        x, weights = codes(rng, shape, wide), rng.integers(-127, 128, (300, 40))
        options, made = {"activation": "RELU", "keep_num_dims": keeps}, (*shape[:-1], 300) if keeps else (1, 300)
        content = layer(
            rng, "FULLY_CONNECTED", x, weights, 0, made, options, wide=wide, per_channel=per_channel, version=5 if keeps else 4
        )
        check(content, [x], arithmetic)

    @pytest.mark.parametrize("padding", ["SAME", "VALID"])
    @pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
    @pytest.mark.parametrize("activation", ["NONE", "RELU"])
    def test_pool(self, arithmetic, wide, padding, name, activation):
        rng = np.random.default_rng(5)
        x, element = codes(rng, (1, 11, 9, 7), wide), "INT16" if wide else "INT8"
        sizes = [windows(11, 3, 2, 1, padding), windows(9, 2, 3, 1, padding)]
        options = {"padding": padding, "stride_h": 2, "stride_w": 3, "filter_h": 3, "filter_w": 2, "activation": activation}
        same = (0.05, 0 if wide else -3)
        content = one_operator(
            name, [tensor("x", element, x.shape, *same)], tensor("y", element, (1, *sizes, 7), *same), options, 2
        )
        check(content, [x], arithmetic)


@needs_tflite
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
class TestMoves:
    CODING = (0.1, -7)

    def one(self, name, x, shape, others=(), options=None, version=1):
        inputs = [tensor("x", "INT8", x.shape, *self.CODING), *others]
        return one_operator(name, inputs, tensor("y", "INT8", shape, *self.CODING), options, version)

    def test_pads(self, arithmetic):
        x = codes(np.random.default_rng(1), (1, 4, 5, 3))
        pads = tensor("p", "INT32", (4, 2), data=[[0, 0], [1, 2], [0, 3], [2, 0]])
        check(self.one("PAD", x, (1, 7, 8, 5), [pads]), [x], arithmetic)
        value = tensor("v", "INT8", (1,), *self.CODING, data=[55])
        check(self.one("PADV2", x, (1, 7, 8, 5), [pads, value], version=2), [x], arithmetic)

    @pytest.mark.parametrize("axis", [1, 2, 3, -1])
    def test_splits_and_joins(self, arithmetic, axis):
        x = codes(np.random.default_rng(2), (1, 4, 6, 8))
        half = tuple(size // 2 if place == axis % 4 else size for place, size in enumerate(x.shape))
        parts = [tensor(name, "INT8", half, *self.CODING) for name in "yz"]
        tensors = (tensor("axis", "INT32", (), data=axis), tensor("x", "INT8", x.shape, *self.CODING), *parts)
        check(write(tensors, (operator("SPLIT", (0, 1), (2, 3), num_splits=2),), (1,), (3, 2)), [x], arithmetic)
        double = tuple(2 * size if place == axis % 4 else size for place, size in enumerate(x.shape))
        other = tensor("other", "INT8", x.shape, *self.CODING)
        content = self.one("CONCATENATION", x, double, [other], {"axis": axis}, 2)
        check(content, [x, codes(np.random.default_rng(3), x.shape)], arithmetic)

    def test_shapes(self, arithmetic):
        x = codes(np.random.default_rng(4), (1, 1, 6, 8))
        check(self.one("SQUEEZE", x, (1, 6, 8), options={"squeeze_dims": (1,)}), [x], arithmetic)
        check(self.one("EXPAND_DIMS", x, (1, 1, 1, 6, 8), [tensor("a", "INT32", (), data=1)]), [x], arithmetic)
        for shape in ((1, 48), (1, 8, 6), (1, 6, 1, 8), (1, 2, 3, 8)):
            wanted = tensor("s", "INT32", (len(shape),), data=[1, -1, *shape[2:]])
            check(self.one("RESHAPE", x, shape, [wanted], {"new_shape": shape}), [x], arithmetic)
        order = tensor("p", "INT32", (4,), data=[0, 3, 1, 2])
        check(self.one("TRANSPOSE", x, (1, 8, 1, 6), [order]), [x], arithmetic)

    @pytest.mark.parametrize("masks", [(0, 0, 0), (2, 4, 0), (0, 0, 4), (14, 14, 0)])
    def test_slices(self, arithmetic, masks):
        x = codes(np.random.default_rng(5), (1, 5, 6, 7))
        begins, ends, steps = [0, 1, 2, 0], [1, 4, 5, 7], [1, 2, 1, 3]
        taken = [
            begins[i]
            if masks[2] >> i & 1
            else slice(None if masks[0] >> i & 1 else begins[i], None if masks[1] >> i & 1 else ends[i], steps[i])
            for i in range(4)
        ]
        ranges = [tensor(name, "INT32", (4,), data=values) for name, values in (("b", begins), ("e", ends), ("s", steps))]
        options = dict(zip(("begin_mask", "end_mask", "shrink_axis_mask"), masks, strict=True))
        check(self.one("STRIDED_SLICE", x, x[tuple(taken)].shape, ranges, options), [x], arithmetic)

    @pytest.mark.parametrize(("corners", "centers"), [(0, 0), (1, 0), (0, 1)])
    def test_resize(self, arithmetic, corners, centers):
        x = codes(np.random.default_rng(6), (1, 5, 6, 3))
        sizes = tensor("s", "INT32", (2,), data=[10, 17])
        options = {"align_corners": corners, "half_pixel_centers": centers}
        check(self.one("RESIZE_NEAREST_NEIGHBOR", x, (1, 10, 17, 3), [sizes], options, 3), [x], arithmetic)

    def test_dilation_in_blocks(self, arithmetic):
        rng = np.random.default_rng(7)
        x, weights = codes(rng, (1, 10, 10, 4)), rng.integers(-127, 128, (4, 3, 3, 4))
        scales = rng.uniform(0.003, 0.02, 4).astype(np.float32)
        tensors = (
            tensor("x", "INT8", x.shape, *self.CODING),
            tensor("block", "INT32", (2,), data=[2, 2]),
            tensor("pads", "INT32", (2, 2), data=[[0, 0], [0, 0]] if arithmetic == "tflm" else [[2, 2], [2, 2]]),
            tensor("s", "INT8", (4, 5, 5, 4) if arithmetic == "tflm" else (4, 7, 7, 4), *self.CODING),
            tensor("w", "INT8", weights.shape, scales, 0, weights),
            tensor("b", "INT32", (4,), np.float32(0.1) * scales, 0, [1, 2, 3, 4]),
            tensor("c", "INT8", (4, 3, 3, 4) if arithmetic == "tflm" else (4, 5, 5, 4), 0.3, 5),
            tensor("crops", "INT32", (2, 2), data=[[0, 0], [0, 0]]),
            tensor("y", "INT8", (1, 6, 6, 4) if arithmetic == "tflm" else (1, 10, 10, 4), 0.3, 5),
        )
        operators = (
            operator("SPACE_TO_BATCH_ND", (0, 1, 2), (3,)),
            operator("CONV_2D", (3, 4, 5), (6,), 3, padding="VALID", stride_h=1, stride_w=1),
            operator("BATCH_TO_SPACE_ND", (6, 1, 7), (8,)),
        )
        content = write(tensors, operators, (0,), (8,))
        check(content, [x], arithmetic)
        (found,) = npusim.InferenceSession(content, arithmetic=arithmetic).program.layers
        assert found.window.dilations == (2, 2)

    @pytest.mark.parametrize("constant", [True, False])
    @pytest.mark.parametrize("name", ["ADD", "SUB", "MUL"])
    def test_broadcast(self, arithmetic, constant, name):
        rng = np.random.default_rng(8)
        a, b = codes(rng, (1, 6, 5, 4)), codes(rng, (1, 1, 1, 4))
        scale = 0.1 * 0.05 * 90 if name == "MUL" else 0.15
        second = tensor("b", "INT8", b.shape, 0.05, 3, b if constant else None)
        output = tensor("y", "INT8", a.shape, scale, -9)
        content = one_operator(name, [tensor("a", "INT8", a.shape, *self.CODING), second], output, {"activation": "RELU"})
        check(content, [a] if constant else [a, b], arithmetic)


def test_tflm_pads_blocks_with_something_and_is_refused():
    tensors = (
        tensor("x", "INT8", (1, 10, 10, 4), 0.1, 0),
        tensor("block", "INT32", (2,), data=[2, 2]),
        tensor("pads", "INT32", (2, 2), data=[[2, 2], [2, 2]]),
        tensor("s", "INT8", (4, 7, 7, 4), 0.1, 0),
        tensor("crops", "INT32", (2, 2), data=[[0, 0], [0, 0]]),
        tensor("y", "INT8", (1, 14, 14, 4), 0.1, 0),
    )
    calls = (operator("SPACE_TO_BATCH_ND", (0, 1, 2), (3,)), operator("BATCH_TO_SPACE_ND", (3, 1, 4), (5,)))
    with pytest.raises(UnsupportedError, match="has no convolution"):
        npusim.InferenceSession(write(tensors, calls, (0,), (5,)))


def test_data_that_is_a_constant_is_refused():
    """Found by fuzzing: SOFTMAX of the weights."""
    held = tensor("v", "INT8", (3, 4), 0.02, 0, np.arange(12))
    content = write((held, tensor("z", "INT8", (3, 4), 1 / 256, -128)), (operator("SOFTMAX", (0,), (1,), beta=1.0),), (), (1,))
    with pytest.raises(UnsupportedError, match="'v' is a constant"):
        npusim.InferenceSession(content)


@pytest.mark.parametrize(("dims", "shape"), [((), (3, 4)), ((2,), (1, 3, 4)), ((0, 2), (3, 4)), ((-2,), (1, 3, 4))])
def test_squeeze_drops_what_is_named_or_all_axes_of_one_element(dims, shape):
    x = codes(np.random.default_rng(2), (1, 3, 1, 4))
    ends = (tensor("x", "INT8", x.shape, 0.05, -3), tensor("y", "INT8", shape, 0.05, -3))
    content = write(ends, (operator("SQUEEZE", (0,), (1,), squeeze_dims=dims),), (0,), (1,))
    (y,) = npusim.InferenceSession(content).run(None, {"x": x})
    np.testing.assert_array_equal(y, x.reshape(shape))


@pytest.mark.parametrize(("name", "kind"), [("ADD", "ADD"), ("SUB", "ADD"), ("MUL", "MUL")])
def test_layers_of_two_operands_say_which_they_are(name, kind):
    parts = [tensor(part, "INT8", (1, 4), 0.05) for part in "xy"]
    content = one_operator(name, parts, tensor("z", "INT8", (1, 4), 0.1), {"activation": "NONE"})
    assert [layer.kind for layer in npusim.InferenceSession(content).program.layers] == [kind]


def test_squeeze_of_an_axis_with_elements_is_refused():
    content = one_operator(
        "SQUEEZE", (tensor("x", "INT8", (1, 3, 1, 4), 0.05),), tensor("y", "INT8", (1, 1, 4), 0.05), {"squeeze_dims": (1,)}
    )
    with pytest.raises(NpusimError, match=r"drops axes \[1\]"):
        npusim.InferenceSession(content)


def test_padding_beyond_any_memory_is_refused():
    """Found by fuzzing: SAME with a dilation of 2^31 - 1 asks for 4 billion rows."""
    data = tensor("x", "INT8", (1, 8, 8, 2), 0.05, -3)
    weights = tensor("w", "INT8", (4, 3, 3, 2), 0.01, 0, np.ones((4, 3, 3, 2)))
    options = {"padding": "SAME", "stride_w": 1, "stride_h": 1, "dilation_h": 2**31 - 1, "dilation_w": 1, "activation": "NONE"}
    content = one_operator("CONV_2D", (data, weights), tensor("y", "INT8", (1, 8, 8, 4), 0.1, 5), options)
    with pytest.raises(UnsupportedError, match=r"pads its input to \(4294967302, 10\)"):
        npusim.InferenceSession(content)


def test_an_arithmetic_that_there_is_not():
    content = one_operator("RELU", [tensor("x", "INT8", (1, 4), 0.1, 0)], tensor("y", "INT8", (1, 4), 0.1, 0))
    with pytest.raises(UsageError, match="tflm, tflm_single, litert_ref, litert, xnnpack"):
        npusim.InferenceSession(content, arithmetic="cmsis")


def test_one_rounding_is_another_arithmetic():
    """TFLM's compile switch: a product of -6 with 1/4 is -1.5, which rounds up once, and away from zero twice."""
    content = one_operator("QUANTIZE", [tensor("x", "INT8", (1, 2), 0.25, 0)], tensor("y", "INT8", (1, 2), 1.0, 0))
    x = {"x": np.array([[-6, 6]], np.int8)}
    found = {
        name: npusim.InferenceSession(content, arithmetic=name).run(None, x)[0].tolist() for name in ("tflm", "tflm_single")
    }
    assert found == {"tflm": [[-2, 2]], "tflm_single": [[-1, 2]]}


@pytest.mark.timeout(300)
def test_damaged_models_are_refused_or_run():
    rng = np.random.default_rng(0)
    x, weights = codes(rng, (1, 8, 8, 2)), rng.integers(-127, 128, (4, 3, 3, 2))
    options = {"padding": "SAME", "stride_h": 2, "stride_w": 2}
    content = layer(rng, "CONV_2D", x, weights, 0, (1, 4, 4, 4), options)
    refused = 0
    for seed in range(300):
        choice, damaged = random.Random(seed), bytearray(content)
        for _ in range(choice.choice((1, 2, 10))):
            place = choice.randrange(8, len(damaged) - 4)
            if choice.random() < 0.5:
                damaged[place] = choice.randrange(256)
            else:
                struct.pack_into("<i", damaged, place & ~3, choice.choice((-1, 0, 1, 7, 2**31 - 1, -(2**31))))
        try:
            session = npusim.InferenceSession(bytes(damaged), threads=1)
            shapes = {item.name: (item.shape, item.type[7:-1].replace("float", "float32")) for item in session.get_inputs()}
            session.run(None, {name: np.zeros(shape, dtype) for name, (shape, dtype) in shapes.items()})
        except NpusimError:
            refused += 1
    assert refused > 50


@needs_tflite
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("count", [7, 16, 23])
def test_elements_that_vectors_leave_over(arithmetic, count):
    """LiteRT's kernels for x86 take 16 elements at once and round the others in another way."""
    rng = np.random.default_rng(count)
    for source, result in (((0.125, 0), (0.2, -128)), ((0.05, 3), (0.2, 5)), ((0.1, -1), (0.4, 1))):
        a, b = codes(rng, (1, count)), codes(rng, (1, count))
        x, other = tensor("x", "INT8", a.shape, *source), tensor("b", "INT8", b.shape, *result)
        check(one_operator("QUANTIZE", [x], tensor("y", "INT8", a.shape, *result)), [a], arithmetic)
        check(one_operator("ADD", [x, other], tensor("y", "INT8", a.shape, *result), version=2), [a, b], arithmetic)
        real = (rng.integers(-200, 200, a.shape) * np.float32(result[0] / 2)).astype(np.float32)
        floats = one_operator("QUANTIZE", [tensor("x", "FLOAT32", real.shape)], tensor("y", "INT8", real.shape, *result))
        check(floats, [real], arithmetic)


@needs_tflite
@pytest.mark.parametrize("channels", [3, 16, 21, 32])
@pytest.mark.parametrize("arithmetic", ["litert", "litert_ref", "xnnpack"])
def test_means_over_images_that_keep_their_axes(arithmetic, channels):
    """LiteRT rounds them in a kernel of its own, and the channels that its vectors leave over in another way."""
    rng = np.random.default_rng(channels)
    for axes in ([1, 2], [2, 1]):
        scale, step = rng.uniform(0.01, 0.1, 2)
        zero, point = (int(item) for item in rng.integers(-128, 128, 2))
        inputs = [tensor("x", "INT8", (1, 5, 6, channels), scale, zero), tensor("a", "INT32", (2,), data=axes)]
        content = one_operator("MEAN", inputs, tensor("y", "INT8", (1, 1, 1, channels), step, point), {"keep_dims": True}, 2)
        for _ in range(8):
            check(content, [codes(rng, (1, 5, 6, channels))], arithmetic)
