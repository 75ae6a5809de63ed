"""Recurrent networks: LSTM and GRU, in the element type of their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from npusim.errors import OperatorError
from npusim.graph.graph import Array
from npusim.graph.operators.arguments import Numeric
from npusim.graph.operators.call import Call, Operator
from npusim.graph.operators.refusal import refusing_table
from npusim.kernels.transcendental import hyperbolic_tangent, sigmoid

__all__ = ["OPERATORS"]

_DEFAULTS: Final = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}


@np.errstate(over="ignore", invalid="ignore")  # infinities are results like any other
def _lstm(call: Call, x: Numeric, w: Numeric, r: Numeric, *others: Numeric | None) -> tuple[Array, ...]:
    """``i, o, f = sigmoid(W x + R h + P c + b)``, ``c = f c + i tanh(W x + R h + b)``, ``h = o tanh(c)``: i, o, f, c."""
    b, lengths, h, c, p = (*others, None, None, None, None, None)[:5]
    if call.integer("input_forget", 0):
        raise OperatorError("its input and forget gates are coupled (input_forget), which npusim does not compute")
    sequence, directions, batch, hidden = _sizes(call, "LSTM", x, w, r, lengths)
    states = [_state(call, given, directions, batch, hidden, x.dtype) for given in (h, c)]
    peepholes = np.zeros((directions, 3 * hidden), x.dtype) if p is None else p
    rows = np.zeros((len(sequence), directions, batch, hidden), x.dtype)
    for direction, order in enumerate(_orders(call, len(sequence))):
        output, cell = states[0][direction], states[1][direction]
        inner_i, inner_o, inner_f = np.split(peepholes[direction], 3)
        bias = _bias(b, direction, 8 * hidden, x.dtype)
        for place in order:
            gates = sequence[place] @ w[direction].T + output @ r[direction].T + bias[: 4 * hidden] + bias[4 * hidden :]
            gate_i, gate_o, gate_f, gate_c = np.split(gates, 4, axis=1)
            keep, add = sigmoid(gate_f + inner_f * cell), sigmoid(gate_i + inner_i * cell)
            cell = keep * cell + add * hyperbolic_tangent(gate_c)
            output = sigmoid(gate_o + inner_o * cell) * hyperbolic_tangent(cell)
            rows[place, direction] = output
        states[0][direction], states[1][direction] = output, cell
    return _arranged(call, rows, *states)


@np.errstate(over="ignore", invalid="ignore")
def _gru(call: Call, x: Numeric, w: Numeric, r: Numeric, *others: Numeric | None) -> tuple[Array, ...]:
    """``z, r = sigmoid(W x + R h + b)``, ``n = tanh(W x + r (R h))``, ``h = (1 - z) n + z h``; gates as z, r, h."""
    b, lengths, h = (*others, None, None, None)[:3]
    sequence, directions, batch, hidden = _sizes(call, "GRU", x, w, r, lengths)
    state = _state(call, h, directions, batch, hidden, x.dtype)
    rows = np.zeros((len(sequence), directions, batch, hidden), x.dtype)
    late = bool(call.integer("linear_before_reset", 0))
    for direction, order in enumerate(_orders(call, len(sequence))):
        output = state[direction]
        bias_w, bias_r = np.split(_bias(b, direction, 6 * hidden, x.dtype), 2)
        rest = r[direction][2 * hidden :]
        for place in order:
            given = sequence[place] @ w[direction].T + bias_w
            kept = output @ r[direction][: 2 * hidden].T + bias_r[: 2 * hidden]
            update, reset = np.split(sigmoid(given[:, : 2 * hidden] + kept), 2, axis=1)
            own = bias_r[2 * hidden :]
            recalled = reset * (output @ rest.T + own) if late else (reset * output) @ rest.T + own
            output = (1 - update) * hyperbolic_tangent(given[:, 2 * hidden :] + recalled) + update * output
            rows[place, direction] = output
        state[direction] = output
    return _arranged(call, rows, state)


def _sizes(call: Call, name: str, x: Array, w: Array, r: Array, lengths: Array | None) -> tuple[Array, int, int, int]:
    """The sequence, its steps on the first axis; number of directions, of samples, and of hidden values."""
    sequence = np.swapaxes(x, 0, 1) if call.integer("layout", 0) else x
    directions = 2 if call.text("direction", "forward") == "bidirectional" else 1
    functions = call.attributes.get("activations", _DEFAULTS[name] * directions)
    if tuple(functions) != _DEFAULTS[name] * directions:  # type: ignore[arg-type]
        raise OperatorError(f"its activations are {functions}, wanted {', '.join(_DEFAULTS[name])}")
    if "clip" in call.attributes:
        raise OperatorError("it clips the inputs of its activations, which npusim does not compute")
    if lengths is not None and (lengths != len(sequence)).any():
        raise OperatorError(f"its sequence_lens are {lengths.tolist()}, wanted {len(sequence)} for each sample")
    if len(w) != directions or len(r) != directions:
        raise OperatorError(f"its weights are of {len(w)} directions, wanted {directions}")
    return sequence, directions, sequence.shape[1], r.shape[2]


def _orders(call: Call, length: int) -> tuple[range, ...]:
    """The steps in the order in which each direction takes them."""
    ahead, back = range(length), range(length - 1, -1, -1)
    return {"forward": (ahead,), "reverse": (back,), "bidirectional": (ahead, back)}[call.text("direction", "forward")]


def _bias(b: Array | None, direction: int, size: int, dtype: np.dtype[np.generic]) -> Array:
    return np.zeros(size, dtype) if b is None else b[direction]


def _state(call: Call, given: Array | None, directions: int, batch: int, hidden: int, dtype: np.dtype[np.generic]) -> Array:
    if given is None:
        return np.zeros((directions, batch, hidden), dtype)
    return (np.swapaxes(given, 0, 1) if call.integer("layout", 0) else given).copy()


def _arranged(call: Call, rows: Array, *states: Array) -> tuple[Array, ...]:
    if not call.integer("layout", 0):
        return (rows, *states)
    turned = (rows.transpose(2, 0, 1, 3), *(np.swapaxes(state, 0, 1) for state in states))
    return tuple(np.ascontiguousarray(values) for values in turned)


OPERATORS: Final[Mapping[str, Operator]] = refusing_table({"GRU": _gru, "LSTM": _lstm})
