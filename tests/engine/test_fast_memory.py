"""Memory of the fast engine: layouts, and tensors that take over what others no longer need."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim.engine.fast import workspace
from npusim.engine.fast.workspace import GAP, Buffer, Layout, Tenant, allocate, elements_of


@st.composite
def tenants(draw: st.DrawFn) -> list[Tenant]:
    found = []
    for number in range(draw(st.integers(1, 8))):
        rank = draw(st.integers(0, 2))
        sizes = draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
        pads = [tuple(draw(st.lists(st.sampled_from([0, 0, 1, 2]), min_size=rank, max_size=rank))) for _ in range(2)]
        outermost = draw(st.booleans())
        layout = Layout((0,) * rank, (0,) * rank, True) if outermost else Layout(pads[0], pads[1])
        first = draw(st.integers(0, 10))
        shape = (1, draw(st.integers(1, 5)), *sizes)
        found.append(Tenant(f"t{number}", shape, layout, first, first + draw(st.integers(0, 5))))
    return found


@pytest.mark.slow
@given(tenants(), st.integers(1, 9))
def test_tensors_needed_at_the_same_time_share_nothing(found: list[Tenant], samples: int) -> None:
    """Each is written whole when its time begins, and is still as it was when its time ends; padding stays zero."""
    buffers = allocate(found, samples)
    assert set(buffers) == {tenant.name for tenant in found}
    for step in range(16):
        for number, tenant in enumerate(found):
            if tenant.first == step:
                buffers[tenant.name].inner[...] = number + 1
        for number, tenant in enumerate(found):
            buffer = buffers[tenant.name]
            if tenant.first <= step <= tenant.last:
                assert (buffer.inner == number + 1).all()
                assert buffer.inner.shape == (*tenant.shape[2:], tenant.shape[1], samples)
            if tenant.first <= step <= tenant.last or tenant.layout.is_padded:
                outside = np.ones(buffer.whole.shape, bool)
                outside[tuple(slice(b, b + size) for b, size in zip(tenant.layout.begins, tenant.shape[2:], strict=True))] = (
                    False
                )
                assert not buffer.whole[outside].any()


@pytest.mark.slow
@given(tenants(), st.integers(1, 9))
def test_memory_is_as_large_as_it_is_said_to_be(found: list[Tenant], samples: int) -> None:
    for tenant in found:
        buffer = Buffer.of(tenant.shape, tenant.layout, samples)
        assert buffer.memory.shape == (elements_of(tenant.shape, tenant.layout, samples),)
        assert np.shares_memory(buffer.memory, buffer.whole)
        buffer.memory[...] = 1
        assert (buffer.whole == 1).all()


def test_a_chain_of_layers_needs_two_pieces_of_memory() -> None:
    plain = Layout((0,), (0,))
    chain = [Tenant(f"t{index}", (1, 4, 5), plain, index, index + 1) for index in range(9)]
    buffers = allocate(chain, 3)
    assert len({buffer.memory.__array_interface__["data"][0] for buffer in buffers.values()}) == 2


def test_channels_lie_a_little_apart() -> None:
    buffer = Buffer.of((1, 3, 8), Layout((0,), (0,), True), 64)
    assert buffer.whole.strides[1] == (8 * 64 + GAP) * 4
    assert Buffer.of((1, 3, 8), Layout((0,), (0,)), 64).whole.strides == (3 * 64 * 4, 64 * 4, 4)


def test_a_reader_gets_the_padding_it_wants() -> None:
    buffer = Buffer.of((1, 2, 5, 4), Layout((2, 1), (1, 3)), 3)
    buffer.inner[...] = 7
    found = buffer.padded((1, 0), (0, 2))
    assert found.shape == (6, 6, 2, 3)
    assert (found[1:, :4] == 7).all()
    assert not found[:1].any()
    assert not found[:, 4:].any()


def test_examples() -> None:
    result = doctest.testmod(workspace)
    assert result.attempted > 0
    assert result.failed == 0
