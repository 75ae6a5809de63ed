"""Reading ONNX files: the only module that knows protobuf and the onnx package.

`read_graph` turns a file or bytes into a :class:`~npusim.graph.Graph`; `infer_node` asks the ONNX schema of one operator what
its outputs look like; `expose_tensors` makes the copy of a model whose every tensor is an output, for the second opinion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from npusim.errors import ModelError, NpusimError, UnsupportedError
from npusim.graph.branches import take_constant_branches
from npusim.graph.foreign import FOREIGN_DOMAIN, FOREIGN_OPERATORS, foreign_types
from npusim.graph.graph import (
    Array,
    Attribute,
    Dimension,
    Graph,
    ModelMetadata,
    Node,
    TensorType,
    bind_dangling_input,
    sort_topologically,
)
from npusim.graph.model_file import ModelFile, guess_format
from npusim.graph.operators import evaluate_node
from npusim.kernels.quantization import NARROW_BITS

__all__ = ["expose_tensors", "extract", "infer_node", "parse_model", "read_graph"]

MAXIMUM_INFERENCE_CONSTANT = 4096
"""Constants up to this many elements are shown to ONNX's shape inference (shapes, axes, pads); weights are not needed there."""

_UNKNOWN_ATTRIBUTE = re.compile(r"Unrecognized attribute: (.*) for operator ")

MAXIMUM_NODES = 2**14
"""Most nodes of a graph, after its local functions are expanded: networks for a microcontroller have some hundred."""

MAXIMUM_SPARSE_ELEMENTS = 2**24
"""Most elements of a sparse tensor, which takes as much memory as a plain one."""

_LIBRARY_ERRORS = (
    onnx.defs.SchemaError,
    onnx.shape_inference.InferenceError,
    onnx.checker.ValidationError,
    ValueError,
    TypeError,
    RuntimeError,
)


def read_graph(model: ModelFile) -> Graph:
    """Parse a model into a graph; constants are not folded and types are only the declared ones.

    Raises
    ------
    ModelError
        If the bytes are not a valid ONNX model: not ONNX at all, truncated, a cycle, a tensor that
        nothing produces or two nodes produce.
    UnsupportedError
        If the model is valid but uses what npusim does not know: another operator domain, sparse tensors, subgraphs, element
        types without a NumPy counterpart.
    """
    proto = parse_model(model)
    graph = proto.graph
    constants = {tensor.name: _array(tensor, f"initializer '{tensor.name}'", model) for tensor in graph.initializer}
    declared = (*graph.value_info, *graph.output, *graph.input)
    types = {info.name: _with_open_sizes(_tensor_type(info)) for info in declared if _is_tensor(info)}
    inputs = tuple(info.name for info in graph.input if info.name not in constants)
    for name in inputs:
        if name not in types:
            raise UnsupportedError(f"input '{name}' of {model.label} is not a tensor; npusim simulates tensors only")
    nodes, lost = bind_dangling_input([_node(node, model) for node in graph.node], inputs, set(constants))
    outputs = tuple(info.name for info in graph.output)
    if not outputs:
        raise ModelError(f"{model.label} declares no output, so there is nothing to compute; export the model again")
    opset = _opset(proto, model)
    for node in nodes:
        _check_inputs(node, opset, model)
    ordered = sort_topologically(nodes, {*inputs, *constants}, outputs)
    return Graph(
        *(opset, inputs, outputs, ordered, constants, types),
        bound_input=lost,
        metadata=_metadata(proto),
        producer_version=proto.producer_version,
    )


def infer_node(
    node: Node, types: Mapping[str, TensorType], constants: Mapping[str, Array], opset: int
) -> tuple[TensorType | None, ...]:
    """Ask the operator's ONNX schema for the types of a node's outputs.

    Parameters
    ----------
    node
        The node; its inputs must be in `types`.
    types
        Types of at least the node's inputs.
    constants
        Known values; small ones (shapes, axes, pads) are used.
    opset
        Version of the default operator set.

    Returns
    -------
    tuple of TensorType or None
        One for each output; None where the schema cannot tell.

    Raises
    ------
    ModelError
        If the inputs contradict the operator (shapes that do not fit, missing inputs or attributes).
    """
    if node.domain:
        return foreign_types(node, types, lambda plain, known: infer_node(plain, known, constants, opset))
    present = {name for name in node.inputs if name}
    if not present <= types.keys():
        return (None,) * len(node.outputs)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        inferred = onnx.shape_inference.infer_node_outputs(
            schema,
            _node_proto(node),
            {name: _type_proto(types[name]) for name in present},
            {
                name: numpy_helper.from_array(constants[name], name)
                for name in present
                if name in constants and constants[name].size <= MAXIMUM_INFERENCE_CONSTANT
            },
            opset_imports=[helper.make_opsetid("", opset)],
        )
    except _LIBRARY_ERRORS as error:
        raise ModelError(f"{node} {_misfit(error, opset)}; export the model again") from None
    return tuple(_from_type_proto(inferred[name]) if name in inferred else None for name in node.outputs)


