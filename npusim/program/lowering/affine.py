"""The affine form: what a quantized layer says, whatever format it was written in and whatever arithmetic computes it.

A code q of a tensor stands for the real number ``scale * (q - zero_point)``. A front end (QDQ, QOperator, TensorFlow Lite)
reads each layer of its format into one of the classes here; an arithmetic makes an integer layer of it. Nothing here rounds.

===================  ==============================================================================================
class                layer
===================  ==============================================================================================
WeightedForm         convolution, transposed convolution, product with a constant matrix; with a bias
MatrixProductForm    product of two tensors
SumForm              sum of two tensors, one of which may be constant
ProductForm          product of two tensors, element by element
AverageForm          mean over windows, or over all spatial positions
MaximumForm          maximum over windows
FunctionForm         a function of one number: Sigmoid, LeakyRelu, Relu by itself, another scale
SoftmaxForm          softmax
ConcatenationForm    tensors side by side, each with its own scale
===================  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from npusim.kernels.qlinear import Affine
from npusim.program.layers import Window
from npusim.program.requantization import Clip, IntegerArray

__all__ = [
    "NO_ACTIVATION",
    "Activation",
    "AffineForm",
    "AffineLayer",
    "AffineTensor",
    "AverageForm",
    "ConcatenationForm",
    "Float32Array",
    "FunctionForm",
    "MatrixProductForm",
    "MaximumForm",
    "ProductForm",
    "RealFunction",
    "SoftmaxForm",
    "SumForm",
    "WeightedForm",
]

Float32Array: TypeAlias = npt.NDArray[np.float32]
RealFunction: TypeAlias = Callable[[Float32Array], Float32Array]


@dataclass(frozen=True, slots=True, eq=False)
class AffineTensor:
    """Codes and what they stand for.

    Attributes
    ----------
    name
        Of the tensor that holds the codes.
    shape
        For one sample, batch axis included.
    scale
        float32 ``[1]``, or one for each index of `axis`.
    zero_point
        int64 in the shape of `scale`.
    lower, upper
        Smallest and largest code of its element type, both included.
    axis
        Axis of the scales of a constant; None where there is one scale.
    codes
        int64 codes of a constant, as they stand in the file; None for what is computed.
    """

    name: str
    shape: tuple[int, ...]
    scale: Float32Array
    zero_point: IntegerArray
    lower: int
    upper: int
    axis: int | None = None
    codes: IntegerArray | None = None

    @property
    def affine(self) -> Affine:
        """Scale, zero point and range of a tensor with one scale.

        Raises
        ------
        ValueError
            If there are more.
        """
        if self.scale.size != 1 or self.zero_point.size != 1:
            raise ValueError(f"tensor '{self.name}' has {self.scale.size} scales, wanted one")
        return Affine(float(self.scale[0]), int(self.zero_point[0]), self.lower, self.upper)

    @property
    def centred_range(self) -> Clip:
        """Smallest and largest code less the zero point."""
        zero_point = self.affine.zero_point
        return Clip(self.lower - zero_point, self.upper - zero_point)

    @property
    def centred(self) -> IntegerArray:
        """The codes of a constant less their zero point, int64."""
        if self.codes is None:
            raise ValueError(f"tensor '{self.name}' is not constant")
        if self.axis is None or self.zero_point.size == 1:
            return np.asarray(self.codes - self.zero_point.reshape(()))
        return np.asarray(self.codes - self.zero_point.reshape(-1, *(1,) * (self.codes.ndim - self.axis - 1)))

    def with_codes_of(self, other: AffineTensor) -> bool:
        """True where the codes of both stand for the same numbers."""
        return (
            np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
            and (self.lower, self.upper) == (other.lower, other.upper)
        )

    def renamed(self, name: str, shape: tuple[int, ...]) -> AffineTensor:
        """What the same numbers moved to other places are."""
        return replace(self, name=name, shape=shape, codes=None)


@dataclass(frozen=True, slots=True)
class Activation:
    """Real numbers that results are limited to before they become codes: Relu is [0, inf), Relu6 is [0, 6]."""

    lower: float = -np.inf
    upper: float = np.inf

    def clip(self, result: AffineTensor) -> Clip:
        """The range of codes less the zero point: rounding is monotone, so limits may as well be rounded first."""
        affine, allowed = result.affine, result.centred_range
        ends = affine.codes(np.array([self.lower, self.upper], np.float32)) - affine.zero_point
        return Clip(max(allowed.lower, int(ends[0])), min(allowed.upper, int(ends[1])))

    def is_saturation_of(self, result: AffineTensor) -> bool:
        """Whether the limits, rounded to codes, leave all of them.

        ONNX Runtime takes an activation in front of a QuantizeLinear away only then. (Versions before 1.32 compare the numbers
        without rounding them.)
        """
        return self == NO_ACTIVATION or self.clip(result) == result.centred_range


NO_ACTIVATION = Activation()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AffineLayer:
    """What all forms have.

    Attributes
    ----------
    name
        Of the layer.
    nodes
        Names of the nodes of the file that it stands for.
    result
        Its result; what the codes stand for.
    activation
        What limits the result.
    fused
        The file itself holds one operator on codes, not float operations between codes.
    """

    name: str
    nodes: tuple[str, ...]
    result: AffineTensor
    activation: Activation = NO_ACTIVATION
    fused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightedForm(AffineLayer):
    """``result = sum(source * weights) + bias``.

    Attributes
    ----------
    source
        The variable operand.
    weights
        Constant: convolutions ``[out, in / group, *kernel]``, transposed ones ``[in, out / group, *kernel]``, matrices
        ``[in, out]``.
    bias
        int64 [out] with the scale ``source.scale * weights.scale``; None for none.
    real_bias
        float32 [out]: the bias as a float graph adds it; None where the file gives integers only.
    window
        None for a matrix.
    group
        Convolution groups.
    transposed
        A transposed convolution.
    """

    source: AffineTensor
    weights: AffineTensor
    bias: IntegerArray | None = None
    real_bias: Float32Array | None = None
    window: Window | None = None
    group: int = 1
    transposed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatrixProductForm(AffineLayer):
    """``result = first @ second``, both variable."""

    first: AffineTensor
    second: AffineTensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SumForm(AffineLayer):
    """``result = first + second``; one of them may be constant."""

    first: AffineTensor
    second: AffineTensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProductForm(AffineLayer):
    """``result = first * second``; one of them may be constant."""

    first: AffineTensor
    second: AffineTensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AverageForm(AffineLayer):
    """The mean over windows; over all spatial positions where `window` is None.

    Attributes
    ----------
    count_include_pad
        Divide by the size of the kernel everywhere.
    in_window_order
        Runtimes add the numbers of a window as it is read; otherwise as :func:`~npusim.kernels.float_averages.average_windows`
        does.
    """

    source: AffineTensor
    window: Window | None = None
    count_include_pad: bool = False
    in_window_order: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaximumForm(AffineLayer):
    """The maximum over windows; the codes of result and source stand for the same numbers."""

    source: AffineTensor
    window: Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FunctionForm(AffineLayer):
    """``result = function(source)``, element by element.

    Attributes
    ----------
    label
        The function in words, for example ``Sigmoid``; :attr:`ANOTHER_SCALE` for the identity.
    function
        float32 to float32.
    is_free
        IEEE 754 does not define it to the last bit.
    """

    ANOTHER_SCALE: ClassVar[str] = "another scale"

    source: AffineTensor
    label: str
    function: RealFunction
    is_free: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoftmaxForm(AffineLayer):
    """Softmax along an axis; over all axes from it on where `flat`."""

    source: AffineTensor
    axis: int
    flat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConcatenationForm(AffineLayer):
    """Tensors side by side along an axis."""

    sources: tuple[AffineTensor, ...]
    axis: int


AffineForm: TypeAlias = (
    WeightedForm
    | MatrixProductForm
    | SumForm
    | ProductForm
    | AverageForm
    | MaximumForm
    | FunctionForm
    | SoftmaxForm
    | ConcatenationForm
)
"""The closed set; arithmetics match over it."""
