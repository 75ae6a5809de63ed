"""ONNX's own operator tests as the installed onnx package brings them: models with inputs, expected outputs and tolerances."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

__all__ = ["Case", "load_cases"]

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
"""Kinds that lie in the package or are built by it; the others download networks of hundreds of megabytes."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test: a model, and for each set of inputs the outputs wanted.

    `operators` holds the operators of the graph with their domain, ``""`` for the default one.
    """

    name: str
    kind: str
    operators: frozenset[tuple[str, str]]
    test: TestCase

    def model(self) -> onnx.ModelProto:
        if self.test.model_dir is None:
            return self.test.model
        return onnx.load(Path(self.test.model_dir) / "model.onnx")

    def data_sets(self) -> Iterator[tuple[list[object], list[object]]]:
        """Inputs in the order of the graph's inputs, outputs in that of its outputs; what is not a tensor as onnx holds it."""
        if self.test.model_dir is None:
            for inputs, outputs in self.test.data_sets:
                yield [_plain(item) for item in inputs], [_plain(item) for item in outputs]
            return
        for folder in sorted(Path(self.test.model_dir).glob("test_data_set*")):
            yield _tensors(folder, "input"), _tensors(folder, "output")


@cache
def load_cases() -> tuple[Case, ...]:
    """All cases, built once in a process: that takes several seconds."""
    with warnings.catch_warnings():
        # Building the expected outputs overflows on purpose.
        warnings.simplefilter("ignore", RuntimeWarning)
        tests = [(kind, test) for kind in KINDS for test in load_model_tests(kind=kind)]
    cases = []
    for kind, test in tests:
        model = test.model if test.model_dir is None else onnx.load(Path(test.model_dir) / "model.onnx")
        operators = frozenset(("" if node.domain == "ai.onnx" else node.domain, node.op_type) for node in model.graph.node)
        cases.append(Case(test.name, kind, operators, test))
    return tuple(sorted(cases, key=lambda case: (KINDS.index(case.kind), case.name)))


def _plain(item: object) -> object:
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    return np.asarray(item) if isinstance(item, np.generic) else item


def _tensors(folder: Path, prefix: str) -> list[object]:
    count = len(list(folder.glob(f"{prefix}_*.pb")))
    return [_tensor(folder / f"{prefix}_{index}.pb") for index in range(count)]


def _tensor(path: Path) -> npt.NDArray[np.generic]:
    proto = onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(proto)
