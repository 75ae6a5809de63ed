"""TensorFlow Lite files: what is written is read back, another library reads the same, damaged files are refused."""

from __future__ import annotations

import dataclasses
import doctest
import random
import struct
from importlib.util import find_spec

import numpy as np
import pytest

import support
from npusim.errors import ModelError, NpusimError, UnsupportedError
from npusim.graph import tflite_schema, tflite_writer
from npusim.graph.tflite_model import TfliteModel
from npusim.graph.tflite_reader import is_tflite, parse_tflite
from npusim.graph.tflite_writer import c_header, serialize_tflite
from support.tflite_models import operator, tensor

REAL = [] if support.FORMATS is None else sorted(support.FORMATS.glob("*/*/model.tflite"))


def small_model() -> TfliteModel:
    """A convolution, a reshape and a fully connected layer, with every kind of option."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (4, 3, 3, 2))
    tensors = (
        tensor("x", "INT8", (1, 8, 8, 2), 0.05, -3),
        tensor("w", "INT8", (4, 3, 3, 2), [0.01, 0.02, 0.03, 0.04], 0, weights),
        tensor("b", "INT32", (4,), [0.0005, 0.001, 0.0015, 0.002], 0, [1, -2, 3, -4]),
        tensor("c", "INT8", (1, 4, 4, 4), 0.1, 5),
        tensor("shape", "INT32", (2,), data=[1, 64]),
        tensor("r", "INT8", (1, 64), 0.1, 5),
        tensor("v", "INT8", (3, 64), 0.02, 0, rng.integers(-127, 128, (3, 64))),
        tensor("y", "INT8", (1, 3), 0.2, 1),
        tensor("z", "INT8", (1, 3), 1 / 256, -128),
    )
    operators = (
        operator(
            "CONV_2D", (0, 1, 2), (3,), 3, padding="SAME", stride_w=2, stride_h=2, activation="RELU", dilation_w=1, dilation_h=1
        ),
        operator("RESHAPE", (3, 4), (5,), new_shape=(1, 64)),
        operator("FULLY_CONNECTED", (5, 6, -1), (7,), 4, activation="NONE", weights_format="DEFAULT", keep_num_dims=0),
        operator("SOFTMAX", (7,), (8,), beta=0.5),
    )
    return TfliteModel(tensors, operators, (0,), (8,), "small")


def same(one: TfliteModel, other: TfliteModel) -> None:
    assert (one.operators, one.inputs, one.outputs, one.description) == (
        other.operators,
        other.inputs,
        other.outputs,
        other.description,
    )
    for first, second in zip(one.tensors, other.tensors, strict=True):
        for field in dataclasses.fields(first):
            mine, its = getattr(first, field.name), getattr(second, field.name)
            if isinstance(mine, np.ndarray):
                assert (mine.dtype, mine.tolist()) == (its.dtype, its.tolist())
            else:
                assert mine == its


def test_what_is_written_is_read_back():
    model = small_model()
    content = serialize_tflite(model)
    assert is_tflite(content)
    same(model, parse_tflite(content, "it"))


@pytest.mark.formats
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.parent.name)
def test_real_files_are_written_as_they_were_read(path):
    model = parse_tflite(path.read_bytes(), path.name)
    same(model, parse_tflite(serialize_tflite(model), "copy"))


@pytest.mark.formats
@pytest.mark.skipif(find_spec("tflite") is None, reason="needs the package tflite")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.parent.name)
def test_another_library_reads_the_same(path):
    import tflite

    content = path.read_bytes()
    model, root = parse_tflite(content, path.name), tflite.Model.GetRootAsModel(content, 0)
    graph = root.Subgraphs(0)
    assert graph.TensorsLength() == len(model.tensors)
    assert graph.OperatorsLength() == len(model.operators)
    for index, mine in enumerate(model.tensors):
        its = graph.Tensors(index)
        assert (mine.name, mine.type) == ((its.Name() or b"").decode(), tflite_schema.TYPE_NAMES[its.Type()])
        assert mine.shape == tuple(its.ShapeAsNumpy().tolist() if its.ShapeLength() else ())
        quantization, data = its.Quantization(), root.Buffers(its.Buffer()).DataAsNumpy()
        assert (mine.data is None) == isinstance(data, int)
        if mine.data is not None:
            assert mine.data.tobytes() == data.tobytes()
        if quantization is not None and quantization.ScaleLength():
            assert mine.scales == tuple(quantization.ScaleAsNumpy().tolist())
            assert mine.zero_points == tuple(quantization.ZeroPointAsNumpy().tolist())
    for mine, index in zip(model.operators, range(graph.OperatorsLength()), strict=True):
        its = graph.Operators(index)
        assert mine.inputs == tuple(its.InputsAsNumpy().tolist())
        assert mine.outputs == tuple(its.OutputsAsNumpy().tolist())


def mutated(content: bytes, seed: int) -> bytes:
    """The file with some bytes changed, words overwritten by numbers at the edges, or its end missing."""
    rng = random.Random(seed)
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        position = rng.randrange(8, len(damaged) - 4)
        kind = rng.randrange(3)
        if kind == 0:
            damaged[position] = rng.randrange(256)
        elif kind == 1:
            struct.pack_into("<i", damaged, position & ~3, rng.choice((-1, 0, 1, 2**31 - 1, -(2**31), 65535, len(damaged))))
        else:
            damaged[position] ^= 1 << rng.randrange(8)
    return bytes(damaged[: rng.randrange(8, len(damaged))] if rng.random() < 0.2 else damaged)


@pytest.mark.timeout(120)
def test_damaged_files_are_refused_or_read():
    content = serialize_tflite(small_model())
    said = []
    for seed in range(600):
        try:
            parse_tflite(mutated(content, seed), "it")
        except NpusimError as error:
            said.append(str(error))
    assert len(said) > 100
    assert [text for text in said if "\n" in text or len(text) > 400] == []


def test_tables_that_share_their_bytes_do_not_take_for_ever():
    """A list of a million operators that are all the same one."""
    content = bytearray(serialize_tflite(small_model()))
    parse_tflite(bytes(content), "it")
    for position in range(0, len(content) - 4, 4):
        changed = bytearray(content)
        struct.pack_into("<I", changed, position, len(content) // 4)
        try:
            parse_tflite(bytes(changed), "it")
        except NpusimError:
            continue


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scales": (float("nan"),), "zero_points": (0,)}, "scale nan"),
        ({"scales": (0.0,), "zero_points": (0,)}, "scale 0.0"),
        ({"scales": (0.1,), "zero_points": (200,)}, "zero point 200"),
        ({"scales": (0.1, 0.2), "zero_points": (0, 0)}, "2 scales along axis 0"),
        ({"shape": (1, -8)}, "shape (1, -8)"),
        ({"signature": (1, -1, -1)}, "a signature of 3"),
    ],
)
def test_tensors_that_contradict_themselves(change, said):
    model = small_model()
    broken = dataclasses.replace(model.tensors[8], **change)
    content = serialize_tflite(dataclasses.replace(model, tensors=(*model.tensors[:8], broken)))
    with pytest.raises(ModelError) as caught:
        parse_tflite(content, "it")
    assert said in str(caught.value)
    assert "tensor 8 'z' of it" in str(caught.value)


def test_what_is_not_simulated_is_named():
    model = small_model()
    short = dataclasses.replace(model.tensors[6], shape=(3, 60))
    with pytest.raises(ModelError, match="192 bytes, wanted 180"):
        parse_tflite(
            serialize_tflite(dataclasses.replace(model, tensors=(*model.tensors[:6], short, *model.tensors[7:]))), "it"
        )
    text = dataclasses.replace(model.tensors[6], type="STRING")
    with pytest.raises(UnsupportedError, match="elements of type STRING"):
        parse_tflite(serialize_tflite(dataclasses.replace(model, tensors=(*model.tensors[:6], text, *model.tensors[7:]))), "it")
    with pytest.raises(ModelError, match="is not a TensorFlow Lite model"):
        parse_tflite(b"\x08\x00\x00\x00ONNX", "it")


def test_the_header_holds_the_bytes():
    content = bytes(range(256))
    text = c_header(content, "model")
    numbers = text[text.index("{") + 1 : text.index("}")]
    assert bytes(int(number, 16) for number in numbers.replace("\n", " ").split(",")) == content
    assert "model_len = 256;" in text
    with pytest.raises(ValueError, match="not a C identifier"):
        c_header(content, "my model")


def test_examples():
    assert doctest.testmod(tflite_writer).failed == 0
