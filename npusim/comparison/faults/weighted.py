"""Weights, biases and scales of single layers that do not fit the float layer, channel by channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from npusim.comparison.alignment.weights import channel_scale
from npusim.comparison.faults.breaks import Witnesses
from npusim.comparison.faults.numbers import LayerNumbers, misfit
from npusim.comparison.faults.suspicion import Suspicion, listed
from npusim.comparison.sums import FloatArray

__all__ = ["find_weighted_faults"]

TIMES_USUAL: Final = 8.0
"""Rows of weights that fit worse than so many times the usual, and `LEAST_MISFIT` more, are not those of the float model."""

LEAST_MISFIT: Final = {8: 0.05, 4: 0.08, 2: 0.35}
"""By weight bits."""

USUAL_LAYERS: Final = 3.0
"""A layer's weights may fit so many times worse than those of the middle layer."""

RATIO: Final = {8: 0.35, 4: 0.35, 2: 0.5}
"""Logarithm of a channel's ratio of scales to the middle one that quantization and training make, by weight bits."""

RATIO_TIMES: Final = 6.0

BIAS_TIMES: Final = 6.0
BIAS_LSB: Final = 2.0
"""A bias that is so many times the median error, and so many LSB more, from the float one is wrong."""

BIASES_TIMES: Final = 4.0
BIASES_LSB: Final = 3.0
"""The same for the root mean square of all biases of a layer against the middle layer."""

BIASES_SHARE: Final = 0.65
"""The same as a share of the float biases, against the middle layer."""

WHOLE: Final = 0.5
"""Biases are off as a whole where more than this share of the channels is."""

LEAST_COLUMN: Final = 0.3
"""Input channels with less than this share of the mean channel's energy are taken for one with that: little hangs on them."""

FEW: Final = 8

FEWEST_WEIGHTS: Final = 4
"""An input channel has fewer weights: training may move all of them far."""

MOST_PERMUTED: Final = 256
"""Most rows that are looked for in each other's places."""

MOST_CHANNELS: Final = 64
"""Most input channels of which every two are tried in each other's place."""

LEAST_SWAPPED: Final = 0.02
SWAPPED: Final = 0.15
"""Rows must fit badly enough on average, and only so much of it may be left when two input channels change places."""

ALONE: Final = 16
"""Input channels that are held against factors to which they have not contributed."""

COLUMN_TIMES: Final = 6.0
COLUMN_LEAST: Final = 1.5
"""Input channels fit so many times worse than the middle one, and so many times `LEAST_MISFIT` more, before they count."""

DIFFUSE: Final = 0.4
"""Where the middle row fits worse than this, no row can be singled out."""

BIAS_SHARE: Final = 0.35
"""A wrong bias differs by more than this share of the float one; training moves it by less."""

Flags = npt.NDArray[np.bool_]


def find_weighted_faults(
    numbers: Mapping[str, LayerNumbers], witnesses: Witnesses, alone: Mapping[str, float]
) -> Iterator[Suspicion]:
    """Suspicions about weights, biases, scales and shifts of layers with weights.

    Parameters
    ----------
    numbers
        Of the layers, at scales without breaks.
    witnesses
        What biases say of scales.
    alone
        Layers whose biases contradict all others by a factor.
    """
    fits = {name: misfit(one.weights, one.reference) for name, one in numbers.items()}
    middles = [float(np.median(rows)) for rows in fits.values() if rows.size]
    usual = USUAL_LAYERS * _lower_middle(middles)
    # the biases' own common factor is the chain's affair, unless no other witness has it
    own = {name: witnesses.expected(name) if name in alone else witnesses.values.get(name) for name in numbers}
    expected = {name: witnesses.expected(name) if value is None else value for name, value in own.items()}
    errors = {name: _bias_errors(one, expected[name]) for name, one in numbers.items()}
    usual_bias = _lower_middle([_root(one) for one in errors.values()])
    shares = {name: _root(errors[name]) / (_root(one.float_bias / one.output) + 1) for name, one in numbers.items()}
    limit = max(BIASES_SHARE, BIASES_TIMES * _lower_middle(list(shares.values())))
    for name, one in numbers.items():
        wrong = np.zeros(len(one.bias), np.bool_)
        for suspicion in (*_weights(one, fits[name], usual), *_ratios(one, fits[name], usual, expected[name])):
            wrong[list(suspicion.channels) or slice(None)] = True
            yield suspicion
        if one.agreed:
            others = name in alone or shares[name] > limit
            yield from _biases(one, errors[name], wrong, usual_bias, others=others)


