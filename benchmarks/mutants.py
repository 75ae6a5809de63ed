"""The mutation score: how many small faults, put into the code one at a time, some test notices.

python benchmarks/mutants.py [--count 250] [--seed 14] [--rooms kernels ...] [--map FILE] [--report FILE] [--only TEXT]

The tree is copied, so nobody's work is touched. Which test runs which line is recorded once over the quick tests (--map keeps
it). Then each mutant meets the tests of its own room that run the changed line, those that are over soonest first, for 30 s at
most, and if it survives, all other quick tests that run the line. A mutant with which npusim cannot be imported is not counted.

Mutants are told by file, function, what stood there and what stands there now, and ordered by the digest of that and the seed:
the same ones are drawn again after edits elsewhere. `mutants.toml` holds the judgement of those that survive for good reason.

Needs coverage besides the test tools: pip install coverage. One process; call it with nice.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import copy
import gc
import hashlib
import io
import itertools
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import coverage
    import pytest

ROOT = Path(__file__).resolve().parents[1]

ROOMS = {
    "kernels": ("npusim/kernels", ("tests/kernels",)),
    "lowering": ("npusim/program", ("tests/program",)),
    "bounds": ("npusim/bounds", ("tests/bounds",)),
    "engine": ("npusim/engine", ("tests/engine",)),
    "verification": ("npusim/verification", ("tests/verification",)),
}
"""The rooms that are mutated: their folder in the copy, and the tests that are theirs."""

LEFT_OUT = ("tests/project", "tests/torch", "tests/examples", "tests/cli/test_fuzz.py", "tests/cli/test_signals.py")
"""Tests that run processes of their own, need torch, or read the source: they are not recorded."""

ROOM_SECONDS = 30
OTHER_SECONDS = 30
MOST_FILES = 4
CPU_LIMIT = 40
"""Seconds of recorded time that the tests of a stage may take together; files of tests for what runs at import; seconds after
which a mutant counts as hanging."""


# -------------------------------------------------------------------------------------------------------------------- mutations


@dataclass(frozen=True)
class Mutant:
    """A change of one node: which module, which line, what it is called, and which of the module's places and choices it is."""

    room: str
    file: str
    function: str
    lines: tuple[int, int]
    before: str
    after: str
    occurrence: int
    place: tuple[int, int]

    @property
    def key(self) -> str:
        """What tells it from all others, whatever happens elsewhere in the file."""
        again = f" #{self.occurrence}" if self.occurrence else ""
        return f"{self.file}:{self.function}: {self.before} -> {self.after}{again}"


COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATIONS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
CALLS = {"min": "max", "any": "all", "floor": "ceil", "minimum": "maximum", "argmin": "argmax", "fmin": "fmax"}
CALLS |= {new: old for old, new in CALLS.items()}
QUIET_KEYWORDS = ("strict", "stacklevel", "frozen", "slots")
"""Arguments that only guard against what a proof excludes."""


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may stand in the place of a node."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        new = copy.deepcopy(node)
        new.ops = [COMPARISONS[type(node.ops[0])]()]
        yield new
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        new_operation = copy.deepcopy(node)
        new_operation.op = OPERATIONS[type(node.op)]()
        yield new_operation
    elif isinstance(node, ast.BoolOp):
        new_bool = copy.deepcopy(node)
        new_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield new_bool
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield copy.deepcopy(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield ast.Constant(node.value + 1)
        if node.value > 0:
            yield ast.Constant(node.value - 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield ast.Constant(node.value * 2 + 1)
    elif isinstance(node, ast.Name) and node.id in CALLS:
        yield ast.Name(CALLS[node.id], node.ctx)
    elif isinstance(node, ast.Attribute) and node.attr in CALLS:
        yield ast.Attribute(copy.deepcopy(node.value), CALLS[node.attr], node.ctx)
    elif isinstance(node, ast.IfExp):
        yield copy.deepcopy(node.body)
        yield copy.deepcopy(node.orelse)
    elif isinstance(node, ast.If | ast.While) and not isinstance(node.test, ast.Compare):
        new_if = copy.deepcopy(node)
        new_if.test = ast.UnaryOp(ast.Not(), new_if.test)
        yield new_if
    elif isinstance(node, ast.Raise | ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.Pass()
    elif isinstance(node, ast.Continue):
        yield ast.Break()
    elif isinstance(node, ast.Break):
        yield ast.Continue()


@dataclass(frozen=True)
class _Place:
    """A child that may be changed: its function, the lines of its statement, its parent, the field, the place in the field."""

    function: str
    lines: tuple[int, int]
    parent: ast.AST
    field: str
    at: int | None

    @property
    def held(self) -> ast.AST:
        value = getattr(self.parent, self.field)
        return value if self.at is None else value[self.at]

    def put(self, node: ast.AST) -> None:
        if self.at is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.at] = node


def _lines(statement: ast.stmt) -> tuple[int, int]:
    """First and last line of a statement, of a compound one those of its head."""
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno
    return statement.lineno, max(statement.lineno, last or 0)


def places(tree: ast.Module) -> Iterator[_Place]:
    """Every child that may be changed; no annotations, texts or decorators.

    The function is the outermost one; it is empty for constants and tables, which are computed at import.
    """

    def walk(parent: ast.AST, function: str, lines: tuple[int, int], *, inside: bool = False) -> Iterator[_Place]:
        for field, value in ast.iter_fields(parent):
            if field in ("annotation", "returns", "decorator_list", "type_params", "bases", "keywords_of_class"):
                continue
            children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
            for at, child in children:
                if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr):
                    continue
                if isinstance(child, ast.keyword) and child.arg in QUIET_KEYWORDS:
                    continue
                if isinstance(child, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in child.targets):
                    continue
                if isinstance(child, ast.Import | ast.ImportFrom):
                    continue
                if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                    continue
                inner, covered = function, lines
                if isinstance(child, ast.stmt):
                    covered = _lines(child)
                if isinstance(child, ast.FunctionDef | ast.ClassDef) and not inside:
                    inner = f"{function}.{child.name}".lstrip(".")
                yield _Place(inner, covered, parent, field, at)
                if not isinstance(child, ast.Raise):  # what an error says is not counted, whether it is raised is
                    yield from walk(child, inner, covered, inside=inside or isinstance(child, ast.FunctionDef))

    yield from walk(tree, "", (0, 0))


def mutants_of(room: str, file: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    seen: Counter[tuple[str, str, str]] = Counter()
    for number, place in enumerate(places(ast.parse(source))):
        old = place.held
        for choice, new in enumerate(changes(old)):
            if isinstance(old, ast.If | ast.While):
                before, after = f"{type(old).__name__.lower()} {ast.unparse(old.test)}", "not"
            else:
                before, after = ast.unparse(old), ast.unparse(new)
            if isinstance(old, ast.Constant):
                before = f"{before} in {ast.unparse(place.parent)[:120]}"
            told = (place.function, before, after)
            yield Mutant(room, file, place.function, place.lines, before, after, seen[told], (number, choice))
            seen[told] += 1


def mutated(source: str, mutant: Mutant) -> str:
    """The module with the mutant in it."""
    tree = ast.parse(source)
    place = list(places(tree))[mutant.place[0]]
    place.put(list(changes(place.held))[mutant.place[1]])
    return ast.unparse(ast.fix_missing_locations(tree))


def draw(tree: Path, rooms: Sequence[str], count: int, seed: int, only: str) -> list[Mutant]:
    """So many mutants in all, the same number of every room, the rooms taking turns."""
    chosen: list[list[Mutant]] = []
    for room in rooms:
        every: list[Mutant] = []
        for path in sorted((tree / "site" / ROOMS[room][0]).rglob("*.py")):
            file = path.relative_to(tree / "site").as_posix()
            every.extend(mutants_of(room, file, path.read_text(encoding="utf-8")))
        every = [mutant for mutant in every if only in mutant.key]
        every.sort(key=lambda mutant: hashlib.sha256(f"{seed} {mutant.key}".encode()).digest())
        chosen.append(every[: -(-count // len(rooms))])
    return [mutant for turn in itertools.zip_longest(*chosen) for mutant in turn if mutant is not None]


# ------------------------------------------------------------------------------------------------------------------------- copy


def copy_tree(target: Path) -> None:
    """The project as it is now: what it holds beside the package, and the package as it is installed in site/."""
    for folder in ("tests", "golden", "docs", "benchmarks"):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, target / path.name)
    shutil.copytree(ROOT / "npusim", target / "site" / "npusim", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "kernels", target / "site" / "npusim" / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(target / "site", quiet=2)


def environment(tree: Path) -> dict[str, str]:
    """The package of the copy, hypothesis with the same examples each time, no other models than the copy's."""
    nothing = str(tree / "nothing")
    return {
        **os.environ,
        "PYTHONPATH": str(tree / "site"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CI": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "NPUSIM_CASES": nothing,
        "NPUSIM_FORMATS": nothing,
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tree / "hypothesis"),
    }


# --------------------------------------------------------------------------------------------------------- which test runs what

OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:npusim"]


class _Recorder:
    """A plugin of pytest: a context of coverage for each test, and how long it takes."""

    def __init__(self, coverage: coverage.Coverage) -> None:
        self.coverage = coverage
        self.seconds: Counter[str] = Counter()
        self.bad: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logfinish(self) -> None:
        self.coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if not report.passed:
            self.bad.add(report.nodeid)


def record(tree: Path, target: Path) -> None:
    """Run the quick tests once in this process and write which of them run which line, and how long each takes."""
    import coverage
    import pytest

    folders = [str(tree / "site" / folder) for folder, _ in ROOMS.values()]
    measured = coverage.Coverage(data_file=None, include=[f"{folder}/*" for folder in folders], config_file=False)
    recorder = _Recorder(measured)
    ignored = [f"--ignore={name}" for name in LEFT_OUT]
    measured.start()
    pytest.main([*OPTIONS, "-m", "quick", *ignored, "tests"], plugins=[recorder])
    measured.stop()
    data = measured.get_data()
    lines: dict[str, dict[int, list[str]]] = {}
    for name in data.measured_files():
        file = Path(name).relative_to(tree / "site").as_posix()
        lines[file] = {line: sorted(set(tests)) for line, tests in data.contexts_by_lineno(name).items()}
    numbers = {test: number for number, test in enumerate(sorted(set(recorder.seconds) - recorder.bad))}
    content = {
        "tests": [[test, round(recorder.seconds[test], 4)] for test in numbers],
        "failed": sorted(test for test in recorder.bad),
        "lines": {
            file: {line: [numbers[test] for test in tests if test in numbers] for line, tests in held.items()}
            for file, held in lines.items()
        },
    }
    target.write_text(json.dumps(content), encoding="utf-8")


class Map:
    """Which tests run a line."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        self.tests: list[tuple[str, float]] = [(name, seconds) for name, seconds in content["tests"]]
        self.lines: dict[str, dict[str, list[int]]] = content["lines"]

    def tests_of(self, mutant: Mutant) -> list[int]:
        """Those that run the statement, or where it runs at import only, any line of the module."""
        held = self.lines.get(mutant.file, {})
        first, last = mutant.lines
        run = [held[str(line)] for line in range(first, last + 1) if str(line) in held]
        found = sorted({test for tests in run for test in tests})
        if found or not run:
            return found
        return sorted({test for tests in held.values() for test in tests})

    def at_import(self, mutant: Mutant) -> bool:
        """Whether the statement runs when npusim is imported and in no test: tables, classes, default values."""
        held = self.lines.get(mutant.file, {})
        run = [held[str(line)] for line in range(mutant.lines[0], mutant.lines[1] + 1) if str(line) in held]
        return bool(run) and not any(run)

    def stages(self, mutant: Mutant) -> list[list[str]]:
        """The tests of the room, then the others, each as names in the order in which they are to run."""
        own = ROOMS[mutant.room][1]
        found = self.tests_of(mutant)
        if self.at_import(mutant):
            # any test of the module may notice it, and each file costs the import of all it needs
            inside = [test for test in found if self.tests[test][0].startswith(own)]
            found = [*self._of_most(inside), *self._of_most([test for test in found if test not in set(inside)])]
        rooms = [test for test in found if self.tests[test][0].startswith(own)]
        others = [test for test in found if not self.tests[test][0].startswith(own)]
        return [self._chosen(rooms, ROOM_SECONDS), self._chosen(others, OTHER_SECONDS)]

    def _of_most(self, tests: Sequence[int]) -> list[int]:
        """Those in the files that have most of them."""
        files = Counter(self.tests[test][0].partition("::")[0] for test in tests)
        most = [file for file, _ in files.most_common(MOST_FILES)]
        return [test for test in tests if self.tests[test][0].partition("::")[0] in most]

    def _chosen(self, tests: Sequence[int], seconds: float) -> list[str]:
        """The fastest case of each test function first, then the rest, while they take no longer in all."""
        counted: Counter[str] = Counter()
        order = []
        for test in sorted(tests, key=lambda test: self.tests[test][1]):
            function = self.tests[test][0].partition("[")[0]
            order.append((counted[function], self.tests[test][1], test))
            counted[function] += 1
        total, chosen = 0.0, []
        for _, duration, test in sorted(order):
            total += duration
            if total > seconds:
                break
            chosen.append(self.tests[test][0])
        return chosen


# -------------------------------------------------------------------------------------------------------------------- execution

SURVIVED, KILLED, HANGS, NOT_IMPORTABLE, UNFIT = (
    "survived",
    "killed",
    "killed (hangs or crashes)",
    "not importable",
    "unfit",
)


class Judge:
    """A plugin of pytest that runs no tests itself: each mutant has a fork of the process in which all are collected.

    There the code of the changed function is put in the place of the right one. For what that does not reach (constants,
    tables, default values: what runs when npusim is imported) a new Python imports the changed file.
    """

    def __init__(self, tree: Path, known: Map, mutants: Sequence[Mutant], report: Callable[[dict[str, Any]], None]) -> None:
        self.tree = tree
        self.known = known
        self.mutants = mutants
        self.report = report

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge all mutants."""
        items = {item.nodeid: item for item in session.items}
        functions: dict[tuple[str, str], list[types.FunctionType]] = {}
        for function in gc.get_objects():
            if isinstance(function, types.FunctionType):
                code = function.__code__
                functions.setdefault((code.co_filename, code.co_qualname), []).append(function)
        gc.freeze()
        for mutant in self.mutants:
            self.report(self.judge(mutant, items, functions))
        return True

    def judge(
        self, mutant: Mutant, items: dict[str, pytest.Item], functions: dict[tuple[str, str], list[types.FunctionType]]
    ) -> dict[str, Any]:
        """What becomes of a mutant: its row of the report."""
        started = time.monotonic()
        stages = self.known.stages(mutant)
        path = self.tree / "site" / mutant.file
        source = mutated(path.read_text(encoding="utf-8"), mutant)
        verdict, stage, done = SURVIVED, "no test runs it", False
        patched = [] if self.known.at_import(mutant) else functions.get((str(path), mutant.function), [])
        for name, tests in zip(("room", "quick"), stages, strict=True):
            chosen = [items[test] for test in tests if test in items]
            if verdict == SURVIVED and tests:
                stage = name
                if patched and chosen and verdict == SURVIVED:
                    code = self.in_fork(lambda c=chosen: _run_patched(source, str(path), patched, c))
                    done = code != UNFIT
                    verdict = SURVIVED if code == UNFIT else code
                if not done:
                    verdict = self.afresh(path, source, tests)
        return {
            "verdict": verdict,
            "stage": stage,
            "key": mutant.key,
            "room": mutant.room,
            "line": mutant.lines[0],
            "tests": [len(tests) for tests in stages],
            "seconds": round(time.monotonic() - started, 2),
        }

    def in_fork(self, work: Callable[[], int]) -> str:
        """What a function that is given to a forked process says; it gives 1 where a test failed."""
        child = os.fork()
        if child == 0:
            code = 70
            try:
                os.setsid()
                resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT + 1))
                stream = os.open(self.tree / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                os.dup2(stream, 1)
                os.dup2(stream, 2)
                code = work()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        return {0: SURVIVED, 1: KILLED, 3: UNFIT}.get(code, HANGS if code < 0 else f"not run ({code})")

    def afresh(self, path: Path, source: str, tests: Sequence[str]) -> str:
        """The verdict of a Python that imports the changed file."""
        command = [sys.executable, "-P", "-m", "pytest", *OPTIONS, "-x", "--tb=line", *tests]

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT + 1))

        with changed(path, source):
            done = subprocess.run(
                command,
                cwd=self.tree,
                env=environment(self.tree),
                capture_output=True,
                text=True,
                check=False,
                preexec_fn=limit,
            )
        if done.returncode < 0:
            return HANGS
        if done.returncode in (0, 5):
            return SURVIVED
        if done.returncode == 1 and " failed" in done.stdout:
            return KILLED
        return NOT_IMPORTABLE if "rror" in done.stdout + done.stderr else f"not run ({done.returncode})"


def _run_patched(source: str, path: str, patched: Sequence[types.FunctionType], items: Sequence[pytest.Item]) -> int:
    """Put the function's new code in place and run tests until one fails; 3 where the code does not fit."""
    from _pytest.runner import runtestprotocol

    wanted = patched[0].__code__.co_qualname
    found: list[types.CodeType] = []

    def search(code: types.CodeType) -> None:
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                if constant.co_qualname == wanted:
                    found.append(constant)
                search(constant)

    search(compile(source, path, "exec"))
    starts = sorted({function.__code__.co_firstlineno for function in patched})
    if len(starts) != len(found):
        return 3
    for function in patched:
        new = found[starts.index(function.__code__.co_firstlineno)]
        if new.co_freevars != function.__code__.co_freevars:
            return 3
        function.__code__ = new
    for item, following in zip(items, (*items[1:], None), strict=True):
        if any(report.failed for report in runtestprotocol(item, nextitem=following, log=False)):
            return 1
    return 0


@contextlib.contextmanager
def changed(path: Path, source: str) -> Iterator[None]:
    """The copy with another content of a file; its compiled form is out of the way meanwhile."""
    kept, stamp = path.read_bytes(), path.stat()
    compiled = list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))
    for item in compiled:
        item.rename(item.with_suffix(".kept"))
    path.write_text(source, encoding="utf-8")
    try:
        yield
    finally:
        path.write_bytes(kept)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        for item in compiled:
            item.with_suffix(".kept").rename(item)


