"""Paints one tile of generated kidney-like tissue and says where its vessels lie.

A tile is two maps of dye concentration, a nuclear and a pink one, turned into colours by absorption
(Beer-Lambert, as in Ruifrok & Johnston 2001). Lengths are given in pixels of a 128-pixel tile and grow with
the tile. For tests and demonstrations: a network learns it in minutes, a threshold does not find it; it says
nothing about real tissue.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatMap = NDArray[np.float32]
BoolMap = NDArray[np.bool_]

VESSEL, GLOMERULUS, UNSURE = "blood_vessel", "glomerulus", "unsure"
REFERENCE_SIZE = 128
_SMALLEST_VISIBLE_AREA = 110.0  # a vessel of which the tile's edge leaves less is not painted
_GAP = 2.0  # between two structures


@dataclass(frozen=True)
class Stain:
    """How a slide turns dye into colour.

    Absorption of red, green and blue by each dye, and the light that passes where no tissue is.
    """

    nuclear: tuple[float, float, float]
    pink: tuple[float, float, float]
    light: tuple[float, float, float]


@dataclass(frozen=True)
class Outline:
    """The outer border of a structure: its type and (K, 2) int32 points x, y, inside the tile."""

    type: str
    ring: NDArray[np.int32]


@dataclass(frozen=True)
class Tile:
    """(size, size, 3) uint8 RGB pixels and the structures that an annotator would outline."""

    pixels: NDArray[np.uint8]
    outlines: tuple[Outline, ...]


def slide_stain(rng: np.random.Generator) -> Stain:
    """Draw the colours of one slide: batches of dye and scanners differ."""
    strength, fade = rng.uniform(0.8, 1.2, 2)
    nuclear = np.array([0.68, 0.72, 0.30]) + rng.normal(0, 0.06, 3)
    pink = np.array([0.16, 0.78, 0.40]) + rng.normal(0, 0.07, 3)
    light = np.array([0.95, 0.94, 0.95]) + rng.uniform(-0.04, 0.03, 3)
    red, green, blue = (strength * np.clip(nuclear, 0.05, None)).tolist()
    pink_red, pink_green, pink_blue = (fade * np.clip(pink, 0.05, None)).tolist()
    light_red, light_green, light_blue = light.tolist()
    return Stain((red, green, blue), (pink_red, pink_green, pink_blue), (light_red, light_green, light_blue))


def paint_tile(rng: np.random.Generator, *, size: int, stain: Stain) -> Tile:
    """Paint a tile: stroma, vessels, tears, at times a glomerulus or something doubtful, and nuclei over all.

    Args:
        rng: where all randomness comes from.
        size: height and width in pixels.
    """
    canvas = _Canvas(rng, size)
    _stroma(canvas)
    if rng.random() < 0.12:
        _glomerulus(canvas)
    for _ in range(rng.integers(3, 8)):
        _vessel(canvas)
    for _ in range(rng.integers(2, 6)):
        _tear(canvas)
    if rng.random() < 0.2:
        _doubtful(canvas)
    _nuclei(canvas)
    return Tile(_colours(canvas, stain), tuple(canvas.outlines))


def ring_mask(ring: NDArray[np.int32], size: int) -> NDArray[np.uint8]:
    """The pixels of a ring, as annotations are rasterised: OpenCV's fillPoly, border included."""
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [ring], (1,))
    return mask


