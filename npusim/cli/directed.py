"""``npusim verify --directed``: inputs searched where a layer may differ from ONNX Runtime, and what is said of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import numpy as np

from npusim.bounds import Property, Refutation
from npusim.bounds.witness import NoWitness, Witness, find_model_witnesses
from npusim.cli.output import count
from npusim.cli.progress import progress
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.files.datasets import write_arrays
from npusim.findings import Finding
from npusim.graph import Array

__all__ = ["Directed", "check_options", "directed_options", "search_directed"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

DEFAULT_SECONDS: Final = 45.0

STARTING_SAMPLES: Final = 64
"""Of the samples to compare on, so many are also taken as starting points of the search."""

IN_MODEL: Final = (
    "rely on npusim's code where onnxruntime is the reference: the device computes in integers, and past 2^24 float32 does not "
    "hold every integer"
)
AT_LAYER: Final = "search longer with --seconds, or with recorded samples as INPUTS to start from"


@dataclass(frozen=True, slots=True)
class Directed:
    """What the search came to.

    Attributes
    ----------
    results
        One for each layer that is not proven.
    seconds, seed
        What it was given.
    first_sample
        Number of samples that are compared anyway; the inputs found come behind them.
    output
        Archive with the inputs found; None where none is written.
    """

    results: tuple[Witness | NoWitness, ...]
    seconds: float
    seed: int
    first_sample: int
    output: str | None

    @property
    def in_model(self) -> list[Witness]:
        """Witnesses with inputs of the model."""
        return [item for item in self.results if isinstance(item, Witness) and item.model_inputs is not None]

    @property
    def at_layer(self) -> list[Witness]:
        """Witnesses with inputs of the layer only."""
        return [item for item in self.results if isinstance(item, Witness) and item.model_inputs is None]

    @property
    def refutations(self) -> list[Refutation]:
        """What the witnesses in the model disprove."""
        return [item.refutation for item in self.in_model if item.refutation is not None]

    @property
    def arrays(self) -> dict[str, Array]:
        """Inputs found, stacked: the model's by input name; the layers' by the name of the tensor that the layer reads."""
        found = [item.model_inputs for item in self.in_model if item.model_inputs is not None]
        return _stacked([*found, *(item.layer_inputs for item in self.at_layer)])

    def added_to(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Samples with the model inputs found behind them."""
        found = _stacked(item.model_inputs for item in self.in_model if item.model_inputs is not None)
        return {name: np.concatenate([array, found[name]]) if name in found else array for name, array in feeds.items()}

    def findings(self) -> list[Finding]:
        """Errors for inputs of the model, warnings for inputs of a layer only."""
        found = [
            _finding(item, "directed_input", "error", {"index": [sample, *item.index[1:]], "file": self.output}, IN_MODEL)
            for sample, item in enumerate(self.in_model, self.first_sample)
        ]
        entries: dict[str, int] = {}
        for item in self.at_layer:
            tensors = {name: entries.get(name, 0) for name in item.layer_inputs}
            entries.update({name: entry + 1 for name, entry in tensors.items()})
            evidence = {"layer_inputs": tensors, "file": self.output}
            found.append(_finding(item, "directed_layer_input", "warning", evidence, AT_LAYER))
        return found

    def as_object(self) -> dict[str, Any]:
        """The part of the JSON object that tells of the search."""
        return {
            "seconds": self.seconds,
            "seed": self.seed,
            "evaluations": sum(item.evaluations for item in self.results),
            "samples": len(self.in_model),
            "output": self.output,
            "layers": [_layer_object(item) for item in self.results],
        }

    def paragraphs(self) -> list[str]:
        """The same in plain words."""
        if not self.results:
            return ["directed: every layer is proven equal for every input, so there is nothing to search"]
        found = [
            f"directed, sample {sample}: '{item.layer}': {item.explanation}"
            for sample, item in enumerate(self.in_model, self.first_sample)
        ]
        found += [f"directed: '{item.layer}': {_message(item)}" for item in self.results if _found(item) != "model_input"]
        parts = ((self.in_model, "model input"), (self.at_layer, "layer input"))
        inputs = " and ".join(count(len(part), noun) for part, noun in parts if part)
        stored = f"in {self.output}" if self.output is not None else "-o WITNESS.npz stores what is found"
        return [*found, f"directed: {inputs} found; {stored}"] if inputs else found


