"""What all results have in common: they are true on success, print in a few lines, and become dictionaries and tables."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

from npusim import __version__
from npusim.engine.session import InferenceSession
from npusim.errors import printable
from npusim.graph.model_file import ModelFile, open_model
from npusim.program import Program
from npusim.program.trace import StepKind, step_kind
from npusim.schemas.derivation import Choice, Sha256
from npusim.schemas.objects import json_object

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CommandResult",
    "Failure",
    "FailureReason",
    "Model",
    "ModelIdentity",
    "Result",
    "SampleSource",
    "StepIdentity",
    "file_of",
    "identity_of",
    "session_of",
    "steps_of",
]

SHOWN_ROWS: Final = 60
"""Rows of a table shown in a notebook; ``to_pandas`` has all."""


class Result:
    """The base of results.

    A class says in :meth:`summary` what came out. Its JSON object are its fields (:mod:`npusim.schemas.objects`), and its
    table has a row for each entry of the field `rows_of` with what is a number or a text there.
    """

    __slots__ = ()
    rows_of: ClassVar[str] = "layers"

    ok: bool

    def __bool__(self) -> bool:
        return self.ok

    def summary(self) -> str:
        """What came out, in one or two sentences."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary()}>"

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        table: str = self.to_pandas().to_html(max_rows=SHOWN_ROWS, border=0, notebook=True)
        return printable(f"<p>{html.escape(self.summary())}</p>\n{table}", keep="\n\t\xa0")

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that the command line prints with ``--json``."""
        found: dict[str, Any] = json_object(self)
        return found

    def to_pandas(self) -> pd.DataFrame:
        """A table with a row for each entry and a column for each plain value of it."""
        import pandas as pd

        rows = self.to_dict()[self.rows_of]
        plain = [{key: item for key, item in row.items() if not isinstance(item, (dict, list))} for row in rows]
        return pd.DataFrame(plain)


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The model file.

    Attributes
    ----------
    path
        As given on the command line.
    sha256
        Of the file's content, external data put inside; null where it cannot be read.
    format
        What the model is written in, for example ``qdq``; null where it was not planned.
    arithmetic
        How its integer layers are computed, for example ``ort``; null where it was not planned. Values without it say nothing.
    input_stage
        Whose implementation makes codes of measured values: ``graph`` as the file is written, or a device's own, ``c28``,
        ``mspm0`` or ``truncated``; null where it was not planned. What is equal or proven is so for this one.
    """

    path: str
    sha256: Sha256 | None
    format: str | None = None
    arithmetic: str | None = None
    input_stage: str | None = None


Model = InferenceSession | str | os.PathLike[str] | bytes
"""A session, the path of an ``.onnx`` file, or its content."""


def session_of(model: Model) -> InferenceSession:
    """The session that was given, or one of the file."""
    return model if isinstance(model, InferenceSession) else InferenceSession(model)


def file_of(model: Model) -> ModelFile:
    """The file of a session, or the file itself, which is not planned."""
    return model.model if isinstance(model, InferenceSession) else open_model(model)


def identity_of(model: InferenceSession | ModelFile) -> ModelIdentity:
    """The path and the hash of a model; of a session also its format and arithmetic."""
    if isinstance(model, InferenceSession):
        found = identity_of(model.model)
        return replace(found, format=model.format, arithmetic=model.arithmetic, input_stage=model.input_stage)
    return ModelIdentity(model.label if model.path is None else model.path, model.sha256)


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class CommandResult(Result):
    """What the results of all commands hold.

    Attributes
    ----------
    npusim
        Version of npusim.
    model
        The model file.
    ok
        What the exit code says: true for 0, false for 1.
    """

    npusim: str = field(default=__version__, init=False)
    model: ModelIdentity
    ok: bool


@dataclass(frozen=True, slots=True)
class StepIdentity:
    """A step of a program.

    Attributes
    ----------
    name
        Name of the ONNX node that gives the layer its kind, made unique.
    tensor
        The ONNX tensor that the layer produces.
    kind
        Kind of layer; QUANTIZE makes codes of floats, HOST is computed by the host CPU as the graph says.
    """

    name: str
    tensor: str
    kind: StepKind


@dataclass(frozen=True, slots=True)
class SampleSource:
    """The samples.

    Attributes
    ----------
    path
        The file; null where they were generated.
    seed
        Of generated samples; null where they were given.
    """

    path: str | None
    seed: int | None


@dataclass(frozen=True, slots=True)
class FailureReason:
    """Why a command could not do its work.

    Attributes
    ----------
    kind
        Name of the error's class.
    message
        One line: what is wrong, where, and what to do.
    exit_code
        1 two ways of computing the same integers disagree; 2 wrong usage, or a file that cannot be read; 3 a model that cannot
        be simulated exactly.
    """

    kind: str
    message: str
    exit_code: Annotated[int, Choice((1, 2, 3))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The command could not do its work.

    Attributes
    ----------
    npusim
        Version of npusim.
    model
        Null where the arguments did not name one.
    ok
        False.
    error
        What is wrong.
    """

    npusim: str = field(default=__version__, init=False)
    model: ModelIdentity | None
    ok: Literal[False] = field(default=False, init=False)
    error: FailureReason


def steps_of(program: Program) -> tuple[StepIdentity, ...]:
    """Name, tensor and kind of each step, in execution order."""
    return tuple(StepIdentity(step.name, step.tensors[-1], step_kind(step)) for step in program.steps)
