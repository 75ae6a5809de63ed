"""What a device must have computed: from a golden folder, from a model and its inputs, or from the inputs in a test vector."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from npusim.engine.input_stages import stage_codes
from npusim.engine.replay import run_with
from npusim.engine.session import InferenceSession
from npusim.engine.simulation import input_specs
from npusim.errors import InputError, UnsupportedError, UsageError
from npusim.files.arrays import read_npz, sha256_of
from npusim.files.datasets import InputSpec, check_samples, read_inputs
from npusim.files.dumps import FEATURES, Dump, Role, channels_first, read_dump
from npusim.files.element_types import convert_exactly
from npusim.golden.check.dump_check import Expectation
from npusim.golden.folder.manifest import MANIFEST, read_manifest, session_of_manifest
from npusim.golden.folder.writer import VECTORS
from npusim.graph import Array
from npusim.graph.model_file import ModelFile, open_model
from npusim.program import Batching, Program
from npusim.program.input_stage import InputStage, input_stages
from npusim.verification.dump_reading import device_output

__all__ = ["Expected", "expected_of_dump", "expected_of_folder", "expected_of_model", "is_folder"]


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """What is right, and which model it is about.

    Attributes
    ----------
    model
        The model file.
    expectation
        What a dump is held against.
    """

    model: ModelFile
    expectation: Expectation


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder, or was meant to be a golden one."""
    return Path(path).is_dir()


def expected_of_folder(folder: str | os.PathLike[str], *, model: str | os.PathLike[str] | None = None) -> Expected:
    """What a golden folder says.

    Parameters
    ----------
    folder
        Written by ``npusim golden write``.
    model
        The model, where the folder holds no copy of it.

    Raises
    ------
    InputError
        If the folder is damaged, or the model is another one.
    UsageError
        If the folder holds no copy of the model and none is given.
    """
    manifest = read_manifest(folder)
    arrays = _vectors(Path(folder), manifest["files"])
    path = _model(Path(folder), manifest["model"], model)
    session = session_of_manifest(path, manifest["model"])
    program = session.program
    variant = InputStage(manifest["input_stage"]["variant"])
    missing = [name for name in program.inputs if name not in arrays]
    if missing:
        raise InputError(f"{folder}: {VECTORS} lacks input '{missing[0]}' of the model; write the folder again")
    feeds = {name: arrays[name] for name in program.inputs}
    known = {program.resolve(name): values for name, values in arrays.items()}
    return Expected(session.model, _expectation(program, feeds, variant, known))


def expected_of_model(
    model: str | os.PathLike[str] | InferenceSession,
    inputs: str | os.PathLike[str] | Mapping[str, Array],
    *,
    variant: InputStage = InputStage.GRAPH,
) -> Expected:
    """What a model computes from given samples.

    Parameters
    ----------
    model
        An .onnx file, or a session.
    inputs
        A file of samples, or arrays by input name; each sample is a set.
    variant
        Whose input stage.

    Raises
    ------
    InputError
        If the samples do not fit the model.
    """
    session = model if isinstance(model, InferenceSession) else InferenceSession(model)
    specs = input_specs(session)
    if not isinstance(inputs, Mapping) and Path(inputs).suffix == ".txt":
        return expected_of_dump(session, _as_inputs(read_dump(inputs)), variant=variant)
    if not isinstance(inputs, Mapping):
        return Expected(session.model, _expectation(session.program, read_inputs(inputs, specs), variant, {}))
    for spec in specs:
        if spec.name not in inputs:
            raise InputError(f"input '{spec.name}' of the model is missing; give an array for every input")
        check_samples(np.asarray(inputs[spec.name]), spec, f"input '{spec.name}'")
    feeds = {spec.name: convert_exactly(np.asarray(inputs[spec.name]), spec.dtype, f"input '{spec.name}'") for spec in specs}
    return Expected(session.model, _expectation(session.program, feeds, variant, {}))


