"""How each tensor lies in memory: the padding and the order that those who read it want."""

from __future__ import annotations

from collections.abc import Collection

from npusim.engine.fast.convolution import Form, form_of
from npusim.engine.fast.workspace import Layout
from npusim.program import Convolution, Program, QuantizeStage, TransposedConvolution, Windowed

__all__ = ["choose_layouts"]


def choose_layouts(program: Program, native: Collection[int], *, single: bool) -> dict[str, Layout]:
    """The layout of each tensor that native steps read or write.

    Channels lie outermost where only pointwise and depthwise convolutions read: those work channel by channel. Whoever reads
    windows over all channels wants each position's channels side by side.

    Parameters
    ----------
    program
        The program.
    native
        Indices of the steps that work on buffers.
    single
        For one sample at a time.
    """
    names: dict[str, None] = {}
    begins: dict[str, list[tuple[int, ...]]] = {}
    ends: dict[str, list[tuple[int, ...]]] = {}
    for_channels: set[str] = set()
    for_positions: set[str] = set()
    for index in sorted(native):
        step = program.steps[index]
        read = () if isinstance(step, QuantizeStage) else program.inputs_of(step)
        names.update(dict.fromkeys((*read, step.tensors[-1])))
        if not isinstance(step, Windowed) or isinstance(step, TransposedConvolution):
            continue
        source = step.inputs[0]
        # pools read position by position, all channels at once; they take what falls into the padding as it is
        form = form_of(step, single=single) if isinstance(step, Convolution) else None
        if form in (Form.POINTWISE, Form.BANDS):
            for_channels.add(source)
            continue
        for_positions.add(source)
        if form is not None:
            rank = len(step.window.kernel_shape)
            begins.setdefault(source, []).append(step.window.pads[:rank])
            ends.setdefault(source, []).append(step.window.pads[rank:])
    return {
        name: Layout(
            _largest(begins.get(name, []), len(program.tensors[name].shape) - 2),
            _largest(ends.get(name, []), len(program.tensors[name].shape) - 2),
            name in for_channels - for_positions and not single,
        )
        for name in names
    }


def _largest(pads: list[tuple[int, ...]], rank: int) -> tuple[int, ...]:
    """The largest on each axis; zeros when nobody wants any."""
    return tuple(max(sizes) for sizes in zip(*pads, strict=True)) if pads else (0,) * rank
