"""Which tensors must keep the sign of their zeros: 1 / -0 is minus infinity, and codes have one zero only."""

from __future__ import annotations

from npusim.graph import Graph
from npusim.graph.traits import Trait, is_a, traits_of

__all__ = ["signs_that_matter"]


def signs_that_matter(graph: Graph) -> frozenset[str]:
    """The tensors on whose zeros' signs a value of the graph may depend.

    Sums of products end the search: the sign of a zero sum depends on the order of adding.

    Parameters
    ----------
    graph
        A folded graph.
    """
    found: set[str] = set()
    for node in reversed(graph.nodes):
        variable = {place: name for place, name in enumerate(node.inputs) if name and name not in graph.constants}
        if not found.isdisjoint(node.outputs) and not is_a(node.op_type, Trait.WEIGHTED, Trait.AVERAGES):
            found.update(variable.values())
        found.update(name for place, name in variable.items() if place in traits_of(node.op_type).observes_zero_sign)
    return frozenset(found)
