"""Wrapped networks: what they compute in torch is what the exported graph computes, bit for bit, within the NPU's widths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import npusim
from npusim.engine.second_opinion import make_runtime_session
from npusim.program import Accumulating, Clip, LayerKind, Weighted
from support import HAS_TORCH

if HAS_TORCH:
    import torch
    from torch import nn

    from npusim.torch import IntegerModel, PTQModule, QATModule
    from npusim.torch.network import WidthPlan
    from support.torch_networks import NETWORKS, prepared

pytestmark = pytest.mark.needs_torch

NAMES = ("everything", "calls", "shared_averages", "pre_activation", "dense", "image")
WIDTHS = ((8, 8), (4, 8), (2, 8), (4, 4), (8, 4))
MOVES = {"Concat", "Flatten", "Mul"}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def codes_of(model: QATModule, x: torch.Tensor) -> torch.Tensor:
    """The codes of the last step of the fake-quantized network."""
    with torch.no_grad():
        values = model.quantized.codes(x)[model.quantized.steps[-1].label].values
    return values.reshape(len(x), *model.quantized.output_shape)


def train_some(model: QATModule, x: torch.Tensor, steps: int, rate: float = 1e-2) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    with torch.no_grad():
        target = 0.5 * model.eval()(x)
    model.train()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(x) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def in_onnxruntime(model: IntegerModel, x: torch.Tensor) -> np.ndarray:
    session = make_runtime_session(model.onnx, "the export", optimized=False)
    name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape
    return np.concatenate([session.run(None, {name: sample.reshape(shape)})[0] for sample in x.numpy()])


def test_the_names_are_those_of_the_networks() -> None:
    assert set(NAMES) == set(NETWORKS)


@pytest.mark.slow
@pytest.mark.parametrize(("weight_bits", "activation_bits"), WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_trained_codes_are_those_of_the_integer_model(name: str, weight_bits: int, activation_bits: int) -> None:
    network, x = prepared(name)
    model = QATModule(
        network, x, weight_bits=weight_bits, activation_bits=activation_bits, observer_steps=2, batch_norm_steps=4
    )
    train_some(model, x, 6, rate=1e-3)
    model.eval()
    integer = model.convert(output="int")
    given = integer(x)
    assert torch.equal(codes_of(model, x), given)
    assert np.array_equal(in_onnxruntime(integer, x).reshape(given.shape), given.numpy())
    assert len(given.unique()) > 3, "the network gives hardly anything"
    with torch.no_grad():
        assert torch.equal(model(x), model.convert()(x))


@pytest.mark.slow
@pytest.mark.parametrize(("weight_bits", "activation_bits"), WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_every_layer_is_one_of_the_npu_and_within_its_widths(name: str, weight_bits: int, activation_bits: int) -> None:
    network, x = prepared(name)
    model = QATModule(network, x, weight_bits=weight_bits, activation_bits=activation_bits, observer_steps=0)
    train_some(model, x, 3)
    program = model.convert(output="int").session.program
    assert {operation.operator for operation in program.host_operations} <= {"Concat", "Flatten"}
    assert len(program.quantize_stages) == 1
    assert LayerKind.ADD not in {layer.kind for layer in program.layers}
    wide = weight_bits == 8
    for layer in program.layers:
        if isinstance(layer, Weighted):
            assert np.abs(layer.weights).max() <= 2 ** (weight_bits - 1) - 1
        if not isinstance(layer, Accumulating):
            continue
        numbers = layer.requantization
        assert np.abs(numbers.bias).max() < 2 ** (23 if wide else 15)
        assert numbers.scale.min() >= 1
        assert numbers.scale.max() <= (1 if wide else 255)
        assert numbers.shift.min() >= 0
        assert numbers.shift.max() <= 31
        bounds = (layer.output_clip.lower, layer.output_clip.upper)
        assert bounds in {(-128, 127), (0, 255), (-8, 7), (0, 15)}
        assert layer.residual is None or numbers.clip == Clip(-512, 511)


def test_all_layer_types_come_out() -> None:
    kinds = set()
    for name in NAMES:
        network, x = prepared(name)
        kinds |= {layer.kind for layer in QATModule(network, x).convert().session.program.layers}
    wanted = {kind for kind in LayerKind if kind.is_of_npu}
    assert kinds == wanted


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_eight_bits_are_near_the_float_network(name: str) -> None:
    network, x = prepared(name)
    with torch.no_grad():
        wanted = network(x)
        for model in (QATModule(network, x).eval(), PTQModule(network, x).calibrate(x)):
            error = model.convert()(x) - wanted
            assert 10 * torch.log10(wanted.square().sum() / error.square().sum()) > 25


@pytest.mark.parametrize("name", NAMES)
def test_the_float_form_is_the_wrapped_network(name: str) -> None:
    network, x = prepared(name)
    with torch.no_grad():
        assert torch.allclose(QATModule(network, x).quantized.exact(x), network(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_post_training_quantization_exports_the_same_network(name: str) -> None:
    network, x = prepared(name)
    model = PTQModule(network, x[:1], weight_bits=4)
    with torch.no_grad():
        assert torch.equal(model(x), network(x))
    integer = model.convert(output="int")
    given = integer(x)
    assert np.array_equal(in_onnxruntime(integer, x).reshape(given.shape), given.numpy())
    assert {operation.operator for operation in integer.session.program.host_operations} <= {"Concat", "Flatten"}


@pytest.mark.slow
def test_training_lowers_the_loss_and_moves_scales_and_weights() -> None:
    network, x = prepared("everything")
    model = QATModule(network, x, weight_bits=2, observer_steps=5, batch_norm_steps=20)
    before = {name: value.clone() for name, value in model.named_parameters()}
    losses = train_some(model, x, 40)
    assert losses[-1] < 0.5 * losses[0]
    still = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    unused = [name for name in still if not name.endswith("exponent")]
    assert unused == []


@pytest.mark.slow
def test_frozen_scales_and_batch_norms_stay() -> None:
    network, x = prepared("everything")
    model = QATModule(network, x, weight_bits=4)
    train_some(model, x, 3)
    model.freeze()
    frozen = {
        name: value.clone()
        for name, value in model.state_dict().items()
        if isinstance(value, torch.Tensor) and ("exponent" in name or "running" in name)
    }
    train_some(model, x, 5)
    assert frozen
    assert all(torch.equal(model.state_dict()[name], value) for name, value in frozen.items())


@pytest.mark.slow
def test_frozen_training_forward_is_the_integer_model() -> None:
    network, x = prepared("everything")
    model = QATModule(network, x, weight_bits=4)
    train_some(model, x, 3)
    model.freeze().train()
    with torch.no_grad():
        assert torch.equal(model(x), model.convert()(x))


def test_batch_norms_that_are_not_frozen_follow_the_batches() -> None:
    network, x = prepared("everything")
    model = QATModule(network, x).train()
    before = model.quantized.steps[0].batch_norm.running_mean.clone()
    model(x + 5)
    after = model.quantized.steps[0].batch_norm.running_mean
    assert torch.allclose(after, before + 0.1 * ((x + 5).mean((0, 2, 3)) - before))
    model.freeze_batch_norm()
    fixed = after.clone()
    model(x)
    assert torch.equal(model.quantized.steps[0].batch_norm.running_mean, fixed)


def test_float_network_is_left_alone() -> None:
    network, x = prepared("dense")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    train_some(QATModule(network, x), x, 3)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_state_is_restored(tmp_path: Path) -> None:
    network, x = prepared("calls")
    model = QATModule(network, x, weight_bits=4)
    train_some(model, x, 3)
    model.freeze().eval()
    torch.save(model.state_dict(), tmp_path / "state.pt")
    other = QATModule(network, x + 1, weight_bits=4)
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert not other.quantized.steps[-1].weight_exponent.requires_grad
    assert torch.equal(other.train()(x), model.train()(x))
    assert other.convert().onnx == model.convert().onnx


def test_layers_can_have_widths_of_their_own() -> None:
    network, x = prepared("dense")
    model = QATModule(network, x, weight_bits=2, layer_bits={"5": 8})
    layers = model.convert(output="int").session.program.layers
    assert [layer.weight_bits for layer in layers] == [2, 8]


def test_export_writes_what_runs(tmp_path: Path) -> None:
    network, x = prepared("calls")
    integer = QATModule(network, x).convert()
    integer.export(tmp_path / "out.onnx")
    session = npusim.InferenceSession(tmp_path / "out.onnx")
    assert session.get_inputs()[0].shape == [1, 2, 40, 1]
    (y,) = session.run(None, {"input": x[..., None].numpy()})
    assert np.array_equal(y, integer(x).numpy())
    with pytest.raises(npusim.UsageError, match="exists"):
        integer.export(tmp_path / "out.onnx")
    integer.export(tmp_path / "out.onnx", force=True)
    with pytest.raises(npusim.UsageError, match="wanted \\(2, 40\\)"):
        integer(x[:, :1])


def test_a_channel_of_zeros_and_a_dead_gain_are_taken() -> None:
    network, x = prepared("everything")
    x[:, 0] = 0
    with torch.no_grad():
        network.first.weight[1] = 0
        network.norm.weight[2] = 0
        network.depthwise.weight[3] = 0
        network.generic.bias[0] = 300.0
    model = QATModule(network, x, weight_bits=4).eval()
    assert torch.equal(codes_of(model, x), model.convert(output="int")(x))


BAD_SAMPLES = {
    "NaN": lambda x: x * float("nan"),
    "all zeros": lambda x: x * 0,
    "shape": lambda x: x[:, :3],
    "float tensors": lambda x: x.int(),
    "at least one sample": lambda x: x[:0],
    "at least one batch": lambda x: [],
}


@pytest.mark.parametrize("message", BAD_SAMPLES)
def test_bad_samples_are_refused(message: str) -> None:
    network, x = prepared("dense")
    for model in (QATModule(network, x), PTQModule(network, x)):
        with pytest.raises(npusim.InputError, match=message):
            model.calibrate(BAD_SAMPLES[message](x))


def test_names_of_exported_nodes_are_those_of_modules() -> None:
    network = torch.nn.Module()
    network.features = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3)), torch.nn.Conv1d(2, 2, 3))
    network.block = torch.nn.Module()  # not called itself, so that no name has it
    network.block.conv = torch.nn.Conv1d(2, 2, 3)
    network.head = torch.nn.Linear(2, 2)
    names = ("/features/features.0/features.0.0/Conv", "/features/features.1/Conv", "/conv/Conv", "/head/Gemm")
    plan = WidthPlan(4, 8, dict(zip(names, (8, 2, 4, 8), strict=True)))
    plan.check_names(network)
    assert plan.layer_bits == {"features.0.0": 8, "features.1": 2, "block.conv": 4, "head": 8}
    with pytest.raises(npusim.UsageError, match="no such module"):
        WidthPlan(4, 8, {"/tail/Gemm": 8}).check_names(network)


def test_bad_options_are_refused() -> None:
    network, x = prepared("dense")
    with pytest.raises(npusim.UsageError, match="weight_bits is 3"):
        QATModule(network, x, weight_bits=3)
    with pytest.raises(npusim.UsageError, match="activation_bits is 2"):
        QATModule(network, x, activation_bits=2)
    with pytest.raises(npusim.UsageError, match="no such module"):
        QATModule(network, x, layer_bits={"9": 8})
    with pytest.raises(npusim.UsageError, match="output is 'uint8'"):
        QATModule(network, x).convert(output="uint8")
    with pytest.raises(npusim.InputError, match="no samples were seen"):
        PTQModule(network, x).convert()


def test_parameters_that_are_not_finite_are_refused() -> None:
    network, x = prepared("dense")
    model = QATModule(network, x)
    with torch.no_grad():
        model.quantized.steps[-1].module.bias[0] = float("nan")
    with pytest.raises(npusim.UnsupportedError, match="not finite"):
        model.convert()


def unsupported() -> dict[str, nn.Module]:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.conv(x))

    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(x)

    return {
        "'1' \\(Sigmoid\\)": nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sigmoid()),
        "'0' \\(GRU\\)": nn.Sequential(nn.GRU(1, 4)),
        "does not divide": nn.Sequential(nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d((3, 1))),
        "ceil_mode": nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d((3, 1), ceil_mode=True)),
        "pads with 'reflect'": nn.Sequential(nn.Conv2d(4, 4, (3, 1), padding=(1, 0), padding_mode="reflect")),
        "pads unevenly": nn.Sequential(nn.Conv2d(4, 4, (4, 1), padding="same")),
        "count_include_pad": nn.Sequential(nn.AvgPool2d((3, 1), padding=(1, 0), count_include_pad=False)),
        "no running statistics": nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
        "flatten its input": nn.Sequential(nn.Linear(1, 2)),
        "cannot be traced": Branching(),
        "is called twice": Twice(),
        "adds a constant": Constant(),
        "one output": Two(),
        "'sigmoid'": Product(),
        "stands alone": nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64)),
    }


@pytest.mark.parametrize("wrapper", ["QATModule", "PTQModule"])
def test_what_cannot_be_quantized_is_named(wrapper: str) -> None:
    for message, network in unsupported().items():
        with pytest.raises(npusim.UnsupportedError, match=message):
            getattr(npusim.torch, wrapper)(network, torch.ones(2, 4, 16, 1))
