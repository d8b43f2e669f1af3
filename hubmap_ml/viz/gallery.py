"""Tiles as truth | prediction | errors, with a slider over the score threshold.

The picture of a tile stands in the page once (JPEG), outlines are drawings over it (SVG), and each carries what the
slider needs: a prediction its score and whether it is right, a truth the score of what finds it. Which prediction takes
which truth does not depend on those of lower score, so that counting above a threshold is exact. Without scripts the
page shows the threshold that it was made with.
"""

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

import cv2
import numpy as np
from numpy.typing import NDArray

from hubmap_ml.viz.overlays import Drawable, outline, scaled

RIGHT, LEFT_OUT = "right", "left out"
SIDE, QUALITY = 640, 84
STEPS = 100
"""Positions of the slider between 0 and 1."""


@dataclass(frozen=True, eq=False)
class GalleryTile:
    """A tile with its truths and the predictions on it.

    Attributes:
        name: of the tile.
        note: why it is shown.
        image: (H, W, 3) uint8 RGB.
        truth: T truths, crowds left out.
        predictions: P predictions of any score.
        scores: (P,), in [0, 1].
        kinds: of each prediction ``RIGHT``, ``LEFT_OUT`` or a kind of error.
        finds: (P,), the number of the truth that a right prediction finds; -1 for others.
    """

    name: str
    note: str
    image: NDArray[np.uint8]
    truth: Drawable
    predictions: Drawable
    scores: NDArray[np.float32]
    kinds: Sequence[str]
    finds: NDArray[np.int64]

    @property
    def finders(self) -> list[float]:
        """For each truth the score of the prediction that finds it; NaN where none does."""
        found = [math.nan] * len(self.truth)
        for score, number in zip(self.scores, self.finds, strict=True):
            if number >= 0:
                found[int(number)] = float(score)
        return found


@dataclass(frozen=True)
class Counts:
    """What is counted on all images, not only those shown, at each position of the slider.

    Attributes:
        right, wrong, missed: of each threshold k / ``STEPS`` for k = 0 … ``STEPS``.
        images: how many.
    """

    right: tuple[int, ...]
    wrong: tuple[int, ...]
    missed: tuple[int, ...]
    images: int


@dataclass(frozen=True)
class Gallery:
    """Tiles that one slider moves.

    Attributes:
        title: of the section.
        words: what is shown, a sentence or two.
        tiles: at least one.
        threshold: where the slider begins.
        begins: what that threshold is, such as ``best F1``.
        registered: the threshold that is registered; None where there is none.
        lowest: the lowest score that was kept; the slider goes no further down.
        counts: of all images; None where only the tiles are counted.
        iou_threshold: from which overlap a truth is found.
    """

    title: str
    words: str
    tiles: Sequence[GalleryTile]
    threshold: float
    begins: str = "as at first"
    registered: float | None = None
    lowest: float = 0.0
    counts: Counts | None = None
    iou_threshold: float = 0.5


@dataclass(frozen=True)
class PictureSize:
    """How much a picture may cost: longer side in pixels, JPEG quality, and the share of tiles that is shown."""

    side: int = SIDE
    quality: int = QUALITY
    share: float = 1.0


SIZES = (
    PictureSize(),
    PictureSize(512, 76),
    PictureSize(384, 68),
    PictureSize(320, 60, 0.5),
    PictureSize(256, 50, 0.25),
    PictureSize(share=0.0),
)
"""From the best to the smallest, for a page that has to keep to a size."""


def best_f1(counts: Counts) -> float:
    """Return the threshold with the best F1 over all images; of equal ones the highest."""
    scores = [
        2 * right / max(2 * right + wrong + missed, 1)
        for right, wrong, missed in zip(counts.right, counts.wrong, counts.missed, strict=True)
    ]
    return max(range(len(scores)), key=lambda place: (scores[place], place)) / STEPS


