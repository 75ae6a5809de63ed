"""Arguments and options that several commands share, so that each means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click

from npusim.cli.paths import SOURCE
from npusim.engine.planning import FORMATS
from npusim.engine.selection import ENGINES
from npusim.program.input_stage import InputStage

__all__ = [
    "INPUT_FILES",
    "Invocation",
    "allow_float_option",
    "arithmetic_option",
    "dask_option",
    "engine_option",
    "input_alpha_option",
    "input_codes_option",
    "input_stage_option",
    "json_option",
    "model_argument",
    "quiet_option",
    "threads_option",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

INPUT_FILES: Final = ".npz, .npy, .csv or .parquet"


@dataclass(slots=True)
class Invocation:
    """What is known of one call of the command line when it fails.

    Attributes
    ----------
    as_json
        Whether stdout is to hold one JSON object.
    model
        Path of the model; None before it was read from the arguments.
    """

    as_json: bool
    model: str | None = None


def model_argument(command: _Command) -> _Command:
    """MODEL, the path of an .onnx file; error reports name it."""
    return click.argument("model", type=SOURCE, metavar="MODEL", callback=_remember_model)(command)


def json_option(command: _Command) -> _Command:
    """--json."""
    text = "Print one JSON object on stdout and nothing else there, also for errors."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def quiet_option(command: _Command) -> _Command:
    """--quiet."""
    return click.option("-q", "--quiet", is_flag=True, help="No progress on stderr.")(command)


def threads_option(command: _Command) -> _Command:
    """--threads."""
    text = "Compute on N threads; no result depends on it.  [default: one for each processor]"
    return click.option("--threads", type=click.IntRange(min=1), metavar="N", help=text)(command)


def dask_option(command: _Command) -> _Command:
    """--dask."""
    text = (
        "Let the workers of dask.distributed compute: N processes on this machine, or those of a scheduler; no result depends "
        "on them."
    )
    return click.option("--dask", metavar="local[:N]|tcp://HOST:PORT", help=text)(command)


def arithmetic_option(command: _Command) -> _Command:
    """--arithmetic."""
    shown = "; ".join(f"{name}: {', '.join(choices)}" for name, choices in FORMATS.items())
    text = f"How integer layers are computed, by the format of MODEL. {shown}.  [default: the first of the format]"
    return click.option("--arithmetic", metavar="NAME", help=text)(command)


def allow_float_option(command: _Command) -> _Command:
    """--allow-float."""
    text = "A model of which nothing is quantized is what is wanted; without it the exit code is 1."
    return click.option("--allow-float", is_flag=True, help=text)(command)


def input_codes_option(command: _Command) -> _Command:
    """--input-codes."""
    text = "Codes of float inputs of a MATCH model, u8, s8, u4 ...  [default: what the file says]"
    return click.option("--input-codes", metavar="CODES", help=text)(command)


def input_alpha_option(command: _Command) -> _Command:
    """--input-alpha."""
    text = (
        "End of the range of the quantizer that PLiNIO leaves out of a MATCH model, or both ends of a signed one: inputs are "
        "real samples then."
    )
    return click.option("--input-alpha", type=_ALPHA, metavar="ALPHA|LOW,HIGH", help=text)(command)


class _Alpha(click.ParamType[Any]):
    """A number, or two with a comma between them."""

    name = "alpha"

    def convert(
        self, value: str | float | tuple[float, float], param: click.Parameter | None, ctx: click.Context | None
    ) -> float | tuple[float, float]:
        """The number or both."""
        if not isinstance(value, str):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) == 2:
            return numbers[0], numbers[1]
        if len(numbers) != 1:
            self.fail(f"'{value}' is not a number or two with a comma between them", param, ctx)
        return numbers[0]


_ALPHA: Final = _Alpha()


def input_stage_option(command: _Command) -> _Command:
    """--input-stage."""
    text = (
        "Whose implementation makes codes of measured values: that of the graph as written; c28 (C2000 and AM26x); mspm0 "
        "(MSPM0, and the formula in the compiler's header); truncated (the graph's float converted as C does it). Results hold "
        "for this one."
    )
    choices, default = [str(variant) for variant in InputStage], str(InputStage.GRAPH)
    return click.option("--input-stage", type=click.Choice(choices), default=default, show_default=True, help=text)(command)


def engine_option(command: _Command) -> _Command:
    """--engine."""
    text = (
        "How to compute: fast uses float matrix products where they are proven exact, reference int64 throughout. Same results."
    )
    return click.option("--engine", type=click.Choice(ENGINES), default=ENGINES[0], show_default=True, help=text)(command)


def _remember_model(context: click.Context, _parameter: click.Parameter, value: str) -> str:
    invocation = context.find_object(Invocation)
    if invocation is not None:
        invocation.model = value
    return value
