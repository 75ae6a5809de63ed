"""``--device``, which needs the rules: not among the options of all commands, most of which do without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from npusim.rules import devices

__all__ = ["device_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def device_option(*, required: bool = False) -> Callable[[_Command], _Command]:
    """--device, its name in any case."""

    def decorate(command: _Command) -> _Command:
        text = "The device; 'soft' stands for the soft library on any other."
        kind = click.Choice(devices(), case_sensitive=False)
        return click.option("--device", type=kind, required=required, help=text)(command)

    return decorate
