"""A model of which nothing is quantized passes no command that speaks of the NPU, unless that is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import npusim
from support import ROOT
from support.command_line import call

FLOAT = ROOT / "golden" / "keywords_float.onnx"
QUANTIZED = ROOT / "golden" / "keywords_w8.onnx"

COMMANDS = {
    "verify": ("verify", "--samples", "2"),
    "bounds": ("bounds",),
    "golden write": ("golden", "write", "--samples", "1", "--format", "npz"),
}


def run(name: str, model: Path, folder: Path, *options: str) -> tuple[int, list[str]]:
    output = ("-o", folder / "vectors") if name == "golden write" else ()
    head = COMMANDS[name][:2] if name == "golden write" else COMMANDS[name][:1]
    outcome = call(*head, model, *COMMANDS[name][len(head) :], *output, *options, "--json")
    said = json.loads(outcome.out)
    assert said["ok"] == (outcome.code == 0)
    return outcome.code, [finding["rule"] for finding in said["findings"]]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_float_model_is_not_green(name: str, tmp_path: Path) -> None:
    code, rules = run(name, FLOAT, tmp_path)
    assert (code, rules[0]) == (1, "not-quantized")


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_where_it_is_asked_for(name: str, tmp_path: Path) -> None:
    code, rules = run(name, FLOAT, tmp_path, "--allow-float")
    assert (code, "not-quantized" in rules) == (0, False)


def test_people_are_told_what_to_do() -> None:
    outcome = call("verify", FLOAT, "--samples", "2")
    said = " ".join(outcome.out.split())
    assert "(not-quantized)" in said
    assert "npusim quantize MODEL" in said


def test_quantized_models_are() -> None:
    assert npusim.verify(QUANTIZED, samples=2)
