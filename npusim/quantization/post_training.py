"""``quantize``: from a float model and calibration samples to a model for the NPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.errors import UsageError
from npusim.floats.forward import forward
from npusim.floats.network import WEIGHTED, FloatKind, FloatNetwork
from npusim.floats.reader import read_float_network
from npusim.graph import Array, Graph
from npusim.graph.model_file import open_model
from npusim.graph.onnx_reader import read_graph
from npusim.program.lowering.tinpu.emitter import emit, emit_two_axes
from npusim.quantization.affine import quantize_affine
from npusim.quantization.calibration import calibration_samples
from npusim.quantization.check import check_layers, check_same_layers, check_tensors
from npusim.quantization.match import quantize_match
from npusim.quantization.model import MIXED, Options, QuantizedModel
from npusim.quantization.prepare import prepare
from npusim.quantization.quantizer import Quantizer
from npusim.quantization.refine import refine

__all__ = ["prepare_network", "quantize", "quantize_network", "with_two_spatial_axes"]


def quantize(
    model: str | os.PathLike[str] | bytes | Graph,
    calibration: Array | Mapping[str, Array],
    weight_bits: int | str = 8,
    activation_bits: int = 8,
    *,
    float_output: bool = False,
    to: str = "tinpu",
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize a float network after training.

    Parameters
    ----------
    model
        Path of a float ``.onnx`` file, its content as bytes, or a graph.
    calibration
        Samples, [N, ...], of a model with one input, or arrays by input name. Some hundred that look like what the device will
        see; they decide scales, clips and rounding.
    weight_bits
        8, 4 or 2; ``"mixed"`` for the fewest of them that each output channel bears, with ``to="match"``.
    activation_bits
        8 or 4: codes between layers. Inputs and outputs of the model have 8 bits.
    float_output
        Give real values, by a last multiplication, instead of codes.
    to
        ``"tinpu"``, a graph for the NPU; ``"tflite"``, a full-integer TensorFlow Lite model; ``"match"``, a file of the PLiNIO
        and MATCH family, whose inputs are codes.
    progress
        Called with the number of layers done and of all.

    Returns
    -------
    QuantizedModel
        The ONNX file, the integers in it, and a report for each layer.

    Raises
    ------
    ModelError, UnsupportedError
        If the model cannot be read or quantized.
    InputError
        If the calibration samples do not fit: wrong shape, too few, NaN, all zeros.
    UsageError
        If a width is not one that the NPU has.

    Examples
    --------
    >>> quantized = quantize("float.onnx", np.load("windows.npy"), weight_bits=4)  # doctest: +SKIP
    >>> quantized.save("w4.onnx")  # doctest: +SKIP
    """
    mixed = weight_bits == MIXED
    bits = 8 if mixed else weight_bits
    if not isinstance(bits, int):
        raise UsageError(f"weight_bits is '{bits}', wanted 8, 4, 2 or '{MIXED}'")
    options = Options(bits, activation_bits, float_output, to, mixed)
    graph = model if isinstance(model, Graph) else read_graph(open_model(model))
    return quantize_network(read_float_network(graph, from_floats=to != "tflite"), calibration, options, progress)


def quantize_network(
    network: FloatNetwork,
    calibration: Array | Mapping[str, Array],
    options: Options,
    progress: Progress | None = None,
) -> QuantizedModel:
    """Quantize a float network that has been read; see :func:`quantize`."""
    samples = calibration_samples(network, calibration)
    if options.to == "tflite":
        return quantize_affine(network, samples, forward(network, samples), options, progress)
    if options.to == "match":
        return quantize_match(network, samples, options, progress)
    prepared, positive = prepare_network(network, samples)
    quantizer = Quantizer(prepared, forward(prepared, samples), options, positive)
    quantizer.walk(progress)
    if options.refine:
        refine(quantizer)
    draft = quantizer.program()
    content = emit(draft, quantizer.code_scales())
    session = InferenceSession(content)
    check_layers(draft, session)
    check_tensors(session, samples, {quantizer.tensor_name(name): codes for name, codes in quantizer.codes.items()})
    scales = {
        name: 1.0 if options.float_output or name not in quantizer.scales else float(quantizer.scales[name].reshape(-1)[0])
        for name in network.outputs
    }
    warnings = (*network.warnings, *quantizer.warnings)
    widths = {layer.name: options.bits_of(layer.name) for layer in network.layers if layer.kind in WEIGHTED}
    return QuantizedModel(content, session.program, tuple(quantizer.reports), scales, warnings, layer_bits=widths)


def with_two_spatial_axes(found: QuantizedModel) -> QuantizedModel:
    """A model of one spatial axis, [1, C, L], as the NPU's layers take it, [1, C, L, 1]; any other one as it is.

    Parameters
    ----------
    found
        A model for the NPU.

    Returns
    -------
    QuantizedModel
        With the same integers, names and reports. Inputs and outputs have the axis, too.
    """
    content = emit_two_axes(found.content) if found.to == "tinpu" else None
    if content is None:
        return found
    program = InferenceSession(content).program
    check_same_layers(found.program, program)
    return replace(found, content=content, program=program)


def prepare_network(network: FloatNetwork, samples: Mapping[str, Array]) -> tuple[FloatNetwork, frozenset[str]]:
    """The network whose layers are those of the NPU, and tensors computed by the host that are never negative."""
    positive = _positive(network, samples)
    return prepare(network, positive), positive


def _positive(network: FloatNetwork, samples: Mapping[str, Array]) -> frozenset[str]:
    """Tensors computed by the host that are never negative on the samples."""
    hosted = [layer.output for layer in network.layers if layer.kind is FloatKind.HOST]
    if not hosted:
        return frozenset()
    tensors = forward(network, samples)
    return frozenset(name for name in hosted if float(tensors[name].min()) >= 0)
