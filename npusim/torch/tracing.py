"""From an ``nn.Module`` to a list of operations, by symbolic tracing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from npusim.errors import NpusimError, UnsupportedError
from npusim.torch.supported import (
    ADAPTIVE_POOLS,
    AVERAGE_POOLS,
    BATCH_NORMS,
    CONVOLUTIONS,
    MAX_POOLS,
    PASSED,
    SUPPORTED,
    check_example,
    check_modules,
    refusal,
)
from npusim.torch.traced import Geometry, Operation, OperationKind, convolution_geometry, fitted_pool, pool_geometry, single

__all__ = ["trace_network"]

RESHAPES: Final = ("flatten", "view", "reshape", "squeeze")
PASSED_CALLS: Final = ("contiguous", "clone", "float", "dropout")
_POOL_CALLS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "max_pool1d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
        "max_pool2d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
        "avg_pool1d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
        "avg_pool2d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
        "adaptive_avg_pool1d": ("output_size",),
        "adaptive_avg_pool2d": ("output_size",),
    }
)
"""Pools called as functions, with the names of their arguments behind the data."""


def trace_network(network: nn.Module, example: torch.Tensor) -> list[Operation]:
    """List the operations of a network in execution order; the last one gives its output.

    Parameters
    ----------
    network
        With one input and one output.
    example
        Samples that it accepts, on the first axis.

    Raises
    ------
    UnsupportedError
        If the network has an operation that cannot be quantized, or cannot be traced; the message names the module.
    InputError
        If the network does not take the example.
    """
    training = network.training
    network.eval()
    try:
        traced = fx.symbolic_trace(network)
        check_modules(traced)
        check_example(network, example)
    except NpusimError:
        raise
    except Exception as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnsupportedError(
            f"the network '{type(network).__name__}' cannot be traced by torch.fx ({message}); write its forward without "
            "conditions and loops that depend on the data"
        ) from error
    finally:
        network.train(training)
    with torch.no_grad():
        ShapeProp(traced).propagate(example)
    return _Reader(traced).read()


class _Reader:
    """Turns the nodes of a traced graph into operations."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self._traced = traced
        self._modules = dict(traced.named_modules())
        self._operations: list[Operation] = []
        self._names: dict[fx.Node, str] = {}

    def read(self) -> list[Operation]:
        for node in self._traced.graph.nodes:
            if node.op == "output":
                return self._with_output(node)
            self._read_node(node)
        raise UnsupportedError("the network has no output")

    def _with_output(self, node: fx.Node) -> list[Operation]:
        result = node.args[0]
        if not isinstance(result, fx.Node) or result not in self._names:
            raise UnsupportedError("the network returns something else than one tensor, wanted one output; return only that")
        wanted = self._names[result]
        position = [operation.name for operation in self._operations].index(wanted)
        return self._operations[: position + 1]

    def _read_node(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            if self._operations:
                raise UnsupportedError(f"the network has a second input '{node.target}', wanted one; quantize a part of it")
            self._add(node, OperationKind.INPUT, [])
        elif node.op == "call_module":
            self._read_module(node, self._modules[node.target])
        elif node.op in ("call_function", "call_method"):
            self._read_call(node, node.target if isinstance(node.target, str) else node.target.__name__)
        # what get_attr gives is refused where it is read

    def _read_module(self, node: fx.Node, module: nn.Module) -> None:
        source = self._sources(node, node.args[:1])
        if isinstance(module, PASSED):
            self._names[node] = source[0]
        elif isinstance(module, CONVOLUTIONS):
            geometry = convolution_geometry(module, isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d))
            self._add(node, OperationKind.CONVOLUTION, source, module=module, geometry=geometry)
        elif isinstance(module, nn.Linear):
            if len(_shape(node)) != 1:
                raise refusal(node, module, "is applied to more than one axis; flatten its input")
            self._add(node, OperationKind.LINEAR, source, module=module)
        elif isinstance(module, BATCH_NORMS):
            if module.running_mean is None:
                raise refusal(node, module, "keeps no running statistics; use track_running_stats=True")
            self._add(node, OperationKind.BATCH_NORM, source, module=module)
        elif isinstance(module, nn.ReLU | nn.ReLU6):
            self._add(node, OperationKind.RELU, source, ceiling=6.0 if isinstance(module, nn.ReLU6) else None)
        elif isinstance(module, nn.Flatten):
            self._flatten(node, source)
        elif isinstance(module, MAX_POOLS + AVERAGE_POOLS + ADAPTIVE_POOLS):
            self._pool(node, source, type(module).__name__, vars(module))
        else:
            raise refusal(node, module, f"cannot be quantized; supported are {SUPPORTED}")

    def _read_call(self, node: fx.Node, name: str) -> None:
        if name in ("add", "iadd", "add_"):
            self._addition(node)
        elif name in ("cat", "concat", "concatenate"):
            self._concatenation(node)
        elif name in ("relu", "relu_", "relu6"):
            self._add(node, OperationKind.RELU, self._sources(node, node.args[:1]), ceiling=6.0 if name == "relu6" else None)
        elif name in PASSED_CALLS:
            self._names[node] = self._sources(node, node.args[:1])[0]
        elif name in RESHAPES:
            self._flatten(node, self._sources(node, node.args[:1]))
        elif name == "mean":
            self._mean(node)
        elif name.removeprefix("_").removesuffix("_with_indices") in _POOL_CALLS or name == "boolean_dispatch":
            self._pool_call(node, name)
        elif name not in ("size", "getattr", "getitem", "mul", "floordiv"):
            # arithmetic on sizes is met in x.view(x.size(0), -1); shapes come from the example
            raise UnsupportedError(f"the call '{name}' ({node.name}) cannot be quantized; supported are {SUPPORTED}")

    def _addition(self, node: fx.Node) -> None:
        if len(node.args) != 2 or node.kwargs.get("alpha", 1) != 1:
            raise UnsupportedError(f"the addition '{node.name}' has a factor, wanted the plain sum of two tensors")
        if not all(isinstance(argument, fx.Node) and "tensor_meta" in argument.meta for argument in node.args):
            if "tensor_meta" not in node.meta:
                return  # of sizes
            raise UnsupportedError(f"the addition '{node.name}' adds a constant, wanted the sum of two tensors of the network")
        first, second = self._sources(node, node.args)
        if _shape(node.args[0]) != _shape(node.args[1]):
            raise UnsupportedError(f"the addition '{node.name}' adds tensors of different shapes, wanted equal ones")
        self._add(node, OperationKind.ADD, [first, second])

    def _concatenation(self, node: fx.Node) -> None:
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
        if axis not in (1, -len(_shape(node))):
            raise UnsupportedError(f"the concatenation '{node.name}' runs along axis {axis}, wanted the channels (axis 1)")
        self._add(node, OperationKind.CONCAT, self._sources(node, node.args[0] if node.args else node.kwargs["tensors"]))

    def _flatten(self, node: fx.Node, source: list[str]) -> None:
        before, after = _shape(node.args[0]), _shape(node)
        if before == after:
            self._names[node] = source[0]
        elif after == (math.prod(before),):
            self._add(node, OperationKind.FLATTEN, source)
        else:
            raise UnsupportedError(
                f"'{node.name}' reshapes {before} to {after} for each sample, wanted one axis; use nn.Flatten"
            )

    def _mean(self, node: fx.Node) -> None:
        before, after = _shape(node.args[0]), _shape(node)
        axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        axes = {axis % (len(before) + 1) for axis in ([axes] if isinstance(axes, int) else axes or ())}
        if axes != set(range(2, len(before) + 1)):
            raise UnsupportedError(f"'{node.name}' averages over the axes {sorted(axes)}, wanted all axes behind the channels")
        ones = (1,) * (len(before) - 1)
        geometry = pool_geometry(before[1:], ones)
        self._add(
            node, OperationKind.AVERAGE_POOL, self._sources(node, node.args[:1]), shape=(before[0], *ones), geometry=geometry
        )
        if after == before[:1]:
            self._add(node, OperationKind.FLATTEN, [self._names[node]], name=f"{node.name}.flatten")

    def _pool_call(self, node: fx.Node, name: str) -> None:
        if name == "boolean_dispatch":  # how torch hides max_pool behind return_indices
            name = f"max_pool{len(_shape(node)) - 1}d"
        name = name.removeprefix("_").removesuffix("_with_indices")
        given = dict(zip(_POOL_CALLS[name], node.args[1:], strict=False)) | dict(node.kwargs)
        defaults: dict[str, Any] = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False, "count_include_pad": True}
        self._pool(node, self._sources(node, node.args[:1] or [node.kwargs["input"]]), name, defaults | given)

    def _pool(self, node: fx.Node, source: list[str], name: str, settings: Mapping[str, Any]) -> None:
        label = f"the pool '{node.target if node.op == 'call_module' else node.name}'"
        before = _shape(node.args[0])[1:]
        if settings.get("return_indices"):
            raise UnsupportedError(f"{label} also returns positions, wanted its maxima only")
        if settings.get("ceil_mode"):
            raise UnsupportedError(
                f"{label} has ceil_mode=True, wanted False: the NPU has no windows that end outside of the data"
            )
        lowered = name.lower().replace("_", "")
        if lowered.startswith("adaptive"):
            geometry = fitted_pool(before, _shape(node)[1:], label)
        else:
            kernel = single(settings["kernel_size"], len(before))
            strides = single(settings["stride"] if settings["stride"] is not None else kernel, len(before))
            pads = single(settings["padding"], len(before))
            geometry = pool_geometry(kernel, strides, pads, single(settings.get("dilation", 1), len(before)))
        if lowered.startswith("max"):
            self._add(node, OperationKind.MAX_POOL, source, geometry=geometry)
            return
        if (any(geometry.pads) and not settings.get("count_include_pad", True)) or settings.get("divisor_override"):
            raise UnsupportedError(f"{label} has a divisor that varies or is not its area; use count_include_pad=True")
        self._add(node, OperationKind.AVERAGE_POOL, source, geometry=geometry)

    def _sources(self, node: fx.Node, arguments: Sequence[fx.Node]) -> list[str]:
        names = [self._names.get(argument) for argument in arguments] if arguments else [None]
        if any(name is None for name in names):
            raise UnsupportedError(
                f"'{node.name}' reads something that is not a tensor of the network, wanted layers' results only"
            )
        return [name for name in names if name is not None]

    def _add(
        self,
        node: fx.Node,
        kind: OperationKind,
        inputs: list[str],
        *,
        name: str | None = None,
        shape: tuple[int, ...] | None = None,
        module: nn.Module | None = None,
        geometry: Geometry | None = None,
        ceiling: float | None = None,
    ) -> None:
        chosen = name or (str(node.target) if node.op == "call_module" else node.name)
        taken = {operation.name for operation in self._operations}
        unique = next(text for text in (chosen, *(f"{chosen}.{count}" for count in range(1, 10_000))) if text not in taken)
        if module is not None and any(operation.module is module for operation in self._operations):
            raise refusal(node, module, "is called twice; make a module of its own for each call")
        sizes = _shape(node) if shape is None else shape
        self._operations.append(Operation(unique, kind, tuple(inputs), sizes, module, geometry, ceiling))
        self._names[node] = unique


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Shape of a sample of a node's result."""
    meta = node.meta.get("tensor_meta")
    if meta is None or not hasattr(meta, "shape"):
        raise UnsupportedError(f"'{node.name}' gives something else than one tensor, which cannot be quantized")
    return tuple(int(size) for size in meta.shape[1:])
