"""Operators on floats as C: an element of the result as an expression in elements of the operands.

Only operators whose result IEEE 754 and ONNX define to the last bit, for finite operands, up to the sign of a zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from npusim.graph.graph import Node

__all__ = ["element_expression"]

_BINARY = {"Add": "{} + {}", "Sub": "{} - {}", "Mul": "{} * {}", "Div": "{} / {}"}
_UNARY = {
    "Neg": "-{}",
    "Floor": "npusim_floor({})",
    "Ceil": "-npusim_floor(-{})",
    "Round": "npusim_round({})",
    "Relu": "npusim_max({}, 0.0f)",
    "Abs": "npusim_max({0}, -{0})",
    "Identity": "{}",
    "Dropout": "{}",
}
_CHOICES = {"Min": "npusim_min", "Max": "npusim_max"}


def element_expression(node: Node, operands: Sequence[str | None]) -> str | None:
    """An element of a node's result.

    Parameters
    ----------
    node
        The node.
    operands
        For each operand a C expression of type float that can stand next to any operator; None where the node leaves it out.

    Returns
    -------
    str or None
        The expression; None for an operator whose bits are not defined.

    Examples
    --------
    >>> element_expression(Node("Sub", "", ("a", "b"), ("y",), {}), ["x[i]", "2.0f"])
    'x[i] - 2.0f'
    """
    given = [operand for operand in operands if operand is not None]
    if node.op_type in _BINARY and len(given) == 2:
        return _BINARY[node.op_type].format(*given)
    if node.op_type in _UNARY:
        return _UNARY[node.op_type].format(given[0])
    if node.op_type in _CHOICES:
        found = given[0]
        for operand in given[1:]:
            found = f"{_CHOICES[node.op_type]}({found}, {operand})"
        return found
    if node.op_type == "Clip":
        return _clipped(node, operands)
    return None


def _clipped(node: Node, operands: Sequence[str | None]) -> str:
    """Bounds are operands, or attributes before opset 11."""
    lower, upper = (*operands[1:3], None, None)[:2]
    if "min" in node.attributes:
        lower = f"{node.real('min', 0.0)!r}f"
    if "max" in node.attributes:
        upper = f"{node.real('max', 0.0)!r}f"
    found = str(operands[0])
    if lower is not None:
        found = f"npusim_max({found}, {lower})"
    return found if upper is None else f"npusim_min({found}, {upper})"
