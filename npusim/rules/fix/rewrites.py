"""Repairs of single nodes: saturations merged or narrowed, MatMul and Add made one Gemm."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npusim.graph import Array, Node
from npusim.program import Accumulating, Clip, Program
from npusim.program.inspection import Codes
from npusim.program.intervals import RangeAnalysis
from npusim.program.lowering.tinpu.chain import merge_clips
from npusim.program.lowering.tinpu.view import View, read_clip
from npusim.rules.fix.draft import Draft

__all__ = ["clips_alike", "matmul_to_gemm", "merge_saturations", "narrow_saturations"]

_WIDE = 2**62


def merge_saturations(draft: Draft, program: Program) -> list[str]:
    """Make one Clip of each run of saturations that ends an integer layer; returns the layers.

    Saturating to [a, b] and then to [c, d] is saturating once, to [clip(a, c, d), clip(b, c, d)].
    """
    view = View.of(draft.graph)
    changed = []
    for layer in program.layers:
        run = _run_of(draft, view, layer.output)
        if not isinstance(layer, Accumulating) or len(run) < 2:
            continue
        clip = _merged(view, run)
        if clip is None:
            continue
        first, last = run[0], run[-1]
        source = _variable(first, draft.constants)
        bounds = _bounds(draft, layer.output, clip)
        draft.change(last, inputs=(source, *bounds), attributes={}, op_type="Clip")
        for node in run[:-1]:
            draft.nodes.remove(node)
        changed.append(layer.name)
    return changed


def narrow_saturations(draft: Draft, program: Program, ranges: RangeAnalysis) -> list[str]:
    """Saturate to 8 bits where the proven range of the codes shows that no code is beyond; returns the layers."""
    changed = []
    for layer in program.layers:
        if not isinstance(layer, Accumulating) or layer.name not in ranges.layers:
            continue
        if Codes(layer.output_clip.lower, layer.output_clip.upper).bits <= 8:
            continue
        reached = ranges.layers[layer.name].floored
        clip = _narrow(layer.output_clip, int(reached.lower.min()), int(reached.upper.max()))
        last = draft.producer(layer.output)
        if clip is None or last is None or last.op_type != "Clip" or layer.residual is not None:
            continue
        draft.change(last, inputs=(last.inputs[0], *_bounds(draft, layer.output, clip)), attributes={})
        changed.append(layer.name)
    return changed


def matmul_to_gemm(draft: Draft) -> list[str]:
    """Make one Gemm of a MatMul on 2-D input and the Add of its bias; returns the nodes."""
    changed = []
    for node in list(draft.nodes):
        if node.op_type != "MatMul" or len(draft.shape(node.inputs[0])) != 2 or node.inputs[1] not in draft.constants:
            continue
        addition = draft.only_reader(node.outputs[0])
        if addition is None or addition.op_type != "Add":
            continue
        bias = next((name for name in addition.inputs if name in draft.constants), None)
        outputs = draft.shape(node.outputs[0])[1]
        if bias is None or draft.constants[bias].shape not in ((outputs,), (1, outputs)):
            continue
        merged = Node("Gemm", node.name, (*node.inputs, bias), addition.outputs, {})
        draft.nodes[draft.index(addition)] = merged
        draft.nodes.remove(node)
        changed.append(node.name or node.outputs[0])
    return changed


def _run_of(draft: Draft, view: View, output: str) -> list[Node]:
    """The saturations that end in a tensor, each the only reader of the one before."""
    run: list[Node] = []
    tensor = output
    while (node := draft.producer(tensor)) is not None and read_clip(view, node) is not None:
        if run and draft.only_reader(tensor) is not run[0]:
            break
        run.insert(0, node)
        tensor = _variable(node, draft.constants)
    return run


def _merged(view: View, run: list[Node]) -> Clip | None:
    clip: Clip | None = None
    for node in run:
        bounds = read_clip(view, node)
        if bounds is None or any(np.isfinite(bound) and bound != np.floor(bound) for bound in bounds):
            return None
        lower, upper = (int(np.clip(bound, -_WIDE, _WIDE)) for bound in bounds)
        clip = merge_clips(clip, Clip(lower, upper))
    return clip if clip is not None and clip.lower > -_WIDE and clip.upper < _WIDE else None


def _narrow(clip: Clip, lower: int, upper: int) -> Clip | None:
    """The 8-bit saturation that does the same as `clip` on [lower, upper]; None where there is none."""
    return next((narrow for narrow in (Clip(-128, 127), Clip(0, 255)) if clips_alike(clip, narrow, lower, upper)), None)


def _bounds(draft: Draft, output: str, clip: Clip) -> tuple[str, str]:
    lower = draft.constant(f"{output}/npusim_min", np.array(clip.lower, np.float32))
    return lower, draft.constant(f"{output}/npusim_max", np.array(clip.upper, np.float32))


def _variable(node: Node, constants: Mapping[str, Array]) -> str:
    return next(name for name in node.inputs if name and name not in constants)


def clips_alike(one: Clip, two: Clip, lower: int, upper: int) -> bool:
    """Whether two saturations agree on [lower, upper]: each end is the same, or is not reached."""
    return (one.lower == two.lower or lower >= max(one.lower, two.lower)) and (
        one.upper == two.upper or upper <= min(one.upper, two.upper)
    )
