"""Make the data of ``npusim demo``: ``python golden/make_demo.py`` writes the same bytes every time.

The model and its float model are those of this folder, with the first samples; the dump is of a device that forgets one bias.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import npusim

HERE = Path(__file__).parent
TARGET = HERE.parent / "npusim" / "results" / "demo_files"
SAMPLES = 16
FORGOTTEN = "/pointwise.offset"


def demo_files() -> dict[str, bytes]:
    """Every file but the notebooks, by its name."""
    model = onnx.load(HERE / "keywords_w8.onnx")
    with np.load(HERE / "keywords_samples.npz") as stored:
        samples = stored["input"][:SAMPLES]
    (bias,) = (one for one in model.graph.initializer if one.name == FORGOTTEN)
    bias.raw_data = bytes(len(bias.raw_data))
    (wrong,) = npusim.InferenceSession(model.SerializeToString()).run(None, {"input": samples})
    dump = io.StringIO()
    np.savetxt(dump, wrong, fmt="%d")
    return {
        "keywords_float.onnx": (HERE / "keywords_float.onnx").read_bytes(),
        "keywords_samples.npz": _archive(samples),
        "keywords_w8.onnx": (HERE / "keywords_w8.onnx").read_bytes(),
        "wrong_device.txt": dump.getvalue().encode(),
    }


def _archive(samples: np.ndarray[Any, Any]) -> bytes:
    content = io.BytesIO()
    np.savez(content, input=samples)  # members of a fixed date
    return content.getvalue()


def main() -> None:
    """Write the files to the package, or to the folder that is given."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    for name, content in demo_files().items():
        (target / name).write_bytes(content)


if __name__ == "__main__":
    main()
