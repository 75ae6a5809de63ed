"""``npusim demo``: its data are made of golden/, its commands and notebooks give what they promise."""

from __future__ import annotations

import json
import runpy
import shlex
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from npusim.results.demo import COMMANDS, CONTENTS
from support import ROOT
from support.command_line import call, check_error, checked_json


@pytest.fixture(name="demo")
def demo_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    value = checked_json("demo", call("demo", "tried here", "--json"))
    assert value["commands"][0] == "cd 'tried here'"
    assert value["totals"]["bytes"] < 60_000
    monkeypatch.chdir(tmp_path / "tried here")
    return tmp_path / "tried here"


def test_files_are_made_of_those_in_golden(monkeypatch: pytest.MonkeyPatch) -> None:
    make: Callable[[], dict[str, bytes]] = runpy.run_path(str(ROOT / "golden" / "make_demo.py"))["demo_files"]
    made = make()
    shipped = files("npusim.results.demo_files")
    listed = {name for name, _ in CONTENTS}
    assert {item.name for item in shipped.iterdir()} - {"__init__.py", "__pycache__"} == listed
    assert set(made) == {name for name in listed if not name.endswith(".ipynb")}
    for name, content in made.items():
        assert (shipped / name).read_bytes() == content, f"{name}: run golden/make_demo.py"


def test_files_of_others_stay_and_nothing_is_overwritten_without_force(demo: Path) -> None:
    (demo / "mine.txt").write_text("mine", encoding="utf-8")
    (demo / "1_verify.ipynb").write_text("mine too", encoding="utf-8")
    check_error("demo", demo, code=2, kind="UsageError", says="exists already")
    assert (demo / "1_verify.ipynb").read_text(encoding="utf-8") == "mine too"
    assert call("demo", demo, "--force").code == 0
    assert (demo / "mine.txt").read_text(encoding="utf-8") == "mine"
    assert json.loads((demo / "1_verify.ipynb").read_bytes())["nbformat"] == 4


@pytest.mark.slow
def test_the_commands_do_what_they_promise(demo: Path) -> None:
    outcomes = [call(*shlex.split(command)[1:]) for command in COMMANDS]
    assert [done.code for done in outcomes] == [0, 0, 0, 1, 0]
    assert outcomes[0].out.startswith("READY for F28P55x: verify, bounds, lint and compare passed; ")
    assert "in '/pointwise/Conv' the bias is missing" in outcomes[3].out.replace("\n    ", " ")


def run_notebook(path: Path) -> dict[str, Any]:
    """Run the code cells one after the other, as a kernel does, and give the names they define."""
    names: dict[str, Any] = {}
    for cell in json.loads(path.read_bytes())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path.name}, {cell['id']}", "exec"), names)
    return names


@pytest.mark.slow
def test_notebooks_run(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verified = run_notebook(demo / "1_verify.ipynb")
    assert all(verified[name] for name in ("checked", "verified", "certified", "linted"))
    assert verified["scores"].shape == (16, 6)
    golden = run_notebook(demo / "2_golden.ipynb")
    assert golden["proven"]
    assert [finding.rule for finding in golden["found"].findings] == ["differs", "missing_bias"]
    compared = run_notebook(demo / "3_compare.ipynb")
    assert compared["compared"].totals.output_sqnr_db > 40 > compared["again"].totals.output_sqnr_db
    assert "in '/pointwise/Conv' the bias is missing" in capsys.readouterr().out
    assert "npusim" in sys.modules


@pytest.mark.parametrize("name", [name for name, _ in CONTENTS if name.endswith(".ipynb")])
def test_notebooks_are_of_the_format_and_without_outputs(name: str) -> None:
    value = json.loads((files("npusim.results.demo_files") / name).read_bytes())
    assert (value["nbformat"], value["nbformat_minor"]) == (4, 5)
    assert [cell["cell_type"] for cell in value["cells"]][:2] == ["markdown", "code"]
    assert len({cell["id"] for cell in value["cells"]}) == len(value["cells"])
    for cell in value["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)
