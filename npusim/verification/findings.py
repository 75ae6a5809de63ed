"""What an exact comparison means for whoever has to act on it: the first divergence, its cause, and what was not compared."""

from __future__ import annotations

from collections.abc import Iterator

from npusim.findings import Finding
from npusim.verification.arithmetic import ElementArithmetic
from npusim.verification.comparison import Divergence, ExactComparison

__all__ = ["differing_parts", "exact_findings"]


def exact_findings(result: ExactComparison) -> tuple[Finding, ...]:
    """The first layer that differs with what to do about it, then what only one side has."""
    return (*_mismatch(result), *_unpaired(result))


def differing_parts(first: ElementArithmetic, second: ElementArithmetic) -> tuple[str, ...]:
    """What differs between the arithmetic of two elements: ``inputs``, ``weights``, ``bias``, ``scale``, ``shift``, ``clip``.

    Where these agree, ``rounding`` if the same sum is requantized in two ways. For a quantize stage the constants of its
    operations are named by their operators.

    Examples
    --------
    Two exports of one layer whose inputs agree, one with a bias that was rounded otherwise: ``("bias",)``.
    """
    if first.operations or second.operations:
        left, right = ([(one.operator, one.operands) for one in side.operations] for side in (first, second))
        differing = [one[0] for one, other in zip(left, right, strict=False) if one != other]
        inputs = ["inputs"] if first.value != second.value else []
        return (*inputs, *dict.fromkeys(differing), *(["operations"] if len(left) != len(right) else []))
    codes, weights = (
        [[getattr(one, what) for one in side.contributions] for side in (first, second)] for what in ("code", "weight")
    )
    parts = [name for name, (left, right) in (("inputs", codes), ("weights", weights)) if left != right]
    parts.extend(
        name
        for name in ("bias", "scale", "shift", "residual", "inner_clip", "clip")
        if getattr(first, name) != getattr(second, name)
    )
    # what is computed of one sum in two ways
    if not parts and _steps_of(first) != _steps_of(second):
        parts.append("rounding")
    return tuple(parts)


def _steps_of(element: ElementArithmetic) -> tuple[str, ...]:
    """The requantization of an element, step by step."""
    return tuple(f"{row.formula} = {row.value}" for row in element.rows)


def _roundings(first: ElementArithmetic, second: ElementArithmetic) -> str:
    """The steps from the first one on that differs, of both sides."""
    left, right = _steps_of(first), _steps_of(second)
    same = next((at for at, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), 0)
    return " against ".join(", then ".join(side[same:]) for side in (left, right))


def _mismatch(result: ExactComparison) -> Iterator[Finding]:
    first = result.first_differing
    if first is None or first.first is None or result.divergence is None:
        return
    differing = sum(layer.mismatches > 0 for layer in result.layers)
    place = f"sample {first.first.sample}, element {list(first.first.index)}"
    message = (
        f"{first.mismatches} of {first.elements} values differ from {result.names[1]}, the first at {place}: "
        f"{first.first.value:g} against {first.first.other:g} (the first of {differing} layers that differ)"
    )
    evidence = {
        "sample": first.first.sample,
        "index": list(first.first.index),
        "value": float(first.first.value),
        "other": float(first.first.other),
        "mismatches": first.mismatches,
        "mean_difference": first.mean_difference,
        "largest_difference": first.largest,
        "differing_parts": list(_parts(result.divergence)),
    }
    yield Finding("mismatch", "error", first.name, message, _remedy(result, result.divergence), evidence)


def _parts(divergence: Divergence) -> tuple[str, ...]:
    if divergence.model is None or divergence.other is None:
        return ()
    return differing_parts(divergence.model, divergence.other)


def _remedy(result: ExactComparison, divergence: Divergence) -> str:
    model = divergence.model
    if result.hint:
        return result.hint
    if divergence.rounded is not None:
        return divergence.rounded
    if model is None and divergence.layer.kind not in ("HOST", "CONSTANT"):
        return "an inner value of the layer differs and its codes do not; 'npusim verify' shows all of them"
    if model is None:
        return "the host computes this in float operations; compare the layers before it, which are equal"
    if divergence.other is not None:
        parts = _parts(divergence)
        if not parts:
            return "the arithmetic at this element is the same on both sides; please report it as a bug in npusim"
        if parts == ("rounding",):
            return (
                f"both sides round the same sum of this layer in two ways: {_roundings(model, divergence.other)}; choose the "
                "arithmetic that the device has, what differs behind the layer follows from it"
            )
        return f"its {', '.join(parts)} differ between the models: look there, what differs behind it follows from it"
    if divergence.other_values:
        return "'npusim verify' compares every inner tensor of this layer; if float32 does not explain it, please report it"
    compared = {row.tensor for row in result.layers}
    unseen = [name for name in model.inputs if name not in compared]
    if unseen:
        return f"save the layer's input '{unseen[0]}' on the device as well: whether it differs already is not known"
    return "its inputs are equal, so the device computes this layer otherwise: check its weights, bias, shift and clip there"


def _unpaired(result: ExactComparison) -> Iterator[Finding]:
    sides = zip(result.names, (result.only_model, result.only_other), strict=True)
    for side, names in sides:
        if names:
            listed = ", ".join(names[:4]) + (" ..." if len(names) > 4 else "")
            message = f"{side} has {len(names)} that the other side does not have: {listed}"
            remedy = "these are not compared; that is expected where a layer was left in float or split on one side"
            yield Finding("not_compared", "warning", None, message, remedy, {"names": list(names)})
