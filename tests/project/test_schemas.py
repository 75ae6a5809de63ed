"""Schemas are derived from the result dataclasses: what is committed is what is derived."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from importlib.resources import files
from typing import Annotated, Any, Literal

import jsonschema
import numpy as np
import numpy.typing as npt
import pytest

from npusim.results.schemas import derive_all, schema_text
from npusim.schemas.derivation import Axes, Count, Finite, Maximum, Minimum, Sha256, derive_schema
from npusim.schemas.objects import BY_CHANNEL, UNLISTED, json_object


@pytest.mark.slow
@pytest.mark.parametrize("name", derive_all())
def test_committed_schemas_are_the_derived_ones(name: str) -> None:
    schema = derive_all()[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    committed = (files("npusim.schemas") / f"{name}.json").read_text(encoding="utf-8")
    assert committed == schema_text(schema) + "\n", "run python -m npusim.results.schemas"


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    """A part.

    Attributes
    ----------
    lower, upper
        Its ends.
    """

    lower: int
    upper: int


@dataclass(frozen=True)
class Outer:
    """Everything that a result may hold.

    Attributes
    ----------
    text, colour, choice, flag
        Words.
    size, hash, share
        Limited.
    value, finite
        Floats.
    pair, many, nothing
        Lists.
    part, missing
        Objects.
    table
        By name.
    vector, matrix
        Arrays.
    hidden
        For Python only.
    by_channel
        Long.
    """

    json_names = tuple(
        "text colour choice flag size hash share value finite pair many nothing part missing table vector matrix by_channel "
        "width lower=part.lower".split()
    )

    text: str = "a"
    colour: Colour = Colour.RED
    choice: Literal["x", "y"] = "x"
    flag: bool = True
    size: Count = 1
    hash: Sha256 = "0" * 64
    share: Annotated[float, Finite(), Minimum(0), Maximum(1)] | None = 0.5
    value: float | None = float("nan")
    finite: Annotated[float, Finite()] = 1.5
    pair: tuple[int, int] | None = (1, 2)
    many: tuple[Inner, ...] = (Inner(3, 4),)
    nothing: tuple[()] = ()
    part: Inner = Inner(-1, 1)
    missing: Inner | None = None
    table: dict[str, float] = field(default_factory=lambda: {"one": float("inf")})
    vector: npt.NDArray[np.float64] = field(default_factory=lambda: np.array([0.5, -np.inf]))
    matrix: Annotated[npt.NDArray[np.int64], Axes(2)] = field(default_factory=lambda: np.array([[1, 2], [3, 4]]))
    hidden: Any = field(default=None, metadata=UNLISTED)
    by_channel: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(3), metadata=BY_CHANNEL)

    @property
    def width(self) -> int:
        """From end to end."""
        return self.part.upper - self.part.lower


EVERYTHING = {
    "text": "a",
    "colour": "red",
    "choice": "x",
    "flag": True,
    "size": 1,
    "hash": "0" * 64,
    "share": 0.5,
    "value": "nan",
    "finite": 1.5,
    "pair": [1, 2],
    "many": [{"lower": 3, "upper": 4}],
    "nothing": [],
    "part": {"lower": -1, "upper": 1},
    "missing": None,
    "table": {"one": "inf"},
    "vector": [0.5, "-inf"],
    "matrix": [[1, 2], [3, 4]],
    "by_channel": [0.0, 0.0, 0.0],
    "width": 2,
    "lower": -1,
}


def test_objects_are_the_fields_in_order_and_fit_their_schema() -> None:
    found = json_object(Outer())
    assert (found, list(found)) == (EVERYTHING, list(EVERYTHING))
    short = json_object(Outer(), by_channel=False)
    assert short == {key: value for key, value in EVERYTHING.items() if key != "by_channel"}
    validator = jsonschema.Draft202012Validator(derive_schema("t", "d", (Outer,)))
    validator.validate(found)
    validator.validate(short)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("text", None),
        ("colour", "green"),
        ("choice", "z"),
        ("flag", "yes"),
        ("size", -1),
        ("size", 0.5),
        ("hash", "0"),
        ("share", 2),
        ("value", "infinite"),
        ("finite", "nan"),
        ("pair", [1]),
        ("pair", [1, 2, 3]),
        ("many", [{"lower": 1}]),
        ("nothing", [1]),
        ("part", None),
        ("part", {"lower": 1, "upper": 2, "more": 3}),
        ("missing", {}),
        ("table", {"one": "two"}),
        ("vector", [[1]]),
        ("matrix", [1]),
        ("more", 1),
    ],
)
def test_schemas_refuse_what_no_field_can_hold(key: str, wrong: object) -> None:
    validator = jsonschema.Draft202012Validator(derive_schema("t", "d", (Outer,)))
    assert not validator.is_valid({**EVERYTHING, key: wrong})
    missing = {name: value for name, value in EVERYTHING.items() if name != key}
    assert key == "more" or not validator.is_valid(missing)


@dataclass(frozen=True)
class Silent:
    """A class that does not say what its field is."""

    value: int


@dataclass(frozen=True)
class Strange:
    """A class with a field that JSON has no form for.

    Attributes
    ----------
    value
        A fraction.
    """

    value: Fraction


def test_what_has_no_description_or_no_form_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Silent\.value has no description"):
        derive_schema("t", "d", (Silent,))
    with pytest.raises(TypeError, match="no JSON schema is known for"):
        derive_schema("t", "d", (Strange,))
    with pytest.raises(TypeError, match="a Fraction has no form in JSON"):
        json_object(Strange(Fraction(1, 3)))
