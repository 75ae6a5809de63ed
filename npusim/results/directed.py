"""Inputs searched at which a layer may differ from ONNX Runtime, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np

from npusim.bounds import Property, Refutation
from npusim.bounds.verdicts import STATEMENTS_OF
from npusim.bounds.witness import NoWitness, Witness, find_model_witnesses
from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.errors import UnsupportedError
from npusim.files.datasets import write_arrays
from npusim.findings import Finding
from npusim.graph import Array
from npusim.schemas.derivation import Count, Finite, Minimum

__all__ = ["DEFAULT_SECONDS", "Directed", "SearchedLayer", "message_of", "search_directed"]

DEFAULT_SECONDS: Final = 45.0

STARTING_SAMPLES: Final = 64
"""Of the samples to compare on, so many are also taken as starting points of the search."""

IN_MODEL: Final = (
    "rely on npusim's code where onnxruntime is the reference: the device computes in integers, and past 2^24 float32 does not "
    "hold every integer"
)
AT_LAYER: Final = "search longer with --seconds, or with recorded samples as INPUTS to start from"


@dataclass(frozen=True, slots=True)
class SearchedLayer:
    """A layer for which equality is not proven for every input.

    Attributes
    ----------
    name
        Its name.
    found
        model_input: an input of the model at which the layer differs. layer_input: only inputs of the layer itself. none:
        neither. none_exists: it is proven that there is no such input.
    message
        The arithmetic, or why the search ended.
    evaluations
        Inputs of the model that were computed.
    seconds
        Time it took.
    """

    name: str
    found: Literal["model_input", "layer_input", "none", "none_exists"]
    message: str
    evaluations: Count
    seconds: Annotated[float, Finite(), Minimum(0)]


@dataclass(frozen=True, slots=True)
class Directed:
    """What the search for inputs came to.

    Attributes
    ----------
    results
        One for each layer that is not proven.
    seconds
        Time it was given.
    seed
        Of its pseudo-random numbers.
    first_sample
        Number of samples that are compared anyway; the inputs found come behind them.
    output
        Archive with the inputs found; null where none is written.
    """

    json_names: ClassVar[tuple[str, ...]] = ("seconds", "seed", "evaluations", "samples", "output", "layers")

    results: tuple[Witness | NoWitness, ...]
    seconds: Annotated[float, Finite(), Minimum(0)]
    seed: Count
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

    @property
    def evaluations(self) -> Count:
        """Inputs of the model that it computed."""
        return sum(item.evaluations for item in self.results)

    @property
    def samples(self) -> Count:
        """Inputs of the model that it found; they are compared as the last samples."""
        return len(self.in_model)

    @property
    def layers(self) -> tuple[SearchedLayer, ...]:
        """Layers for which equality is not proven for every input."""
        return tuple(_searched(item) for item in self.results)


def search_directed(
    session: InferenceSession,
    feeds: Mapping[str, Array],
    *,
    seconds: float | None,
    seed: int,
    output: str | None,
    progress: Progress | None = None,
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
    progress
        Called with the seconds gone and those of all.

    Raises
    ------
    UnsupportedError
        If nothing is stated about floats for the model's format.
    """
    if Property.ONNXRUNTIME_EXACT not in STATEMENTS_OF[session.format]:
        raise UnsupportedError(
            f"{session.model.label}: inputs are searched at which float32 rounds what the NPU's integers do not, and of models "
            f"of the format '{session.format}' nothing is stated about float32; leave out the directed search"
        )
    limit = DEFAULT_SECONDS if seconds is None else seconds
    starts = {name: array[:STARTING_SAMPLES] for name, array in feeds.items()}
    results = find_model_witnesses(
        session, (Property.ONNXRUNTIME_EXACT,), seconds=limit, seed=seed, samples=starts, progress=progress
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
    return Finding(rule, severity, item.layer, message_of(item), remedy, {**item.evidence, **evidence})


def _searched(item: Witness | NoWitness) -> SearchedLayer:
    return SearchedLayer(item.layer, _found(item), message_of(item), item.evaluations, round(item.seconds, 3))


def _found(item: Witness | NoWitness) -> Literal["model_input", "layer_input", "none", "none_exists"]:
    if isinstance(item, NoWitness):
        return "none_exists" if item.proven else "none"
    return "layer_input" if item.model_inputs is None else "model_input"


def message_of(item: Witness | NoWitness) -> str:
    """What was found for a layer, as a sentence."""
    if isinstance(item, NoWitness):
        return item.reason
    if item.model_inputs is not None:
        return item.explanation
    return (
        f"{item.explanation}. These are inputs of the layer; of {item.evaluations:,} inputs of the model tried in "
        f"{item.seconds:.0f} seconds none leads there, so whether the model differs is not known"
    )