def _weights(one: LayerNumbers, rows: FloatArray, usual: float) -> Iterator[Suspicion]:
    limit = _row_limit(one, rows, usual)
    swapped = _swapped_columns(one, rows)
    if swapped:
        evidence = {
            "what": "input channels",
            "listed": listed(swapped),
            "order": list(swapped[::-1]),
            "channels": list(swapped),
        }
        yield Suspicion("channels_swapped", one.step.name, (), evidence)
        return
    columns, left = _columns_off(one, usual)
    if columns.size:
        kept = np.ones(one.weights.shape[1], np.bool_)
        for column in columns:
            kept[column * one.inner : (column + 1) * one.inner] = False
        rows_left = misfit(one.weights[:, kept], one.reference[:, kept])
        few = not (rows > limit).any() and float(np.median(rows)) <= usual + LEAST_MISFIT[8]
        if rows_left.sum() <= 0.4 * rows.sum() or few:
            yield _column_suspicion(one, columns, left)
            rows = rows_left
    off = np.flatnonzero(rows > limit)
    if not off.size or (one.step.weight_bits == 2 and float(np.median(rows)) > DIFFUSE):
        return
    places, order = _permuted(one.weights[off], one.reference[off], limit)
    if places.size:
        channels, others = (tuple(int(channel) for channel in off[chosen]) for chosen in (places, order))
        evidence = {"what": "output channels", "listed": listed(channels), "order": list(others), "channels": list(channels)}
        yield Suspicion("channels_swapped", one.step.name, channels, evidence)
        off = np.setdiff1d(off, channels)
    if off.size:
        yield Suspicion("weights_off", one.step.name, tuple(int(channel) for channel in off), _weights_evidence(one, off, rows))


def _swapped_columns(one: LayerNumbers, rows: FloatArray) -> tuple[int, ...]:
    """The two input channels that would have to change places for all rows to fit; none where no two do."""
    outputs, values = one.weights.shape
    channels = values // one.inner
    if not 2 <= channels <= MOST_CHANNELS or outputs < 2 or float(rows.mean()) < LEAST_SWAPPED:
        return ()
    taps = one.weights.reshape(outputs, channels, one.inner)
    best = SWAPPED * float(rows.sum())
    found: tuple[int, ...] = ()
    for first, second in combinations(range(channels), 2):
        order = np.arange(channels)
        order[[first, second]] = order[[second, first]]
        left = float(misfit(taps[:, order].reshape(outputs, values), one.reference).sum())
        if left < best:
            best, found = left, (first, second)
    return found


def _row_limit(one: LayerNumbers, rows: FloatArray, usual: float) -> float:
    least = LEAST_MISFIT.get(one.step.weight_bits, LEAST_MISFIT[8])
    return TIMES_USUAL * min(float(np.median(rows)), usual) + least


def _weights_evidence(one: LayerNumbers, off: npt.NDArray[np.intp], rows: FloatArray) -> dict[str, Any]:
    signed = [float((one.weights[place] * one.reference[place]).sum()) for place in off]
    looks = ""
    if not one.weights[off].any():
        looks = ", they are all zero"
    elif all(value < 0 for value in signed) and (misfit(-one.weights[off], one.reference[off]) < 0.1).all():
        looks = ", their signs are turned"
    return {
        "what": f"of output {listed(list(off))}",
        "channels": [int(channel) for channel in off],
        "unexplained": float(rows[off].max()),
        "usual": float(np.median(rows)),
        "looks": looks,
    }


def _normal(one: LayerNumbers) -> tuple[FloatArray, FloatArray]:
    """Both sides' weights as shares of the float row's length, the integer ones at their best scale."""
    length = np.sqrt((one.reference**2).sum(axis=1, keepdims=True))
    length[length == 0] = 1.0
    return one.weights, one.reference / length


