"""The table of operators: complete, without doubles, each found by its name."""

from __future__ import annotations

import doctest
import importlib

import pytest
from onnx import defs

import npusim.graph.operators
from npusim.graph.foreign import FOREIGN_OPERATORS
from npusim.graph.operators import SUPPORTED, lookup, merge_tables

MODULES = (
    "npusim.kernels.arithmetic",
    "npusim.kernels.casting",
    "npusim.kernels.gather",
    "npusim.kernels.padding",
    "npusim.kernels.reduction",
    "npusim.kernels.softmax",
    "npusim.kernels.transcendental",
    "npusim.graph.operators",
    "npusim.graph.operators.arguments",
    "npusim.graph.operators.casting",
)


def tables() -> list[dict[str, object]]:
    modules = [item for item in vars(npusim.graph.operators).values() if hasattr(item, "OPERATORS")]
    return [module.OPERATORS for module in modules]


def test_every_operator_stands_in_exactly_one_table():
    assert sum(len(table) for table in tables()) == len(SUPPORTED) == len(set().union(*tables()))
    assert all(lookup(name) is table[name] for table in tables() for name in table)


def test_an_operator_in_two_tables_is_refused():
    with pytest.raises(ValueError, match="Add are implemented twice"):
        merge_tables({"Add": lookup("Add"), "Sub": lookup("Sub")}, {"Add": lookup("Add")})


def test_the_merged_table_cannot_be_changed():
    with pytest.raises(TypeError):
        merge_tables({"Add": lookup("Add")})["Sub"] = lookup("Sub")


def test_unknown_operators_are_not_found():
    assert lookup("Loop") is None
    assert lookup("add") is None
    assert lookup("") is None


def test_every_name_is_an_operator_of_onnx_or_a_quantized_one_of_onnxruntime():
    standard = {schema.name for schema in defs.get_all_schemas_with_history() if not schema.domain}
    assert standard | set(FOREIGN_OPERATORS) >= SUPPORTED >= set(FOREIGN_OPERATORS)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name: str):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