def expose_tensors(model: ModelFile, names: Iterable[str]) -> bytes:
    """A copy of a model that has these tensors as additional outputs, so that a runtime hands them over."""
    proto = parse_model(model)
    declared = {info.name for info in proto.graph.output}
    for name in names:
        if name not in declared:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    return bytes(proto.SerializeToString())


def extract(model: ModelFile, inputs: Mapping[str, TensorType], outputs: Iterable[str]) -> ModelFile:
    """The part of a model that computes some tensors from others, as a model of its own.

    Parameters
    ----------
    model
        The whole model.
    inputs
        Tensors to start from and their types; those that the outputs do not depend on are left out.
    outputs
        Tensors to end with.

    Raises
    ------
    ModelError
        If the outputs depend on inputs of the model that are not among `inputs`.
    """
    proto = parse_model(model)
    graph = proto.graph
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    initial = {tensor.name for tensor in graph.initializer}
    names = list(outputs)
    kept, reached, waiting = set(), set(), list(names)
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        if name not in inputs and name in producers:
            kept.add(producers[name])
            waiting.extend(item for item in graph.node[producers[name]].input if item)
        elif name not in inputs and name not in initial:
            raise ModelError(f"tensor '{name}' of {model.label} is needed for '{names[0]}', but is not an input of the part")
    part = onnx.GraphProto(name=graph.name)
    part.node.extend(node for index, node in enumerate(graph.node) if index in kept)
    part.initializer.extend(tensor for tensor in graph.initializer if tensor.name in reached - set(inputs))
    part.input.extend(_value_info(name, kind) for name, kind in inputs.items() if name in reached)
    part.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    proto.graph.CopyFrom(part)
    return ModelFile(model.path, bytes(proto.SerializeToString()))


def parse_model(model: ModelFile) -> onnx.ModelProto:
    """The file's protobuf, checked to be a model, with functions expanded and constant branches taken."""
    if not model.content:
        raise ModelError(f"{model.label} is empty, wanted an ONNX model")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(model.content)
    except (DecodeError, RuntimeError, ValueError):
        raise ModelError(f"{model.label} is not an ONNX model{guess_format(model.content)}") from None
    if not proto.HasField("graph") or not proto.opset_import:
        raise ModelError(f"{model.label} is not a complete ONNX model{guess_format(model.content)}")
    if proto.functions:
        proto = _inline_functions(proto, model)
    take_constant_branches(proto, lambda node, values: _evaluated(node, values, proto, model))
    if len(proto.graph.node) > MAXIMUM_NODES:
        raise UnsupportedError(
            f"{model.label} has {len(proto.graph.node)} nodes, more than the {MAXIMUM_NODES} that npusim accepts; "
            "networks for a microcontroller are far smaller, so check that this is the right file"
        )
    _fill_sparse(proto, model)
    return proto


def _fill_sparse(proto: onnx.ModelProto, model: ModelFile) -> None:
    """Write sparse initializers out as plain ones, which say the same."""
    for sparse in proto.graph.sparse_initializer:
        name = sparse.values.name
        where = f"sparse initializer '{name}'"
        shape, size = tuple(sparse.dims), math.prod(sparse.dims)
        if min(shape, default=0) < 0 or size > MAXIMUM_SPARSE_ELEMENTS:
            raise UnsupportedError(
                f"{where} in {model.label} has shape {shape}, wanted at most {MAXIMUM_SPARSE_ELEMENTS} elements; check it"
            )
        values, indices = _array(sparse.values, where, model), _array(sparse.indices, f"the indices of {where}", model)
        filled = np.zeros(size, values.dtype)
        try:
            if values.ndim != 1 or indices.dtype != np.int64 or indices.ndim not in (1, 2) or len(indices) != len(values):
                raise ValueError(f"values {values.shape} do not fit indices {indices.shape}")
            places = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
            if places.size and not 0 <= int(places.min()) <= int(places.max()) < size:
                raise ValueError(f"an index lies outside of shape {shape}")
        except ValueError as error:
            raise ModelError(f"{where} in {model.label} is damaged: {error}; export the model again") from None
        filled[places] = values
        proto.graph.initializer.append(numpy_helper.from_array(filled.reshape(shape), name))
    del proto.graph.sparse_initializer[:]


