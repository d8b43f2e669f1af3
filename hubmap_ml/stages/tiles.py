"""Tiles for galleries: picture, truths and predictions of an image, with what each prediction is."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from hubmap_ml.data import PreparedData, read_image
from hubmap_ml.metrics import SortedDetections, found_from
from hubmap_ml.spec import InputError
from hubmap_ml.viz import Gallery, GalleryTile, best_f1, count_above

log = logging.getLogger(__name__)


class TileMaker:
    """Makes galleries out of sorted detections."""

    def __init__(self, data: PreparedData, found: SortedDetections) -> None:
        self._data, self._found = data, found

    def spread(self, names: Sequence[str], count: int) -> list[str]:
        """Evenly spread ones of those with a truth."""
        truth = self._found.truth
        rows = truth.images.rows_of(list(names)) if names else np.zeros(0, np.int64)
        full = [name for name, row in zip(names, rows, strict=True) if np.diff(truth.offsets)[row] > 0]
        chosen = (
            np.unique(np.linspace(0, len(full) - 1, min(count, len(full))).round().astype(int))
            if full
            else ()
        )
        return [full[int(place)] for place in chosen]

    def gallery(
        self,
        title: str,
        words: str,
        names: Sequence[str],
        notes: Mapping[str, str],
        threshold: float | None,
        metric: str,
    ) -> Gallery:
        """Return a gallery of the tiles of these names whose pictures are there.

        Args:
            title, words, names, notes, metric: what is shown; notes by name.
            threshold: the registered one, where there is one.
        """
        found = self._found
        n_truths = int((~found.truth.iscrowd).sum())
        counts = count_above(found.predictions.scores, found.kinds, n_truths, len(found.truth.images))
        tiles = [
            tile for name in names if (tile := self._tile(str(name), notes.get(str(name), ""))) is not None
        ]
        lowest = float(found.predictions.scores.min()) if len(found.predictions) else 0.0
        return Gallery(
            title,
            words,
            tiles,
            max(best_f1(counts), lowest),
            "best F1",
            threshold,
            lowest,
            counts,
            found_from(metric),
        )

    def _tile(self, name: str, note: str) -> GalleryTile | None:
        found = self._found
        row = int(found.truth.images.rows_of([name])[0])
        try:
            pixels = read_image(self._data.image_path(int(self._data.images.rows_of([name])[0])))
        except (InputError, OSError) as error:
            log.warning("tile %s is not shown: %s", name, error)
            return None
        first, last = found.predictions.offsets[row], found.predictions.offsets[row + 1]
        begin, end = int(found.truth.offsets[row]), int(found.truth.offsets[row + 1])
        seen = np.flatnonzero(~found.truth.iscrowd[begin:end])
        number = {begin + int(place): k for k, place in enumerate(seen)}
        return GalleryTile(
            name,
            note,
            pixels,
            found.truth.take(begin + seen).image(row),
            found.predictions.image(row),
            found.predictions.scores[first:last],
            found.kinds[first:last],
            np.array([number.get(int(one), -1) for one in found.finds[first:last]], np.int64),
        )
