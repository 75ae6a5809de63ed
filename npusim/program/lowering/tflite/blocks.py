"""Dilated convolutions as TensorFlow writes them: SPACE_TO_BATCH_ND, a convolution, BATCH_TO_SPACE_ND."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from npusim.errors import UnsupportedError
from npusim.graph import Graph, Node, TensorType

__all__ = ["fold_blocks"]

_BETWEEN: Final = frozenset(("EXPAND_DIMS", "RESHAPE", "SQUEEZE"))
_CONVOLUTIONS: Final = frozenset(("CONV_2D", "DEPTHWISE_CONV_2D"))


def fold_blocks(graph: Graph, *, static_shapes: bool) -> Graph:
    """Put one dilated convolution in the place of every such group of nodes.

    SPACE_TO_BATCH_ND cuts the data into as many interleaved parts as the block has cells, the convolution works on each, and
    BATCH_TO_SPACE_ND puts them together: the same as a convolution whose kernel is spread by the block. Its padding is that of
    SPACE_TO_BATCH_ND less the crops.

    Parameters
    ----------
    graph
        As read.
    static_shapes
        The runtime takes the file's shapes as they are, so they have to be right.

    Raises
    ------
    UnsupportedError
        For a SPACE_TO_BATCH_ND or BATCH_TO_SPACE_ND that is used in another way, or with wrong static shapes.
    """
    nodes, readers = list(graph.nodes), graph.consumers()
    types, quantization = dict(graph.types), dict(graph.quantization)
    while (start := next((node for node in nodes if node.op_type == "SPACE_TO_BATCH_ND"), None)) is not None:
        group = _group(graph, start, readers)
        first = nodes.index(start)
        kept = [node for node in nodes if node not in group]
        if static_shapes:
            _check_shapes(graph, group)
        replacement = _replacement(graph, group)
        for made, like in ((replacement[0].outputs[0], start.inputs[0]), (replacement[-1].inputs[0], group[-1].outputs[0])):
            if made not in types:
                batch, *rest = types[like].static_shape
                types[made] = TensorType(types[like].dtype, (batch, 1, *rest))
                quantization[made] = quantization[like]
        kept[first:first] = replacement
        nodes = kept
    lonely = next((node for node in nodes if node.op_type == "BATCH_TO_SPACE_ND"), None)
    if lonely is not None:
        raise UnsupportedError(f"{lonely} stands alone; npusim reads it behind SPACE_TO_BATCH_ND and a convolution only")
    return replace(graph, nodes=tuple(nodes), types=types, quantization=quantization)


def _check_shapes(graph: Graph, group: list[Node]) -> None:
    """The blocks of a sample are samples of their own between both nodes; a file with a dynamic batch does not say so."""
    start, end = group[0], group[-1]
    parts = int(_numbers(graph, start, 1).prod())
    samples, seen = graph.types[start.inputs[0]].static_shape[0], graph.types[start.outputs[0]].static_shape
    if seen[0] != samples * parts or graph.types[end.inputs[0]].static_shape[0] != samples * parts:
        raise UnsupportedError(
            f"tensor '{start.outputs[0]}' has the static shape {seen} in the file, but the first axis comes out as "
            f"{samples * parts}: "
            "the model was exported with a dynamic batch. TFLM takes the file's shapes and computes garbage; export it with "
            "batch 1, or "
            "choose the arithmetic litert_ref, litert or xnnpack"
        )
    if _numbers(graph, start, 2).any():
        raise UnsupportedError(
            f"{start} pads its data; TFLM's kernel pads with a value that does not follow from the model instead of the zero "
            "point, so "
            "its result is not known: choose the arithmetic litert_ref, litert or xnnpack"
        )


def _group(graph: Graph, start: Node, readers: dict[str, list[Node]]) -> list[Node]:
    group = [start]
    while group[-1].op_type != "BATCH_TO_SPACE_ND":
        behind = readers.get(group[-1].outputs[0], [])
        seen = sum(node.op_type in _CONVOLUTIONS for node in group)
        allowed = _BETWEEN | {"BATCH_TO_SPACE_ND"} | (_CONVOLUTIONS if not seen else frozenset())
        if len(behind) != 1 or behind[0].op_type not in allowed or group[-1].outputs[0] in graph.outputs:
            raise UnsupportedError(
                f"{start} is read by {behind[0] if behind else 'nothing'}; npusim reads it before a convolution and "
                "BATCH_TO_SPACE_ND only"
            )
        group.append(behind[0])
    if not any(node.op_type in _CONVOLUTIONS for node in group):
        raise UnsupportedError(f"{start} has no convolution before its BATCH_TO_SPACE_ND, which npusim does not read")
    return group


def _replacement(graph: Graph, group: list[Node]) -> list[Node]:
    """The dilated convolution, with a reshape before and behind it where the data has fewer axes."""
    start, end = group[0], group[-1]
    convolution = next(node for node in group if node.op_type in _CONVOLUTIONS)
    block, padding = _numbers(graph, start, 1), _numbers(graph, start, 2).reshape(-1, 2)
    again, crops = _numbers(graph, end, 1), _numbers(graph, end, 2).reshape(-1, 2)
    plain = convolution.text("padding", "SAME") == "VALID" and (
        convolution.integer("stride_h", 1),
        convolution.integer("stride_w", 1),
        convolution.integer("dilation_h", 1),
        convolution.integer("dilation_w", 1),
    ) == (1, 1, 1, 1)
    if block.tolist() != again.tolist() or not plain or block.size not in (1, 2) or len(padding) != block.size:
        raise UnsupportedError(
            f"{start} and {end} do not make a dilated convolution of {convolution}, which npusim does not read"
        )
    pads = padding - crops
    if pads.min() < 0:
        raise UnsupportedError(f"{end} crops more than {start} pads, which npusim does not read")
    if block.size == 1:
        # data of one dimension: the convolution works on [N, 1, width, C]
        block, pads = np.array([1, block[0]]), np.array([[0, 0], pads[0]])
    attributes = {
        **convolution.attributes,
        "dilation_h": int(block[0]),
        "dilation_w": int(block[1]),
        "pads": (int(pads[0, 0]), int(pads[1, 0]), int(pads[0, 1]), int(pads[1, 1])),
    }
    source, result = start.inputs[0], end.outputs[0]
    flat = len(graph.types[source].static_shape) == 3
    before, behind = (f"{result}:entering", f"{result}:leaving") if flat else (source, result)
    middle = Node(convolution.op_type, "", (before, *convolution.inputs[1:]), (behind,), attributes)
    if not flat:
        return [middle]
    batch, _, channels = graph.types[source].static_shape
    return [
        Node("RESHAPE", "", (source,), (before,), {"new_shape": (batch, 1, -1, channels)}),
        middle,
        Node("SQUEEZE", "", (behind,), (result,), {"squeeze_dims": (1,)}),
    ]


def _numbers(graph: Graph, node: Node, position: int) -> np.ndarray:
    name = node.inputs[position]
    if name not in graph.constants:
        raise UnsupportedError(f"{node} has a computed block or padding '{name}', which npusim does not read")
    return graph.constants[name].astype(np.int64).reshape(-1) if position == 1 else graph.constants[name].astype(np.int64)
