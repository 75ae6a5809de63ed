"""Names of ONNX operators stand where graphs are read and written, and nowhere else: other rooms ask for traits."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import npusim
from npusim.graph.operators import SUPPORTED
from npusim.graph.traits import FOREIGN_QUANTIZATION, TRAITS

ROOT = Path(npusim.__file__).parent

AT_HOME = (
    "graph",
    "operators",
    "folding.py",
    "lowering",
    "program/lowering",
    # what writes graphs
    "quantization/emitter.py",
    "rules/fix/channels.py",
    "rules/fix/rewrites.py",
)
"""Folders and files that read or write graphs."""

STILL_HELD: tuple[str, ...] = ()
"""Files that still name operators."""

NAMES = SUPPORTED | FOREIGN_QUANTIZATION


def named(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each operator that a module names, alone or in a text of nothing but operators."""
    tree = ast.parse(source)
    public = {
        id(item)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
        for item in ast.walk(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in public:
            words = node.value.split()
            if words and all(word in NAMES for word in words):
                yield node.lineno, node.value


def modules() -> dict[str, str]:
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(ROOT.rglob("*.py"))}


def test_the_search_finds_names() -> None:
    source = '"""Add"""\n__all__ = ["Clip"]\nA = ("Conv", "other")\nB = "Add Sub".split()\n'
    assert [name for _, name in named(source.replace('"""Add"""', '"""Text."""'))] == ["Conv", "Add Sub"]


def test_every_supported_operator_stands_in_the_table() -> None:
    assert set(TRAITS) == set(SUPPORTED)


def test_operator_names_stand_nowhere_else() -> None:
    found = {
        f"{name}:{line}: {text}"
        for name, source in modules().items()
        if not any(name == home or name.startswith(f"{home}/") for home in (*AT_HOME, *STILL_HELD))
        for line, text in named(source)
    }
    assert not found


def test_no_file_is_on_the_list_for_nothing() -> None:
    known = modules()
    assert [name for name in STILL_HELD if name not in known or not list(named(known[name]))] == []
