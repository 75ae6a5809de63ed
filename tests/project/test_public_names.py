"""The public names: what `npusim` offers, with which signatures, that nothing replaces them, and that results behave alike."""

from __future__ import annotations

import inspect
import json
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

import npusim
from npusim.results.base import Result
from npusim.schemas import load_schema
from support import ROOT

GOLDEN = ROOT / "golden"
W8 = GOLDEN / "vibration_w8.onnx"
INPUTS = GOLDEN / "vibration_inputs.npz"

SIGNATURES = {
    "certify": "(model, *, strict=False, channels=False, output=None, check=None, robust=None, inputs=None, witness=None, "
    "against_arithmetic=None, allow_float=False, progress=None)",
    "check": "(model, device, inputs=None, *, float_model=None, golden=None, labels=None, min_sqnr=None, min_agreement=None, "
    "min_coverage=None, samples=None, seed=None, compiler='2.1', strict=False, output=None, overwrite=False, threads=None, "
    "progress=None, announce)",
    "check_golden": "(source, dump, *, inputs=None, model=None, set_index=None, tensor=None, layout='nchw', "
    "input_stage='onnx', format=None, dtype=None, base=None, match=None)",
    "compare": "(model, against, inputs=None, *, labels=None, samples=None, seed=None, tensor=None, layout=None, "
    "channels=False, min_sqnr=None, min_accuracy=None, max_drop=None, exclude=(), threads=None, "
    "dask=None, progress=None, announce)",
    "explain_element": "(session, feeds, layer, sample, index)",
    "lint": "(model, device, *, compiler='2.1', strict=False, fix=None, overwrite=False, arithmetic=None)",
    "prove_equal": "(first, second, inputs=None, *, seconds=20.0, seed=0, output=None, check=None, witness=None, "
    "progress=None)",
    "quantize": "(model, calibration, weight_bits=8, activation_bits=8, *, float_output=False, to='tinpu', output=None, "
    "overwrite=False, progress=None, announce, max_bytes=None, "
    "max_cycles=None, min_sqnr=None, min_accuracy=None, labels=None, all_choices=False)",
    "sweep": "(models, data, metrics=('accuracy',), *, labels=None, reference=None, journal=None, dask=None, progress=None)",
    "verify": "(model, inputs=None, *, samples=None, seed=None, directed=False, seconds=None, output=None, oracle=False, "
    "allow_float=False, dask=None, progress=None)",
    "verify_golden": "(folder, model=None)",
    "write_golden": "(model, output, inputs=None, *, sets=8, seed=0, formats=('c', 'npz'), layers=('*',), input_stage='onnx', "
    "skip_normalize=False, codes=False, module_name='default', directed=False, overwrite=False, allow_float=False, "
    "progress=None, announce=None)",
    "write_oracle": "(model, output, *, name='npusim_model', overwrite=False)",
}

SPECIAL = {
    "cycle_fit.py": ("npusim.rules.cycles",),
    "speed.py": ("npusim.cli.processor",),
    "same_results.py": ("npusim.cli",),
    "conf.py": ("npusim.cli", "npusim.schemas"),
    "faults.py": ("npusim.program",),
    "oracle.py": ("npusim.engine.oracle", "npusim.search"),
    "causes.py": ("npusim.golden", "npusim.engine", "npusim.program"),
}
"""Tools in benchmarks/ and docs/ that need modules below the top level: the fit of the cycle estimate, the choice of BLAS
kernels that the command line makes before NumPy is imported, the command line itself, and devices and exports
with faults."""

CLASSES = {"InferenceSession", "Program", "Trace"}
ERRORS = {"InputError", "ModelError", "NpusimError", "UnsupportedError", "UsageError"}


def shown(function: Callable[..., Any]) -> str:
    """A signature without annotations, and without defaults that are functions."""
    signature = inspect.signature(function)
    plain = [
        item.replace(
            annotation=inspect.Parameter.empty, default=inspect.Parameter.empty if callable(item.default) else item.default
        )
        for item in signature.parameters.values()
    ]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def test_the_names_are_these() -> None:
    assert set(npusim.__all__) == {*SIGNATURES, *CLASSES, *ERRORS, "__version__"}
    assert set(npusim.__all__) <= set(dir(npusim))
    with pytest.raises(AttributeError, match="has no attribute 'train'"):
        npusim.train  # noqa: B018 - reading it is the test


@pytest.mark.parametrize("name", SIGNATURES)
def test_functions_have_these_signatures_annotated_and_explained(name: str) -> None:
    function = getattr(npusim, name)
    assert shown(function) == SIGNATURES[name]
    signature = inspect.signature(function)
    assert all(item.annotation is not inspect.Parameter.empty for item in signature.parameters.values())
    assert signature.return_annotation is not inspect.Signature.empty
    text = inspect.getdoc(function) or ""
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in text
    for parameter in signature.parameters:
        assert parameter in text.split("Returns\n")[0]


