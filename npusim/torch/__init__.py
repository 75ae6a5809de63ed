"""Quantization of PyTorch networks for the NPU: wrap, train or calibrate, convert, export.

>>> import npusim.torch  # doctest: +SKIP
>>> model = npusim.torch.QATModule(network, samples, weight_bits=4)  # doctest: +SKIP
>>> # ... train as usual ...
>>> model.freeze().convert().export("network_4bit.onnx")  # doctest: +SKIP

`QATModule` trains with the NPU's arithmetic; `PTQModule` only looks at samples. Both take Conv1d, Conv2d (depthwise too),
ConvTranspose1d and 2d, Linear, BatchNorm (as the first layer it becomes the input stage), ReLU, ReLU6, MaxPool, AvgPool,
AdaptiveAvgPool, Flatten, Dropout, Identity, additions and concatenations. PyTorch is needed: ``pip install '.[torch]'``.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("torch") is None:
    raise ImportError("npusim.torch needs PyTorch, which is not installed; run: pip install '.[torch]'")

from npusim.torch.integers import IntegerModel
from npusim.torch.ptq import PTQModule
from npusim.torch.qat import QATModule

__all__ = ["IntegerModel", "PTQModule", "QATModule"]
