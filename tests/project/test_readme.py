"""Commands and examples of README and docs/, run as they stand there: what a page shows is what happens."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

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

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
README = PAGES["README.md"]
FORMATS = PAGES["docs/formats.md"]


def blocks(text: str, wanted: str) -> list[str]:
    return [
        block for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if language == wanted
    ]


EXAMPLES = [
    pytest.param(block, id=f"{name}:{block.split()[2]}") for name, text in PAGES.items() for block in blocks(text, "console")
]
PROGRAMS = [block for text in PAGES.values() for block in blocks(text, "py")]
SHELL = [block.strip() for block in blocks(README, "sh")]
LONGEST = 180
"""Lines of the README, which is to be read to its end."""


@pytest.fixture(name="folder")
def folder_with_golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the examples: what they write does not end up in the project."""
    shutil.copytree(ROOT / "golden", tmp_path / "golden")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_line(line: str) -> Outcome:
    program, *arguments = shlex.split(line, comments=True)
    if program == "cd":
        os.chdir(arguments[0])
        return Outcome(0, "", "")
    assert program == "npusim"
    return call(*arguments)


def normalised(text: str) -> list[str]:
    """Lines without what depends on the installed versions: onnxruntime's, and how the last paragraph breaks because of it."""
    text = re.sub(r"(onnxruntime\s)[0-9][0-9A-Za-z.+]*", r"\1X", text.strip())
    body, _, verdict = text.rpartition("\n\n")
    return [*body.splitlines(), " ".join(verdict.split())]


def is_shown(out: str, shown: str) -> bool:
    """Whether a page shows what a command printed; a line ``...`` stands for any lines that are left out."""
    if "..." not in shown.splitlines():
        return normalised(out) == normalised(shown)
    parts = [re.escape(part) for part in re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE)]
    return re.fullmatch(r"(?:.*\n)*".join(parts), out) is not None


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
def test_example_prints_what_the_page_shows(folder: Path, example: str) -> None:
    for command in re.split(r"^\$ ", example, flags=re.MULTILINE)[1:]:
        line, _, shown = command.partition("\n")
        done = run_line(line)
        assert (done.code, done.err) == (1 if line.endswith("# exit code 1") else 0, "")
        assert is_shown(done.out, shown), f"the page is to show:\n{done.out}"


def test_what_is_left_out_is_nothing_else() -> None:
    assert is_shown("a\nb\nc\n", "a\n...\nc\n")
    assert is_shown("a\nb\nc\n", "...\n")
    assert not is_shown("a\nb\nc\n", "...\nb\n")
    assert not is_shown("a\nb\nc\n", "b\n...\n")
    assert not is_shown("a\nb\n", "a\nc\n")


def test_there_is_an_example_of_every_command() -> None:
    called = {
        line.split()[2]
        for text in PAGES.values()
        for block in blocks(text, "console")
        for line in block.splitlines()
        if line.startswith("$ npusim")
    }
    assert called == {command.split("_")[0] for command in COMMANDS} == set(TABLE)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, text in PAGES.items() if ">>> " in text])
def test_python_examples_give_what_the_page_shows(folder: Path, name: str) -> None:
    examples = doctest.DocTestParser().get_doctest(PAGES[name], {}, name, name, 0)
    assert examples.examples
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
    (example,) = [block for block in PROGRAMS if "import torch" in block and "sklearn" not in block]
    done = subprocess.run([sys.executable, "-P", "-c", example], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    session = InferenceSession(folder / "network_4bit.onnx")
    assert verify(session, generate_inputs(session.program, 8))
    assert len(PROGRAMS) == 4


@pytest.mark.slow
@pytest.mark.needs_torch
@pytest.mark.parametrize("example", [block for block in PROGRAMS if "sklearn" in block], ids=["digits", "diabetes"])
def test_the_examples_with_real_data_run(folder: Path, example: str) -> None:
    pytest.importorskip("sklearn")
    done = subprocess.run([sys.executable, "-P", "-c", example], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


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
    listed = re.search(r"<!-- operators -->\n(.*?)<!-- /operators -->", FORMATS, re.DOTALL)
    assert listed is not None
    assert listed[1].split() == sorted(SUPPORTED), f"docs/formats.md is to list:\n{' '.join(sorted(SUPPORTED))}"


def test_every_kind_of_layer_is_explained() -> None:
    rows = re.findall(r"^\| ([A-Z]+) \|", FORMATS, re.MULTILINE)
    assert rows == [*(str(kind) for kind in LayerKind), "QUANTIZE", "HOST"]


def test_files_that_the_pages_name_exist() -> None:
    for name in re.findall(r"`((?:golden|benchmarks|\.ci)/[\w./]*)`", "".join(PAGES.values())):
        assert (ROOT / name).exists(), name
    assert (ROOT / "LICENSE").is_file()
    recipes = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:npusim|kernels|tests|docs|\.ci)/[\w./]*)`", recipes)
    assert len(named) > 20
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        assert "://" not in target, "what is far away changes without notice"
        assert ((ROOT / name).parent / target.partition("#")[0]).exists(), target


def test_the_readme_is_short_and_its_picture_reads_in_light_and_dark() -> None:
    assert len(README.splitlines()) <= LONGEST
    picture = ElementTree.parse(ROOT / "docs" / "way.svg")
    assert "prefers-color-scheme: dark" in "".join(picture.getroot().itertext())