@pytest.mark.slow
def test_no_module_replaces_a_function() -> None:
    """A package with the name of a function would take its place when it is imported; importing everything shows it."""
    names = [module.name for module in pkgutil.walk_packages(npusim.__path__, "npusim.")]
    assert not {f"npusim.{name}" for name in SIGNATURES} & set(names)
    left_out = ("npusim.torch", "npusim.examples", "npusim.pytest_plugin", "npusim.__main__")
    modules = [name for name in names if not name.startswith(left_out)]
    script = f"import importlib, inspect, npusim\nfor name in {modules!r}: importlib.import_module(name)\n"
    script += f"assert all(inspect.isfunction(getattr(npusim, name)) for name in {list(SIGNATURES)!r})\n"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_npusim_stays_light() -> None:
    script = "import sys, npusim; print([name for name in ('numpy', 'onnx', 'pandas', 'click') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


def make(name: str, folder: Path) -> Result:
    """A result of each function; the small ones of the repository's models."""
    samples = np.load(INPUTS)["input"][:8]
    float_model, calibration = GOLDEN / "keywords_float.onnx", GOLDEN / "keywords_samples.npz"
    made: dict[str, Callable[[], Result]] = {
        "bounds": lambda: npusim.certify(W8),
        "check": lambda: npusim.check(W8, "soft", samples, golden=GOLDEN / "vibration_w8"),
        "compare": lambda: npusim.compare(W8, "ort", samples),
        "compare_float": lambda: npusim.compare(GOLDEN / "keywords_w8.onnx", float_model, samples=4),
        "golden_check": lambda: npusim.check_golden(GOLDEN / "vibration_w8", GOLDEN / "vibration_w8" / "vectors.npz"),
        "golden_verify": lambda: npusim.verify_golden(GOLDEN / "vibration_w8"),
        "golden_write": lambda: npusim.write_golden(W8, folder / "vectors", samples, sets=2),
        "lint": lambda: npusim.lint(npusim.InferenceSession(W8), "soft"),
        "quantize": lambda: npusim.quantize(float_model, np.load(calibration)["input"][:16]),
        "verify": lambda: npusim.verify(W8.read_bytes(), {"input": samples}),
    }
    return made[name]()


RESULTS = [
    "bounds",
    "check",
    "compare",
    "compare_float",
    "golden_check",
    "golden_verify",
    "golden_write",
    "lint",
    "quantize",
    "verify",
]


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_short_true_and_become_objects_and_tables(name: str, folder: Path) -> None:
    result = make(name, folder)
    assert bool(result) is result.ok
    assert repr(result).startswith(f"<{type(result).__name__}: ")
    assert len(repr(result)) < 600
    assert repr(result).count("\n") <= 3
    value = result.to_dict()
    jsonschema.Draft202012Validator(load_schema(name.removesuffix("_float"))).validate(value)
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    table = result.to_pandas()
    assert isinstance(table, pd.DataFrame)
    assert len(table) == len(value["layers"]) > 0
    shown_in_notebooks = result._repr_html_()
    assert "<table" in shown_in_notebooks
    assert "<p>" in shown_in_notebooks


def test_a_result_that_is_not_as_expected_is_false(tmp_path: Path) -> None:
    with np.load(GOLDEN / "vibration_w8" / "vectors.npz") as arrays:
        name = list(arrays)[-1]
        np.savez(tmp_path / "dump.npz", **{name: arrays[name] ^ 1})
    result = npusim.check_golden(GOLDEN / "vibration_w8", tmp_path / "dump.npz")
    assert not result
    assert result.totals.differing == result.totals.values
    assert result.findings[0].rule == "differs"
    other = npusim.compare(W8, GOLDEN / "vibration_w4.onnx", INPUTS)
    assert not other
    assert "values differ" in repr(other)


def test_every_public_name_is_found_where_it_is_said_to_be() -> None:
    for name, module in npusim._MODULES.items():
        assert getattr(import_module(module), name) is getattr(npusim, name)


def test_programs_and_layers_print_in_a_line() -> None:
    program = npusim.InferenceSession(W8).program
    assert repr(program) == (
        f"<Program: {len(program.layers)} integer layers, 1 quantize stages, {len(program.host_operations)} host operations; "
        f"inputs {program.inputs[0]}; outputs {program.outputs[0]}>"
    )
    for layer in program.layers:
        assert layer.name in repr(layer)
        assert len(repr(layer)) < 150


@pytest.mark.parametrize("place", ["README.md", "docs", "npusim/examples", "golden/make_models.py", "benchmarks"])
def test_examples_import_public_names_only(place: str) -> None:
    """What is below the top level may be moved; `SPECIAL` measure or fit npusim's own parts."""
    path = ROOT / place
    files = [path] if path.is_file() else sorted([*path.glob("*.py"), *path.glob("*.md")])
    public = ("npusim.torch", "npusim.pytest_plugin", "npusim.examples")
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            words = line.strip().removeprefix(">>> ").split()
            if words[:1] in (["from"], ["import"]) and words[1].startswith("npusim."):
                assert words[1].startswith((*public, *SPECIAL.get(file.name, ()))), (file.name, line)
