"""The README's commands and examples, run as they stand there: what it shows is what happens."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from npusim import InferenceSession
from npusim.cli.application import COMMANDS as TABLE
from npusim.graph.operators import SUPPORTED
from npusim.program import LayerKind
from npusim.schemas import COMMANDS
from npusim.search.sampling import generate_inputs
from npusim.verification import verify
from support import ROOT
from support.command_line import Outcome, call

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
EXAMPLES = [block for language, block in BLOCKS if language == "console"]
PROGRAMS = [block for language, block in BLOCKS if language == "py"]
SHELL = [block.strip() for language, block in BLOCKS if language == "sh"]


@pytest.fixture(name="folder")
def folder_with_golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the examples: what they write does not end up in the project."""
    shutil.copytree(ROOT / "golden", tmp_path / "golden")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_line(line: str) -> Outcome:
    program, *arguments = shlex.split(line)
    assert program == "npusim"
    return call(*arguments)


def normalised(text: str) -> list[str]:
    """Lines without what depends on the installed versions: onnxruntime's, and how the last paragraph breaks because of it."""
    text = re.sub(r"(onnxruntime\s)[0-9][0-9A-Za-z.+]*", r"\1X", text.strip())
    body, _, verdict = text.rpartition("\n\n")
    return [*body.splitlines(), " ".join(verdict.split())]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.split()[2])
def test_example_prints_what_the_readme_shows(folder: Path, example: str) -> None:
    line, _, shown = example.partition("\n")
    done = run_line(line.removeprefix("$ "))
    assert (done.code, done.err) == (0, "")
    assert normalised(done.out) == normalised(shown), f"the README is to show:\n{done.out}"


def test_there_is_an_example_of_every_command() -> None:
    assert {example.split()[2] for example in EXAMPLES} == {command.split("_")[0] for command in COMMANDS} == set(TABLE)


def test_python_examples_give_what_the_readme_shows(folder: Path) -> None:
    examples = doctest.DocTestParser().get_doctest(README, {}, "README.md", "README.md", 0)
    assert len(examples.examples) > 8
    report: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(examples, out=report.append).failed == 0, "".join(report)


@pytest.mark.slow
def test_the_pytest_example_passes(folder: Path) -> None:
    (example,) = [block for block in PROGRAMS if "pytest_plugin" in block]
    (folder / "test_example.py").write_text(example, encoding="utf-8")
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.needs_torch
def test_the_torch_example_runs(folder: Path) -> None:
    (example,) = [block for block in PROGRAMS if "import torch" in block]
    done = subprocess.run([sys.executable, "-P", "-c", example], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    session = InferenceSession(folder / "network_4bit.onnx")
    assert verify(session, generate_inputs(session.program, 8))
    assert len(PROGRAMS) == 2


def test_the_first_command_verifies_a_model(folder: Path) -> None:
    install, _, line = SHELL[0].partition(" && ")
    assert install == "pip install ."
    done = run_line(line)
    assert (done.code, done.err) == (0, "")
    assert "equal: 7 layers, " in done.out


def test_the_second_command_is_what_the_checks_run() -> None:
    install, _, command = SHELL[1].partition(" && ")
    assert len(SHELL) == 2
    arguments = shlex.split(install)
    checks = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert arguments[:2] == ["pip", "install"]
    assert arguments[-1] == ".[test]"
    assert " ".join(arguments[2:-1]) in checks
    assert command in checks.splitlines()


def test_operators_are_those_that_npusim_has() -> None:
    listed = re.search(r"<!-- operators -->\n(.*?)<!-- /operators -->", README, re.DOTALL)
    assert listed is not None
    assert listed[1].split() == sorted(SUPPORTED), f"the README is to list:\n{' '.join(sorted(SUPPORTED))}"


def test_every_kind_of_layer_is_explained() -> None:
    rows = re.findall(r"^\| ([A-Z]+) \|", README, re.MULTILINE)
    assert rows == [*(str(kind) for kind in LayerKind), "QUANTIZE", "HOST"]


def test_files_and_modules_that_the_readme_names_exist() -> None:
    for name in re.findall(r"`((?:golden|\.ci)/[\w./]*)`", README):
        assert (ROOT / name).exists(), name
    assert (ROOT / "LICENSE").is_file()
