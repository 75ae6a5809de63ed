"""Moves are recognised by the places they bring values to."""

from __future__ import annotations

import doctest
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npusim.floats import moves
from npusim.floats.moves import Chosen, Regrouped, move_between

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def test_examples() -> None:
    assert doctest.testmod(moves).failed == 0


@given(SHAPES, st.randoms(use_true_random=False))
def test_every_transposition_is_found(shape: list[int], random: object) -> None:
    places = np.arange(math.prod(shape)).reshape(shape)
    order = random.sample(range(len(shape)), len(shape))
    moved = places.transpose(order)
    found = move_between(shape, moved)
    assert isinstance(found, Regrouped)
    np.testing.assert_array_equal(places.reshape(found.axes).transpose(found.order).reshape(-1), moved.reshape(-1))
    assert found.keeps_order == np.array_equal(moved.reshape(-1), places.reshape(-1))
    # axes of one place, and those that stay neighbours, are not told apart
    assert len(found.axes) <= len([size for size in shape if size > 1])


@given(SHAPES, st.data())
def test_every_choice_along_axes_is_found(shape: list[int], data: st.DataObject) -> None:
    places = np.arange(math.prod(shape)).reshape(shape)
    chosen = [data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=4)) for size in shape]
    moved = places[np.ix_(*chosen)]
    match move_between(shape, moved):
        case Chosen(indices):
            assert [index.tolist() for index in indices] == chosen
        case Regrouped(axes, order):
            np.testing.assert_array_equal(places.reshape(axes).transpose(order).reshape(-1), moved.reshape(-1))
        case None:
            raise AssertionError(f"{shape}, {chosen}")


@given(st.permutations(range(8)))
def test_what_is_found_is_what_was_moved(places: list[int]) -> None:
    moved = np.array(places)
    match move_between((8,), moved):
        case Regrouped(axes, order):
            np.testing.assert_array_equal(np.arange(8).reshape(axes).transpose(order).reshape(-1), moved)
        case Chosen((index,)):
            np.testing.assert_array_equal(index, moved)
        case None:
            raise AssertionError(places)


def test_what_is_no_move_of_axes_is_not_taken_for_one() -> None:
    assert move_between((2, 2), np.array([[0, 1], [3, 2]])) is None
    assert move_between((2, 2), np.array([0, 0])) is None
