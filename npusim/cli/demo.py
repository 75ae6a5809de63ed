"""``npusim demo``: files to try everything on, and the commands to try."""

from __future__ import annotations

import click

from npusim.cli.destinations import force_option
from npusim.cli.options import json_option
from npusim.cli.output import Column, Row, print_json, render_table, terminal_width
from npusim.results.demo import write_demo

__all__ = ["demo_command"]


@click.command("demo", short_help="Copy a model, samples, a wrong dump and notebooks to try things on.")
@click.argument("folder", metavar="[DIR]", default="npusim-demo")
@force_option
@json_option
def demo_command(folder: str, force: bool, as_json: bool) -> int:
    """Copy a quantized model, its float model, samples, the dump of a wrong device and three notebooks to DIR.

    DIR, npusim-demo by default, is made where it is missing; other files in it stay. The commands to try are printed.

    \b
    Example: npusim demo my_first_model
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    done = write_demo(folder, overwrite=force)
    if as_json:
        print_json(done)
        return 0
    rows = [Row((item.name, f"{item.bytes:,}", item.meaning)) for item in done.files]
    for line in render_table((Column("file"), Column("bytes", right=True), Column("what it is")), rows, terminal_width()):
        click.echo(line)
    click.echo("\nTry, one after the other:\n")
    for command in done.commands:
        click.echo(f"  {command}")
    return 0
