"""``npusim bounds``: the worst case of every integer, and what is proven for every input."""

from __future__ import annotations

from pathlib import Path

import click

from npusim.cli.bounds_text import print_bounds, print_comparison
from npusim.cli.options import json_option, model_argument
from npusim.cli.output import print_json, terminal_width
from npusim.errors import UsageError
from npusim.results.certificate import certify

__all__ = ["bounds_command"]


@click.command("bounds", short_help="Prove what holds for every input.")
@model_argument
@click.option("-o", "--output", metavar="CERT.json", help="Write the certificate to this file, whole or not at all.")
@click.option("--check", "certified", metavar="CERT.json", help="Prove the statements of this certificate again, and compare.")
@click.option("--channels", is_flag=True, help="Show the intervals of each channel as well.")
@click.option("--strict", is_flag=True, help="Exit code 1 also where a statement is not proven for every input.")
@json_option
def bounds_command(model: str, output: str | None, certified: str | None, channels: bool, strict: bool, as_json: bool) -> int:
    """Find the range of every integer in MODEL, an .onnx file, over all inputs, and prove what follows from it.

    Three statements are judged for each layer: onnxruntime, running the graph as it is written, gives the integers' codes;
    (accumulator + bias) * scale does not overflow int32 in the soft library; no accumulator of a 2-bit weight digit leaves
    the 18 bits in which the NPU is read out. Each is proven, violated (an input exists that breaks it) or unknown. Whether
    bias, scale and shift fit the bits in which the NPU stores them is checked too.

    The exit code is 0 when nothing is violated and all widths hold, and 1 when not. With --strict, what is unknown counts as
    violated. With --check it is 0 when every statement of the certificate is found again for this model, 1 when one is not or
    the certificate is of another model, and 2 when the certificate is damaged.

    \b
    Example: npusim bounds model.onnx -o certificate.json
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    _check_files(model, output, certified)
    result = certify(model, strict=strict, channels=channels, output=output, check=certified)
    if as_json:
        print_json(result)
    elif result.compared is not None and certified is not None:
        print_comparison(result.proof, result.compared, result.findings, certified, terminal_width())
    else:
        print_bounds(result.proof, result.findings, terminal_width(), channels=channels, written=output)
    return 0 if result else 1


def _check_files(model: str, output: str | None, certified: str | None) -> None:
    """Refuse before any work what could not be written after it."""
    if output is None:
        return
    if certified is not None:
        raise UsageError("--check compares with a certificate and -o writes one; give one of them")
    path = Path(output)
    if not path.parent.is_dir():
        raise UsageError(f"{output}: there is no folder '{path.parent}'; make it first")
    if path.is_dir():
        raise UsageError(f"{output}: is a folder; name a file to write to")
    if path.exists() and Path(model).exists() and path.samefile(model):
        raise UsageError(f"{output}: is the model, and would be overwritten; name another file")
