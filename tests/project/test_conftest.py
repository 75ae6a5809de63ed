"""The counting in conftest.py: what is left out is said, and nothing is left out where everything is required."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import HAS_TORCH, ROOT

pytestmark = pytest.mark.slow

TESTS = """
import os
import pytest
import support

def test_plain():
    assert len(support.load_exports()) == len(support.export_names())

def test_every(export):
    if os.environ.get("SKIP") == export.name:
        pytest.skip("on purpose")
    assert export.name != os.environ.get("FAIL")
    assert support.load_export(export.name) == export

@pytest.mark.exports
def test_some():
    assert support.EXPORTS is not None

@pytest.mark.needs_torch
def test_torch():
    assert support.HAS_TORCH

@pytest.mark.slow
def test_pieces(tally):
    tally("pieces seen", 2)
    tally("pieces seen", 3)
"""

INDEX = "name,network\na,n\nb,n\n"

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs pytest on TESTS in a project of its own, with or without two exports and torch."""
    tests = tmp_path / "project" / "tests"
    copy = tests / "support" / "__init__.py"
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "conftest.py", tests)
    shutil.copy(ROOT / "tests" / "support" / "__init__.py", copy)
    shutil.copy(ROOT / "pyproject.toml", tests.parent)
    (tests / "test_it.py").write_text(TESTS, encoding="utf-8")

    def run_pytest(*, exports: bool, torch: bool = True, index: str = INDEX, **settings: str) -> tuple[int, str]:
        if exports:
            (tmp_path / "shared" / "models").mkdir(parents=True)
            (tmp_path / "shared" / "models" / "INDEX.csv").write_text(index, encoding="utf-8")
        # Whether torch is installed here must not matter: a module that is always or never there stands in for it.
        stand_in = "json" if torch else "no_such_module"
        copy.write_text(
            copy.read_text(encoding="utf-8").replace('find_spec("torch")', f'find_spec("{stand_in}")'), encoding="utf-8"
        )
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("NPUSIM_", "PYTEST_"))
        } | settings
        command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider"]
        done = subprocess.run(command, cwd=tests.parent, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run_pytest


@pytest.mark.parametrize("options", ["", "-n 2 --dist worksteal"], ids=["one_process", "two_processes"])
def test_everything_there(run: Run, options: str) -> None:
    code, output = run(exports=True, NPUSIM_REQUIRE_EXPORTS="1", NPUSIM_REQUIRE_TORCH="1", PYTEST_ADDOPTS=options)
    assert (code, "6 passed" in output) == (0, True), output
    assert "real exports: 2 run, each by 1 test(s)" in output
    assert "pieces seen: 5" in output
    assert "left out" not in output


@pytest.mark.parametrize("options", ["", "-n 2 --dist worksteal"], ids=["one_process", "two_processes"])
def test_what_is_left_out_is_said(run: Run, options: str) -> None:
    code, output = run(exports=False, torch=False, PYTEST_ADDOPTS=options)
    assert (code, "2 passed, 3 skipped" in output) == (0, True), output
    assert "left out: 2 test(s) that need the real exports (" in output
    assert "left out: 1 test(s) that need torch (" in output
    assert "real exports:" not in output


@pytest.mark.parametrize("settings", [{"NPUSIM_REQUIRE_EXPORTS": "1"}, {"NPUSIM_EXPORTS": "/nowhere"}])
def test_exports_that_are_asked_for_but_missing(run: Run, settings: dict[str, str]) -> None:
    code, output = run(exports=False, **settings)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "holds no INDEX.csv" in output


def test_torch_that_is_required_but_missing(run: Run) -> None:
    code, output = run(exports=True, torch=False, NPUSIM_REQUIRE_TORCH="1")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "NPUSIM_REQUIRE_TORCH=1, but torch is not installed" in output


@pytest.mark.parametrize("options", ["", "-n 2 --dist worksteal"], ids=["one_process", "two_processes"])
def test_an_export_that_is_skipped_fails_the_run_where_all_are_required(run: Run, options: str) -> None:
    code, output = run(exports=True, NPUSIM_REQUIRE_EXPORTS="1", SKIP="b", PYTEST_ADDOPTS=options)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "test_every ran for 1 of 2, not for 'b'" in output
    assert "real exports: 1 run" in output


def test_an_empty_index_fails_the_run(run: Run) -> None:
    code, output = run(exports=True, index="name,network\n")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "INDEX.csv lists no exports" in output


def test_a_run_without_tests_over_all_exports_fails_where_they_are_required(run: Run) -> None:
    code, output = run(exports=True, NPUSIM_REQUIRE_EXPORTS="1", PYTEST_ADDOPTS="-k test_plain")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "FAILED: NPUSIM_REQUIRE_EXPORTS=1, but no test with the argument 'export' ran" in output


def test_what_is_neither_slow_nor_needs_exports_is_quick(run: Run) -> None:
    code, output = run(exports=True, torch=False, PYTEST_ADDOPTS="-m quick")
    assert (code, "1 passed, 1 skipped, 4 deselected" in output) == (0, True), output


def test_a_failing_export_fails_the_run(run: Run) -> None:
    code, output = run(exports=True, FAIL="a")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "real exports: 2 run" in output


def test_torch_is_looked_for_without_importing_it() -> None:
    script = "import runpy, sys; print(runpy.run_path(sys.argv[1], run_name='support')['HAS_TORCH'], 'torch' in sys.modules)"
    command = [sys.executable, "-P", "-c", script, str(ROOT / "tests" / "support" / "__init__.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(HAS_TORCH), "False"]
