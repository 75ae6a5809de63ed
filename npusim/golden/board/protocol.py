"""The lines that the harness prints, each with a sum that tells whether it came whole.

``@npusim BODY *XX``: XX are the two hexadecimal digits of the sum of BODY's bytes. Bodies::

    start 1 MODEL SETS LAYERS      a run of all sets begins; MODEL: the first 8 digits of the model's SHA-256
    crc SET LAYER ORDER CRC        CRC-32 of a layer's bytes; LAYER -1: the output; ORDER 0: as in ONNX, 1: channels last
    values SET LAYER ORDER START V V ...   bit patterns of a layer's values from START on, in hexadecimal
    end MISMATCHES                 the run is over
    ready                          a request is waited for: values SET LAYER, probe LAYER, or quit

What else is on the line (boot text, time stamps before the mark) is passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

__all__ = ["MARK", "Crc", "Transcript"]

MARK: Final = b"@npusim "
"""How the harness's lines begin."""

_LINE: Final = re.compile(r"@npusim ([ -~]*) \*([0-9a-f]{2})[ \t\r]*$")
_CRC: Final = re.compile(r"crc (\d+) (-1|\d+) ([01]) ([0-9a-f]{8})")
_VALUES: Final = re.compile(r"values (\d+) (\d+) ([01]) (\d+)((?: [0-9a-f]{2,8})+)")
_START: Final = re.compile(r"start (\d+) ([0-9a-f]{8}) (\d+) (\d+)")


@dataclass(frozen=True, slots=True)
class Crc:
    """A CRC-32 and the order of the values that it is of: 0 as in ONNX, 1 channels last."""

    order: int
    crc: str


@dataclass(slots=True)
class Transcript:
    """What was read so far.

    Attributes
    ----------
    model, sets, layers
        Of the folder that the harness comes from; empty and 0 before its first line.
    crcs
        By set and layer, -1 for the output.
    values
        Bit patterns by set and layer: by position, with the order.
    ends
        Runs that are over.
    ready
        Whether a request is waited for.
    damaged
        Lines that did not come whole.
    conflicts
        What came twice, and otherwise the second time.
    repeated
        Sets that came again, all alike.
    """

    model: str = ""
    sets: int = 0
    layers: int = 0
    version: int = 0
    crcs: dict[tuple[int, int], Crc] = field(default_factory=dict)
    values: dict[tuple[int, int], dict[int, tuple[int, str]]] = field(default_factory=dict)
    ends: int = 0
    starts: int = 0
    ready: bool = False
    damaged: int = 0
    conflicts: list[str] = field(default_factory=list)
    repeated: set[int] = field(default_factory=set)

    def take(self, text: str) -> None:
        r"""Read lines.

        Examples
        --------
        >>> found = Transcript()
        >>> found.take("[12:00] @npusim crc 0 2 0 12345678 *ee\nboot\n@npusim end 0 *00\n")
        >>> found.crcs, found.damaged
        ({(0, 2): Crc(order=0, crc='12345678')}, 1)
        """
        for line in text.splitlines():
            match = _LINE.search(line)
            if match is None or sum(match[1].encode()) % 256 != int(match[2], 16):
                self.damaged += "@npusim" in line
            elif not self._body(match[1]):
                self.damaged += 1

    def _body(self, body: str) -> bool:
        self.ready = body == "ready"
        if (start := _START.fullmatch(body)) is not None:
            self.starts += 1
            found = (int(start[1]), start[2], int(start[3]), int(start[4]))
            if self.starts > 1 and found != (self.version, self.model, self.sets, self.layers):
                self.conflicts.append("a harness of another folder started in between")
            self.version, self.model, self.sets, self.layers = found
        elif (crc := _CRC.fullmatch(body)) is not None:
            self._crc(int(crc[1]), int(crc[2]), Crc(int(crc[3]), crc[4]))
        elif (values := _VALUES.fullmatch(body)) is not None:
            held = self.values.setdefault((int(values[1]), int(values[2])), {})
            for place, pattern in enumerate(values[5].split(), int(values[4])):
                held[place] = (int(values[3]), pattern)
        elif body.startswith("end "):
            self.ends += 1
        else:
            return body == "ready"
        return True

    def _crc(self, number: int, layer: int, crc: Crc) -> None:
        before = self.crcs.get((number, layer))
        if before is not None and before != crc:
            what = "the output" if layer < 0 else f"layer {layer}"
            self.conflicts.append(f"{what} of set {number} came twice, with CRC-32 {before.crc} and {crc.crc}")
        elif before is not None:
            self.repeated.add(number)
        self.crcs[number, layer] = crc
