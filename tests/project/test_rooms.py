"""The rooms of npusim: what may import what, and what is said in one place only.

Imports go down the list `ROOMS`. `MOVING`, `UPWARD` and `CIRCLES` name what does not keep the rules yet, each with
the reason; nothing may be added to them, and they go when they are empty.
"""

from __future__ import annotations

import ast
import doctest
import inspect
from collections import defaultdict
from collections.abc import Iterator

import pytest

from npusim.program import LayerKind, layers
from support import ROOT, imports
from support.imports import MODULES, circles, imported_modules, is_package, names_of_the_top, outside_imports, prefixes, syntax

ROOMS = (
    "kernels errors schemas findings graph files program engine floats search verification "
    "bounds quantization torch comparison golden rules results cli examples pytest_plugin __main__"
).split()
"""From the bottom to the top: a room may import those before it in this list, never those behind it."""

LOOSE = {"__main__", "errors", "findings", "pytest_plugin"}
"""The modules that lie at the top of npusim/ without a room of their own."""

SPEAK_PROTOBUF = {
    "npusim.graph.branches",
    "npusim.graph.external_data",
    "npusim.graph.onnx_reader",
    "npusim.graph.onnx_writer",
    "npusim.files.tensors",
}
"""The modules that may import onnx or protobuf: those that read and write ONNX's files."""

SPEAK_FLATBUFFERS = {"npusim.graph.flat_tables", "npusim.graph.tflite_writer"}
"""The modules that may import flatbuffers."""

COMPARE_KINDS = {"program", "engine", "rules"}
"""The rooms in which kinds of layers may be told apart."""

MOVING: dict[str, str] = {}
"""Modules and packages at the top of npusim/ that have not been moved yet: the room each belongs to."""

UPWARD: dict[tuple[str, str], str] = {}
"""Imports up the list of rooms that are known: importing and imported module, and why it is so."""

CIRCLES: dict[tuple[str, ...], str] = {}
"""Circles that are known: the entries of a folder that import each other, and why they do."""


def home(name: str) -> str:
    """Where a module will be when everything is moved: ``npusim.graph.onnx_reader`` for ``npusim.graph.onnx_reader``."""
    first = name.split(".")[1]
    return name.replace(f"npusim.{first}", f"npusim.{MOVING[first]}.{first}", 1) if first in MOVING else name


def room(name: str) -> str:
    return home(name).split(".")[1]


INSIDE = [name for name in MODULES if name != "npusim"]


def test_a_module_has_a_room_or_is_one_of_those_at_the_top() -> None:
    tops = {name.split(".")[1] for name in INSIDE}
    assert sorted(tops - {*ROOMS, *MOVING}) == []
    loose = {name.split(".")[1] for name in INSIDE if name.count(".") == 1 and not is_package(name)}
    assert sorted(loose - LOOSE - set(MOVING)) == []
    assert set(MOVING.values()) <= set(ROOMS)


@pytest.mark.slow
@pytest.mark.parametrize("importing", ROOMS)
def test_imports_go_down_the_list_of_rooms(importing: str) -> None:
    above = set(ROOMS[ROOMS.index(importing) + 1 :])
    upward = [
        f"{name} imports {imported}"
        for name in INSIDE
        if room(name) == importing
        for imported in imported_modules(name)
        if room(imported) in above and (name, imported) not in UPWARD
    ]
    assert sorted(upward) == []


def test_the_table_of_contents_is_read_by_none_of_the_modules_in_it() -> None:
    may = {"examples": set(vars(__import__("npusim"))["__all__"]), "pytest_plugin": set(), "__main__": set()}
    taken = {name: names_of_the_top(name) - {"__version__"} - may.get(room(name), set()) for name in INSIDE}
    assert {name: names for name, names in taken.items() if names} == {}


def test_kernels_import_nothing_but_numpy_and_the_standard_library() -> None:
    kernels = [name for name in INSIDE if room(name) == "kernels"]
    assert len(kernels) > 10
    assert [name for name in kernels for imported in imported_modules(name) if room(imported) != "kernels"] == []
    assert [name for name in kernels if outside_imports(name) & {"onnx", "onnxruntime", "pandas", "torch", "kernels"}] == []