def count_above(scores: NDArray[np.float32], kinds: Sequence[str], truths: int, images: int) -> Counts:
    """Count all detections of a set at each position of the slider; N scores and kinds."""
    thresholds = np.arange(STEPS + 1) / STEPS
    kind = np.asarray(kinds, dtype=object)
    right = np.sort(scores[kind == RIGHT].astype(np.float64))
    wrong = np.sort(scores[(kind != RIGHT) & (kind != LEFT_OUT)].astype(np.float64))
    n_right = len(right) - np.searchsorted(right, thresholds - 1e-7)
    n_wrong = len(wrong) - np.searchsorted(wrong, thresholds - 1e-7)
    return Counts(
        tuple(n_right.tolist()), tuple(n_wrong.tolist()), tuple((truths - n_right).tolist()), images
    )


def gallery(shown: Gallery, *, number: int, size: PictureSize = SIZES[0]) -> str:
    """Return a gallery as HTML, to stand in a section; every value is escaped.

    Args:
        shown: what it holds.
        number: of the gallery on its page.
        size: of its pictures.
    """
    tiles = shown.tiles[: math.ceil(len(shown.tiles) * size.share)]
    if not tiles:
        return '<p class="legend">No tile is shown: the page would have become too large.</p>'
    lowest = math.floor(shown.lowest * STEPS)
    start = _position(shown.threshold, lowest)
    marks = [(shown.begins, start)]
    if shown.registered is not None:
        marks.append(("as registered", _position(shown.registered, lowest)))
    buttons = "".join(
        f'<button type="button" value="{place}">{escape(name)} ({place / STEPS:.2f})</button>'
        for name, place in marks
    )
    figures = "\n".join(_figure(tile, f"g{number}t{k}", start / STEPS, size) for k, tile in enumerate(tiles))
    said = (
        "" if size.share == 1 else f" {len(tiles)} of {len(shown.tiles)} tiles: the page keeps to its size."
    )
    counts = ""
    if shown.counts is not None:
        numbers = {
            "right": shown.counts.right,
            "wrong": shown.counts.wrong,
            "missed": shown.counts.missed,
        }
        counts = (
            f'<p class="all" data-counts="{escape(json.dumps(numbers, separators=(",", ":")))}">'
            f"All {shown.counts.images:,} images: <output>{_in_words(*_at(shown.counts, start))}</output></p>"
        )
    name = f"threshold{number}"
    return (
        f'<p class="legend">{escape(shown.words)}{said}</p>\n'
        f'<div class="tiles" data-start="{start}">\n<div class="control">\n'
        f'<div class="row"><label for="{name}">Score at least <output class="at">{start / STEPS:.2f}</output>'
        f'</label><span class="marks">{buttons}</span></div>\n'
        f'<input type="range" id="{name}" min="{lowest}" max="{STEPS}" value="{start}" step="1" '
        f'aria-label="Score threshold in hundredths: what is below it is not counted">\n'
        f"{_key()}{counts}</div>\n{figures}\n</div>"
    )


def scripts() -> str:
    """Return what moves the sliders; a page needs it once, after its galleries."""
    return resources.files(__package__ or "").joinpath("gallery.js").read_text(encoding="utf-8")


def _position(threshold: float, lowest: int) -> int:
    """The slider's position for a threshold, in its range."""
    return min(max(round(threshold * STEPS), lowest), STEPS)


def _key() -> str:
    return (
        '<p class="key"><span class="tp">found (TP)</span> <span class="fn">missed (FN)</span> '
        '<span class="fp">wrong (FP)</span></p>'
    )


def _at(counts: Counts, position: int) -> tuple[int, int, int]:
    return counts.right[position], counts.wrong[position], counts.missed[position]


def _in_words(right: int, wrong: int, missed: int) -> str:
    """The same words as ``gallery.js`` writes."""
    precision = f"{right / (right + wrong):.3f}" if right + wrong else "–"
    recall = f"{right / (right + missed):.3f}" if right + missed else "–"
    total = 2 * right + wrong + missed
    f1 = f"{2 * right / total:.3f}" if total else "–"
    return f"{right} found, {missed} missed, {wrong} wrong; precision {precision}, recall {recall}, F1 {f1}"


