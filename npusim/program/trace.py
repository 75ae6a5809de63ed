"""What a run computed inside: every tensor by its ONNX name, and a view by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Annotated, Final

from npusim.errors import UnknownTensorError
from npusim.graph import Array
from npusim.program.layers import Accumulating, IntegerLayer, LayerKind
from npusim.program.program import Program, Step
from npusim.schemas.derivation import Choice

__all__ = ["STEP_KINDS", "LayerTrace", "StepKind", "Trace", "matching_names", "step_kind", "unknown_tensor"]

STEP_KINDS: Final = (*(str(kind) for kind in LayerKind), "QUANTIZE", "HOST")
"""What :func:`step_kind` gives."""

StepKind = Annotated[str, Choice(STEP_KINDS)]


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """One step of a program and the tensors a trace kept of it.

    Attributes
    ----------
    step
        The step.
    tensors
        Its inner tensors and results that were kept, in graph order.
    """

    step: Step
    tensors: Mapping[str, Array]

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step.name

    @property
    def kind(self) -> str:
        """Layer type, ``QUANTIZE`` for a stage that makes codes of floats, ``HOST`` for what the host computes."""
        return step_kind(self.step)

    @property
    def output(self) -> Array | None:
        """The step's result, None when it was not kept."""
        return self.tensors.get(self.step.tensors[-1])

    @property
    def accumulator(self) -> Array | None:
        """The layer's accumulator as the graph shows it (the first inner tensor); None for other steps or when not kept."""
        if not isinstance(self.step, Accumulating) or not self.step.taps:
            return None
        return self.tensors.get(self.step.taps[0].tensor)


class Trace(Mapping[str, Array]):
    """The tensors of one run by ONNX name.

    Integer codes (int8, uint8, int32 or int64) where the tensor is proven to hold integers, otherwise the element type of
    the graph. The first axis holds the samples, but for constants.
    """

    def __init__(self, program: Program, arrays: Mapping[str, Array]) -> None:
        self._program = program
        self._arrays = dict(arrays)

    def __getitem__(self, name: str) -> Array:
        if name not in self._arrays:
            raise unknown_tensor(name, self._arrays)
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"<Trace of {len(self._arrays)} tensors in {len(self._program.steps)} steps>"

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is the same for all samples, without an axis for them."""
        return self._program.resolve(name) in self._program.constants

    @property
    def layers(self) -> tuple[LayerTrace, ...]:
        """All steps in execution order with the tensors that were kept."""
        return tuple(
            LayerTrace(step, {name: self._arrays[name] for name in step.tensors if name in self._arrays})
            for step in self._program.steps
        )


def step_kind(step: Step) -> str:
    """Layer type, ``QUANTIZE`` or ``HOST``."""
    if isinstance(step, IntegerLayer):
        return str(step.kind)
    return "HOST" if hasattr(step, "operator") else "QUANTIZE"


def matching_names(patterns: Iterable[str], known: Mapping[str, object]) -> list[str]:
    """The names that patterns with ``*``, ``?`` and ``[...]`` match, each once; a name that exists stands for itself only.

    Raises
    ------
    UnknownTensorError
        If a pattern matches nothing.

    Examples
    --------
    >>> matching_names(["/b*", "a[0]"], {"/a": 0, "/b": 0, "/bc": 0, "a[0]": 0})
    ['/b', '/bc', 'a[0]']
    """
    names: list[str] = []
    for pattern in patterns:
        matches = [pattern] if pattern in known else [name for name in known if fnmatchcase(name, pattern)]
        if not matches:
            raise unknown_tensor(pattern, known)
        names.extend(matches)
    return list(dict.fromkeys(names))


def unknown_tensor(name: str, known: Mapping[str, object]) -> UnknownTensorError:
    """The error for a tensor name that does not exist, with the nearest names that do."""
    near = get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(repr(item) for item in near)}?" if near else ""
    return UnknownTensorError(f"there is no tensor '{name}' among {len(known)}{hint}")
