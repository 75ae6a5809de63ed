"""``npusim golden``: writing golden folders, proving them, and holding device dumps against them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

import click

from npusim.cli.lazy_group import LazyGroup

__all__ = ["golden_group"]

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "check": "npusim.cli.golden_check:check_command",
        "verify": "npusim.cli.golden_verify:verify_command",
        "write": "npusim.cli.golden_write:write_command",
    }
)
"""Where the commands of the group live."""


class _Golden(LazyGroup):
    table: ClassVar[Mapping[str, str]] = COMMANDS


@click.group("golden", cls=_Golden, short_help="Golden vectors that catch a wrong device.")
def golden_group() -> None:
    """Golden vectors: what a device must output for chosen samples, to the bit.

    \b
    Example: npusim golden write model.onnx -o golden_vectors
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