def directed_options(command: _Command) -> _Command:
    """--directed, --seconds, -o."""
    store = click.option("-o", "--output", metavar="WITNESS.npz", help="Store the inputs that the search finds.")
    limit = click.option(
        "--seconds", type=click.FloatRange(min=0), metavar="S", help=f"Time for that search.  [default: {DEFAULT_SECONDS:g}]"
    )
    switch = click.option("--directed", is_flag=True, help="Also search inputs at which a layer differs.")
    return switch(limit(store(command)))


def check_options(directed: bool, seconds: float | None, output: str | None, sources: Iterable[str | None]) -> None:
    """Refuse options of the search without a search, and before any work a file that could not be written after it."""
    if not directed and (seconds is not None or output is not None):
        raise UsageError("--seconds and -o are for the search for inputs; give --directed as well")
    if output is None:
        return
    path = Path(output)
    if path.suffix != ".npz":
        raise UsageError(f"{output}: inputs are written as a .npz archive; let the name end in .npz")
    if not path.parent.is_dir():
        raise UsageError(f"{output}: there is no folder '{path.parent}'; make it first")
    if path.is_dir():
        raise UsageError(f"{output}: is a folder; name a file to write to")
    for source in sources:
        if source is not None and path.exists() and os.path.exists(source) and path.samefile(source):
            raise UsageError(f"{output}: is read as well ('{source}'), and would be overwritten; name another file")


def search_directed(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    *,
    seconds: float | None,
    seed: int,
    output: str | None,
    quiet: bool,
) -> Directed:
    """Search inputs at which a layer's code differs from ONNX Runtime's, and store what is found.

    Parameters
    ----------
    session
        The model.
    feeds
        Samples that are compared anyway, and where the search starts.
    seconds, seed
        For the search; None for the usual time.
    output
        Archive to write; None for none. It is written only if something is found.
    quiet
        No progress on stderr.
    """
    limit = DEFAULT_SECONDS if seconds is None else seconds
    starts = {name: array[:STARTING_SAMPLES] for name, array in feeds.items()}
    with progress("directed search", quiet=quiet, unit="seconds") as report:
        results = find_model_witnesses(
            session, (Property.ONNXRUNTIME_EXACT,), seconds=limit, seed=seed, samples=starts, progress=report
        )
    found = any(results)
    directed = Directed(results, limit, seed, len(next(iter(feeds.values()), ())), output if found else None)
    if output is not None and found:
        write_arrays(output, directed.arrays)
    return directed


def _stacked(parts: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    collected: dict[str, list[Array]] = {}
    for part in parts:
        for name, array in part.items():
            collected.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in collected.items()}


def _finding(item: Witness, rule: str, severity: str, evidence: Mapping[str, Any], remedy: str) -> Finding:
    return Finding(rule, severity, item.layer, _message(item), remedy, {**item.evidence, **evidence})


def _layer_object(item: Witness | NoWitness) -> dict[str, Any]:
    return {
        "name": item.layer,
        "found": _found(item),
        "message": _message(item),
        "evaluations": item.evaluations,
        "seconds": round(item.seconds, 3),
    }


def _found(item: Witness | NoWitness) -> str:
    if isinstance(item, NoWitness):
        return "none_exists" if item.proven else "none"
    return "layer_input" if item.model_inputs is None else "model_input"


def _message(item: Witness | NoWitness) -> str:
    if isinstance(item, NoWitness):
        return item.reason
    if item.model_inputs is not None:
        return item.explanation
    return (
        f"{item.explanation}. These are inputs of the layer; of {item.evaluations:,} inputs of the model tried in "
        f"{item.seconds:.0f} seconds none leads there, so whether the model differs is not known"
    )
