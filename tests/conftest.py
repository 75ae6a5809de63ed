"""Tests that need what is not always there: they are left out where it is missing, counted, and never left out unnoticed.

* ``@pytest.mark.exports``: needs the real exports (``../shared/models``, or the folder that ``NPUSIM_EXPORTS`` names).
* an argument named ``export``: the test runs once for every real export, a `support.Export`. It must run for all of them;
  a test that wants only some is to name its argument otherwise and be marked ``exports``.
* ``@pytest.mark.cases``: needs the models of ``../shared/cases``, or of the folder that ``NPUSIM_CASES`` names.
* ``@pytest.mark.formats``: needs the real models of other formats (``../shared/formats``, or what ``NPUSIM_FORMATS`` names).
* ``@pytest.mark.needs_torch``: needs torch.
* ``@pytest.mark.needs_dask``: needs dask.distributed.
* ``@pytest.mark.slow``: takes a second or more. All others that need no exports are ``quick``: ``pytest -m quick``.
* ``@pytest.mark.needs_tflite``: needs the runtimes of TensorFlow Lite.

The run ends with lines that say how many exports ran and what was left out, also where tests run side by side (``-n 2``). With
``NPUSIM_REQUIRE_EXPORTS=1`` the run fails unless there is at least one test with the argument ``export`` and each of them ran
for every export in INDEX.csv; with ``NPUSIM_REQUIRE_TORCH=1``, ``NPUSIM_REQUIRE_DASK=1``, ``NPUSIM_REQUIRE_TFLITE=1`` or
``NPUSIM_REQUIRE_FORMATS=1`` it fails where those are missing.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

# Before NumPy and torch are imported: their threads wait for each other busily, which costs small arrays more than it gains,
# and a multiple of that where tests run side by side. Tests of threads set the number themselves.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import hypothesis  # noqa: E402
import pytest  # noqa: E402

# Only the package support/ is made importable, not its folder: tests/torch would stand in for a torch that is not installed.
pytest.register_assert_rewrite("support")
SPEC = importlib.util.spec_from_file_location("support", Path(__file__).parent / "support" / "__init__.py")
sys.modules["support"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(sys.modules["support"])

import support  # noqa: E402

NEEDS = "npusim_needs"
"""Reports carry what their test needs under this name, since only reports reach the process that prints the summary."""

EXPORT = "npusim_export"
"""Reports of a test with the argument ``export`` carry the function and the name of the export under this name."""

TALLY = "npusim_tally"
"""Reports carry what their test adds to the lines that end the run under this name: a sentence and a number."""

MISSING = {
    "cases": f"models on which something false was once said ({support.CASES_FOLDER} is not here)",
    "exports": f"the real exports ({support.EXPORTS_FOLDER} is not here)",
    "formats": f"the real models of other formats ({support.FORMATS_FOLDER} is not here)",
    "dask": "dask.distributed (it is not installed: pip install '.[dask]')",
    "torch": "torch (it is not installed: pip install '.[torch]')",
    "tflite": "the runtimes of TensorFlow Lite (not installed: pip install '.[tflite]')",
}

# No deadline: how long an example takes must not decide a test. On a server the examples are always the same, so that a check
# fails for what was changed; everywhere else each run tries others.
hypothesis.settings.register_profile("npusim", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("npusim")


def pytest_configure(config: pytest.Config) -> None:
    if support.EXPORTS is None and (required("EXPORTS") or os.environ.get("NPUSIM_EXPORTS")):
        raise pytest.UsageError(f"{support.EXPORTS_FOLDER} holds no INDEX.csv, but the real exports are asked for")
    if support.EXPORTS is not None and not support.export_names():
        raise pytest.UsageError(f"{support.EXPORTS_FOLDER}/INDEX.csv lists no exports")
    if not support.HAS_TORCH and required("TORCH"):
        raise pytest.UsageError("NPUSIM_REQUIRE_TORCH=1, but torch is not installed")
    if not support.HAS_DASK and required("DASK"):
        raise pytest.UsageError("NPUSIM_REQUIRE_DASK=1, but dask.distributed is not installed")
    if not support.HAS_TFLITE and required("TFLITE"):
        raise pytest.UsageError("NPUSIM_REQUIRE_TFLITE=1, but tflite-micro or ai-edge-litert is not installed")
    if support.CASES is None and required("CASES"):
        raise pytest.UsageError(f"{support.CASES_FOLDER} holds no reports, but its models are asked for")
    if support.FORMATS is None and required("FORMATS"):
        raise pytest.UsageError(
            f"{support.FORMATS_FOLDER} holds no split.csv, but the real models of other formats are asked for"
        )
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Ledger(), "npusim-ledger")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "export" in metafunc.fixturenames:
        exports = [pytest.param(export, id=export.name) for export in support.load_exports()]
        metafunc.parametrize("export", exports or [pytest.param(None, id="missing")])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "export" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.exports)
            if support.EXPORTS is not None:
                function = item.nodeid.split("[", 1)[0]
                item.user_properties.append((EXPORT, (function, item.callspec.params["export"].name)))
        if item.get_closest_marker("slow") is None and item.get_closest_marker("exports") is None:
            item.add_marker(pytest.mark.quick)
        if item.get_closest_marker("exports") is not None and support.EXPORTS is None:
            leave_out(item, "exports")
        elif item.get_closest_marker("cases") is not None and support.CASES is None:
            leave_out(item, "cases")
        elif item.get_closest_marker("formats") is not None and support.FORMATS is None:
            leave_out(item, "formats")
        elif item.get_closest_marker("needs_torch") is not None and not support.HAS_TORCH:
            leave_out(item, "torch")
        elif item.get_closest_marker("needs_dask") is not None and not support.HAS_DASK:
            leave_out(item, "dask")
        elif item.get_closest_marker("needs_tflite") is not None and not support.HAS_TFLITE:
            leave_out(item, "tflite")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[[str, int], None]:
    """Adds a number to a line that ends the run, whichever process the test runs in: `tally("operator tests", 3)`."""
    return lambda sentence, number: request.node.user_properties.append((TALLY, (sentence, number)))


def leave_out(item: pytest.Item, need: str) -> None:
    """Skip the test and have its report say what it needs."""
    item.user_properties.append((NEEDS, need))
    item.add_marker(pytest.mark.skip(reason=f"needs {MISSING[need]}"))


def required(what: str) -> bool:
    """Whether the environment demands that nothing is left out for want of this."""
    return os.environ.get(f"NPUSIM_REQUIRE_{what}", "0") not in ("", "0")


class Ledger:
    """Counts, from the reports, which exports ran in which test and what was left out for want of what."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.ran: defaultdict[str, set[str]] = defaultdict(set)
        self.tallies: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == NEEDS and report.when == "setup":
                self.left_out[value] += 1
            elif name == TALLY and report.when == "call":
                sentence, number = value
                self.tallies[sentence] += number
            elif name == EXPORT:
                function, export = value
                exports = self.ran[function]
                if report.when == "call" and not report.skipped:
                    exports.add(export)

    def shortfall(self) -> str | None:
        """Why the run does not count as one over all real exports; None when it does."""
        wanted = set(support.export_names())
        if not self.ran:
            return "no test with the argument 'export' ran"
        for function, exports in self.ran.items():
            if exports != wanted:
                return f"{function} ran for {len(exports)} of {len(wanted)}, not for '{min(wanted - exports)}'"
        return None

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if required("EXPORTS") and self.shortfall() and not session.config.option.collectonly:
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        if config.option.collectonly:
            return
        if self.ran:
            complete = set.intersection(*self.ran.values())
            terminalreporter.write_line(f"real exports: {len(complete)} run, each by {len(self.ran)} test(s)")
        for sentence, number in self.tallies.items():
            terminalreporter.write_line(f"{sentence}: {number}")
        for need, count in self.left_out.items():
            terminalreporter.write_line(f"left out: {count} test(s) that need {MISSING[need]}", yellow=True)
        if required("EXPORTS") and (shortfall := self.shortfall()):
            terminalreporter.write_line(f"FAILED: NPUSIM_REQUIRE_EXPORTS=1, but {shortfall}", red=True)
