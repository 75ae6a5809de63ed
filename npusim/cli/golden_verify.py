"""``npusim golden verify``: proving that a golden folder is what it says."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from npusim.cli.options import json_option
from npusim.cli.output import count, paragraph, print_json, result_object, terminal_width
from npusim.golden.folder import Verification, verify_folder

__all__ = ["verify_command"]


@click.command("verify", short_help="Prove that a golden folder is what it says.")
@click.argument("folder", metavar="DIR")
@click.option("--model", metavar="MODEL", help="The model file; by default the copy in DIR.")
@json_option
def verify_command(folder: str, model: str | None, as_json: bool) -> int:
    """Simulate the sets of DIR, a folder that 'npusim golden write' has written, again, and hold every file against them.

    Compared are the SHA-256 of every file and of the model, the CRC-32 of every tensor, every value in vectors.npz, in the C
    files, the binary files and those of ONNX's test layout, and what the manifest says about the model and the sets. The exit
    code is 0 when all of it is so, and 1 when not.

    \b
    Example: npusim golden verify golden_vectors
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    found = verify_folder(folder, model)
    if as_json:
        print_json(_as_object(found, folder))
    else:
        _print(found, folder)
    return 0 if found else 1


def _as_object(found: Verification, folder: str) -> dict[str, Any]:
    manifest = found.manifest
    layers = [
        {"name": item.get("layer"), "tensor": item["name"], "kind": item.get("kind"), "crc32": item["crc32"]}
        for item in manifest["tensors"]
        if item.get("layer") is not None
    ]
    totals = {
        "sets": len(manifest["sets"]),
        "tensors": len(manifest["tensors"]),
        "values": found.values,
        "files": len(manifest["files"]),
        "errors": len(found.findings),
    }
    return {
        **result_object(found.model, ok=bool(found), layers=layers, totals=totals),
        "findings": [asdict(finding) for finding in found.findings],
        "folder": folder,
        "written_by": manifest["npusim"],
    }


def _print(found: Verification, folder: str) -> None:
    width, manifest = terminal_width(), found.manifest
    for finding in found.findings:
        click.echo(paragraph(f"{finding.message}; {finding.remedy}", width))
    if found.findings:
        click.echo()
        click.echo(paragraph(f"not proven: {folder} is not what it says: {count(len(found.findings), 'finding')}", width))
        return
    files, tensors, sets = (count(len(manifest[key]), key[:-1]) for key in ("files", "tensors", "sets"))
    text = f"proven: {folder} is what it says: {files}, {tensors} with {count(found.values, 'value')} in {sets}"
    click.echo(paragraph(f"{text}, computed again from the model", width))
