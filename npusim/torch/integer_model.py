"""A converted network: it runs in npusim's integers and exports itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.files.arrays import replacing
from npusim.program import Program

__all__ = ["OUTPUTS", "IntegerModel"]

OUTPUTS = ("float", "int")
"""What a converted network may give: real values, or the codes of its last layer."""


class IntegerModel:
    """A network in integers, as the NPU computes it.

    Parameters
    ----------
    onnx
        The ONNX model.
    input_shape, output_shape
        Shapes of a sample as the original network sees them, without the batch axis.

    Examples
    --------
    >>> integer = model.convert()  # doctest: +SKIP
    >>> integer.export("motor_4bit.onnx")  # doctest: +SKIP
    >>> y = integer(x)  # doctest: +SKIP
    """

    def __init__(self, onnx: bytes, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        self._input_shape = input_shape
        self._output_shape = output_shape
        self._onnx = onnx
        self._session: InferenceSession | None = None

    @property
    def program(self) -> Program:
        """The integers: what the ONNX model is lowered to."""
        return self.session.program

    @property
    def onnx(self) -> bytes:
        """The ONNX model."""
        return self._onnx

    @property
    def session(self) -> InferenceSession:
        """The simulator that runs the model."""
        if self._session is None:
            self._session = InferenceSession(self._onnx)
        return self._session

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Run the exported model in npusim.

        Parameters
        ----------
        x
            float32 samples on the first axis, shaped as the original network takes them.

        Returns
        -------
        Tensor
            float32: codes, or real values with a float output; shaped as the original network gives them.

        Raises
        ------
        UsageError
            If the samples have another shape.
        """
        if tuple(x.shape[1:]) != self._input_shape:
            raise UsageError(f"samples have shape {tuple(x.shape[1:])}, wanted {self._input_shape} behind the batch axis")
        program = self.session.program
        (name,) = program.inputs
        samples = x.detach().cpu().numpy().astype(np.float32, copy=False)
        samples = samples.reshape(len(samples), *program.tensors[name].shape[1:])
        (result,) = self.session.run(None, {name: np.ascontiguousarray(samples)})
        return torch.from_numpy(np.array(result)).reshape(len(x), *self._output_shape)

    def export(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write the ONNX model, whole or not at all.

        Parameters
        ----------
        path
            Where to.
        force
            Whether an existing file may be replaced.

        Raises
        ------
        UsageError
            If the file exists, or its folder does not.
        """
        target = Path(path)
        if target.exists() and not force:
            raise UsageError(f"{target}: exists; remove it, name another file or use force=True")
        with replacing(target) as beside:
            beside.write(self._onnx)
