"""Groups of commands that are imported when they are called."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import ClassVar

import click

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """A group whose commands live where its table says: one command does not wait for what only others need."""

    table: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Commands by name, each as ``module:attribute``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.table:
            return None
        module, attribute = self.table[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command
