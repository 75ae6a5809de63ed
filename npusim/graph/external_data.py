"""Tensors of an ONNX model that lie in other files: they are put into the model when it is opened.

PyTorch's exporter writes a model's weights into a second file by default. Behind this module there are no such models: the
content of a :class:`~npusim.graph.model_file.ModelFile` holds everything, so hashes, copies and runtimes do as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_tensor

from npusim.errors import ModelError

__all__ = ["embed"]


def embed(content: bytes, path: str | None, limit: int) -> bytes:
    """A serialized model with the data of all its tensors inside: initializers, attributes, subgraphs and functions.

    Parameters
    ----------
    content
        Serialized ModelProto; anything else comes back as it is.
    path
        The file that it was read from: data files are looked for in its folder, whatever the working folder is.
    limit
        Largest number of bytes of external data.

    Returns
    -------
    bytes
        `content` itself where nothing is external. The same model and data give the same bytes.

    Raises
    ------
    ModelError
        If a data file is missing, cannot be read, does not hold what is asked of it or lies outside the model's folder, if
        the data is larger than `limit`, or there is no path.
    """
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except (DecodeError, RuntimeError, ValueError):
        return content
    external = [tensor for tensor in _tensors(proto) if tensor.data_location == TensorProto.EXTERNAL]
    if not external:
        return content
    if path is None:
        raise ModelError(
            f"the model given as bytes keeps tensor '{external[0].name}' in an external file; give its path instead"
        )
    folder, total = os.path.dirname(os.path.abspath(path)), 0
    for tensor in external:
        try:
            total += _size(tensor, folder)
            if total > limit:
                raise ValueError(f"it has more than the {limit} bytes that npusim reads")
            load_external_data_for_tensor(tensor, folder)
        except Exception as error:  # noqa: BLE001 - the library raises whatever the file system or its own checks raise
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[0].removesuffix(".") if lines else type(error).__name__
            raise ModelError(
                f"the external data of {path} (tensor '{tensor.name}') cannot be read: {reason}; "
                "put the data file beside the .onnx file"
            ) from None
    return bytes(proto.SerializeToString(deterministic=True))


def _tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor in a message, wherever it stands."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in value if isinstance(value, list) or hasattr(value, "add") else (value,):
            if isinstance(item, TensorProto):
                yield item
            elif isinstance(item, Message):
                yield from _tensors(item)


def _size(tensor: TensorProto, folder: str) -> int:
    """Bytes of a tensor's external data, as far as can be told without opening the file; the library checks all else."""
    described = ExternalDataInfo(tensor)
    if described.length is not None:
        return int(described.length)
    try:
        return max(os.stat(os.path.join(folder, described.location)).st_size - int(described.offset or 0), 0)
    except (OSError, ValueError):
        return 0
