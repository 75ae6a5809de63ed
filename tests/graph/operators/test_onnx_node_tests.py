"""ONNX's own tests of operators: each one of supported operators passes at the opset it comes in, or is named as left out.

What is left out stands in ``onnx_node_tests_left_out.toml`` with the number of tests and the reason. An entry that matches
nothing, or a test that is left out but would pass, fails here.
"""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from onnx import defs

import npusim
from npusim.errors import NpusimError
from npusim.graph.operators import SUPPORTED
from support.onnx_cases import Case, load_cases

REQUIRED = frozenset(
    (
        "Conv ConvTranspose Gemm MatMul MaxPool AveragePool GlobalAveragePool GlobalMaxPool BatchNormalization Resize "
        "QuantizeLinear DequantizeLinear "
        "Add Sub Mul Div Neg Abs Floor Ceil Round Clip Relu LeakyRelu Sigmoid Tanh HardSigmoid Softmax Exp Log Sqrt Pow "
        "Reciprocal Sign IsNaN Where Equal Less Greater Min Max ReduceSum ReduceMean ReduceMax ArgMax Flatten Reshape Squeeze "
        "Unsqueeze Transpose Concat Split Slice Gather GatherND Pad Expand Tile Cast Shape Constant ConstantOfShape Identity "
        "Dropout"
    ).split()
)

SEVERAL = "several operators"
STANDARD = {schema.name for schema in defs.get_all_schemas_with_history() if not schema.domain}
"""Names that ONNX itself defines; it has no tests of others."""
"""Where models of more than one operator are counted."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Tests that npusim refuses, or computes otherwise, by a pattern of their names."""

    pattern: str
    count: int
    reason: str
    differs: bool = False


@cache
def left_out() -> tuple[LeftOut, ...]:
    content = tomllib.loads((Path(__file__).with_name("onnx_node_tests_left_out.toml")).read_text("utf-8"))
    return tuple(LeftOut(**entry) for entry in content["left_out"])


def matches(case: Case, entry: LeftOut) -> bool:
    return fnmatchcase(case.name, entry.pattern)


@cache
def supported_cases() -> tuple[Case, ...]:
    """Cases all of whose operators npusim supports."""
    return tuple(
        case for case in load_cases() if case.operators and all(not domain and op in SUPPORTED for domain, op in case.operators)
    )


def cases_of(group: str) -> list[Case]:
    """The cases of one operator, or of models with several, that are not left out."""
    groups = {case.name: SEVERAL if len(case.operators) > 1 else next(iter(case.operators))[1] for case in supported_cases()}
    return [
        case
        for case in supported_cases()
        if groups[case.name] == group and not any(matches(case, entry) for entry in left_out())
    ]


def run_case(case: Case) -> None:
    """Run a case as onnx's own runner does; raises what npusim raises, AssertionError where a result is not the wanted one."""
    model = case.model()
    initialized = {tensor.name for tensor in model.graph.initializer}
    names = [info.name for info in model.graph.input if info.name not in initialized]
    content = model.SerializeToString()
    for inputs, wanted in case.data_sets():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            session = npusim.InferenceSession(content, check_finite=False)
            outputs = session.run(None, dict(zip(names, inputs, strict=True)))
        assert len(outputs) == len(wanted)
        for output, reference in zip(outputs, wanted, strict=True):
            check_output(output, np.asarray(reference), case)


def check_output(output: np.ndarray, wanted: np.ndarray, case: Case) -> None:
    assert type(output) is np.ndarray
    assert (output.dtype, output.shape) == (wanted.dtype, wanted.shape)
    if output.dtype.kind == "f":
        np.testing.assert_allclose(output, wanted, rtol=case.test.rtol, atol=case.test.atol)
    else:
        np.testing.assert_array_equal(output, wanted)


def test_every_required_operator_is_supported():
    assert set() == REQUIRED - SUPPORTED


@pytest.mark.slow
@pytest.mark.parametrize("group", [*sorted(SUPPORTED & STANDARD), SEVERAL])
def test_operator_passes_the_tests_of_onnx(group: str, tally: Callable[[str, int], None]):
    cases = cases_of(group)
    failures = []
    for case in cases:
        try:
            run_case(case)
        except (NpusimError, AssertionError, Warning) as error:
            failures.append(f"{case.name}: {type(error).__name__}: {' '.join(str(error).split())}")
    tally("ONNX operator tests passed", len(cases) - len(failures))
    assert failures == []
    assert cases, "onnx has no test of this operator that npusim could pass"


@pytest.mark.slow
@pytest.mark.parametrize("entry", left_out(), ids=lambda entry: entry.pattern)
def test_left_out_tests_exist_and_do_not_pass(entry: LeftOut, tally: Callable[[str, int], None]):
    cases = [case for case in supported_cases() if matches(case, entry)]
    assert len(cases) == entry.count
    tally(f"ONNX operator tests left out, {entry.reason}", entry.count)
    for case in cases:
        with pytest.raises(AssertionError if entry.differs else NpusimError):
            run_case(case)


@pytest.mark.slow
def test_no_test_is_left_out_twice():
    for case in supported_cases():
        assert sum(matches(case, entry) for entry in left_out()) <= 1, case.name