class _Canvas:
    """A tile being painted: dye maps, what is taken, and the outlines so far."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.size = size
        self.scale = size / REFERENCE_SIZE
        self.pink: FloatMap = np.zeros((size, size), np.float32)
        self.nuclear: FloatMap = np.zeros((size, size), np.float32)
        self.taken: BoolMap = np.zeros((size, size), bool)
        self.no_nuclei: BoolMap = np.zeros((size, size), bool)
        self.outlines: list[Outline] = []
        # Nuclei that belong to a structure: x, y, half axes, angle in degrees.
        self.own_nuclei: list[tuple[float, float, float, float, float]] = []

    def noise(self, length: float, stretch: float = 1.0, angle: float = 0.0) -> FloatMap:
        """Smooth noise of mean 0 and deviation 1.

        Args:
            length: size of its features in reference pixels.
            stretch: how much longer they are along ``angle``.
            angle: in degrees.
        """
        cells = max(2, int(np.ceil(self.size / max(length * self.scale, 1.0)))) + 3
        along = max(2, int(np.ceil(cells / stretch))) + 3
        coarse = self.rng.standard_normal((cells, along)).astype(np.float32)
        turned = np.deg2rad(angle)
        rows, columns = np.mgrid[0 : self.size, 0 : self.size].astype(np.float32) - self.size / 2
        u = np.cos(turned) * columns + np.sin(turned) * rows
        v = -np.sin(turned) * columns + np.cos(turned) * rows
        unit = np.float32(1 / max(length * self.scale, 1.0))
        field = cv2.remap(
            coarse,
            (u * unit / stretch + along / 2).astype(np.float32),
            (v * unit + cells / 2).astype(np.float32),
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return np.asarray((field - field.mean()) / (field.std() + 1e-6), np.float32)

    def blend(
        self, field: FloatMap, value: FloatMap | float, mask: NDArray[np.generic], softness: float
    ) -> None:
        """Replace ``field`` by ``value`` where ``mask`` is, with an edge as soft as a lens leaves it."""
        alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(softness * self.scale, 0.3))
        field += alpha * (value - field)


def _stroma(canvas: _Canvas) -> None:
    """Ground substance at several scales, with wavy bundles of fibres."""
    rng = canvas.rng
    ground = 0.42 + 0.10 * canvas.noise(40) + 0.07 * canvas.noise(14) + 0.06 * canvas.noise(5)
    angle = rng.uniform(0, 180)
    for turn in (0.0, rng.uniform(25, 70)):
        bundles = canvas.noise(3.2, stretch=9, angle=angle + turn)
        where = 1 / (1 + np.exp(-3 * canvas.noise(26)))
        ground += 0.30 * where * np.clip(bundles - 0.3, 0, 2)
    canvas.pink[:] = np.clip(ground, 0.08, 1.3)
    canvas.nuclear[:] = np.clip(0.06 + 0.03 * canvas.noise(9), 0, None)


@dataclass(frozen=True)
class _Blob:
    """A closed shape on the tile.

    Attributes:
        ring: (K, 2) int32 border inside the tile.
        mask: (size, size) bool, exactly what ``ring`` fills.
        depth: distance from the outer border in pixels, not shortened where the tile ends.
        angle: direction of each pixel as seen from the centre, in radians.
        radius: mean radius in pixels.
    """

    ring: NDArray[np.int32]
    mask: BoolMap
    depth: FloatMap
    angle: FloatMap
    radius: float


def _blob(
    canvas: _Canvas, radius: float, *, aspect: float, roughness: float, tries: int = 30
) -> _Blob | None:
    """Find a free place for a wavy ellipse of a mean radius in reference pixels; None if there is none."""
    rng, size = canvas.rng, canvas.size
    scaled = radius * canvas.scale
    pad = int(np.ceil(2.2 * scaled)) + 2
    theta = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    wave = sum(
        roughness / k * rng.normal() * np.cos(k * theta + rng.uniform(0, 2 * np.pi)) for k in range(2, 7)
    )
    turn = rng.uniform(0, np.pi)
    longer, shorter = scaled / np.sqrt(aspect), scaled * np.sqrt(aspect)
    x, y = longer * np.cos(theta) * (1 + wave), shorter * np.sin(theta) * (1 + wave)
    shape = np.stack([np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y], axis=1)
    reach = int(np.ceil(_GAP * canvas.scale))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    for _ in range(tries):
        centre = rng.uniform(0, size, 2)
        points = np.rint(shape + centre).astype(np.int32)
        ring = _visible_ring(points, size)
        if ring is None or cv2.contourArea(ring) < _SMALLEST_VISIBLE_AREA * canvas.scale**2:
            continue
        mask = ring_mask(ring, size).astype(bool)
        if (cv2.dilate(mask.astype(np.uint8), kernel).astype(bool) & canvas.taken).any():
            continue
        canvas.taken |= mask
        whole = np.zeros((size + 2 * pad, size + 2 * pad), np.uint8)
        cv2.fillPoly(whole, [(points + pad).astype(np.int32)], (1,))
        depth = cv2.distanceTransform(whole, cv2.DIST_L2, 5)[pad : pad + size, pad : pad + size]
        rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
        angle = np.arctan2(rows - centre[1], columns - centre[0]).astype(np.float32)
        return _Blob(ring, mask, depth.astype(np.float32), angle, float(scaled))
    return None


def _visible_ring(points: NDArray[np.int32], size: int) -> NDArray[np.int32] | None:
    """The border of the largest part of a polygon that lies inside the tile."""
    contours, _ = cv2.findContours(ring_mask(points, size), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea, default=None)
    return None if largest is None or len(largest) < 3 else np.ascontiguousarray(largest[:, 0, :], np.int32)


def _vessel(canvas: _Canvas) -> None:
    """A ring of wall around a lumen that is pale, filled, like the stroma, or pressed flat."""
    rng = canvas.rng
    radius = float(np.exp(rng.uniform(np.log(9), np.log(20))))
    collapsed = rng.random() < 0.15
    blob = _blob(
        canvas, radius, aspect=rng.uniform(0.4, 0.6) if collapsed else rng.uniform(0.6, 1.0), roughness=0.10
    )
    if blob is None:
        return
    share = rng.uniform(0.5, 0.62) if collapsed else rng.uniform(0.24, 0.42)
    narrow = blob.radius * (np.sqrt(0.5) if collapsed else 1.0)
    uneven = 1 + 0.35 * np.sin(blob.angle + rng.uniform(0, 2 * np.pi)) + 0.12 * canvas.noise(8)
    thickness = np.maximum(share * narrow * uneven, 2.2 * canvas.scale)
    lumen = blob.mask & (blob.depth > thickness)
    layers = 0.10 * np.sin(blob.depth * (2 * np.pi / (3.2 * canvas.scale)) + rng.uniform(0, 6))
    wall = np.clip(rng.uniform(0.90, 1.15) + layers + 0.10 * canvas.noise(4), 0.45, 1.5)
    outside = canvas.pink.copy()
    canvas.blend(canvas.pink, wall, blob.mask, 0.5)
    canvas.blend(canvas.nuclear, 0.10, blob.mask, 0.5)
    _lumen(canvas, lumen, outside)
    _wall_nuclei(canvas, blob, thickness)
    canvas.no_nuclei |= blob.mask
    canvas.outlines.append(Outline(VESSEL, blob.ring))


def _lumen(canvas: _Canvas, lumen: BoolMap, outside: FloatMap) -> None:
    kind = canvas.rng.random()
    if kind < 0.6:
        canvas.blend(canvas.pink, 0.03, lumen, 0.6)
        canvas.blend(canvas.nuclear, 0.01, lumen, 0.6)
    elif kind < 0.74:  # hardly told from the ground around the vessel
        canvas.blend(canvas.pink, 0.8 * outside, lumen, 0.6)
    else:  # blood
        cells = np.clip(0.45 + 0.25 * canvas.noise(2.2), 0.05, 1.0)
        canvas.blend(canvas.pink, cells, lumen, 0.6)


def _wall_nuclei(canvas: _Canvas, blob: _Blob, thickness: FloatMap) -> None:
    """Flat nuclei that lie along the wall."""
    rng = canvas.rng
    rows, columns = np.nonzero(blob.mask & (blob.depth > 0.25 * thickness) & (blob.depth < 1.05 * thickness))
    count = min(len(rows), int(rng.uniform(0.4, 0.9) * blob.radius / canvas.scale))
    slope_x = cv2.Sobel(blob.depth, cv2.CV_32F, 1, 0, ksize=5)
    slope_y = cv2.Sobel(blob.depth, cv2.CV_32F, 0, 1, ksize=5)
    for pick in rng.choice(len(rows), count, replace=False) if count else ():
        row, column = int(rows[pick]), int(columns[pick])
        along = np.degrees(np.arctan2(slope_y[row, column], slope_x[row, column])) + 90
        long_axis, short_axis = rng.uniform(1.8, 3.0), rng.uniform(0.7, 1.1)
        canvas.own_nuclei.append((column, row, long_axis, short_axis, float(along)))


def _tear(canvas: _Canvas) -> None:
    """A pale hole or crack without a wall: no vessel."""
    rng = canvas.rng
    crack = rng.random() < 0.4
    radius = rng.uniform(3.5, 7) if crack else rng.uniform(3.5, 11)
    aspect = rng.uniform(0.12, 0.3) if crack else rng.uniform(0.5, 1.0)
    blob = _blob(canvas, radius, aspect=aspect, roughness=0.22, tries=10)
    if blob is None:
        return
    canvas.blend(canvas.pink, float(rng.uniform(0.02, 0.14)), blob.mask, 0.7)
    canvas.blend(canvas.nuclear, 0.01, blob.mask, 0.7)
    canvas.no_nuclei |= blob.mask


def _doubtful(canvas: _Canvas) -> None:
    """A patch with a breath of a wall that nobody would swear to."""
    rng = canvas.rng
    blob = _blob(canvas, rng.uniform(6, 11), aspect=rng.uniform(0.5, 0.9), roughness=0.15, tries=10)
    if blob is None:
        return
    band = blob.mask & (blob.depth < 2.2 * canvas.scale)
    canvas.blend(canvas.pink, 0.85 * canvas.pink, blob.mask, 1.0)
    canvas.blend(canvas.pink, canvas.pink + 0.2, band, 1.0)
    canvas.outlines.append(Outline(UNSURE, blob.ring))


def _glomerulus(canvas: _Canvas) -> None:
    """A tuft full of nuclei in a pale capsule."""
    rng = canvas.rng
    blob = _blob(canvas, rng.uniform(18, 26), aspect=rng.uniform(0.8, 1.0), roughness=0.05, tries=10)
    if blob is None:
        return
    capsule = rng.uniform(2, 4) * canvas.scale
    tuft = blob.mask & (blob.depth > capsule)
    canvas.blend(canvas.pink, 0.08, blob.mask, 0.6)
    canvas.blend(canvas.pink, np.clip(0.5 + 0.28 * canvas.noise(4), 0.05, 1.2), tuft, 0.8)
    rows, columns = np.nonzero(tuft)
    count = min(len(rows), int(len(rows) / (22 * canvas.scale**2)))
    for pick in rng.choice(len(rows), count, replace=False) if count else ():
        axes = rng.uniform(1.3, 2.1, 2)
        canvas.own_nuclei.append((int(columns[pick]), int(rows[pick]), axes[0], axes[1], rng.uniform(0, 180)))
    canvas.no_nuclei |= blob.mask
    canvas.outlines.append(Outline(GLOMERULUS, blob.ring))


def _nuclei(canvas: _Canvas) -> None:
    """Nuclei of the stroma, crowded in places, and those that the structures brought."""
    rng, size, scale = canvas.rng, canvas.size, canvas.scale
    crowd = np.exp(0.8 * canvas.noise(22)) * ~cv2.dilate(
        canvas.no_nuclei.astype(np.uint8), np.ones((3, 3))
    ).astype(bool)
    count = int(rng.integers(60, 110))
    free = np.flatnonzero(crowd > 0)
    places: Sequence[int] = ()
    if len(free):
        weights = crowd.ravel()[free].astype(np.float64)
        places = rng.choice(free, count, p=weights / weights.sum()).tolist()
    nuclei = list(canvas.own_nuclei)
    for place in places:
        long_axis = rng.uniform(1.4, 2.7)
        nuclei.append(
            (place % size, place // size, long_axis, long_axis * rng.uniform(0.4, 1.0), rng.uniform(0, 180))
        )
    layer = np.zeros((size, size), np.uint8)
    for x, y, long_axis, short_axis, angle in nuclei:
        centre = (round(x * 16), round(y * 16))
        axes = (max(int(long_axis * scale * 16), 8), max(int(short_axis * scale * 16), 8))
        depth = int(rng.integers(110, 220))
        cv2.ellipse(layer, centre, axes, angle, 0, 360, (depth,), -1, cv2.LINE_AA, 4)
    chromatin = 1 + 0.15 * canvas.noise(1.5)
    canvas.nuclear += layer.astype(np.float32) / 160 * chromatin


def _colours(canvas: _Canvas, stain: Stain) -> NDArray[np.uint8]:
    rng, scale = canvas.rng, canvas.scale
    uneven = 1 + 0.06 * canvas.noise(60)  # section thickness
    blur = max(0.45 * scale, 0.3)
    nuclear = cv2.GaussianBlur(np.clip(canvas.nuclear, 0, None) * uneven, (0, 0), blur)[:, :, None]
    pink = cv2.GaussianBlur(np.clip(canvas.pink, 0, None) * uneven, (0, 0), blur)[:, :, None]
    density = nuclear * np.array(stain.nuclear) + pink * np.array(stain.pink)
    light = np.array(stain.light) * np.exp(-density)
    light += rng.normal(0, 0.012, light.shape)
    return np.asarray(np.clip(np.rint(light * 255), 0, 255), np.uint8)