def _figure(tile: GalleryTile, name: str, threshold: float, size: PictureSize) -> str:
    picture = scaled(tile.image, min_side=320, max_side=size.side)
    height, width = picture.shape[:2]
    truths = [_path(tile.truth, row, height, width) for row in range(len(tile.truth))]
    found = [_path(tile.predictions, row, height, width) for row in range(len(tile.predictions))]
    counted = [row for row, kind in enumerate(tile.kinds) if kind != LEFT_OUT]
    right = sum(tile.kinds[row] == RIGHT and tile.scores[row] >= threshold - 1e-7 for row in counted)
    above = sum(bool(tile.scores[row] >= threshold - 1e-7) for row in counted)
    words = _in_words(right, above - right, len(truths) - right)

    def hidden(score: float) -> str:
        return "" if score >= threshold - 1e-7 else "off"

    truth_paths = "".join(f'<path id="{name}a{row}" d="{path}"/>' for row, path in enumerate(truths))
    guesses = "".join(
        f'<path id="{name}b{row}" class="{hidden(tile.scores[row])}" data-s="{tile.scores[row]:.4f}" d="{found[row]}"/>'
        for row in counted
    )
    errors = ""
    for row, score in enumerate(tile.finders):
        by = "" if math.isnan(score) else f"{score:.4f}"
        off = "off" if by and not hidden(score) else ""
        errors += f'<use href="#{name}a{row}" class="fn {off}" data-by="{by}"><title>missed</title></use>'
    for row in counted:
        kind = "tp" if tile.kinds[row] == RIGHT else "fp"
        said = escape(f"{'found' if kind == 'tp' else tile.kinds[row]}, score {tile.scores[row]:.2f}")
        errors += (
            f'<use href="#{name}b{row}" class="{kind} {hidden(tile.scores[row])}" '
            f'data-s="{tile.scores[row]:.4f}"><title>{said}</title></use>'
        )
    picture_uri = data_uri(picture, size.quality)
    first = (
        f'<image id="{name}" width="{width}" height="{height}" href="{picture_uri}"/>'
        f'<g class="truths">{truth_paths}</g>'
    )
    second = f'<use href="#{name}"/><g class="guesses">{guesses}</g>'
    third = f'<use href="#{name}" class="dim"/>{errors}'
    panels = "".join(
        f'<div class="panel"><span class="what">{what}</span><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">{inside}</svg></div>'
        for what, label, inside in (
            ("truth", f"{tile.name}: {len(truths)} true outlines", first),
            ("prediction", f"{tile.name}: outlines of what was predicted", second),
            ("errors", f"{tile.name}: what was found, missed and wrong", third),
        )
    )
    return (
        f'<figure class="tile" data-truths="{len(truths)}"><div class="panels" tabindex="0" role="group" '
        f'aria-label="{escape(tile.name)}: truth, prediction, errors">{panels}</div>'
        f"<figcaption><b>{escape(tile.name)}</b> <output>{words}</output>"
        f"<span>{escape(tile.note)}</span></figcaption></figure>"
    )


def _path(instances: Drawable, row: int, height: int, width: int) -> str:
    """An instance's outline as the data of an SVG path: whole pixels, each corner by its distance to the last."""
    parts = []
    for contour in outline(instances, row, height=height, width=width):
        points = cv2.approxPolyDP(contour, 0.6, closed=True).reshape(-1, 2)
        steps = np.diff(points, axis=0)
        moves = "".join(f"{x} {y} ".replace(" -", "-") for x, y in steps.tolist()).strip()
        parts.append(f"M{points[0, 0]} {points[0, 1]}" + (f"l{moves}" if moves else "l1 0") + "z")
    return "".join(parts)


def data_uri(image: NDArray[np.uint8], quality: int) -> str:
    """An image (H, W, 3) uint8 RGB as the address of a JPEG that stands in the page itself."""
    done, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"a picture of shape {image.shape} could not be encoded")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
