"""``npusim golden verify``: proving that a golden folder is what it says."""

from __future__ import annotations

import click

from npusim.cli.options import json_option
from npusim.cli.output import count, paragraph, print_json, terminal_width
from npusim.cli.paths import SOURCE
from npusim.results.golden import GoldenVerifyResult, verify_golden

__all__ = ["verify_command"]


@click.command("verify", short_help="Prove that a golden folder is what it says.")
@click.argument("folder", type=SOURCE, metavar="DIR")
@click.option("--model", type=SOURCE, metavar="MODEL", help="The model file; by default the copy in DIR.")
@json_option
def verify_command(folder: str, model: str | None, as_json: bool) -> int:
    """Simulate the sets of DIR, a folder that 'npusim golden write' has written, again, and hold every file against them.

    Compared are the SHA-256 of every file and of the model, the CRC-32 of every tensor, every value in vectors.npz, in the C
    files, the binary files and those of ONNX's test layout, and what the manifest says about the model and the sets. The exit
    code is 0 when all of it is so, and 1 when not.

    \b
    Example: npusim golden verify golden_vectors
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    result = verify_golden(folder, model)
    if as_json:
        print_json(result)
    else:
        _print(result)
    return 0 if result else 1


def _print(result: GoldenVerifyResult) -> None:
    width, totals, folder = terminal_width(), result.totals, result.folder
    for finding in result.findings:
        click.echo(paragraph(f"{finding.message}; {finding.remedy}", width))
    if result.findings:
        click.echo()
        click.echo(paragraph(f"not proven: {folder} is not what it says: {count(totals.errors, 'finding')}", width))
        return
    files, tensors, sets = count(totals.files, "file"), count(totals.tensors, "tensor"), count(totals.sets, "set")
    text = f"proven: {folder} is what it says: {files}, {tensors} with {count(totals.values, 'value')} in {sets}"
    click.echo(paragraph(f"{text}, computed again from the model", width))
    if result.equal_model is not None:
        click.echo(paragraph(f"'{result.equal_model.path}' is another file, proven equal to its model for every input", width))
