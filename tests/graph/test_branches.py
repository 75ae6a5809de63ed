"""If nodes of a constant condition: the branch that is taken, with names of its own, values from outside and nested ones."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from npusim import InferenceSession, UnsupportedError
from npusim.verification import verify
from support.models import outputs_of_onnxruntime


def branch(factor: float, *nodes: object, level: str = "") -> object:
    """Computes ``x * factor + t`` of the outer x and t, under names that all branches of a level have."""
    constant = numpy_helper.from_array(np.array(factor, np.float32), f"c{level}")
    product, result = f"inner{level}", f"result{level}"
    own = [helper.make_node("Mul", ["x", f"c{level}"], [product]), *nodes, helper.make_node("Add", [product, "t"], [result])]
    return helper.make_graph(own, "branch", [], [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)], [constant])


def network(*, then: bool, as_node: bool, nested: bool = False) -> bytes:
    flag = numpy_helper.from_array(np.array(then), "flag")
    nodes = [helper.make_node("Constant", [], ["flag"], value=flag)] if as_node else []
    nodes.append(helper.make_node("Abs", ["x"], ["t"]))
    last = "plain"
    inner = helper.make_node("If", ["flag"], ["t2"], then_branch=branch(5.0, level="2"), else_branch=branch(7.0, level="2"))
    chosen = branch(2.0, inner, helper.make_node("Neg", ["t2"], ["unused"])) if nested else branch(2.0)
    nodes.append(helper.make_node("If", ["flag"], [last], then_branch=chosen, else_branch=branch(-3.0)))
    nodes += [helper.make_node("If", ["flag"], ["other"], then_branch=branch(4.0), else_branch=branch(0.5))]
    nodes.append(helper.make_node("Sub", [last, "other"], ["y"]))
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", kinds[:1], kinds[1:], [] if as_node else [flag])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("as_node", [False, True])
@pytest.mark.parametrize("then", [False, True])
def test_the_branch_is_taken(then: bool, as_node: bool, nested: bool) -> None:
    model = network(then=then, as_node=as_node, nested=nested)
    x = np.random.default_rng(2).normal(0, 3, (3, 4)).astype(np.float32)
    wanted = np.concatenate([row[0] for row in outputs_of_onnxruntime(model, *({"x": one[None]} for one in x))])
    session = InferenceSession(model)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], wanted)
    assert verify(session, {"x": x})
    assert not any(step.operator == "If" for step in session.program.host_operations)


def shaped(*conditions: object, size: object = "n", width: int = 4) -> bytes:
    """One If behind the nodes of its condition, which is ``flag``."""
    nodes = [
        *conditions,
        helper.make_node("Abs", ["x"], ["t"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch(2.0), else_branch=branch(-3.0)),
    ]
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, width]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(np.array(value), name) for name, value in (("one", 1), ("four", [4]))]
    graph = helper.make_graph(nodes, "g", kinds[:1], kinds[1:], constants)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


SIZE = [
    helper.make_node("Flatten", ["x"], ["flat"]),
    helper.make_node("Shape", ["flat"], ["sizes"]),
    helper.make_node("Gather", ["sizes", "one"], ["width"]),
    helper.make_node("Equal", ["width", "four"], ["flag"]),
]
"""What torch writes of ``if x.shape[1] == 4``."""


@pytest.mark.parametrize("size", [1, "n"])
@pytest.mark.parametrize("width", [4, 5])
def test_conditions_of_sizes_that_the_model_fixes_are_computed(size: object, width: int) -> None:
    model = shaped(*SIZE, size=size, width=width)
    x = np.random.default_rng(3).normal(0, 3, (3, width)).astype(np.float32)
    wanted = np.concatenate([row[0] for row in outputs_of_onnxruntime(model, *({"x": one[None]} for one in x))])
    session = InferenceSession(model)
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], wanted)
    np.testing.assert_array_equal(wanted, x * (2 if width == 4 else -3) + np.abs(x))
    assert verify(session, {"x": x})


def test_conditions_computed_from_constants() -> None:
    model = shaped(
        helper.make_node("Cast", ["four"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Less", ["wide", "wide"], ["less"]),
        helper.make_node("Not", ["less"], ["flag"]),
    )
    x = np.array([[1, -2, 3, -4]], np.float32)
    np.testing.assert_array_equal(InferenceSession(model).run(None, {"x": x})[0], x * 2 + np.abs(x))


def test_a_size_that_stays_open_decides_nothing() -> None:
    nodes = [helper.make_node("Shape", ["x"], ["sizes"]), *SIZE[2:]]
    with pytest.raises(UnsupportedError, match="If"):
        InferenceSession(shaped(*nodes, width="m")).run(None, {"x": np.zeros((1, 4), np.float32)})  # type: ignore[arg-type]


def test_a_condition_that_depends_on_the_input_is_refused() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["flag"], to=TensorProto.BOOL),
        helper.make_node("Abs", ["x"], ["t"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=branch(1.0), else_branch=branch(2.0)),
    ]
    kinds = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", kinds[:1], kinds[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    with pytest.raises(UnsupportedError, match="control flow"):
        InferenceSession(model.SerializeToString())
