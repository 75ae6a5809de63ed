"""``npusim golden write``: a folder of golden vectors that compiles into the firmware and proves itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from npusim.cli.input_stages import difference_text
from npusim.cli.options import (
    INPUT_FILES,
    allow_float_option,
    arithmetic_option,
    input_alpha_option,
    input_codes_option,
    json_option,
    model_argument,
    quiet_option,
)
from npusim.cli.output import (
    Column,
    Row,
    count,
    note,
    paragraph,
    print_json,
    print_not_quantized,
    render_table,
    terminal_width,
)
from npusim.cli.paths import SOURCE
from npusim.cli.progress import progress
from npusim.engine.input_stages import StageDifference
from npusim.engine.planning import InputAlpha
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.golden.choice import DEFAULT_SETS
from npusim.golden.folder import FORMATS, check_destination
from npusim.program.input_stage import InputStage
from npusim.results.golden import write_golden
from npusim.schemas.objects import json_object

__all__ = ["write_command"]

COLUMNS: Final = (
    Column("tensor", shrinks=True),
    Column("kind"),
    Column("role"),
    Column("dtype"),
    Column("shape"),
    Column("crc32"),
)

COVERAGE: Final = (
    Column("coverage: layer", shrinks=True),
    Column("kind"),
    Column("both\nrails", right=True),
    Column("sign\nchange", right=True),
    Column("shift\nboundary", right=True),
    Column("range of\nsums", right=True),
)
"""Channels that saw what the title says, of those that can; and how much of its proven range the accumulator went through."""


@click.command("write", short_help="Write a folder of golden vectors.")
@model_argument
@click.argument("inputs", type=SOURCE, metavar="[INPUTS]", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(readable=False),
    required=True,
    metavar="DIR",
    help="Folder to write; it appears whole or not at all.",
)
@click.option(
    "--samples",
    "wanted",
    type=click.IntRange(min=1),
    default=DEFAULT_SETS,
    show_default=True,
    metavar="N",
    help="Number of sets. Of more samples in INPUTS those are chosen that cover most.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the samples that are made.")
@click.option(
    "--format",
    "formats",
    default="c,npz",
    show_default=True,
    metavar="LIST",
    help=f"Files to write, separated by commas: {', '.join(FORMATS)}. vectors.npz is always written.",
)
@click.option(
    "--layers",
    "patterns",
    multiple=True,
    metavar="all|PATTERN|none",
    help="Which inner tensors to keep: the result of every layer, or tensors by ONNX name, where *, ? and [...] match. May be "
    "given several times.  [default: all]",
)
@click.option(
    "--input-stage",
    "variant",
    type=click.Choice([*map(str, InputStage), "onnx"]),
    default=str(InputStage.GRAPH),
    show_default=True,
    help="Whose implementation of the input stage the vectors come from; onnx is the graph's.",
)
@click.option(
    "--skip-normalize",
    is_flag=True,
    help="The application computes the input stage and hands the model codes (SKIP_NORMALIZE).",
)
@click.option("--codes", is_flag=True, help="INPUTS holds these codes instead of values; implies --skip-normalize.")
@click.option("--module-name", default="default", show_default=True, help="Module name that the model is compiled with.")
@click.option("--directed", is_flag=True, help="Make samples for what INPUTS does not cover, and choose among all.")
@click.option("--force", is_flag=True, help="Replace a golden folder that is there.")
@allow_float_option
@quiet_option
@arithmetic_option
@input_codes_option
@input_alpha_option
@json_option
def write_command(
    model: str,
    inputs: str | None,
    output: str,
    wanted: int,
    seed: int,
    formats: str,
    patterns: tuple[str, ...],
    variant: str,
    skip_normalize: bool,
    codes: bool,
    module_name: str,
    directed: bool,
    force: bool,
    allow_float: bool,
    quiet: bool,
    arithmetic: str | None,
    input_codes: str | None,
    input_alpha: InputAlpha | None,
    as_json: bool,
) -> int:
    """Write what a device must compute with MODEL, an .onnx file, to a folder of golden vectors.

    INPUTS, a .npz file with an array for each input or a .npy, .csv or .parquet file, gives the samples; without it samples are
    made that cover the model: extremes, both rails of every layer, values next to shift boundaries, ties, largest
    accumulators. The folder holds manifest.json, vectors.npz, a copy of the model, test_vector.c and user_input_config.h
    for the device project, and npusim_check.c, which runs every set on the device and compares exactly.

    The exit code is 0, and 1 when nothing of the model is quantized: the folder is written, but tests no NPU.

    \b
    Example: npusim golden write model.onnx -o golden_vectors
    """  # noqa: D301 - \b is for click: the lines that follow are kept as they are
    chosen, kept, module = _formats(formats), _patterns(patterns), _module(module_name)
    if inputs is None and (codes or directed):
        raise UsageError(f"{'--codes' if codes else '--directed'} is about INPUTS, which is missing; give a {INPUT_FILES} file")
    check_destination(output, force=force)
    _check_sources(output, model, inputs)
    with progress("choose", quiet=quiet) as report:
        result = write_golden(
            InferenceSession(model, arithmetic=arithmetic, input_codes=input_codes, input_alpha=input_alpha),
            output,
            inputs,
            sets=wanted,
            seed=seed,
            formats=chosen,
            layers=kept,
            input_stage=variant,
            skip_normalize=skip_normalize,
            codes=codes,
            module_name=module,
            directed=directed,
            overwrite=force,
            allow_float=allow_float,
            announce=note,
            progress=report,
        )
    if as_json:
        print_json(result)
    else:
        _print(result.manifest, result.differences, output)
        print_not_quantized(result.findings, terminal_width())
    return 0 if result else 1


def _formats(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        raise UsageError(f"--format '{text}': wanted some of {', '.join(FORMATS)}, separated by commas")
    return names


def _patterns(given: tuple[str, ...]) -> tuple[str, ...]:
    if "none" in given and len(given) > 1:
        raise UsageError("--layers none stands alone; leave out the other --layers")
    if given == ("none",):
        return ()
    return tuple("*" if pattern == "all" else pattern for pattern in given) or ("*",)


def _module(name: str) -> str:
    if not (name.isascii() and name.isidentifier()):
        raise UsageError(f"--module-name '{name}': wanted letters, digits and _, as in the names of the compiled model")
    return name


def _check_sources(output: str, *sources: str | None) -> None:
    """A folder that is replaced must not hold what is read."""
    folder = Path(os.path.realpath(output))
    for source in sources:
        if source is not None and folder in Path(os.path.realpath(source)).parents:
            raise UsageError(f"{output}: holds '{source}', which is read; name another folder")


def _print(manifest: Mapping[str, Any], differences: Sequence[StageDifference] | None, output: str) -> None:
    rows = [
        Row((item["name"], item["kind"] or "-", item["role"], item["dtype"], "x".join(map(str, item["shape"])), item["crc32"]))
        for item in manifest["tensors"]
    ]
    for line in render_table(COLUMNS, rows, terminal_width()):
        click.echo(line)
    click.echo()
    for line in render_table(COVERAGE, [_coverage_row(layer) for layer in manifest["coverage"]["layers"]], terminal_width()):
        click.echo(line)
    click.echo()
    for text in _sentences(manifest, differences, output):
        click.echo(paragraph(text, terminal_width()))


def _coverage_row(layer: Mapping[str, Any]) -> Row:
    shares = (layer["goals"].get(name) for name in ("both_rails", "sign_change", "boundary"))
    shown = (f"{share['reached']}/{share['possible']}" if share and share["possible"] else "-" for share in shares)
    sums = layer.get("accumulator")
    return Row((layer["name"], layer["kind"], *shown, f"{sums['share']:.0%}" if sums else "-"))


def _sentences(manifest: Mapping[str, Any], differences: Sequence[StageDifference] | None, output: str) -> Iterator[str]:
    sets, reached = len(manifest["sets"]), manifest["coverage"]["total"]
    yield f"coverage: the sets reach {reached['reached']:,} of {reached['possible']:,} goals not proven unreachable"
    yield from (difference_text(item, "the sets", "set") for item in manifest["input_stage"]["differences"])
    yield from (difference_text(json_object(item), "INPUTS", "sample") for item in differences or () if item.samples > sets)
    total = sum(item["bytes"] for item in manifest["files"])
    yield f"{output}: {count(sets, 'set')}, {count(len(manifest['files']) + 1, 'file')}, {total:,} bytes beside the manifest"
