"""Steps that change masks by a kernel: erosion, dilation, opening (erode, then dilate), closing (dilate, then erode).

The 3rd-place write-up of HuBMAP 2023 says "erosion followed by a single iteration of dilation", which is ``opening``;
its code computes ``erosion(dilation(mask))``, which is ``closing``. Other mixtures are written as ``erosion`` and
``dilation`` one after the other, each with its own kernel and iterations.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, get_args

from hubmap_ml.fusion import decided
from hubmap_ml.instances import BitMasks, PredictionSet
from hubmap_ml.instances.morphology import (
    Border,
    KernelSize,
    Shape,
    closed,
    dilated,
    eroded,
    opened,
    structuring_element,
)
from hubmap_ml.postprocess.masks import with_pixels
from hubmap_ml.postprocess.step import choice, keys, whole
from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class _Morphology:
    """What the four steps share; an instance that loses all its pixels is dropped, boxes stay.

    Attributes:
        kernel: size in pixels, one number or (height, width).
        shape: square, cross or ellipse (OpenCV's structuring elements).
        iterations: of erosion and of dilation each.
    """

    name: ClassVar[str]
    operation: ClassVar[Callable[..., BitMasks]]
    kernel: KernelSize = 3
    shape: Shape = "square"
    iterations: int = 1

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        values = keys(value, where, {field.name: field.default for field in fields(cls)})
        choice(values["shape"], f"{where}.shape", get_args(Shape))
        whole(values["iterations"], f"{where}.iterations", low=1)
        if "border" in values:
            choice(values["border"], f"{where}.border", (0, 1))
        return cls(**{**values, "kernel": _kernel_size(values["kernel"], values["shape"], f"{where}.kernel")})

    def to_data(self) -> Any:
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**data, "kernel": self.kernel if isinstance(self.kernel, int) else list(self.kernel)}

    def apply(self, predictions: PredictionSet) -> PredictionSet:
        bits = type(self).operation(
            decided(predictions.masks, self.name),
            predictions.heights_of_instances(),
            predictions.widths_of_instances(),
            **{field.name: getattr(self, field.name) for field in fields(self)},
        )
        return with_pixels(predictions, bits)


@dataclass(frozen=True)
class Dilation(_Morphology):
    """Add the pixels whose kernel meets the mask."""

    name: ClassVar[str] = "dilation"
    operation: ClassVar[Callable[..., BitMasks]] = staticmethod(dilated)


@dataclass(frozen=True)
class _Eroding(_Morphology):
    """What the steps share that erode.

    Attributes:
        border: what lies beyond the image's edge: 1, the mask going on (OpenCV's default: an object that the tile cuts
            off loses nothing there), or 0, nothing.
    """

    border: Border = 1


@dataclass(frozen=True)
class Erosion(_Eroding):
    """Keep the pixels around which the whole kernel lies inside the mask."""

    name: ClassVar[str] = "erosion"
    operation: ClassVar[Callable[..., BitMasks]] = staticmethod(eroded)


@dataclass(frozen=True)
class Opening(_Eroding):
    """Erode, then dilate: what is thinner than the kernel goes."""

    name: ClassVar[str] = "opening"
    operation: ClassVar[Callable[..., BitMasks]] = staticmethod(opened)


@dataclass(frozen=True)
class Closing(_Eroding):
    """Dilate, then erode: gaps thinner than the kernel fill."""

    name: ClassVar[str] = "closing"
    operation: ClassVar[Callable[..., BitMasks]] = staticmethod(closed)


def _kernel_size(value: Any, shape: Shape, where: str) -> KernelSize:
    """Read a number of pixels, or [height, width].

    Raises:
        InputError: something else, said with ``where``.
    """
    size: KernelSize
    if isinstance(value, list | tuple) and len(value) == 2:
        size = whole(value[0], where, low=1), whole(value[1], where, low=1)
    else:
        size = whole(value, where, low=1)
    try:
        structuring_element(size, shape)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return size
