"""The leak report: what connects the images that score a model with everything that it was ever trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hubmap_ml.data.fingerprints import Fingerprints, near_duplicates
from hubmap_ml.data.places import near_pairs
from hubmap_ml.instances import Images
from hubmap_ml.spec import LeakLevel

SHARED_SLIDE = "slide"
# Kinds of pairs, the weakest first, and the level that each means.
KINDS = {
    "neighbour": LeakLevel.NEIGHBOUR,
    "near_duplicate": LeakLevel.DUPLICATE,
    "exact_duplicate": LeakLevel.DUPLICATE,
    "trained_on": LeakLevel.TRAINED_ON,
}
COLUMNS = ("scored", "seen", "kind", "distance", "through")


@dataclass(frozen=True, eq=False)
class LeakReport:
    """What was found between scored and seen images.

    Attributes:
        level: the worst of it.
        pairs: one row for each pair of images closer than a shared slide, by its worst kind: ``scored`` and ``seen``
            (ids), ``kind`` (a key of ``KINDS``), ``distance`` and ``through`` (the stages that trained on the seen
            image, joined by ``+``). The distance of neighbours is the gap in pixels (0 touching, negative overlapping),
            of near duplicates 1 minus the correlation of their grey copies, else 0.
        slides: one row for each shared slide: ``slide``, how many images of it were ``scored`` and how many ``seen``,
            and ``through``. Pairs that only share a slide are counted, not listed.
        unplaced: scored images that have neither slide nor group: of them only pictures could be compared.
    """

    level: LeakLevel
    pairs: pd.DataFrame
    slides: pd.DataFrame
    unplaced: int

    @property
    def counts(self) -> dict[str, int]:
        """Number of pairs of each kind, ``slide`` included: all pairs of a shared slide, listed ones too."""
        listed = self.pairs["kind"].value_counts()
        shared = int((self.slides["scored"] * self.slides["seen"]).sum())
        return {SHARED_SLIDE: shared, **{kind: int(listed.get(kind, 0)) for kind in KINDS}}

    def to_data(self) -> dict[str, Any]:
        """The report as JSON-able data."""
        return {
            "level": str(self.level),
            "counts": self.counts,
            "scored_without_slide": self.unplaced,
            "slides": self.slides.to_dict(orient="records"),
            "pairs": self.pairs.to_dict(orient="records"),
        }


def leak_report(
    images: Images,
    prints: Fingerprints,
    *,
    scored: Sequence[str],
    seen: Mapping[str, Sequence[str]],
) -> LeakReport:
    """Compare the images that score a model with those that it was trained on.

    A pair stands for the worst of what holds: the same image (``trained_on``), equal pixels (``exact_duplicate``), the
    same picture recompressed or flipped (``near_duplicate``, see ``fingerprints``), touching or overlapping tiles of
    one slide (``neighbour``, see ``places``). Where an image has no slide, its group stands for it.

    Args:
        images: the table that all ids are of.
        prints: of the same images, in the same order.
        scored: ids.
        seen: for each stage that trained the model, in order, the ids that it trained on.

    Raises:
        InputError: an id that is not in the table.
    """
    if prints.ids.tolist() != images.ids.tolist():
        raise ValueError("fingerprints are of other images than the table")
    rows = np.unique(images.rows_of(list(scored)))
    through: dict[int, list[str]] = {}
    for stage, ids in seen.items():
        for row in np.unique(images.rows_of(list(ids))).tolist():
            through.setdefault(row, []).append(stage)
    known = np.array(sorted(through), np.int64)
    both = np.intersect1d(rows, known)
    found = [
        ("trained_on", np.stack([both, both], axis=1), np.zeros(len(both))),
        ("exact_duplicate", *_equal_pixels(prints, rows, known)),
        ("near_duplicate", *near_duplicates(prints, rows, known)),
        ("neighbour", *near_pairs(images, rows, known)),
    ]
    parts = [
        pd.DataFrame({"a": pairs[:, 0], "b": pairs[:, 1], "kind": kind, "distance": distances.astype(float)})
        for kind, pairs, distances in found
        if len(pairs)
    ]
    table = pd.DataFrame(columns=list(COLUMNS))
    if parts:
        worst = pd.concat(parts, ignore_index=True).drop_duplicates(["a", "b"], keep="first")
        table = pd.DataFrame(
            {
                "scored": images.ids[worst["a"]],
                "seen": images.ids[worst["b"]],
                "kind": worst["kind"].to_numpy(),
                "distance": worst["distance"].to_numpy(),
                "through": ["+".join(through[row]) for row in worst["b"]],
            }
        )
    sources = np.where(images.slides == "", images.groups, images.slides)
    slides = _shared_slides(sources, rows, known, through, list(seen))
    levels = [KINDS[kind] for kind in table["kind"].unique()] + ([LeakLevel.SLIDE] if len(slides) else [])
    return LeakReport(LeakLevel.worst(levels), table, slides, int(np.sum(sources[rows] == "")))


def _equal_pixels(
    prints: Fingerprints, first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    holders: dict[str, list[int]] = {}
    for row in second[~prints.blank[second]].tolist():
        holders.setdefault(prints.digests[row], []).append(row)
    pairs = [
        (row, other)
        for row in first.tolist()
        for other in holders.get(prints.digests[row], ())
        if row != other
    ]
    return np.array(pairs, np.int64).reshape(-1, 2), np.zeros(len(pairs))


def _shared_slides(
    sources: NDArray[np.object_],
    scored: NDArray[np.int64],
    seen: NDArray[np.int64],
    through: Mapping[int, Sequence[str]],
    stages: Sequence[str],
) -> pd.DataFrame:
    rows = []
    for slide in sorted((set(sources[scored]) & set(sources[seen])) - {""}):
        trained = seen[sources[seen] == slide]
        by = {stage for row in trained.tolist() for stage in through[row]}
        rows.append(
            {
                "slide": slide,
                "scored": int(np.sum(sources[scored] == slide)),
                "seen": len(trained),
                "through": "+".join(stage for stage in stages if stage in by),
            }
        )
    return pd.DataFrame(rows, columns=["slide", "scored", "seen", "through"])
