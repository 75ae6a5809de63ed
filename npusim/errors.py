"""Every error npusim raises on purpose, each with the exit code the command line gives it.

A message is one sentence or two: what is wrong, where (node and tensor name), what was seen against what was wanted, and
what to do next. Anything else that escapes is a bug in npusim.
"""

from __future__ import annotations

__all__ = [
    "InputError",
    "InternalMismatchError",
    "ModelError",
    "NpusimError",
    "OperatorError",
    "UnknownTensorError",
    "UnsupportedError",
    "UsageError",
    "count",
    "printable",
]


LONGEST_MESSAGE = 900
"""Names come from files and may be of any length: of a longer message the middle is left out."""


def printable(text: str, keep: str = "") -> str:
    r"""A text whose control characters, direction marks among them, are written as Python writes them, but for those in `keep`.

    Names come from files: none may steer a terminal or turn the order of what stands beside it.

    Examples
    --------
    >>> printable("conv\x1b[31m")
    'conv\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(item if item.isprintable() or item in keep else repr(item)[1:-1] for item in text)


def count(value: int, noun: str) -> str:
    """A number and its noun.

    Examples
    --------
    >>> count(1, "layer"), count(1200, "value")
    ('1 layer', '1,200 values')
    """
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


class NpusimError(Exception):
    """Base class of all errors that npusim raises on purpose."""

    exit_code: int = 2

    def __init__(self, message: str) -> None:
        # names come from files: a message stays one printable line whatever they hold
        shown = printable(message)
        if len(shown) > LONGEST_MESSAGE:
            shown = f"{shown[: LONGEST_MESSAGE // 2]} ... {shown[-LONGEST_MESSAGE // 3 :]}"
        super().__init__(shown)


class UsageError(NpusimError):
    """Raised when a call or a command asks for something that does not exist: an unknown engine, an unknown tensor name."""


class UnknownTensorError(UsageError, KeyError):
    """Raised when a tensor is asked for by a name that the model or the trace does not have."""

    def __str__(self) -> str:
        """The message itself; a KeyError would show it in quotes."""
        return str(self.args[0])


class ModelError(NpusimError):
    """Raised when a model file cannot be read or contradicts itself: not ONNX, truncated, cyclic, shapes that do not fit."""


class InputError(NpusimError):
    """Raised when data given to a model does not fit it: wrong name, shape or dtype, NaN, an unreadable or empty file."""


class UnsupportedError(NpusimError):
    """Raised when a valid model cannot be simulated exactly: an unknown operator, an unfixed dimension, an absurd size."""

    exit_code = 3


class OperatorError(UnsupportedError):
    """Raised when an operator's attributes or inputs are outside of what npusim implements; the caller adds the place."""


class InternalMismatchError(NpusimError):
    """Raised when two ways of computing the same integers disagree, which the proofs of npusim exclude; please report it."""

    exit_code = 1
