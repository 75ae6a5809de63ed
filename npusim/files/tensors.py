"""ONNX's files of single tensors (``input_0.pb``, ``output_0.pb``), as runtimes' test folders hold them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from npusim.errors import InputError
from npusim.files.arrays import check_readable
from npusim.graph import Array

__all__ = ["read_tensor_file", "tensor_bytes"]


def tensor_bytes(name: str, values: Array) -> bytes:
    """A tensor as the content of a .pb file; the same tensor gives the same bytes.

    Parameters
    ----------
    name
        ONNX name of the tensor.
    values
        Numbers or booleans.

    Examples
    --------
    >>> tensor_bytes("x", np.array([1], np.int8)).hex()
    '080110034201784a0101'
    """
    return bytes(numpy_helper.from_array(np.asarray(values, order="C"), name).SerializeToString(deterministic=True))


def read_tensor_file(path: str | os.PathLike[str]) -> tuple[str, Array]:
    """Name and values of the tensor in a .pb file.

    Raises
    ------
    InputError
        If the file is missing, or holds no tensor or a damaged one.
    """
    path = Path(path)
    check_readable(path)
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        values = numpy_helper.to_array(tensor)
    except (DecodeError, OSError, TypeError, ValueError, KeyError, AttributeError) as error:
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: cannot be read as an ONNX tensor: {cause}; write it again") from error
    return tensor.name, values
