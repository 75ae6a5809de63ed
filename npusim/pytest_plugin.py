"""A pytest plugin for firmware repositories: models as fixtures, and device results held against golden vectors.

It is loaded by pytest wherever npusim is installed, so it imports nothing heavy before a test asks for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from npusim.engine.session import InferenceSession
    from npusim.files.dumps import Dump

__all__ = ["assert_matches_golden", "npusim_model"]

WIDTH = 100
"""Columns of a failure's text."""


@pytest.fixture(scope="session")
def npusim_model(request: pytest.FixtureRequest) -> Callable[[str | os.PathLike[str]], InferenceSession]:
    """Open models: ``npusim_model("models/motor.onnx")`` gives an `npusim.InferenceSession`, planned once in a test run.

    A relative path starts at the folder of the file that calls this, or else at the root folder of the test run. A model that
    cannot be read fails the test with one sentence.

    Examples
    --------
    >>> def test_size(npusim_model):  # doctest: +SKIP
    ...     assert len(npusim_model("models/motor.onnx").program.layers) == 6
    """
    root = request.config.rootpath
    opened: dict[str, InferenceSession] = {}

    def open_model(path: str | os.PathLike[str]) -> InferenceSession:
        __tracebackhide__ = True
        from npusim.engine.session import InferenceSession
        from npusim.errors import NpusimError

        full = os.fspath(_resolved(path, root))
        message = ""
        if full not in opened:
            try:
                opened[full] = InferenceSession(full)
            except NpusimError as error:
                message = str(error)
        if message:
            pytest.fail(message, pytrace=False)
        return opened[full]

    return open_model


def assert_matches_golden(
    seen: str | os.PathLike[str] | Any,  # noqa: ANN401 - anything that numpy makes an array of
    golden: str | os.PathLike[str] | InferenceSession,
    *,
    inputs: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    set_index: int | None = None,
    tensor: str | None = None,
    layout: str = "nchw",
    input_stage: str = "onnx",
) -> None:
    """Fail unless what a device computed equals what it must compute, value by value and exactly.

    The failure names the first difference, and what explains the differences. Relative paths start at the folder of the file
    that calls this, or else at the working folder.

    Parameters
    ----------
    seen
        A dump of the device in any format that `npusim.files.dumps.read_dump` reads, or an array.
    golden
        A folder of ``npusim golden write``, or a model (a path, or a session of `npusim_model`) together with `inputs`.
    inputs
        With a model: what the device ran on, a file or arrays by input name.
    set_index
        The set, or sample, that the device ran; by default the first, or all where there are as many values.
    tensor
        ONNX name of the tensor; by default the model's output.
    layout
        ``"nchw"`` or ``"nhwc"``: order of the values of a set.
    input_stage
        With a model: ``"graph"`` (or ``"onnx"``), ``"c28"``, ``"mspm0"`` or ``"truncated"``.

    Raises
    ------
    AssertionError
        If a value differs.
    pytest.fail.Exception
        If there is no such dump: the device wrote nothing, or elsewhere.
    NpusimError
        If the dump cannot be read or has another length, or the golden vectors cannot.

    Examples
    --------
    >>> assert_matches_golden("build/uart.txt", "golden/motor", set_index=2)  # doctest: +SKIP
    """
    __tracebackhide__ = True
    from npusim.cli.golden_check import check_lines
    from npusim.engine.session import InferenceSession
    from npusim.errors import UsageError
    from npusim.golden.check import check_dump, expected_of_dump, expected_of_folder, expected_of_model, is_folder
    from npusim.program.input_stage import InputStage

    seen, golden, inputs = (_resolved(path, Path()) for path in (seen, golden, inputs))
    if isinstance(seen, Path) and not seen.exists():
        pytest.fail(f"{seen} does not exist: the device wrote no dump, or to another place", pytrace=False)
    dump = _dump(seen)
    if input_stage not in (*InputStage, InputStage.GRAPH.recorded):
        raise UsageError(f"there is no input stage '{input_stage}'; there are {', '.join(InputStage)}")
    variant = InputStage(input_stage)
    if inputs is not None:
        expected = expected_of_model(golden, inputs, variant=variant)
    elif isinstance(golden, InferenceSession):
        raise UsageError("a model alone does not say what the device ran on; give inputs")
    elif is_folder(golden):
        expected = expected_of_folder(golden)
    else:
        expected = expected_of_dump(golden, dump, variant=variant)
    checks = check_dump(expected.expectation, dump, tensor=tensor, set_index=set_index, layout=layout)
    if not all(checks):
        differing = " and ".join(
            f"{check.differing} of {check.values} values of '{check.tensor}'" for check in checks if not check
        )
        raise AssertionError("\n".join((f"{differing} differ", "", *check_lines(checks, dump, WIDTH))))


def _resolved(path: Any, other: Path) -> Any:  # noqa: ANN401 - what is not a path is given back
    """A relative path as one beside the file of the caller's caller where that is, else in another folder."""
    if not isinstance(path, str | os.PathLike):
        return path
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    beside = Path(frame.f_code.co_filename).parent / path
    return beside if beside.exists() else other / path


def _dump(seen: str | os.PathLike[str] | Any) -> Dump:  # noqa: ANN401 - as above
    from npusim.files.dumps import Dump, DumpArray, read_dump

    if isinstance(seen, str | os.PathLike):
        return read_dump(seen)
    import numpy as np

    from npusim.errors import InputError

    values = np.asarray(seen)
    if values.dtype.kind not in "iuf" or values.size == 0 or not np.isfinite(values).all():
        raise InputError(f"the array: {values.size} values of dtype {values.dtype}; wanted finite numbers, at least one")
    return Dump("the array", "npy", (DumpArray("", values.reshape(-1), "its beginning"),))
