"""Remedies with the numbers of the layer in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from npusim.rules.conditions import Check, Properties

__all__ = ["remedy_of", "split_kernel"]

LARGEST_KERNEL: Final = 7
"""Side of a kernel that every document allows."""

_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def remedy_of(template: str, checks: Sequence[Check], properties: Properties) -> str:
    """Fill in a rule's remedy.

    Parameters
    ----------
    template
        Text with ``{seen}``, ``{wanted}``, ``{missing}`` (of the first check), ``{split}`` (smaller kernels in place of the
        largest side) and ``{dense}`` (the kernel that a dilated one reaches over).
    checks
        What failed.
    properties
        Of the layer.

    Examples
    --------
    >>> from npusim.rules.conditions import failed_checks, read_conditions
    >>> failed = failed_checks([read_conditions({"input_channels": {"multiple_of": 4}}, "example")], {"input_channels": 14})
    >>> remedy_of("pad channels {seen} to {wanted}: +{missing} filters", failed, {})
    'pad channels 14 to 16: +2 filters'
    """
    seen, wanted = _numbers(checks)
    return template.format(
        seen=seen,
        wanted=wanted,
        missing=wanted - seen,
        split=split_kernel(_side(properties)),
        dense=_dense(properties),
    )


def split_kernel(side: int) -> str:
    """Smaller kernels, one behind the other, that reach over as much as one of `side`.

    Kernels of k elements, n of them, reach over ``n * (k - 1) + 1``.

    Examples
    --------
    >>> split_kernel(9), split_kernel(15)
    ('two kernels of 5', 'three kernels of 6')
    """
    count = 2
    while (size := math.ceil((side - 1) / count) + 1) > LARGEST_KERNEL:
        count += 1
    return f"{_NUMBERS[count] if count < len(_NUMBERS) else count} kernels of {size}"


def _numbers(checks: Sequence[Check]) -> tuple[int, int]:
    """What was seen, and the nearest value that would do."""
    for check in checks:
        seen, argument = check.seen, check.condition.argument
        if isinstance(seen, int) and isinstance(argument, int) and not isinstance(argument, bool):
            return seen, -(-seen // argument) * argument if check.condition.test == "multiple_of" else argument
    for check in checks:
        if isinstance(check.seen, int):
            return check.seen, check.seen
    return 0, 0


def _side(properties: Properties) -> int:
    sides = [properties.get("kernel_height", 1), properties.get("kernel_width", 1)]
    return max([2, *(side for side in sides if isinstance(side, int))])


def _dense(properties: Properties) -> str:
    kernel, dilation = properties.get("kernel", ()), properties.get("dilation", ())
    if not isinstance(kernel, tuple) or not isinstance(dilation, tuple):
        return ""
    return "x".join(str((size - 1) * step + 1) for size, step in zip(kernel, dilation, strict=True))
