"""Groups of commands that are imported when they are called."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import ClassVar

import click

from npusim.errors import UsageError

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """A group whose commands live where its table says: one command does not wait for what only others need."""

    table: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Commands by name, each as ``module:attribute``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command.

        Raises
        ------
        UsageError
            If there is none of this name; with the nearest names.
        """
        if cmd_name not in self.table:
            if ctx.resilient_parsing or cmd_name.startswith("-"):
                return None
            near = get_close_matches(cmd_name, self.table) or list(self.table)
            hint = f"did you mean {' or '.join(repr(name) for name in near)}?"
            raise UsageError(f"No such command '{cmd_name}'; {hint} See '{ctx.command_path} --help'")
        module, attribute = self.table[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command
