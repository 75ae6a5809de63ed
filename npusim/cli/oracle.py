"""``npusim oracle``: the whole model as C99."""

from __future__ import annotations

import click

from npusim.cli.destinations import force_option
from npusim.cli.options import json_option, model_argument
from npusim.cli.output import Column, Row, paragraph, print_json, render_table, terminal_width
from npusim.engine.session import InferenceSession
from npusim.results.oracle import write_oracle

__all__ = ["oracle_command"]

COLUMNS = (
    Column("#", right=True),
    Column("layer", shrinks=True),
    Column("kind"),
    Column("values", right=True),
    Column("type"),
)


@click.command("oracle", short_help="Write the model as C99 that needs no library.")
@model_argument
@click.option("-o", "--output", required=True, metavar="DIR", help="The folder to write; it appears whole or not at all.")
@click.option("--name", default="npusim_model", show_default=True, metavar="NAME", help="What files and symbols begin with.")
@force_option
@json_option
def oracle_command(model: str, output: str, name: str, force: bool, as_json: bool) -> int:
    """Write MODEL, an .onnx file, as C99: two files that compute what npusim computes, to the bit, and need stdint.h alone.

    For a firmware's tests on a computer, and on the device beside the vendor's library: a hook is called with what each layer
    gives. Compile with -ffp-contract=off. Layers are those of TI's NPU; a host operation whose result IEEE 754 does not define
    to the last bit is refused by name.

    \b
    Example: npusim oracle model.onnx -o oracle --name gearbox
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    done = write_oracle(InferenceSession(model), output, name=name, overwrite=force)
    if as_json:
        print_json(done)
        return 0
    rows = [
        Row((str(number), layer.name, layer.kind, f"{layer.values:,}", layer.type)) for number, layer in enumerate(done.layers)
    ]
    for line in render_table(COLUMNS, rows, terminal_width()):
        click.echo(line)
    click.echo()
    click.echo(paragraph(f"{done.summary()}.", terminal_width()))
    return 0
