"""Typical mistakes, made on purpose: generated cases must tell each from the oracle, or the other tests prove little."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import Phase, find, settings

from npusim.kernels.integer import accumulate_convolution, accumulate_transposed_convolution, window_maximum
from npusim.kernels.requantize import requantize, residual, scaled_value, weight_digits
from support.kernel_cases import (
    Case,
    additions,
    convolutions,
    maximum_pools,
    requantizations,
    transposed_convolutions,
    weight_arrays,
)
from support.oracle import (
    oracle_convolution,
    oracle_requantize,
    oracle_residual,
    oracle_transposed_convolution,
    oracle_weight_digits,
    oracle_window_maximum,
)


def changed(case: Case, **arguments: Any) -> dict[str, Any]:
    """The arguments of a case with some of them replaced."""
    return {**case.arguments, **arguments}


def padded_convolution(case: Case, value: int) -> npt.NDArray[np.int64]:
    """A convolution that pads with a number of its own."""
    x, w = case.arrays
    pads = case.arguments["pads"]
    widths = [(0, 0), (0, 0), *zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True)]
    return accumulate_convolution(np.pad(x, widths, constant_values=value), w, **changed(case, pads=[0] * len(pads)))


def flipped(w: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.flip(w, axis=tuple(range(2, w.ndim)))


def with_swapped_pads(case: Case) -> dict[str, Any]:
    pads = case.arguments["pads"]
    return changed(case, pads=[*pads[len(pads) // 2 :], *pads[: len(pads) // 2]])


def interleaved_groups(case: Case) -> npt.NDArray[np.int64]:
    """A convolution whose output channels take the groups by turns."""
    x, w = case.arrays
    group = case.arguments["group"]
    order = np.arange(w.shape[0]).reshape(group, -1).T.reshape(-1)
    return accumulate_convolution(x, w[order], **case.arguments)


def convolution_in(dtype: npt.DTypeLike, case: Case) -> npt.NDArray[Any]:
    """A convolution whose data passes through another dtype."""
    x, w = case.arrays
    return accumulate_convolution(x.astype(dtype).astype(np.int64), w, **case.arguments)


WRONG_CONVOLUTIONS = {
    "flipped kernel": lambda case: accumulate_convolution(case.arrays[0], flipped(case.arrays[1]), **case.arguments),
    "ends before begins": lambda case: accumulate_convolution(*case.arrays, **with_swapped_pads(case)),
    "padded with the minimum": lambda case: padded_convolution(case, int(case.arrays[0].min())),
    "channels dealt out to groups": interleaved_groups,
    "data in float32": lambda case: convolution_in(np.float32, case),
    "data in int32": lambda case: convolution_in(np.int32, case),
    "sums in float64": lambda case: accumulate_convolution(*case.arrays, **case.arguments).astype(np.float64).astype(np.int64),
}


def late_output_padding(case: Case) -> npt.NDArray[np.int64]:
    """A transposed convolution that fills the positions of output_padding with zeros instead of computing them."""
    extra = case.arguments["output_padding"]
    acc = accumulate_transposed_convolution(*case.arrays, **changed(case, output_padding=[0] * len(extra)))
    return np.pad(acc, [(0, 0), (0, 0), *((0, positions) for positions in extra)])


WRONG_TRANSPOSED_CONVOLUTIONS = {
    "flipped kernel": lambda case: accumulate_transposed_convolution(case.arrays[0], flipped(case.arrays[1]), **case.arguments),
    "ends before begins": lambda case: accumulate_transposed_convolution(*case.arrays, **with_swapped_pads(case)),
    "output padding filled with zeros": late_output_padding,
}


def zero_padded_maximum(case: Case) -> npt.NDArray[Any]:
    """Max pooling in which the padding takes part as the number 0."""
    (x,) = case.arrays
    pads = case.arguments["pads"]
    widths = [(0, 0), (0, 0), *zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True)]
    return window_maximum(np.pad(x, widths), **changed(case, pads=[0] * len(pads)))


WRONG_MAXIMA = {
    "padded with 0": zero_padded_maximum,
    "always rounded down": lambda case: window_maximum(*case.arrays, **changed(case, ceil_mode=False)),
    "always rounded up": lambda case: window_maximum(*case.arrays, **changed(case, ceil_mode=True)),
    "without dilations": lambda case: window_maximum(*case.arrays, **changed(case, dilations=[1] * (case.arrays[0].ndim - 2))),
    "ends before begins": lambda case: window_maximum(*case.arrays, **with_swapped_pads(case)),
}


def requantization(case: Case, **replaced: Any) -> npt.NDArray[np.int64]:
    return requantize(*case.arrays, **changed(case, **replaced))


def written_out(case: Case) -> tuple[Any, ...]:
    return (*case.arrays, *(case.arguments[name] for name in ("bias", "scale", "shift", "lower", "upper")))


def truncated(case: Case) -> npt.NDArray[np.int64]:
    """Rounds toward zero, as a C division does."""
    acc, bias, scale, shift, lower, upper = written_out(case)
    scaled = (acc + bias) * scale
    return np.clip(np.sign(scaled) * (np.abs(scaled) >> shift), lower, upper)


def rounded(case: Case) -> npt.NDArray[np.int64]:
    """Rounds to nearest, although the half is in the bias already."""
    acc, bias, scale, shift, lower, upper = written_out(case)
    return np.clip(((acc + bias) * scale + (1 << shift >> 1)) >> shift, lower, upper)


def bias_after_scale(case: Case) -> npt.NDArray[np.int64]:
    acc, bias, scale, shift, lower, upper = written_out(case)
    return np.clip((acc * scale + bias) >> shift, lower, upper)


def wrapped_to_int32(case: Case) -> npt.NDArray[np.int64]:
    acc, bias, scale, shift, lower, upper = written_out(case)
    return np.clip(((acc + bias) * scale).astype(np.int32) >> shift, lower, upper).astype(np.int64)


def carried_by_float32(case: Case) -> npt.NDArray[np.int64]:
    """Rounds the scaled accumulator to float32 before the floor, as a float graph does."""
    acc, bias, scale, shift, lower, upper = written_out(case)
    return np.clip(np.floor(scaled_value((acc + bias) * scale, shift).astype(np.float64)).astype(np.int64), lower, upper)


def swapped_axes(case: Case) -> npt.NDArray[np.int64]:
    """Takes parameters per channel for parameters per position, where the numbers of both are equal."""
    return requantization(case, **{name: case.arguments[name].T for name in ("bias", "scale", "shift")})


WRONG_REQUANTIZATIONS = {
    "rounded toward zero": truncated,
    "rounded to nearest": rounded,
    "bias after the scale": bias_after_scale,
    "without the bias": lambda case: requantization(case, bias=np.array(0)),
    "unsigned scale": lambda case: requantization(case, scale=np.abs(case.arguments["scale"])),
    "limits excluded": lambda case: requantization(case, upper=case.arguments["upper"] - 1),
    "wrapped to int32": wrapped_to_int32,
    "carried by float32": carried_by_float32,
    "parameters along the wrong axis": swapped_axes,
}

WRONG_ADDITIONS = {
    "without the inner clip": lambda case: residual(*case.arrays, **changed(case, inner_lower=-(2**40), inner_upper=2**40)),
    "without the outer clip": lambda case: residual(*case.arrays, **changed(case, lower=-(2**40), upper=2**40)),
    "clips exchanged": lambda case: np.clip(
        np.clip(case.arrays[0], case.arguments["lower"], case.arguments["upper"]) + case.arrays[1],
        case.arguments["inner_lower"],
        case.arguments["inner_upper"],
    ),
}

WRONG_DIGITS = {
    "unsigned": lambda case: weight_digits(*case.arrays, **case.arguments) & 3,
    "all signed": lambda case: ((weight_digits(*case.arrays, **case.arguments) + 2) & 3) - 2,
    "most significant first": lambda case: weight_digits(*case.arrays, **case.arguments)[::-1],
}

WRONG = [
    (cases, oracle, name, wrong)
    for cases, oracle, kernels in (
        (convolutions(), oracle_convolution, WRONG_CONVOLUTIONS),
        (transposed_convolutions(), oracle_transposed_convolution, WRONG_TRANSPOSED_CONVOLUTIONS),
        (maximum_pools(), oracle_window_maximum, WRONG_MAXIMA),
        (requantizations(), oracle_requantize, WRONG_REQUANTIZATIONS),
        (additions(), oracle_residual, WRONG_ADDITIONS),
        (weight_arrays(), oracle_weight_digits, WRONG_DIGITS),
    )
    for name, wrong in kernels.items()
]


@pytest.mark.slow
@pytest.mark.parametrize(("cases", "oracle", "wrong"), [pytest.param(c, o, w, id=f"{o.__name__}-{n}") for c, o, n, w in WRONG])
def test_a_wrong_kernel_is_found_out(cases, oracle, wrong):
    """Some generated case tells the mistake from the oracle, by its numbers or its shape."""

    def differs(case: Case) -> bool:
        try:
            expected, seen = oracle(*case.lists, **case.list_arguments), wrong(case)
        except ValueError:
            return False
        return seen.tolist() != expected

    find(cases, differs, settings=settings(max_examples=1000, phases=[Phase.generate], derandomize=True, database=None))