def run(tree: Path, known: Map, mutants: Sequence[Mutant], report: Callable[[dict[str, Any]], None]) -> None:
    """Judge mutants in this process, which must not have imported npusim before."""
    import pytest

    sys.dont_write_bytecode = True
    sys.path.insert(0, str(tree / "site"))
    os.chdir(tree)
    files = sorted({test.partition("::")[0] for mutant in mutants for stage in known.stages(mutant) for test in stage})
    if files:
        options = [*OPTIONS, "-s", "-m", "quick", "--no-header", f"--basetemp={tree / 'tmp'}"]
        pytest.main([*options, *files], plugins=[Judge(tree, known, mutants, report)])
    else:
        for mutant in mutants:
            report(Judge(tree, known, mutants, report).judge(mutant, {}, {}))


def judged_equivalent() -> dict[str, str]:
    """The reason by mutant."""
    path = Path(__file__).with_name("mutants.toml")
    if not path.exists():
        return {}
    return {row["mutant"]: row["reason"] for row in tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])}


def summary(rows: Sequence[dict[str, Any]], reasons: dict[str, str]) -> str:
    """The score by room: killed of those that count; equivalent ones do not."""
    out = io.StringIO()
    counted = [row for row in rows if row["verdict"].startswith(("killed", "survived"))]
    for room in (*ROOMS, "all"):
        held = [row for row in counted if room in (row["room"], "all")]
        killed = sum(row["verdict"].startswith("killed") for row in held)
        equivalent = sum(row["verdict"] == "survived" and row["key"] in reasons for row in held)
        if held:
            part = killed / max(len(held) - equivalent, 1)
            out.write(f"{room:14}{killed:5} killed of {len(held)}, {equivalent} judged equivalent: {part:.1%}\n")
    for row in counted:
        if row["verdict"] == "survived":
            reason = reasons.get(row["key"], f"SURVIVES ({row['stage']}, {sum(row['tests'])} tests)")
            out.write(f"line {row['line']}: {row['key']}: {reason}\n")
    left = Counter(row["verdict"][:60] for row in rows if not row["verdict"].startswith(("killed", "survived")))
    out.write(f"not counted: {dict(left)}\n")
    return out.getvalue()


