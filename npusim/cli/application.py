"""The command ``npusim``: its commands, and what becomes of errors."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final

import click
from click.shell_completion import shell_complete

from npusim import __version__
from npusim.cli.lazy_group import LazyGroup
from npusim.cli.options import Invocation
from npusim.cli.output import failure, one_line, print_json
from npusim.cli.streams import INTERRUPTED, READER_GONE, abandon_streams
from npusim.errors import NpusimError, UnsupportedError, UsageError

__all__ = ["application", "main"]

COMPLETION = "_NPUSIM_COMPLETE"
"""The variable with which shells ask for completions; the epilog says how to set them up."""

EPILOG = """\b
Example: npusim verify model.onnx

\b
Exit codes: 0 as expected; 1 a mismatch or a finding; 2 wrong usage, or a
file that cannot be read; 3 a model that cannot be simulated exactly.

\b
Completion, in the start-up file of the shell:
  bash: eval "$(_NPUSIM_COMPLETE=bash_source npusim)"
  zsh:  eval "$(_NPUSIM_COMPLETE=zsh_source npusim)"
  fish: _NPUSIM_COMPLETE=fish_source npusim | source"""


COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "bounds": "npusim.cli.bounds:bounds_command",
        "check": "npusim.cli.check:check_command",
        "compare": "npusim.cli.compare:compare_command",
        "demo": "npusim.cli.demo:demo_command",
        "golden": "npusim.cli.golden:golden_group",
        "inspect": "npusim.cli.inspect:inspect_command",
        "lint": "npusim.cli.lint:lint_command",
        "oracle": "npusim.cli.oracle:oracle_command",
        "quantize": "npusim.cli.quantize:quantize_command",
        "run": "npusim.cli.run:run_command",
        "verify": "npusim.cli.verify:verify_command",
    }
)
"""Where the commands live. A command is imported when it is called, so that one does not wait for what only others need."""


class _Application(LazyGroup):
    table: ClassVar[Mapping[str, str]] = COMMANDS


@click.group(name="npusim", cls=_Application, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(__version__, prog_name="npusim", message="%(prog)s %(version)s")
def application() -> None:
    """What TI's microcontroller NPU will output for a quantized ONNX model, to the bit."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Without the program's name; by default those of the process.

    Returns
    -------
    int
        The exit code.
    """
    with _stopping_cleanly() as stopped:
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
    return 128 + stopped[0] if stopped and code == INTERRUPTED else code


@contextmanager
def _stopping_cleanly() -> Iterator[list[int]]:
    """End on SIGTERM and SIGHUP as on Ctrl-C: files that are being written are removed. Gives the signal that came."""
    came: list[int] = []

    def stop(number: int, _frame: object) -> None:
        if not came:  # a second one must not stop the removal of files
            came.append(number)
            # objects whose construction is broken off complain when they are collected
            sys.unraisablehook = lambda _: None
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    wanted = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # a signal that is ignored stays so: nohup asks for that
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.signal(number, stop) for number in wanted if signal.getsignal(number) in usual}
    hook = sys.unraisablehook
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def _run(given: list[str]) -> int:
    invocation = Invocation(as_json="--json" in given)
    asked = os.environ.get(COMPLETION)
    if asked:
        return shell_complete(application, {}, "npusim", COMPLETION, asked)
    try:
        _accept_any_text()
        # Not application.main(): it ends with exit code 1, which means a mismatch, when the reader of stdout has gone away.
        with application.make_context("npusim", given, obj=invocation, color=_colors()) as context:
            code = application.invoke(context)
        sys.stdout.flush()
        return int(code)
    except click.exceptions.Exit as done:
        return done.exit_code
    except NpusimError as error:
        return _report(invocation, type(error).__name__, str(error), error.exit_code)
    except click.ClickException as error:
        return _report(invocation, UsageError.__name__, _usage(error), UsageError.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        abandon_streams()
        return READER_GONE
    except OSError as error:
        # The library turns failing files into errors of its own; what is left is stdout, on a full disk for example, ...
        if error.filename is None:
            abandon_streams()
            invocation.as_json = False
            return _report(invocation, type(error).__name__, f"the output cannot be written: {error}", UsageError.exit_code)
        # ... and a path of which even the question whether it is there fails
        message = f"{error.filename}: {error.strerror or error}; check the path"
        return _report(invocation, UsageError.__name__, message, UsageError.exit_code)
    except MemoryError:
        message = "there is not enough memory for this model and these samples; give fewer samples, or check the model's sizes"
        return _report(invocation, MemoryError.__name__, message, UnsupportedError.exit_code)
    except Exception as error:  # noqa: BLE001 - users get a sentence and an exit code even for npusim's own bugs
        return _report(invocation, type(error).__name__, _bug(error), UnsupportedError.exit_code)


def _colors() -> bool | None:
    """Whether to print in colours: never where NO_COLOR asks for none, else where stdout is a terminal."""
    return False if os.environ.get("NO_COLOR") else None


def _accept_any_text() -> None:
    """Names in a model may hold characters that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return f"a command is missing; see '{context.command_path if context else 'npusim'} --help'"
    where = f"; see '{context.command_path} --help'" if context is not None else ""
    return error.format_message().rstrip(".") + where


def _bug(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}, line {place.lineno}"
    return f"internal error, a bug in npusim: {type(error).__name__}: {str(error) or 'no message'} ({where}); please report it"


def _report(invocation: Invocation, kind: str, message: str, exit_code: int) -> int:
    text = one_line(message)
    try:
        if invocation.as_json:
            print_json(failure(invocation.model, kind, text, exit_code))
            sys.stdout.flush()
        else:
            click.echo(f"npusim: error: {text}", err=True)
    except OSError:
        abandon_streams()  # nobody reads the sentence; the exit code still tells
    return exit_code
