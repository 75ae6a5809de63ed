"""Which tensor of the float model stands for which layer of the quantized one, and the real value of one LSB there."""

from __future__ import annotations

from npusim.comparison.alignment.counterparts import Alignment, align
from npusim.comparison.alignment.scales import recover_scales

__all__ = ["Alignment", "align", "recover_scales"]