def main() -> int:
    """The command; exit code 1 below 95 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--rooms", nargs="*", default=list(ROOMS), choices=list(ROOMS))
    parser.add_argument("--only", default="", help="mutants whose name holds this text")
    parser.add_argument("--map", type=Path, help="which test runs which line: read if it is there, else written")
    parser.add_argument("--report", type=Path, help="one JSON object a mutant; those in it are not run again")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.record is not None:
        record(Path.cwd(), given.record)
        return 0
    with tempfile.TemporaryDirectory(prefix="npusim-mutants-") as folder:
        tree = Path(folder).resolve()
        copy_tree(tree)
        known = given.map.absolute() if given.map else tree / "map.json"
        if not known.exists():
            command = [sys.executable, "-P", str(Path(__file__).resolve()), "--record", str(known)]
            subprocess.run(command, cwd=tree, env={**environment(tree), "PYTHONDONTWRITEBYTECODE": ""}, check=True)
        os.environ.update(environment(tree))
        rows: list[dict[str, Any]] = []
        if given.report and given.report.exists():
            rows = [json.loads(line) for line in given.report.read_text(encoding="utf-8").splitlines()]
        done = {row["key"] for row in rows}
        mutants = [m for m in draw(tree, given.rooms, given.count, given.seed, given.only) if m.key not in done]

        def report(row: dict[str, Any]) -> None:
            rows.append(row)
            if given.report:
                with given.report.open("a", encoding="utf-8") as stream:
                    stream.write(f"{json.dumps(row)}\n")

        tests = Map(known)
        mutants.sort(key=tests.at_import)  # a Python of their own takes long: they come last
        run(tree, tests, mutants, report)
        reasons = judged_equivalent()
        sys.stdout.write(summary(rows, reasons))
    counted = [row for row in rows if row["verdict"].startswith(("killed", "survived")) and row["key"] not in reasons]
    killed = sum(row["verdict"].startswith("killed") for row in counted)
    return int(killed < 0.95 * len(counted))


if __name__ == "__main__":
    sys.exit(main())