def _check_growth(proto: onnx.ModelProto, model: ModelFile) -> None:
    """Refuse functions that become more than any network when they are expanded: each level can double what is below."""
    bodies = {(body.domain, body.name): body.node for body in proto.functions}
    sizes: dict[tuple[str, str], int] = {}

    def called(nodes: Iterable[onnx.NodeProto]) -> list[tuple[str, str]]:
        return [(node.domain, node.op_type) for node in nodes if (node.domain, node.op_type) in bodies]

    try:
        for key in TopologicalSorter({key: called(nodes) for key, nodes in bodies.items()}).static_order():
            inner = called(bodies[key])
            sizes[key] = len(bodies[key]) - len(inner) + sum(sizes[name] for name in inner)
    except CycleError:
        raise ModelError(f"a local function of {model.label} calls itself; export the model again") from None
    calls = called(proto.graph.node)
    expanded = len(proto.graph.node) - len(calls) + sum(sizes[name] for name in calls)
    if expanded > MAXIMUM_NODES:
        raise UnsupportedError(
            f"the local functions of {model.label} expand to {expanded} nodes, more than the {MAXIMUM_NODES} that npusim "
            "accepts; networks for a microcontroller are far smaller, so check the model"
        )


def _inline_functions(proto: onnx.ModelProto, model: ModelFile) -> onnx.ModelProto:
    import onnx.inliner

    _check_growth(proto, model)
    try:
        return onnx.inliner.inline_local_functions(proto)
    except Exception as error:  # noqa: BLE001 - a C++ library that raises several kinds
        raise ModelError(f"the local functions of {model.label} cannot be expanded: {_first_sentence(error)}") from None


def _metadata(proto: onnx.ModelProto) -> ModelMetadata:
    return ModelMetadata(
        proto.producer_name,
        proto.graph.name,
        proto.domain,
        proto.doc_string,
        proto.graph.doc_string,
        proto.model_version,
        {entry.key: entry.value for entry in proto.metadata_props},
    )


def _opset(proto: onnx.ModelProto, model: ModelFile) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        raise ModelError(f"{model.label} imports no version of the ONNX operator set, so its operators have no defined meaning")
    latest = onnx.defs.onnx_opset_version()
    if not 1 <= versions[0] <= latest:
        raise UnsupportedError(
            f"{model.label} uses opset {versions[0]}, the installed onnx package knows 1 to {latest}; upgrade onnx or re-export"
        )
    return int(versions[0])


def _node(proto: onnx.NodeProto, model: ModelFile) -> Node:
    bare = Node(proto.op_type, proto.name, tuple(proto.input), tuple(proto.output))
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    if domain and not (domain == FOREIGN_DOMAIN and bare.op_type in FOREIGN_OPERATORS):
        raise UnsupportedError(
            f"{bare} in {model.label} is an operator of domain '{domain}'; npusim knows the standard ONNX operators and the "
            f"quantized ones of {FOREIGN_DOMAIN} ({', '.join(sorted(FOREIGN_OPERATORS))}); export the model with these"
        )
    attributes = {entry.name: _attribute(entry, bare, model) for entry in proto.attribute}
    return Node(bare.op_type, bare.name, bare.inputs, bare.outputs, attributes, domain)


def _evaluated(
    node: onnx.NodeProto, values: Mapping[str, Array], proto: onnx.ModelProto, model: ModelFile
) -> tuple[Array, ...] | None:
    """What a node gives for known inputs; None where it cannot be computed."""
    try:
        return evaluate_node(_node(node, model), values, _opset(proto, model))
    except NpusimError:
        return None


def _check_inputs(node: Node, opset: int, model: ModelFile) -> None:
    """Refuse a node with fewer or more inputs and outputs than its operator has; other rooms rely on their places."""
    # protobuf gives a name that is not UTF-8 as bytes
    if node.domain or not isinstance(node.op_type, str) or not onnx.defs.has(node.op_type, opset, ""):
        return
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    for what, names, least, most in (
        ("inputs", node.inputs, schema.min_input, schema.max_input),
        ("outputs", node.outputs, schema.min_output, schema.max_output),
    ):
        if not least <= len(names) <= most or not all(names[:least]):
            wanted = str(least) if least == most else f"{least} to {most}" if most < 2**31 - 1 else f"at least {least}"
            seen = sum(map(bool, names))
            raise ModelError(
                f"{node} in {model.label} has {seen} {what}, wanted {wanted} in opset {opset}; export the model again"
            )


