"""Rules for findings that need data: inputs out of range, values that are cut off, one channel that takes all the range."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from npusim.comparison.findings.scene import Scene, Sign, clip_of
from npusim.program import Accumulating

__all__ = ["channel_range", "input_range", "saturation"]

SATURATED_SHARE: Final = 0.05
"""From this share on saturation is reported; trained quantizers cut off a percent or two on purpose."""

HEAVY_SHARE: Final = 0.2
"""From this share on it is a warning."""

RANGE_RATIO: Final = 4.0
"""From this ratio on one channel costs all others two bits."""


FAR_BEYOND: Final = 0.25
"""In ranges of the input stage: a sample that reaches this far beyond it was not among those that the range was made for."""

OUTLYING: Final = 10.0
"""Times the median error of a sample: from here on a sample is not like the others."""

WORTH_NAMING: Final = 0.1
"""Share of the stage's error from which on such samples are reported; from `LARGE_SHARE` on they are a warning."""

LARGE_SHARE: Final = 0.5

LISTED: Final = 100
"""Most samples in the evidence."""


def input_range(scene: Scene) -> Iterator[Sign]:
    """Samples whose values are clipped far beyond the range of an input stage and that err more than all others there."""
    for stage in scene.program.steps:
        seen, clip = scene.observations.get(stage.name), clip_of(stage)
        errors = None if seen is None else seen.samples
        if errors is None or clip is None or not errors.energy.sum():
            continue
        shares = errors.energy / errors.energy.sum()
        far = errors.beyond >= FAR_BEYOND * (clip.upper - clip.lower + 1)
        found = np.flatnonzero(far & (errors.energy >= OUTLYING * np.median(errors.energy)))
        found = found[np.argsort(-shares[found], kind="stable")]
        share = float(shares[found].sum())
        if share < WORTH_NAMING:
            continue
        in_order = [str(sample) for sample in np.sort(found)]
        evidence = {
            "count": len(found),
            "samples": len(errors.energy),
            "error_share": share,
            "clipped_share": float(errors.clipped_share[found].mean()),
            "beyond": int(errors.beyond[found].max()),
            "lower": clip.lower,
            "upper": clip.upper,
            "listed": ", ".join(in_order[:12]) + (" ..." if len(in_order) > 12 else ""),
            "worst": [
                {
                    "sample": int(sample),
                    "clipped_share": float(errors.clipped_share[sample]),
                    "beyond": int(errors.beyond[sample]),
                    "error_share": float(shares[sample]),
                }
                for sample in found[:LISTED]
            ],
        }
        yield Sign(stage.name, evidence, None if share > LARGE_SHARE else "info")


def saturation(scene: Scene) -> Iterator[Sign]:
    """Layers and stages whose clip cuts off many values. A lower end of 0 is a ReLU and cuts off nothing that was wanted."""
    for step in scene.program.steps:
        seen, clip = scene.observations.get(step.name), clip_of(step)
        if seen is None or clip is None or not seen.values:
            continue
        ends = [(seen.above, seen.beyond_upper, clip.upper)]
        if clip.lower < 0:
            ends.append((seen.below, seen.beyond_lower, clip.lower))
        count, beyond, rail = max(ends)
        share = count / seen.values
        if share >= SATURATED_SHARE:
            both = sum(end[0] for end in ends) / seen.values
            evidence = {"share": share, "rail": rail, "beyond": beyond, "values": seen.values, "both_ends_share": both}
            yield Sign(step.name, evidence, None if share >= HEAVY_SHARE else "info")


def channel_range(scene: Scene) -> Iterator[Sign]:
    """Layers in which one channel reaches several times as far as all others, which share its scale."""
    for layer in scene.program.layers:
        seen = scene.observations.get(layer.name)
        if seen is None or len(seen.largest) < 3 or not isinstance(layer, Accumulating):
            continue
        clip = layer.output_clip
        reach = np.maximum(np.abs(seen.smallest), np.abs(seen.largest))
        order = np.argsort(-reach, kind="stable")
        largest, following = int(reach[order[0]]), int(reach[order[1]])
        if following == 0 or largest < RANGE_RATIO * following:
            continue
        bits = (clip.upper - clip.lower).bit_length()
        yield Sign(
            layer.name,
            {
                "channel": int(order[0]),
                "largest": largest,
                "next": following,
                "ratio": largest / following,
                "bits": bits,
                "used_bits": bits - float(np.log2(largest / following)),
            },
        )
