"""``npusim verify --directed``: the options of the search, and what it came to in plain words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from npusim.cli.destinations import check_destination, force_option
from npusim.cli.output import count
from npusim.cli.paths import Destination
from npusim.errors import UsageError
from npusim.results.directed import DEFAULT_SECONDS, Directed

__all__ = ["check_options", "directed_options", "directed_paragraphs"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def directed_options(command: _Command) -> _Command:
    """--directed, --seconds, -o, --force."""
    store = click.option(
        "-o", "--output", type=Destination(".npz"), metavar="WITNESS.npz", help="Store the inputs that the search finds."
    )
    limit = click.option(
        "--seconds", type=click.FloatRange(min=0), metavar="S", help=f"Time for that search.  [default: {DEFAULT_SECONDS:g}]"
    )
    switch = click.option("--directed", is_flag=True, help="Also search inputs at which a layer differs.")
    return switch(limit(store(force_option(command))))


def check_options(
    directed: bool, seconds: float | None, output: str | None, sources: Iterable[str | None], *, force: bool
) -> None:
    """Refuse options of the search without a search, and before any work a file that could not be written after it."""
    if not directed and (seconds is not None or output is not None):
        raise UsageError("--seconds and -o are for the search for inputs; give --directed as well")
    check_destination(output, sources, force=force, suffixes=(".npz",))


def directed_paragraphs(searched: Directed) -> list[str]:
    """What the search came to, in plain words."""
    if not searched.results:
        return ["directed: every layer is proven equal for every input, so there is nothing to search"]
    found = [
        f"directed, sample {sample}: '{item.layer}': {item.explanation}"
        for sample, item in enumerate(searched.in_model, searched.first_sample)
    ]
    found += [f"directed: '{layer.name}': {layer.message}" for layer in searched.layers if layer.found != "model_input"]
    parts = ((searched.in_model, "model input"), (searched.at_layer, "layer input"))
    inputs = " and ".join(count(len(part), noun) for part, noun in parts if part)
    stored = f"in {searched.output}" if searched.output is not None else "-o WITNESS.npz stores what is found"
    return [*found, f"directed: {inputs} found; {stored}"] if inputs else found