def test_only_readers_and_writers_know_the_formats_of_files() -> None:
    for formats, may in (({"onnx", "google"}, SPEAK_PROTOBUF), ({"flatbuffers"}, SPEAK_FLATBUFFERS)):
        assert [name for name in INSIDE if outside_imports(name) & formats and home(name) not in may] == []
    assert [name for name in INSIDE if "kernels" in outside_imports(name)] == [], "its name is npusim.kernels"


def entries(folder: str) -> dict[str, set[str]]:
    """What the files and folders in a folder import of each other, whatever the depth; without its table of contents."""
    arrows: defaultdict[str, set[str]] = defaultdict(set)
    inside = f"{folder}."
    for name in INSIDE:
        if home(name).startswith(inside):
            own = home(name).removeprefix(inside).split(".")[0]
            others = [home(other) for other in imported_modules(name)]
            arrows[own] |= {other.removeprefix(inside).split(".")[0] for other in others if other.startswith(inside)} - {own}
    return arrows


FOLDERS = sorted({folder for name in INSIDE for folder in prefixes(home(name).rpartition(".")[0])})


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_circle_of_files_or_packages(folder: str) -> None:
    found = [tuple(f"{folder}.{entry}" for entry in circle) for circle in circles(entries(folder))]
    assert [circle for circle in found if circle not in CIRCLES] == []


def test_no_module_imports_from_the_table_of_contents_that_it_stands_in() -> None:
    assert [name for name in INSIDE if any(f"{name}.".startswith(f"{other}.") for other in imported_modules(name))] == []


def is_kind(item: object) -> bool:
    """Whether something is the class of one kind of layer."""
    return inspect.isclass(item) and issubclass(item, layers.IntegerLayer) and not inspect.isabstract(item)


def compared_kinds(name: str) -> Iterator[int]:
    """The lines of a module in which a kind of layer is compared with another, looked for in a collection or matched.

    Asking for a class of several kinds, where a field is needed that all of them have, is not a comparison.
    """
    kinds = {kind.value for kind in LayerKind}
    classes = {name for name, item in vars(layers).items() if is_kind(item)}
    for node in ast.walk(syntax(name)):
        match node:
            case ast.Compare():
                sides = [node.left, *node.comparators]
            case ast.MatchValue():
                sides = [node.value]
            case ast.Tuple() | ast.List() | ast.Set():
                sides = node.elts
            case ast.Dict():
                sides = [key for key in node.keys if key is not None]
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, wanted]):
                if {item.id for item in ast.walk(wanted) if isinstance(item, ast.Name)} & classes:
                    yield node.lineno
                continue
            case ast.MatchClass(cls=ast.Name(id=name)) if name in classes:
                yield node.lineno
                continue
            case _:
                continue
        of_kind = any(isinstance(side, ast.Attribute) and side.attr == "kind" for side in sides)
        constants = {item.value for side in sides for item in ast.walk(side) if isinstance(item, ast.Constant)}
        if any(isinstance(side, ast.Attribute) and ast.unparse(side.value) == "LayerKind" for side in sides) or (
            of_kind and constants & kinds
        ):
            yield node.lineno


@pytest.mark.slow
def test_kinds_of_layers_are_told_apart_only_where_layers_are_run_and_judged() -> None:
    places = {name: list(compared_kinds(name)) for name in INSIDE if room(name) not in COMPARE_KINDS}
    assert {name: lines for name, lines in places.items() if lines} == {}


def test_the_walk_over_the_source_sees_what_it_should() -> None:
    assert list(compared_kinds("npusim.rules.cost"))
    assert "npusim.kernels.integer" in MODULES
    assert "npusim.errors" in imported_modules("npusim.cli.application")
    assert "onnx" in outside_imports(next(name for name in MODULES if name.endswith(".onnx_reader")))
    assert doctest.testmod(imports).attempted == 1
    assert doctest.testmod(imports).failed == 0


def test_contributing_shows_the_rooms_as_they_are() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Rooms\n")[2].partition("\n* ")[0]
    assert [line.split()[0] for line in text.splitlines() if line.startswith("    ")] == ROOMS
