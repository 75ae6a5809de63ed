"""An estimate of cycles, fitted to the few whole-model figures that are public, and the errors of that fit.

Three features explain the figures: the number of layers, the multiply-accumulates of convolutions of one input channel, and all
others. The first kind is dearer, as the NPU takes four input channels at a time. Everything else that was tried either does
not lower the error on a network that was left out of the fit, or gives a negative price to something.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from npusim.program import IntegerLayer, LayerKind, Weighted
from npusim.rules.layer_verdict import Placement
from npusim.rules.report import LintReport
from npusim.schemas.derivation import Count, Finite

__all__ = [
    "CycleEstimate",
    "CycleFit",
    "PublishedPoint",
    "estimate_cycles",
    "estimated_device",
    "fit_cycles",
    "published_points",
]


@dataclass(frozen=True, slots=True)
class PublishedPoint:
    """A published figure: network, input length, cycles, and the features: layers, MACs of one input channel, other MACs."""

    network: str
    length: int
    cycles: int
    features: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class CycleFit:
    """Prices of the features, and the largest relative errors: on all points, and on a network that is left out."""

    prices: tuple[float, float, float]
    largest_error: float
    left_out_error: float


@dataclass(frozen=True, slots=True)
class CycleEstimate:
    """An estimate fitted to published figures, or the reason why there is none.

    Attributes
    ----------
    cycles
        The estimate; null where there is none.
    lowest, highest
        The range that `error` gives.
    milliseconds
        At the clock of the device.
    error
        Largest relative error on a network left out of the fit.
    reason
        Why there is no estimate; null where there is one.
    """

    cycles: Count | None
    lowest: Count | None
    highest: Count | None
    milliseconds: Annotated[float, Finite()] | None
    error: Annotated[float, Finite()] | None
    reason: str | None


def estimate_cycles(report: LintReport) -> CycleEstimate:
    """Estimate the cycles of a whole model, only where the published figures support it.

    They do for a device that they were measured on, a network whose layers all may run on the NPU and are of kinds that occur
    in the figures, and numbers of layers and multiply-accumulates within theirs.
    """
    points, content = published_points(), _content()
    reason = _unsupported(report, points, content["device"])
    if reason is not None:
        return CycleEstimate(None, None, None, None, None, reason)
    layers = [layer.step for layer in report.layers if isinstance(layer.step, IntegerLayer)]
    single = sum(layer.multiply_accumulates for layer in layers if layer.kind is LayerKind.FCONV)
    features = (len(layers), single, _weighted_macs(layers) - single)
    fit = content["fit"]
    prices = (
        fit["cycles_for_each_layer"],
        fit["cycles_for_each_mac_of_one_channel"],
        fit["cycles_for_each_other_mac"],
    )
    cycles = sum(price * feature for price, feature in zip(prices, features, strict=True))
    error = fit["largest_error_on_a_network_left_out"]
    megahertz = report.book.device.megahertz
    return CycleEstimate(
        round(cycles),
        round(cycles * (1 - error)),
        round(cycles * (1 + error)),
        None if megahertz is None else round(cycles / megahertz / 1000, 3),
        error,
        None,
    )


def estimated_device() -> str:
    """The device that the published figures were measured on."""
    name: str = _content()["device"]
    return name


def published_points() -> tuple[PublishedPoint, ...]:
    """All published figures with their features."""
    content = _content()
    return tuple(
        PublishedPoint(name, length, cycles, _features(network["layers"], length))
        for name, network in content["networks"].items()
        for length, cycles in zip(content["lengths"], network["cycles"], strict=True)
    )


def fit_cycles(points: Sequence[PublishedPoint]) -> CycleFit:
    """Fit the prices of the features by least squares of the relative errors."""
    names = list(dict.fromkeys(point.network for point in points))
    prices = _prices(points)
    left_out = [
        _errors(
            [point for point in points if point.network == name], _prices([point for point in points if point.network != name])
        )
        for name in names
    ]
    first, second, third = (float(price) for price in prices)
    return CycleFit((first, second, third), float(_errors(points, prices).max()), float(np.concatenate(left_out).max()))


def _prices(points: Sequence[PublishedPoint]) -> npt.NDArray[np.float64]:
    features, cycles = _arrays(points)
    prices, *_ = np.linalg.lstsq(features / cycles[:, None], np.ones(len(points)), rcond=None)
    return prices.astype(np.float64)


def _errors(points: Sequence[PublishedPoint], prices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    features, cycles = _arrays(points)
    return np.abs(features @ prices / cycles - 1)


def _arrays(points: Sequence[PublishedPoint]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return np.array([point.features for point in points], np.float64), np.array([point.cycles for point in points], np.float64)


@cache
def _content() -> dict[str, Any]:
    return tomllib.loads((files("npusim.rules") / "data" / "cycles.toml").read_text(encoding="utf-8"))


def _features(layers: Sequence[Sequence[Any]], length: int) -> tuple[int, int, int]:
    macs = list(_macs(layers, length))
    single = sum(count for kind, count in macs if kind == "FCONV")
    return len(layers), single, sum(count for _, count in macs) - single


def _macs(layers: Sequence[Sequence[Any]], height: int) -> Iterator[tuple[str, int]]:
    """Kind and multiply-accumulates of each layer with weights; one input channel, width 1."""
    channels = 1
    for kind, *numbers in layers:
        if kind == "MAXPOOL":
            height = -(-height // numbers[1])
        elif kind == "AVGPOOL":
            height = numbers[0]
        elif kind == "FC":
            yield kind, height * channels * numbers[0]
        else:
            outputs, kernel, stride = numbers
            height = -(-height // stride)
            yield kind, height * outputs * kernel * (1 if kind == "DWCONV" else channels)
            channels = outputs


def _weighted_macs(layers: Sequence[IntegerLayer]) -> int:
    return sum(layer.multiply_accumulates for layer in layers if isinstance(layer, Weighted))


def _unsupported(report: LintReport, points: Sequence[PublishedPoint], device: str) -> str | None:
    if report.book.device.name != device:
        return f"public figures exist for {device} only"
    if report.program is None or any(layer.verdict is Placement.HOST for layer in report.layers):
        return "no public figure has layers on the host"
    layers = [layer.step for layer in report.layers if isinstance(layer.step, IntegerLayer)]
    known = {kind for network in _content()["networks"].values() for kind, *_ in network["layers"]}
    other = sorted({str(layer.kind) for layer in layers} - known)
    if other:
        return f"no public figure has layers of kind {', '.join(other)}"
    numbers = [point.features[0] for point in points]
    if not min(numbers) <= len(layers) <= max(numbers):
        return f"the public figures have {min(numbers)} to {max(numbers)} layers, this model has {len(layers)}"
    macs = [sum(point.features[1:]) for point in points]
    seen = _weighted_macs(layers)
    if not min(macs) <= seen <= max(macs):
        return f"the public figures have {min(macs):,} to {max(macs):,} multiply-accumulates, this model has {seen:,}"
    return None
