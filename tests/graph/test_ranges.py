"""Claimed ranges against what operators give: npusim's and onnxruntime's results of random small operands, one by one.

The oracle knows no rule: it computes, and holds every element against the claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper

from npusim.errors import NpusimError
from npusim.graph import Graph, Node, TensorType
from npusim.graph.operators import SUPPORTED, evaluate_node
from npusim.graph.range_rules import RULES
from npusim.graph.ranges import (
    UNKNOWN,
    ValueRange,
    ends_of_results,
    range_of_constant,
    range_of_outputs,
    range_of_type,
)
from npusim.graph.traits import TRAITS
from support.single_operator import run_by_onnxruntime

Array = npt.NDArray[Any]

FLOATS = ("f4", "f2", "f8")
INTEGERS = ("i1", "u1", "i4", "i8")
SIGNED = ("i1", "i4", "i8")
TRIES = 6


@dataclass(frozen=True)
class Form:
    """One way to write a node: its operands are variables ("x"), constants, or the first operand again ("=")."""

    operator: str
    operands: tuple[str | Array | None, ...] = ("x",)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 17
    dtypes: tuple[str, ...] = FLOATS
    shape: tuple[int, ...] = (1, 2, 3, 4)
    outputs: int = 1
    known: bool = True

    def __str__(self) -> str:
        shown = ",".join(f"{name}={value}" for name, value in self.attributes.items() if not isinstance(value, np.ndarray))
        places = "".join("c" if isinstance(item, np.ndarray) else item or "-" for item in self.operands)
        return f"{self.operator}-{places}-{shown}-{self.opset}"


def numbers(*values: float, dtype: str = "f4") -> Array:
    return np.array(values, dtype)


def whole(*values: int) -> Array:
    return np.array(values, np.int64)


def scalar(value: float, dtype: str = "f4") -> Array:
    return np.array(value, dtype)


ALL = (*FLOATS, *INTEGERS)
F4 = ("f4",)
POOL = {"kernel_shape": (2, 2), "strides": (1, 1)}


def forms() -> Iterator[Form]:
    for name in ("Add", "Sub", "Mul"):
        for second in ("x", "="):
            yield Form(name, ("x", second), dtypes=ALL)
        yield Form(name, ("x", numbers(-0.0, 3, -1.5, 2)), dtypes=F4)
        yield Form(name, ("x", scalar(1)), {"broadcast": 1, "axis": 1}, opset=6, dtypes=F4, known=False)
    for name in ("Div", "Mod"):
        for divisor in (3.0, -2.0):
            fmod = {"fmod": 1} if name == "Mod" else {}
            yield Form(name, ("x", scalar(divisor)), fmod, dtypes=F4)
        yield Form(name, ("x", "x"), fmod, dtypes=FLOATS, known=False)
        yield Form(name, ("x", np.array([-1, 3, 1, 2], np.int32)), dtypes=("i4",), known=False)
        yield Form(name, ("x", np.array([2, 3, 1, 2], np.int32)), dtypes=("i4",))
    yield Form("Sum", ("x", "x", "x"))
    yield Form("Sum", ("x", "="))
    for name in ("Min", "Max"):
        yield Form(name, ("x", "x", numbers(-0.0)), dtypes=F4)
        yield Form(name, ("x", "x"), dtypes=("f8", *INTEGERS))
    for name in ("Neg", "Abs", "Sign"):
        yield Form(name, dtypes=(*FLOATS, *SIGNED))
    for name in ("Reciprocal", "Sqrt", "Floor", "Ceil", "Round", "Sigmoid", "Tanh", "Erf", "Exp", "Softplus", "HardSigmoid"):
        yield Form(name)
    yield Form("HardSigmoid", attributes={"alpha": 0.0, "beta": 0.25})
    yield Form("HardSigmoid", attributes={"alpha": -1.0, "gamma": 0.25}, known=False, dtypes=F4)
    yield Form("Relu")
    for low, high in ((0.0, 6.5), (-3.0, 4.0), (5.0, 1.0)):
        if low < high:
            yield Form("Clip", attributes={"min": low, "max": high}, opset=9)
        yield Form("Clip", ("x", scalar(low), scalar(high)), dtypes=F4)
    yield Form("Clip", attributes={"max": 100.75}, opset=10)
    yield Form("Clip", ("x", None, scalar(-0.0)), dtypes=F4)
    yield Form("Clip", ("x", scalar(3, "i1")), dtypes=("i1",))
    yield Form("Clip", attributes={"max": 1.0}, opset=13, known=False, dtypes=F4)
    for alpha in (0.5, 0.0, 2.0, -1.0):
        known = alpha >= 0
        yield Form("LeakyRelu", attributes={"alpha": alpha}, known=known)
        yield Form("ThresholdedRelu", attributes={"alpha": alpha}, dtypes=F4, known=known)
        yield Form("PRelu", ("x", numbers(alpha, 1, 0, 2)), dtypes=F4, known=known)
    for name in ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"):
        yield Form(name, ("x", "x"), dtypes=("f4", "i4"))
    for name in ("And", "Or", "Xor"):
        yield Form(name, ("x", "x"), dtypes=("?",))
    yield Form("Not", dtypes=("?",))
    yield Form("IsNaN", dtypes=F4)
    yield Form("IsInf", attributes={"detect_negative": 0}, dtypes=F4)
    yield Form("Where", (np.array([True, False, True, True]), "x", "x"), dtypes=("f4", "i8"))
    for target in (1, 2, 3, 6, 7, 9, 10, 11):
        yield Form("Cast", attributes={"to": target}, dtypes=(*ALL, "?"))
        yield Form("Cast", attributes={"to": target, "of_another_version": 1}, dtypes=F4, known=False)
    yield Form("CastLike", ("x", scalar(0, "i1")), dtypes=("f4", "i4"))
    yield Form("Identity", dtypes=ALL)
    yield Form("Dropout", attributes={"ratio": 0.3}, opset=10, dtypes=F4)
    yield Form("Dropout", ("x", scalar(0.3), np.array(False)), dtypes=F4)
    for dtype in ("i1", "u1"):
        yield Form("QuantizeLinear", ("x", scalar(0.25), scalar(3, dtype)), dtypes=F4)
        yield Form("DequantizeLinear", ("x", scalar(0.3), scalar(3, dtype)), dtypes=(dtype,))
        yield Form("DequantizeLinear", ("x", numbers(0.3, -2), np.array([3, 7], dtype)), {"axis": 1}, dtypes=(dtype,))
    yield Form("Reshape", ("x", whole(1, -1)), dtypes=ALL)
    yield Form("Flatten", dtypes=("f4", "i4"))
    yield Form("Squeeze", ("x", whole(0)), dtypes=F4)
    yield Form("Unsqueeze", attributes={"axes": (0,)}, opset=11, dtypes=F4)
    yield Form("Transpose", attributes={"perm": (0, 2, 1, 3)}, dtypes=("f4", "u1"))
    yield Form("Concat", ("x", "=", "x", np.full((1, 1, 3, 4), 7.5, np.float32)), {"axis": 1}, dtypes=F4)
    yield Form("Split", attributes={"axis": 2}, outputs=3, dtypes=("f4", "i4"))
    yield Form("Slice", ("x", whole(1), whole(3), whole(2)), dtypes=F4)
    yield Form("Slice", attributes={"starts": (1,), "ends": (3,), "axes": (3,)}, opset=9, dtypes=F4)
    yield Form("Gather", ("x", whole(1, 0)), {"axis": 1}, dtypes=("f4", "i8"))
    yield Form("GatherElements", ("x", whole(1, 0).reshape(1, 1, 1, 2)), {"axis": 3}, dtypes=F4)
    yield Form("GatherND", ("x", whole(0, 1).reshape(1, 2)), dtypes=F4)
    yield Form("Expand", ("x", whole(2, 2, 3, 4)), dtypes=("f4", "i4"))
    yield Form("Tile", ("x", whole(1, 2, 1, 1)), dtypes=("f4", "i4"))
    pads = whole(0, 0, 1, 1, 0, 0, 0, 1)
    yield Form("Pad", ("x", pads), dtypes=("f4", "i4"))
    yield Form("Pad", ("x", pads, scalar(-9.5)), dtypes=F4)
    yield Form("Pad", ("x", pads, "scalar"), dtypes=F4)
    yield Form("Pad", ("x", whole(1, 1, 0, 0), None, whole(2, 3)), opset=18, dtypes=F4)
    yield Form("Pad", ("x", whole(1, 1, 0, 0), scalar(3.5), whole(2, 3)), opset=18, dtypes=F4)
    for mode in ("edge", "reflect"):
        yield Form("Pad", ("x", pads), {"mode": mode}, dtypes=F4)
    yield Form("Pad", attributes={"pads": tuple(pads.tolist()), "value": 2.5}, opset=10, dtypes=F4)
    scales = numbers(1, 1, 2, 1.5)
    for mode in ("nearest", "linear"):
        yield Form("Resize", ("x", None, scales), {"mode": mode}, dtypes=("f4", "i4", "u1"))
        crop = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 300.5}
        yield Form("Resize", ("x", numbers(0, 0, -0.5, 0, 1, 1, 1.5, 1), scales), crop, dtypes=F4)
    yield Form("Resize", ("x", scales), {"mode": "nearest"}, opset=10, dtypes=F4)
    for mode in ("nearest", "linear"):
        yield Form("Upsample", ("x", scales), {"mode": mode}, opset=9, dtypes=F4)
    yield Form("Resize", ("x", None, scales), {"mode": "cubic"}, dtypes=F4, known=False)
    yield Form("DepthToSpace", attributes={"blocksize": 2}, shape=(1, 4, 2, 2), dtypes=F4)
    yield Form("SpaceToDepth", attributes={"blocksize": 2}, shape=(1, 4, 2, 2), dtypes=F4)
    weights = np.array([2, -3, 1, 0, 5, -1, 4, 7], np.float32)
    yield Form("Conv", ("x", weights.reshape(2, 2, 1, 2), numbers(3, -4)), {"pads": (0, 1, 0, 1)}, dtypes=F4)
    yield Form("Conv", ("x", weights[:4].reshape(2, 1, 1, 2)), {"group": 2}, dtypes=F4)
    yield Form("ConvTranspose", ("x", weights.reshape(2, 2, 1, 2)), {"strides": (1, 2)}, dtypes=F4)
    yield Form("Gemm", ("x", weights.reshape(2, 4), numbers(3, -4)), {"transB": 1}, shape=(3, 4), dtypes=F4)
    yield Form("Gemm", ("x", weights.reshape(4, 2)), {"alpha": 0.5}, shape=(3, 4), dtypes=F4)
    yield Form("Conv", ("x", weights.reshape(2, 2, 1, 2) / 3, numbers(0.3, -4)), dtypes=F4)
    yield Form("MatMul", ("x", weights.reshape(4, 2)), dtypes=F4)
    yield Form("MatMul", ("x", weights.reshape(4, 2).astype(np.int32)), dtypes=("i4",))
    yield Form("MatMul", ("x", "x"), shape=(1, 3, 3), dtypes=F4, known=False)
    yield Form("MaxPool", attributes=POOL, dtypes=("f4", "i1"))
    yield Form("MaxPool", attributes={**POOL, "pads": (1, 0, 0, 1), "ceil_mode": 1, "strides": (2, 2)}, dtypes=F4)
    yield Form("MaxPool", attributes=POOL, dtypes=F4, outputs=2)
    yield Form("MaxPool", attributes={**POOL, "pads": (1, 1, 1, 1), "dilations": (3, 2)}, dtypes=F4, known=False)
    yield Form("GlobalMaxPool", dtypes=F4)
    yield Form("AveragePool", attributes={**POOL, "pads": (1, 0, 0, 1)}, dtypes=F4)
    yield Form("AveragePool", attributes={**POOL, "pads": (1, 0, 0, 1), "count_include_pad": 1}, dtypes=F4)
    yield Form("GlobalAveragePool", dtypes=F4)
    for name in ("ReduceMax", "ReduceMin", "ReduceMean", "ReduceL1", "ReduceSumSquare"):
        yield Form(name, attributes={"axes": (2, 3), "keepdims": 0}, dtypes=("f4", "i4"))
        yield Form(name, ("x", whole(1)), opset=18, dtypes=F4)
    yield Form("ReduceSum", ("x", whole(2)), dtypes=("f4", "i4"))
    yield Form("ArgMax", attributes={"axis": 2, "select_last_index": 1}, dtypes=("f4", "i4"))
    yield Form("ArgMin", attributes={"axis": -1}, dtypes=("f4", "i4"))
    yield Form("Softmax", attributes={"axis": 1}, dtypes=FLOATS)
    yield Form("Softmax", opset=11, dtypes=F4)
    yield Form("ConstantOfShape", ("shape",), {"value": numbers(-2.5)}, dtypes=F4)


FORMS = tuple(forms())

EXTREMES = (-np.inf, -3e38, -65504.0, -255.0, -128.0, -3.0, -2.5, -1.0, -0.5, -1e-40, -0.0)


def values_of(dtype: str, generator: np.random.Generator) -> Array:
    """A few values of a type: small whole numbers, fractions, or anything with ends, infinities and NaN."""
    kind = np.dtype(dtype)
    count = int(generator.integers(1, 5))
    if kind.kind == "b":
        return generator.integers(0, 2, count).astype(kind)
    if kind.kind in "iu":
        info = np.iinfo(kind)
        choices = [int(info.min), int(info.min) + 1, -3, -1, 0, 1, 2, 7, int(info.max) // 2 + 1, int(info.max)]
        if generator.random() < 0.5:
            choices = [-3, -1, 0, 1, 2, 7]
        return (
            np.array([choices[place] for place in generator.integers(0, len(choices), count)])
            .clip(info.min, info.max)
            .astype(kind)
        )
    match generator.integers(0, 4):
        case 0:
            return generator.integers(-12, 13, count).astype(kind)
        case 1:
            return np.array(generator.integers(-24, 25, count) / 4, kind)
        case 2:
            return np.array(np.abs(generator.integers(1, 25, count) / 4), kind)
    anything = (*EXTREMES, *(-value for value in EXTREMES), np.nan)
    with np.errstate(all="ignore"):
        return np.array(generator.choice(anything, count)).astype(kind)


def arrays(form: Form, dtype: str, generator: np.random.Generator) -> tuple[list[str], dict[str, Array], dict[str, Array]]:
    """Names of the operands, their values, and for variables the values they were drawn from."""
    names: list[str] = []
    given: dict[str, Array] = {}
    pools: dict[str, Array] = {}
    for place, operand in enumerate(form.operands):
        name = "" if operand is None else names[0] if isinstance(operand, str) and operand == "=" else f"x{place}"
        names.append(name)
        if isinstance(operand, np.ndarray):
            given[name] = operand
        elif operand == "shape":
            given[name] = pools[name] = whole(2)
        elif operand is not None and name not in given:
            pools[name] = values_of(dtype, generator)
            shape = () if operand == "scalar" else form.shape
            given[name] = generator.choice(pools[name], shape).astype(dtype)
    return names, given, pools


def check(claim: ValueRange, values: Array, where: str) -> None:
    """Every value lies in the claimed range."""
    if values.dtype.kind != "f":
        assert values.size == 0 or (int(values.min()) >= claim.lower and int(values.max()) <= claim.upper), (where, claim)
        return
    assert claim.nan or not np.isnan(values).any(), (where, claim, values)
    real = values[~np.isnan(values)].astype(np.float64)
    assert ((real >= claim.lower) & (real <= claim.upper)).all(), (where, claim, real)
    if claim.integral:
        finite = real[np.isfinite(real)]
        assert (finite == np.floor(finite)).all(), (where, claim, real)
    if not claim.negative_zero:
        assert not (np.signbit(real) & (real == 0)).any(), (where, claim, real)


def computed(node: Node, given: Mapping[str, Array], opset: int) -> tuple[Array, ...] | None:
    try:
        with np.errstate(all="ignore"):
            return evaluate_node(node, dict(given), opset)
    except NpusimError:
        return None


def by_onnxruntime(form: Form, names: list[str], given: Mapping[str, Array]) -> Array | None:
    outputs = ["y", *(f"y{place}" for place in range(1, form.outputs))]
    attributes = {
        name: helper.make_tensor("value", 1, value.shape, value) if isinstance(value, np.ndarray) else value
        for name, value in form.attributes.items()
    }
    try:
        return run_by_onnxruntime(
            [helper.make_node(form.operator, names, outputs, **attributes)], [dict(given)], opset=form.opset
        )[0]
    except Exception:  # noqa: BLE001 - the runtime refuses types and attributes in many ways
        return None


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_no_result_leaves_its_claimed_range(form: Form) -> None:
    generator = np.random.default_rng(list(str(form).encode()))
    judged = agreeing = claimed = 0
    for dtype in form.dtypes:
        for attempt in range(TRIES):
            names, given, pools = arrays(form, dtype, generator)
            outputs = tuple(f"y{place}" for place in range(form.outputs))
            node = Node(form.operator, "", tuple(names), outputs, form.attributes)
            results = computed(node, given, form.opset)
            if results is None:
                continue
            judged += 1
            constants = {name: value for name, value in given.items() if name not in pools}
            known = {**given, **dict(zip(outputs, results, strict=True))}
            types = {name: TensorType(value.dtype, value.shape) for name, value in known.items()}
            graph = Graph(form.opset, tuple(pools), outputs, (node,), constants, types)
            claims = range_of_outputs(node, {name: range_of_constant(pool) for name, pool in pools.items()}, graph)
            for claim, result, output in zip(claims, results, outputs, strict=True):
                check(claim, result, f"{form} {dtype} {output}")
            claimed += claims[0] not in (UNKNOWN, range_of_type(results[0].dtype))
            if attempt % 2 == 0:
                other = by_onnxruntime(form, names, given)
                if other is not None:
                    agreeing += 1
                    check(claims[0], other, f"{form} {dtype} onnxruntime")
            check_ends(form, node, pools, given, types, generator)
    assert judged or not form.known
    assert claimed or not form.known or form.operator in WHOLE_TYPE
    assert agreeing or not form.known or form.operator in ONLY_HERE


WHOLE_TYPE = frozenset(
    "QuantizeLinear And Or Xor Not Equal Less LessOrEqual Greater GreaterOrEqual IsNaN IsInf CastLike".split()
)
"""Operators whose results can be anything that their type holds."""

ONLY_HERE = frozenset(("CastLike",))
"""Operators that onnxruntime does not run alone."""


def check_ends(
    form: Form,
    node: Node,
    pools: Mapping[str, Array],
    given: Mapping[str, Array],
    types: Mapping[str, TensorType],
    generator: np.random.Generator,
) -> None:
    """Element by element: three drawings between the ends of each element, and the ends themselves."""
    if any(np.isnan(pool).any() for pool in pools.values() if pool.dtype.kind == "f"):
        return
    drawn = [{name: generator.choice(pool, given[name].shape) for name, pool in pools.items()} for _ in range(4)]
    lower = {name: np.minimum.reduce([values[name] for values in drawn]) for name in pools}
    upper = {name: np.maximum.reduce([values[name] for values in drawn]) for name in pools}
    ends = [None if not name else (lower[name], upper[name]) if name in pools else (given[name],) * 2 for name in node.inputs]
    constants = {name: value for name, value in given.items() if name not in pools}
    found = ends_of_results(node, ends, constants, types, form.opset)
    for values in (*drawn, lower, upper):
        results = computed(node, {**constants, **values}, form.opset) or ()
        for result, pair in zip(results, found, strict=False):
            if pair is not None:
                assert ((result >= pair[0]) & (result <= pair[1])).all(), (str(form), pair, result)


def test_every_operator_has_traits_a_rule_and_a_form() -> None:
    assert set(TRAITS) == set(RULES) == set(SUPPORTED)
    ruled = {name for name, rule in RULES.items() if rule.rule is not RULES["Pow"].rule}
    assert {form.operator for form in FORMS} >= ruled


CODES = ValueRange(-128, 127, True)


def claim_of(operator: str, attributes: dict[str, Any], *, opset: int = 17, dtype: str = "f4") -> ValueRange:
    kind = TensorType(np.dtype(dtype), (1, 2))
    node = Node(operator, "", ("x",), ("y",), attributes)
    return range_of_outputs(node, {"x": CODES}, Graph(opset, ("x",), ("y",), (node,), {}, {"x": kind, "y": kind}))[0]


@pytest.mark.parametrize("operator", sorted(set(RULES) - {"Shape", "Size"}))
def test_nothing_is_known_with_an_attribute_that_no_rule_lists(operator: str) -> None:
    assert claim_of(operator, {"of_another_version": 1}) == UNKNOWN
    assert claim_of(operator, {"of_another_version": 1}, dtype="i1") == range_of_type(np.dtype("i1"))


def test_integers_that_wrap_around_may_be_anything() -> None:
    whole_type = range_of_type(np.dtype("i1"))
    assert claim_of("Neg", {}, dtype="i1") == claim_of("Abs", {}, dtype="i1") == whole_type
    assert claim_of("Neg", {}) == ValueRange(-127, 128, True, negative_zero=True)


def test_a_product_of_a_tensor_with_itself() -> None:
    kind = TensorType(np.dtype("f4"), (1, 2))
    node = Node("Mul", "", ("x", "x"), ("y",))
    graph = Graph(17, ("x",), ("y",), (node,), {}, {"x": kind, "y": kind})
    assert range_of_outputs(node, {"x": CODES}, graph) == (ValueRange(0, 128 * 128, True),)


def test_bounds_that_are_attributes_may_be_fractions() -> None:
    assert claim_of("Clip", {"min": 0.0, "max": 6.5}, opset=9) == ValueRange(0.0, 6.5, False)
    assert claim_of("Clip", {"min": 0.0, "max": 6.0}, opset=9) == ValueRange(0.0, 6.0, True)


def test_attributes_of_another_version_are_not_read() -> None:
    assert claim_of("Clip", {"min": 0.0}, opset=13) == UNKNOWN
