"""Reading what devices and debuggers save: console text, C arrays, memory saves, Intel hex, NumPy files.

Nothing is guessed from values: a dump holds what its file says, and conversions to a tensor's type refuse what does not fit.
"""

from __future__ import annotations

from npusim.files.dumps.dump import Dump, DumpArray, Role
from npusim.files.dumps.features import FEATURES, channels_first, feature_text
from npusim.files.dumps.reader import FORMATS, read_dump
from npusim.files.dumps.readings import Reading, TensorForm, read_as

__all__ = [
    "FEATURES",
    "FORMATS",
    "Dump",
    "DumpArray",
    "Reading",
    "Role",
    "TensorForm",
    "channels_first",
    "feature_text",
    "read_as",
    "read_dump",
]
