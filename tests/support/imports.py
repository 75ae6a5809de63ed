"""What imports what in npusim/ and kernels/, read from the source, and the circles in that."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from support import ROOT

__all__ = [
    "MODULES",
    "circles",
    "imported_modules",
    "imports",
    "is_package",
    "names_of_the_top",
    "outside_imports",
    "prefixes",
    "syntax",
]

Arrows = Mapping[str, Iterable[str]]


def source_files() -> dict[str, Path]:
    """The modules of npusim by dotted name (a package by its own), each with its file."""
    modules = {}
    for folder in ("npusim", "kernels"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = ("npusim", *parts) if folder == "kernels" else parts
            modules[".".join(parts).removesuffix(".__init__")] = path
    return modules


MODULES = source_files()
"""Every module of npusim: its dotted name and its file."""


def is_package(name: str) -> bool:
    """Whether a module is the ``__init__`` of a folder."""
    return MODULES[name].name == "__init__.py"


@cache
def syntax(name: str) -> ast.Module:
    """The source of a module, parsed."""
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def prefixes(name: str) -> Iterator[str]:
    """A dotted name and those of all packages around it, the longest first."""
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))


@cache
def imports(name: str) -> tuple[str, ...]:
    """Dotted names of everything that a module imports, wherever in the file: ``npusim.graph.Node``, ``onnx.helper``."""
    package = name if is_package(name) else name.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(syntax(name)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            found += [f"{origin}.{alias.name}" for alias in node.names]
    return tuple(found)


def imported_modules(name: str) -> set[str]:
    """The modules of npusim that a module imports: of ``npusim.graph.Node`` the module ``npusim.graph``.

    Not the table of contents at the top, ``npusim``: `names_of_the_top` has what is taken from that.
    """
    found = set()
    for imported in imports(name):
        if imported.startswith("npusim."):
            found.add(next(module for module in prefixes(imported) if module in MODULES))
    return found - {name, "npusim"}


def names_of_the_top(name: str) -> set[str]:
    """What a module imports from ``npusim`` itself: of ``npusim.__version__`` the name ``__version__``."""
    beyond = {imported.removeprefix("npusim.") for imported in imports(name) if imported.startswith("npusim.")}
    return {name for name in beyond if f"npusim.{name.split('.')[0]}" not in MODULES}


def outside_imports(name: str) -> set[str]:
    """The top-level packages other than npusim that a module imports."""
    return {imported.split(".")[0] for imported in imports(name)} - {"npusim"}


def circles(arrows: Arrows) -> list[list[str]]:
    """The sets of two or more nodes of which each reaches each other, along the arrows (Tarjan's algorithm), all sorted.

    >>> circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]})
    [['b', 'c']]
    """
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for after in arrows.get(node, ()):
            if after not in order:
                visit(after)
                lowest[node] = min(lowest[node], lowest[after])
            elif after in stack:
                lowest[node] = min(lowest[node], order[after])
        if lowest[node] == order[node]:
            start = stack.index(node)
            found.append(sorted(stack[start:]))
            del stack[start:]

    for node in arrows:
        if node not in order:
            visit(node)
    return sorted(circle for circle in found if len(circle) > 1)
