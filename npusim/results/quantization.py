"""``npusim.quantize``: from a float model and calibration samples to a model in integers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from npusim.bounds.certificate import certify
from npusim.bounds.report import RULES, findings_of
from npusim.comparison.outputs import read_labels
from npusim.engine.runner import Progress
from npusim.engine.session import InferenceSession
from npusim.engine.simulation import input_specs
from npusim.errors import UsageError
from npusim.files.datasets import read_inputs
from npusim.files.writing import replacing
from npusim.findings import Finding
from npusim.floats.network import FloatKind
from npusim.floats.reader import read_float_network
from npusim.graph import Array
from npusim.graph.model_file import ModelFile
from npusim.graph.onnx_reader import read_graph
from npusim.program import Program
from npusim.quantization import QuantizedModel
from npusim.quantization import quantize as quantize_model
from npusim.quantization.bit_choice import BitLimits, BitPoint, choose_bits
from npusim.quantization.model import ACTIVATION_BITS, AUTO, MIXED, WEIGHT_BITS, LayerReport, Options, check_ending
from npusim.quantization.post_training import with_two_spatial_axes
from npusim.results.base import CommandResult, Model, ModelIdentity, file_of, identity_of
from npusim.results.quantized_choices import QuantizedChoice, check_choices_ending, choices_plot, pareto_front
from npusim.results.samples import Announce, Inputs, silent
from npusim.rules import lint_model, rulebook
from npusim.rules.cost import step_cost
from npusim.rules.cycles import estimate_cycles, estimated_device
from npusim.schemas.derivation import Choice, Count, Finite, Rules
from npusim.schemas.objects import UNLISTED

__all__ = ["QuantizeResult", "QuantizeTotals", "QuantizedLayer", "quantize"]

_OWN_RULES: Final = ("kept_in_float", "bias_saturated", "coarse_input", "silent_channels")

_Ends = tuple[Annotated[float, Finite()], Annotated[float, Finite()]]


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """A layer of the quantized model, in execution order.

    Attributes
    ----------
    name
        Name of the layer, that of its node in the float model where it has one.
    tensor
        Its output in the quantized model.
    kind
        What it does.
    weight_bits
        Null without weights.
    weight_scale
        Smallest and largest real value of one step of the weights over the output channels; null without weights.
    output_scale
        Smallest and largest real value of one code over the channels; null for float results.
    sqnr
        Signal to quantization noise on the calibration samples, in dB.
    channel_bits
        Output channels by the bits of their weights, of which `weight_bits` is the largest; empty without weights.
    """

    name: str
    tensor: str
    kind: Annotated[str, Choice(tuple(kind.upper() for kind in FloatKind))]
    weight_bits: Annotated[int, Choice(WEIGHT_BITS)] | None
    weight_scale: _Ends | None
    output_scale: _Ends | None
    sqnr: Annotated[float, Finite()] | Literal["inf"]
    channel_bits: Mapping[str, Count]

    @classmethod
    def of(cls, layer: LayerReport) -> QuantizedLayer:
        """What quantization reports of a layer."""
        return cls(
            layer.name,
            layer.tensor,
            layer.kind.upper(),
            layer.weight_bits,
            layer.weight_scale,
            layer.output_scale,
            layer.sqnr,
            {str(bits): count for bits, count in layer.channel_bits.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeTotals:
    """Counts.

    Attributes
    ----------
    layers
        Layers, nodes kept in float included.
    host_operations
        Nodes kept in float.
    bytes
        Size of the quantized model.
    parameter_bytes
        What weights, biases, scales and shifts take on the device.
    warnings
        Findings of this severity.
    """

    layers: Count
    host_operations: Count
    bytes: Count
    parameter_bytes: Count
    warnings: Count


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class QuantizeResult(CommandResult):
    """A model that was quantized.

    Attributes
    ----------
    ok
        True: the model was made.
    layers
        In execution order.
    findings
        What quantization has to say, then what is not proven of the result.
    totals
        Counts.
    quantized
        The file that was written.
    weight_bits
        Of weights, the largest where they differ by channel.
    activation_bits
        Of codes between layers.
    output
        Whether the model gives codes or real values.
    output_scales
        Real value of one code of each output; 1 where the model gives real values.
    input_alpha
        Low and high end of the quantizer in front of each input of a MATCH file, which the file does not hold: codes are
        ``floor(255 / (high - low + 0.001) * clamp(x, low, high))``. Empty for other formats.
    layer_bits
        Width of the weights of each layer of the float model, as ``QATModule(layer_bits=...)`` takes it; the largest where
        channels differ.
    choices
        With ``weight_bits="auto"`` all choices that were measured, the smallest first.
    quantization
        The model file, the integers in it, and a report for each layer.
    """

    json_names: ClassVar[tuple[str, ...]] = (
        *("npusim", "model", "ok", "layers", "findings", "totals", "quantized", "weight_bits", "activation_bits"),
        *("output", "output_scales", "input_alpha", "layer_bits", "choices"),
    )

    ok: Literal[True] = field(default=True, init=False)
    layers: tuple[QuantizedLayer, ...]
    findings: Annotated[tuple[Finding, ...], Rules((*RULES, *_OWN_RULES))]
    totals: QuantizeTotals
    quantized: ModelIdentity
    weight_bits: Annotated[int, Choice(WEIGHT_BITS)]
    activation_bits: Annotated[int, Choice(ACTIVATION_BITS)]
    output: Literal["int", "float"]
    output_scales: Mapping[str, Annotated[float, Finite()]]
    input_alpha: Mapping[str, _Ends]
    layer_bits: Mapping[str, Annotated[int, Choice(WEIGHT_BITS)]]
    choices: tuple[QuantizedChoice, ...]
    quantization: QuantizedModel = field(metadata=UNLISTED)

    @property
    def content(self) -> bytes:
        """The model file."""
        return self.quantization.content

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model file, whole or not at all; a TensorFlow Lite model also as C source, where the file's name ends so.

        Raises
        ------
        UsageError
            If the file exists and is not to be overwritten.
        """
        self.quantization.save(path, overwrite=overwrite)

    def choices_table(self) -> pd.DataFrame:
        """The choices of widths that were measured, a row for each, the smallest first."""
        rows = []
        for choice in self.choices:
            widths = {f"bits of {name}": bits for name, bits in choice.layer_bits.items()}
            plain = {name: getattr(choice, name) for name in ("bytes", "sqnr", "accuracy", "predicted", "refined", "chosen")}
            rows.append({**plain, "pareto": choice in pareto_front(self.choices), **widths})
        return pd.DataFrame(rows)

    def save_choices(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the choices of widths as a table, .csv, or as a plot of SQNR against bytes, .svg.

        Raises
        ------
        UsageError
            If the file exists and is not to be overwritten, has another ending, or there are no choices.
        """
        target = Path(path)
        if not self.choices:
            raise UsageError(f"there are no choices to write: quantize with weight_bits='{AUTO}'")
        check_choices_ending(target)
        if target.exists() and not overwrite:
            raise UsageError(f"{target}: exists already; name another file, or allow it to be overwritten")
        text = self.choices_table().to_csv(index=False) if target.suffix == ".csv" else choices_plot(self.choices)
        with replacing(target, overwrite=overwrite) as stream:
            stream.write(text.encode())

    def summary(self) -> str:
        """Layers, size, and the layer that loses most."""
        worst = min(self.quantization.layers, key=lambda layer: layer.sqnr, default=None)
        least = "" if worst is None else f"; lowest SQNR {worst.sqnr:.1f} dB at '{worst.name}'"
        totals = self.totals
        return f"{totals.layers} layers, {totals.bytes:,} bytes, {totals.warnings} warnings{least}"


def quantize(
    model: Model,
    calibration: Inputs,
    weight_bits: int | str = 8,
    activation_bits: int = 8,
    *,
    float_output: bool = False,
    to: str = "tinpu",
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    announce: Announce = silent,
    max_bytes: int | None = None,
    max_cycles: int | None = None,
    min_sqnr: float | None = None,
    min_accuracy: float | None = None,
    labels: str | os.PathLike[str] | npt.NDArray[Any] | None = None,
    all_choices: bool = False,
) -> QuantizeResult:
    """Quantize a float network after training.

    Parameters
    ----------
    model
        A session of a float model, the path of its ``.onnx`` file, or its content.
    calibration
        Samples, as a file, as arrays by input name, or as the array of a model with one input, [N, ...]. Some hundred that look
        like what the device will see; they decide scales, clips and rounding.
    weight_bits
        8, 4 or 2; ``"auto"`` for one of them for each layer, under limits; ``"mixed"`` for the fewest of them that each output
        channel bears, with ``to="match"``.
    activation_bits
        8 or 4: codes between layers. Inputs and outputs of the model have 8 bits.
    float_output
        Give real values, by a last multiplication, instead of codes. A TensorFlow Lite model takes real values then, too.
    to
        ``"tinpu"``: ONNX for TI's NPU. ``"tflite"``: a TensorFlow Lite model in 8-bit integers, channels last. ``"match"``: a
        file of the PLiNIO and MATCH family, which takes codes; ``result.input_alpha`` says how they are made.
    output
        Write the quantized model to this file; ``result.save(path)`` does it later.
    overwrite
        Let `output` replace a file.
    progress
        Called with the number of layers done and of all.
    announce
        Called with a sentence about what was done to the samples of a file.
    max_bytes
        With ``"auto"``: the most that parameters may take on the device, as lint counts them. What loses least is chosen.
    max_cycles
        With ``"auto"``: the most that lint may estimate. Its estimate does not depend on widths.
    min_sqnr, min_accuracy
        With ``"auto"``: what the first output has to reach on the calibration samples, in dB, and as a share (0 to 1) of
        right classes, without labels of the float model's. Without `max_bytes` the smallest choice that does is taken.
    labels
        Classes of the calibration samples.
    all_choices
        With ``"auto"``: measure the best choice for every size, for ``result.choices``.

    Returns
    -------
    QuantizeResult
        Its ``content`` is the model file.

    Raises
    ------
    ModelError, UnsupportedError
        If the model cannot be read or quantized.
    InputError
        If the calibration samples do not fit: wrong shape, too few, NaN, all zeros.
    UsageError
        If the format does not have a width, the file exists, its ending is that of another format, or no choice of widths keeps
        the limits.

    Examples
    --------
    >>> result = npusim.quantize("float.onnx", np.load("windows.npy"), weight_bits=4)  # doctest: +SKIP
    >>> result.save("w4.onnx")  # doctest: +SKIP
    >>> npusim.quantize("float.onnx", np.load("windows.npy"), to="tflite", output="model.h")  # doctest: +SKIP
    """
    target = None if output is None else Path(output)
    if target is not None and target.exists() and not overwrite:
        raise UsageError(f"{target}: exists already; name another file, or allow it to be overwritten")
    if target is not None:
        check_ending(target, to)
    source = file_of(model)
    samples: Mapping[str, Array] | Array
    if isinstance(calibration, (str, os.PathLike)):
        session = InferenceSession(source.content if source.path is None else source.path, check_finite=False)
        samples = read_inputs(calibration, input_specs(session), announce)
    elif isinstance(calibration, Mapping):
        samples = {name: np.asarray(values) for name, values in calibration.items()}
    else:
        samples = np.asarray(calibration)
    choices: tuple[QuantizedChoice, ...] = ()
    if weight_bits == AUTO:
        if to != "tinpu":
            raise UsageError(f"bits of single layers are chosen for TI's NPU, not for {to}: leave 'to' at \"tinpu\"")
        limits = BitLimits(max_bytes=max_bytes, min_sqnr=min_sqnr, min_accuracy=min_accuracy)
        options = Options(8, activation_bits, float_output, to)
        network = read_float_network(read_graph(source))
        classes = _labels(labels, samples)
        choice = choose_bits(
            network, samples, options, limits, _parameter_bytes, labels=classes, front=all_choices, progress=progress
        )
        found = with_two_spatial_axes(choice.model)
        choices = tuple(_choice(point, chosen=point is choice.point) for point in choice.points)
        if max_cycles is not None:
            _check_cycles(found.content, max_cycles)
    else:
        if any(limit is not None for limit in (max_bytes, max_cycles, min_sqnr, min_accuracy, labels)) or all_choices:
            raise UsageError(f"limits are for widths that are chosen: leave them out, or set the bits of weights to '{AUTO}'")
        found = with_two_spatial_axes(
            quantize_model(
                source.content, samples, weight_bits, activation_bits, float_output=float_output, to=to, progress=progress
            )
        )
    if target is not None:
        found.save(target, overwrite=overwrite)
    own = (Finding(item.rule, item.severity, item.layer, item.message, item.remedy) for item in found.warnings)
    findings = (*own, *findings_of(certify(found.program)))
    layer_bits = dict(found.layer_bits) or {layer.name: layer.weight_bits for layer in found.layers if layer.weight_bits}
    return QuantizeResult(
        model=identity_of(source),
        layers=tuple(QuantizedLayer.of(layer) for layer in found.layers),
        findings=findings,
        totals=QuantizeTotals(
            layers=len(found.layers),
            host_operations=sum(layer.kind == FloatKind.HOST for layer in found.layers),
            bytes=len(found.content),
            parameter_bytes=sum(_parameter_bytes(found.program).values()),
            warnings=sum(finding.severity == "warning" for finding in findings),
        ),
        quantized=_identity(found, target),
        weight_bits=8
        if weight_bits == MIXED
        else max(layer_bits.values(), default=8)
        if weight_bits == AUTO
        else int(weight_bits),
        activation_bits=activation_bits,
        output="float" if float_output else "int",
        output_scales=dict(found.output_scales),
        input_alpha=dict(found.input_alpha),
        layer_bits=layer_bits,
        choices=choices,
        quantization=found,
    )


def _labels(labels: str | os.PathLike[str] | npt.NDArray[Any] | None, samples: Mapping[str, Array] | Array) -> Array | None:
    """Labels of so many samples, from a file too."""
    if labels is None or not isinstance(labels, (str, os.PathLike)):
        return None if labels is None else np.asarray(labels)
    return read_labels(labels, len(next(iter(samples.values())) if isinstance(samples, Mapping) else samples))


def _parameter_bytes(program: Program) -> dict[str, int]:
    """What the parameters of each step take on the device, by the tensor that it gives."""
    return {step.tensors[-1]: step_cost(step, program).parameter_bytes for step in program.steps}


def _choice(point: BitPoint, *, chosen: bool) -> QuantizedChoice:
    return QuantizedChoice(
        point.bytes, point.sqnr, point.accuracy, point.predicted, point.refined, chosen, dict(point.layer_bits)
    )


def _check_cycles(content: bytes, most: int) -> None:
    """Refuse a model that lint estimates to be slower.

    Raises
    ------
    UsageError
        If there is no estimate, or it is above.
    """
    estimate = estimate_cycles(lint_model(ModelFile(None, content), rulebook(estimated_device())))
    if estimate.cycles is None:
        raise UsageError(f"cycles cannot be limited, since lint has no estimate of them: {estimate.reason}")
    if estimate.cycles > most:
        raise UsageError(
            f"lint estimates {estimate.cycles:,} cycles at any widths, wanted at most {most:,}: make the network smaller"
        )


def _identity(found: QuantizedModel, target: Path | None) -> ModelIdentity:
    """The file that was written; without one, the model."""
    file = ModelFile(None, found.content) if target is None else ModelFile(os.fspath(target), found.file(target))
    return replace(identity_of(file), format=found.program.format, arithmetic=found.program.arithmetic)