def _attribute(proto: onnx.AttributeProto, node: Node, model: ModelFile) -> Attribute:
    kinds = onnx.AttributeProto
    match proto.type:
        case kinds.INT:
            return int(proto.i)
        case kinds.FLOAT:
            return float(proto.f)
        case kinds.STRING:
            return proto.s.decode("utf-8", "replace")
        case kinds.TENSOR:
            return _array(proto.t, f"attribute '{proto.name}' of {node}", model)
        case kinds.INTS:
            return tuple(int(item) for item in proto.ints)
        case kinds.FLOATS:
            return tuple(float(item) for item in proto.floats)
        case kinds.STRINGS:
            return tuple(item.decode("utf-8", "replace") for item in proto.strings)
    raise UnsupportedError(
        f"{node} in {model.label} has the attribute '{proto.name}' of a kind npusim does not simulate "
        "(subgraph, sparse tensor or type); export the model without control flow"
    )


def _node_proto(node: Node) -> onnx.NodeProto:
    proto = onnx.NodeProto(op_type=node.op_type, name=node.name, input=node.inputs, output=node.outputs)
    for name, value in node.attributes.items():
        shown = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        proto.attribute.append(helper.make_attribute(name, shown))
    return proto


def _array(tensor: onnx.TensorProto, where: str, model: ModelFile) -> Array:
    if tensor.data_type == onnx.TensorProto.STRING:
        raise UnsupportedError(f"{where} in {model.label} holds strings; npusim simulates numbers only")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelError(f"{where} in {model.label} is in an external file; open the model by its path")
    try:
        array = numpy_helper.to_array(tensor)
    except Exception as error:  # noqa: BLE001 - the library raises several kinds for damaged tensors
        raise ModelError(f"{where} in {model.label} is damaged: {_first_sentence(error)}; export the model again") from None
    if array.dtype.kind not in "fiub" and array.dtype.name not in NARROW_BITS:
        raise UnsupportedError(f"{where} in {model.label} has element type {array.dtype}, which npusim does not simulate")
    frozen = np.ascontiguousarray(array).reshape(array.shape)
    frozen.setflags(write=False)
    return frozen


def _is_tensor(info: onnx.ValueInfoProto) -> bool:
    return info.type.WhichOneof("value") == "tensor_type" and info.type.tensor_type.elem_type != 0


def _tensor_type(info: onnx.ValueInfoProto) -> TensorType:
    found = _from_type_proto(info.type)
    if found is None:
        raise UnsupportedError(f"tensor '{info.name}' has an element type that npusim does not simulate (strings ...)")
    return found


def _from_type_proto(proto: onnx.TypeProto) -> TensorType | None:
    tensor = proto.tensor_type
    if proto.WhichOneof("value") != "tensor_type" or tensor.elem_type in (0, onnx.TensorProto.STRING):
        return None
    try:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        raise ModelError(f"a tensor has the element type number {tensor.elem_type}, which ONNX does not define") from None
    if not tensor.HasField("shape"):
        return TensorType(dtype, None)
    return TensorType(dtype, tuple(_dimension(dim) for dim in tensor.shape.dim))


def _with_open_sizes(declared: TensorType) -> TensorType:
    """A declared type; some exporters write -1 for an open size, which ONNX Runtime reads so as well."""
    if declared.shape is None:
        return declared
    return replace(declared, shape=tuple(None if isinstance(size, int) and size < 0 else size for size in declared.shape))


def _dimension(dim: onnx.TensorShapeProto.Dimension) -> Dimension:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return dim.dim_param if dim.HasField("dim_param") and dim.dim_param else None


def _value_info(name: str, kind: TensorType) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=name, type=_type_proto(kind))


def _type_proto(tensor: TensorType) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(tensor.dtype), tensor.shape)


def _first_sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].removesuffix(".") if lines else type(error).__name__


def _misfit(error: BaseException, opset: int) -> str:
    """What the checks of the onnx package say of a node, as the rest of a sentence that begins with it."""
    sentence = _first_sentence(error).removeprefix("[ShapeInferenceError] ").removeprefix("[TypeInferenceError] ")
    unknown = _UNKNOWN_ATTRIBUTE.match(sentence)
    if unknown is not None:
        return f"has an attribute '{unknown.group(1)}', which this operator does not have in opset {opset}"
    return f"does not fit its inputs: {sentence}"