def _columns_off(one: LayerNumbers, usual: float) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Input channels whose weights do not fit, the fit of all others taken without them; and what is left of each channel's."""
    outputs, values = one.weights.shape
    channels = values // one.inner
    none = np.zeros(0, np.intp), np.zeros(channels)
    if channels < 2 or outputs < 2 or outputs * one.inner < FEWEST_WEIGHTS:
        return none
    weights, reference = _normal(one)
    energy = (reference**2).reshape(outputs, channels, one.inner).sum(axis=(0, 2))
    off = np.zeros(channels, np.bool_)
    most = max(1, channels // 2)
    while True:
        share = _column_misfits(weights, reference, off, one.inner)
        middle = float(np.median(share[~off]))
        # of a few channels the middle one may be a wrong one
        least = COLUMN_LEAST * LEAST_MISFIT.get(one.step.weight_bits, LEAST_MISFIT[8])
        limit = COLUMN_TIMES * (middle if channels > FEW else min(middle, usual)) + least
        worst = int(np.argmax(np.where(off, -1.0, share)))
        if share[worst] <= limit or not energy.any():
            return np.flatnonzero(off), share
        off[worst] = True
        if off.sum() > most:
            return none


def _column_misfits(weights: FloatArray, reference: FloatArray, off: Flags, inner: int) -> FloatArray:
    """Share of the energy of each input channel's weights that is left, at factors of the rows without what is off and itself.

    Of many channels a factor is the same without one of them, but for the worst few.
    """
    channels = off.size
    left, size = _column_energies(weights, reference, ~off, inner)
    floor = LEAST_COLUMN * (reference**2).sum() / channels
    share: FloatArray = left / np.maximum(size, floor)
    worst = np.argsort(-np.where(off, -1.0, share))[:ALONE]
    for column in worst:
        kept = ~off
        kept[column] = False
        if kept.any():
            left, size = _column_energies(weights, reference, kept, inner)
            share[column] = left[column] / max(size[column], floor)
    return share


def _column_energies(weights: FloatArray, reference: FloatArray, kept: Flags, inner: int) -> tuple[FloatArray, FloatArray]:
    """What is left of each input channel's weights at factors from those kept, and how much there is."""
    columns = np.repeat(kept, inner)
    factor = channel_scale(weights[:, columns], reference[:, columns])
    real = np.where(np.isfinite(factor), np.maximum(factor, 0.0), 0.0)[:, np.newaxis] * weights
    shape = (weights.shape[0], kept.size, inner)
    left, signal, seen = (np.asarray((part**2).reshape(shape).sum(axis=(0, 2))) for part in (reference - real, reference, real))
    return left, np.asarray(np.maximum(signal, seen))


def _column_suspicion(one: LayerNumbers, columns: npt.NDArray[np.intp], left: FloatArray) -> Suspicion:
    outputs = one.weights.shape[0]
    weights, reference = _normal(one)
    factor = channel_scale(one.weights, reference)
    real = np.where(np.isfinite(factor), factor, 0.0)[:, np.newaxis] * weights
    mine = real.reshape(outputs, -1, one.inner).transpose(1, 0, 2).reshape(-1, outputs * one.inner)
    looks = ", they are all zero" if not mine[columns].any() else ""
    evidence = {
        "what": f"of input {listed(list(columns))}",
        "channels": [int(channel) for channel in columns],
        "unexplained": min(float(left[columns].max()), 1.0),
        "usual": float(np.median(left)),
        "looks": looks,
    }
    return Suspicion("weights_off", one.step.name, (), evidence)


def _permuted(weights: FloatArray, reference: FloatArray, limit: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows that fit other rows' references: which rows, and whose weights they have."""
    count = len(weights)
    none = np.zeros(0, np.intp)
    if not 2 <= count <= MOST_PERMUTED:
        return none, none
    cross = np.array([misfit(np.broadcast_to(row, reference.shape), reference) for row in weights])
    best = cross.argmin(axis=1)
    fits = (cross.min(axis=1) <= np.minimum(limit, 0.5 * cross.diagonal())) & (best != np.arange(count)) & weights.any(axis=1)
    places = np.flatnonzero(fits)
    complete = places.size >= 2 and set(best[places]) == set(places)
    return (places, best[places]) if complete else (none, none)


def _ratios(one: LayerNumbers, rows: FloatArray, usual: float, expected: float) -> Iterator[Suspicion]:
    """Channels whose weights fit, but not at the scale that all others have."""
    if one.has_channel_scales and not one.declared:
        return
    good = np.isfinite(one.factor) & (one.factor > 0) & (rows <= _row_limit(one, rows, usual))
    if good.sum() < (1 if one.declared else 2):
        return
    logs = np.log(np.where(good, one.ratio, 1.0))
    centred = logs - np.median(logs[good])
    middle = float(np.median(np.abs(centred[good])))
    logs = logs if one.declared else centred
    limit = max(RATIO.get(one.step.weight_bits, RATIO[8]), RATIO_TIMES * middle)
    off = np.flatnonzero(good & (np.abs(logs) > limit))
    if not off.size:
        return
    lsb = np.abs(one.float_bias / one.output)
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.log(one.float_bias / (one.bias * one.factor * one.input)) - expected
    by_rule: dict[str, list[int]] = {}
    for channel in off:
        told = lsb[channel] >= 2 and np.isfinite(seen[channel])
        weights_are_off = bool(told and abs(seen[channel] + logs[channel]) < abs(seen[channel]))
        octaves = logs[channel] / math.log(2)
        whole = round(octaves) != 0 and abs(octaves - round(octaves)) <= 0.2
        rule = "weights_off" if weights_are_off else "shift_off" if whole else "scale_off"
        by_rule.setdefault(rule, []).append(int(channel))
    for rule, channels in by_rule.items():
        factor = float(np.exp(np.median(logs[channels])))
        where = f"in output {listed(channels)}"
        if rule == "weights_off":
            evidence: dict[str, Any] = {
                "what": f"of output {listed(channels)}",
                "channels": channels,
                "unexplained": abs(1 - 1 / factor),
                "usual": float(np.median(rows)),
                "looks": f", they are {1 / factor:.3g} times the float model's",
            }
        else:
            evidence = {
                "where": where,
                "channels": channels,
                "factor": 1 / factor,
                "octaves": -round(math.log2(factor)),
                "witnesses": [],
            }
        yield Suspicion(rule, one.step.name, tuple(channels), evidence)


def _bias_errors(one: LayerNumbers, expected: float) -> FloatArray:
    """Difference of each bias from the float one in LSB of the output; 0 where the weights are zero."""
    known = np.isfinite(one.factor) & (one.factor > 0)
    factor = np.where(known, one.factor, 0.0)
    # at the middle of all channels where a row's own weights may be wrong
    middle = 1.0 if one.has_channel_scales or one.declared else float(np.median(one.ratio[known])) if known.any() else 1.0
    from_output = one.output * middle * one.gain / one.input
    near = np.abs(np.log(np.where(known, factor, 1.0) / np.where(from_output > 0, from_output, 1.0))) <= RATIO[8]
    factor = np.where(near & known, factor, from_output)
    result: FloatArray = (one.bias * factor * one.input * math.exp(expected) - one.float_bias) / one.output
    return result


def _lower_middle(values: list[float]) -> float:
    """The middle one of some numbers, of two the smaller one, since one of two layers may be the wrong one; 0 of none."""
    return sorted(values)[(len(values) - 1) // 2] if values else 0.0


def _root(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0


def _biases(one: LayerNumbers, errors: FloatArray, wrong: Flags, usual: float, *, others: bool) -> Iterator[Suspicion]:
    """Suspicions about biases; `others` says that all of a layer's biases are not those of the float model."""
    checked = ~wrong
    if not checked.any():
        return
    size = np.abs(errors)
    # in a layer of which most biases are wrong the median is theirs; the middle layer of the model is not
    middle = min(float(np.median(size[checked])), BIASES_TIMES * usual + 0.5)
    far = size > BIAS_SHARE * np.abs(one.float_bias / one.output) + 1
    off = np.flatnonzero(checked & far & (size > BIAS_TIMES * middle + BIAS_LSB))
    share = off.size / checked.sum()
    whole = _root(errors[checked]) > BIASES_TIMES * usual + BIASES_LSB and (share > WHOLE or len(errors) < 3)
    # where a few make all of the error, these are named
    rest = np.setdiff1d(np.flatnonzero(checked), off)
    others = others and _root(errors[checked]) > BIAS_LSB
    whole = whole or (others and _root(errors[rest]) > 0.5 * _root(errors[checked]))
    if not off.size and not whole:
        return
    if whole:
        off = np.flatnonzero(checked)
    zero = bool((np.abs(one.bias[off] * one.gain[off]) <= 1.0).all())
    turned = bool((one.bias[off] * one.float_bias[off] < 0).all()) and not zero
    looks = ", as if there were none" if zero else ", with the other sign" if turned else ""
    channels = () if whole else tuple(int(channel) for channel in off)
    evidence = {
        "offset": float(np.mean(errors[off])),
        "largest": float(errors[off][np.abs(errors[off]).argmax()]),
        "where": "all its biases are" if whole else f"its bias of {listed(channels)} is",
        "channels": [int(channel) for channel in off],
        "looks": looks,
    }
    yield Suspicion("bias_off", one.step.name, channels, evidence)