def expected_of_dump(
    model: str | os.PathLike[str] | InferenceSession, dump: Dump, *, variant: InputStage = InputStage.GRAPH
) -> Expected:
    """What a model computes from the inputs that a test vector holds.

    Parameters
    ----------
    model
        An .onnx file with one input.
    dump
        A test vector with an input for each set.
    variant
        Whose input stage.

    Raises
    ------
    UsageError
        If the dump holds no inputs.
    InputError
        If they do not fit the model, or a set lacks its own.
    """
    session = model if isinstance(model, InferenceSession) else InferenceSession(model)
    specs = input_specs(session)
    arrays = dump.with_role(Role.INPUT)
    if not arrays:
        raise UsageError(f"{dump.path} holds no inputs that the device ran on; give them with --inputs")
    if len(specs) != 1:
        raise UsageError(f"the model has {len(specs)} inputs and a test vector holds one; give them with --inputs")
    if [array.set_index for array in arrays] != list(range(len(arrays))):
        raise InputError(f"{dump.path}: a set lacks its input; keep input and output of each set together")
    last = dump.format == FEATURES
    samples = [
        _sample(array.converted(specs[0].dtype, dump.path), specs[0], f"{dump.path}: {array.described}", channels_last=last)
        for array in arrays
    ]
    feeds = {specs[0].name: np.stack(samples)}
    check_samples(feeds[specs[0].name], specs[0], dump.path)
    return Expected(session.model, _expectation(session.program, feeds, variant, {}))


def _as_inputs(dump: Dump) -> Dump:
    """A text file that holds one input."""
    return replace(dump, arrays=tuple(replace(array, role=Role.INPUT, set_index=0) for array in dump.arrays))


def _sample(values: Array, spec: InputSpec, where: str, *, channels_last: bool) -> Array:
    """The flat values of one set in the shape of the input."""
    shape = tuple(size for size in spec.sample_shape if isinstance(size, int))
    wanted = int(np.prod(shape))
    if len(shape) != len(spec.sample_shape) or values.size != wanted:
        raise InputError(f"{where}: {values.size} values, wanted {wanted} for input '{spec.name}' of shape {spec.shape_text}")
    return channels_first(values, shape) if channels_last else values.reshape(shape)


def _expectation(program: Program, feeds: Mapping[str, Array], variant: InputStage, known: Mapping[str, Array]) -> Expectation:
    if program.batching is Batching.FIXED:
        raise UnsupportedError(
            "the model has no batch axis of one sample, so a dump of one run cannot be told; export it with batch 1"
        )
    stages = {} if variant is InputStage.GRAPH else {stage.output: stage for stage in input_stages(program)}
    codes = {
        name: stage_codes(program, stage, np.asarray(feeds[program.resolve(stage.input)]), variant)
        for name, stage in stages.items()
    }

    def values(name: str) -> Array:
        if name in known:
            return known[name]
        found = run_with(program, feeds, codes, [name])[name]
        return device_output(program, name, found) if name in map(program.resolve, program.outputs) else found

    return Expectation(program, feeds, variant, values)


def _vectors(folder: Path, files: list[dict[str, object]]) -> dict[str, Array]:
    """The arrays of a folder, after holding their file against the manifest."""
    path = folder / VECTORS
    listed = next((item for item in files if item["path"] == VECTORS), None)
    if listed is None or not path.is_file():
        raise InputError(f"{folder}: holds no {VECTORS}; write the folder again")
    if path.stat().st_size != listed["bytes"] or sha256_of(path) != listed["sha256"]:
        raise InputError(f"{path}: is not the file that {MANIFEST} names (other SHA-256); run 'npusim golden verify {folder}'")
    return read_npz(path)


def _model(folder: Path, described: Mapping[str, object], given: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    copy = described.get("copy")
    if given is None and not isinstance(copy, str):
        raise UsageError(f"{folder}: holds no copy of its model '{described.get('file')}'; give it with --model")
    path = given if given is not None else folder / str(copy)
    if open_model(path).sha256 != described["sha256"]:
        raise InputError(
            f"{path}: is not the model of {folder} (other SHA-256); give the model that the folder was written for"
        )
    return path
