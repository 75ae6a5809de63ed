"""The bytes of a model and where they came from; nothing here knows what is in them, but that all of it is there."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from npusim.errors import ModelError

__all__ = ["ModelFile", "guess_format", "open_model"]

MAXIMUM_FILE_BYTES = 256 * 2**20
"""A network for a microcontroller is far below 1 MB; a larger file is some other thing and would only fill the memory."""

_REFERENCE = b"location"
"""The key of a reference to external data in an ONNX model: without it in the bytes there is none."""

_FOREIGN_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"gAAAAA", "an encrypted file (a Fernet token): decrypt it first, or ask whoever encrypted it for the plain .onnx"),
    (b"PK\x03\x04", "a zip archive (a PyTorch checkpoint, perhaps): export the model to ONNX first"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the real file with 'git lfs pull'"),
    (b"\x89HDF", "an HDF5 file (a Keras model, perhaps): convert the model to ONNX first"),
    (b"\x80\x02", "a Python pickle (a PyTorch checkpoint, perhaps): export the model to ONNX first"),
    (b"\x80\x04", "a Python pickle: export the model to ONNX first"),
    (b"<", "a text or HTML document"),
    (b"{", "a JSON document"),
)


_C_SOURCE = re.compile(rb"(?m)^\s*(?:#\s*(?:include|define|ifndef|pragma)|(?:alignas|const|static|extern|unsigned)\b)")
LONGEST_PREFIX = 2**16


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The bytes of a model and where they came from.

    Attributes
    ----------
    path
        The file's path as given; None when the model was passed as bytes.
    content
        The serialized ModelProto. Tensors that the file keeps in external data files are inside, so that content, its hash
        and copies of it cover them.
    external
        Whether there were such tensors, so that the content is not the file's own bytes.
    """

    path: str | None
    content: bytes
    external: bool = False

    @property
    def sha256(self) -> str:
        """SHA-256 of the content as 64 hexadecimal digits: that of the file, or of the model with its external data inside."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def label(self) -> str:
        """How messages name the model."""
        return self.path if self.path is not None else "the model given as bytes"


def open_model(source: str | os.PathLike[str] | bytes) -> ModelFile:
    """Read a model's bytes.

    Parameters
    ----------
    source
        Path of an ``.onnx`` file, or its content.

    Raises
    ------
    ModelError
        If there is no such file, it cannot be read, is empty or is larger than 256 MiB; the same of its external data, which
        also has to lie in the model's folder.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _complete(None, bytes(source))
    path = os.fspath(source)
    try:
        size = os.stat(path).st_size
        if os.path.isdir(path):
            raise ModelError(f"{path} is a directory, wanted an .onnx file")
        if not os.path.isfile(path):
            raise ModelError(f"{path} is not a regular file (a pipe, a device or a socket); save the model to a file first")
        if size > MAXIMUM_FILE_BYTES:
            raise ModelError(
                f"{path} has {size} bytes, more than the {MAXIMUM_FILE_BYTES} that npusim reads; "
                "networks for a microcontroller are far smaller, so check that this is the right file"
            )
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; check the path of the model") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ModelError(f"{path} cannot be read: {reason}") from None
    return _complete(path, content)


def _complete(path: str | None, content: bytes) -> ModelFile:
    if _REFERENCE not in content:
        return ModelFile(path, content)
    # here, so that a model which is one file needs no protobuf to be opened
    from npusim.graph.external_data import embed

    whole = embed(content, path, MAXIMUM_FILE_BYTES)
    return ModelFile(path, whole, whole is not content)


def guess_format(content: bytes) -> str:
    """What bytes that are not an ONNX model probably are, as the end of a message."""
    for start, meaning in _FOREIGN_STARTS:
        if content.startswith(start):
            return f"; it looks like {meaning}"
    if _C_SOURCE.search(content[:LONGEST_PREFIX]):
        return (
            "; it looks like C source, but none of its arrays holds a whole TensorFlow Lite model (bytes 4 to 7 are 'TFL3'): "
            "copy the file again"
        )
    return "; it may be truncated or of another format: export or copy it again"
