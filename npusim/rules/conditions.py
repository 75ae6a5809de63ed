"""Conditions as data: what a rule asks of the properties of a layer, such as ``{input_channels = {multiple_of = 4}}``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeAlias

from npusim.errors import UsageError

__all__ = ["TESTS", "Check", "Condition", "Properties", "Value", "failed_checks", "read_conditions"]

Value: TypeAlias = int | bool | str | tuple[int, ...]
Properties: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Condition:
    """A property and one test of it.

    Attributes
    ----------
    property
        Name of the property.
    test
        A key of `TESTS`.
    argument
        What the property is tested against.
    """

    json_schema: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "type": "object",
            "properties": {"property": {"type": "string"}},
            "required": ["property"],
            "minProperties": 2,
            "maxProperties": 2,
        }
    )

    property: str
    test: str
    argument: Value | tuple[Value, ...]

    def json_value(self) -> dict[str, Any]:
        """The property, and the test as a key with its argument."""
        return {"property": self.property, self.test: self.argument}

    def holds(self, properties: Properties) -> bool:
        """Whether the layer has the property and passes; a property that a layer does not have fails."""
        return self.property in properties and TESTS[self.test].passes(properties[self.property], self._argument(properties))

    def wanted(self, properties: Properties) -> str:
        """What was wanted, in words."""
        return TESTS[self.test].words.format(_shown(self._argument(properties)))

    def _argument(self, properties: Properties) -> Value | tuple[Value, ...]:
        if self.test == "equals_property":
            return properties.get(str(self.argument), 0)
        return self.argument


@dataclass(frozen=True, slots=True)
class Check:
    """A condition that a layer was held against: what was seen, what was wanted, and whether it holds."""

    condition: Condition
    seen: Value | None
    wanted: str


@dataclass(frozen=True, slots=True)
class _Test:
    words: str
    passes: Callable[[Value, Value | tuple[Value, ...]], bool]


def _integers(*values: object) -> bool:
    return all(isinstance(value, int) for value in values)


def _is_multiple(seen: Value, argument: object) -> bool:
    return isinstance(seen, int) and isinstance(argument, int) and seen % argument == 0


def _at_least(seen: Value, argument: object) -> bool:
    return isinstance(seen, int) and isinstance(argument, int) and seen >= argument


def _at_most(seen: Value, argument: object) -> bool:
    return isinstance(seen, int) and isinstance(argument, int) and seen <= argument


def _one_of(seen: Value, argument: object) -> bool:
    return isinstance(argument, tuple) and seen in argument


def _within(seen: Value, argument: object) -> bool:
    if not isinstance(seen, tuple) or not isinstance(argument, tuple):
        return False
    lower, upper = argument
    return all(lower <= value <= upper for value in seen)


def _equals(seen: Value, argument: object) -> bool:
    return seen == argument


TESTS: Final[Mapping[str, _Test]] = MappingProxyType(
    {
        "multiple_of": _Test("a multiple of {}", _is_multiple),
        "at_least": _Test("at least {}", _at_least),
        "at_most": _Test("at most {}", _at_most),
        "one_of": _Test("one of {}", _one_of),
        "within": _Test("within {}", _within),
        "equals": _Test("{}", _equals),
        "equals_property": _Test("{}", _equals),
    }
)
"""What a rule can ask."""


def read_conditions(table: object, place: str) -> tuple[Condition, ...]:
    """Read one table of conditions, all of which have to hold.

    Raises
    ------
    UsageError
        If it is not such a table.
    """
    if not isinstance(table, dict):
        raise UsageError(f"{place} is not a table of conditions")
    found = []
    for name, tests in table.items():
        if not isinstance(tests, dict) or not tests:
            raise UsageError(f"{place}: '{name}' has no test; the tests are {', '.join(TESTS)}")
        for test, argument in tests.items():
            if test not in TESTS:
                raise UsageError(f"{place}: there is no test '{test}'; the tests are {', '.join(TESTS)}")
            found.append(Condition(str(name), str(test), _frozen(argument)))
    return tuple(found)


def failed_checks(alternatives: Sequence[Sequence[Condition]], properties: Properties) -> tuple[Check, ...] | None:
    """Hold a layer against alternatives, of which one has to hold completely.

    Returns
    -------
    tuple or None
        None where one holds; else what fails of the first of those that come closest (nothing where there is no
        alternative at all).

    Examples
    --------
    >>> conditions = read_conditions({"input_channels": {"multiple_of": 4}}, "example")
    >>> failed_checks([conditions], {"input_channels": 8}) is None
    True
    >>> failed_checks([conditions], {"input_channels": 14})[0].wanted
    'a multiple of 4'
    """
    closest: tuple[Check, ...] | None = None
    for conditions in alternatives:
        failed = tuple(
            Check(condition, properties.get(condition.property), condition.wanted(properties))
            for condition in conditions
            if not condition.holds(properties)
        )
        if not failed:
            return None
        if closest is None or len(failed) < len(closest):
            closest = failed
    return closest if closest is not None else ()


def _frozen(value: object) -> Value | tuple[Value, ...]:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)  # type: ignore[misc]  # one level deep in every rule
    if isinstance(value, (bool, int, str)):
        return value
    raise UsageError(f"a condition holds {value!r}, wanted numbers, texts, true, false or lists of them")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        inner = ", ".join(_shown(item) for item in value)
        return f"({inner})" if _integers(*value) else inner
    return str(value).lower() if isinstance(value, bool) else str(value)
