"""Candidate predictions: what a network proposes before class NMS, with soft masks, one image after the
other.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from hubmap_ml.data import ImageSource
from hubmap_ml.fusion import non_maximum_suppression
from hubmap_ml.inference.in_network import Shown, merged_in_network
from hubmap_ml.inference.network import Network
from hubmap_ml.inference.two_stage import ForwardPass
from hubmap_ml.inference.views import boxes_from_view, check_views, crops_from_view, view_of_image
from hubmap_ml.instances import Images, Instances, Masks, SoftMasks
from hubmap_ml.models import TestPipeline
from hubmap_ml.spec import InputError

DEFAULT_VIEWS = ("none", "hflip", "vflip")


@dataclass(frozen=True)
class CandidateStats:
    """What became of an image's proposals, summed over its views.

    Attributes:
        n_raw: boxes that reach the score floor.
        n_duplicates: of these, dropped because a higher-scored box of the label nearly coincides.
        n_over_cap: of the rest, dropped by the cap on an image and view.
        n_kept: what is left.
        cap_bit: whether the cap dropped anything.
        seconds: reading, network and masks.
    """

    n_raw: int
    n_duplicates: int
    n_over_cap: int
    n_kept: int
    cap_bit: bool
    seconds: float


def predict_candidates(
    network: Network,
    images: Iterable[tuple[Images, ImageSource]],
    *,
    views: Sequence[str] = DEFAULT_VIEWS,
    scales: Sequence[int | tuple[int, int]] | None = None,
    score: float = 0.001,
    dedupe_iou: float | None = 0.9,
    max_per_image: int | None = 1000,
    batch: int = 1,
    in_network: bool = False,
) -> Iterator[tuple[Images, Instances, CandidateStats]]:
    """Predict the candidates of each image, as they come.

    Scores are the network's own; a mask scoring head's word is multiplied in last. A view changes the image itself, and
    boxes and masks are changed back. Of boxes of a view that overlap by more than `dedupe_iou` and have one label only
    the higher-scored stays; then the `max_per_image` highest of the view stay.

    Args:
        network: opened by `open_network`.
        images: each as one row of `Images` and its pixels; read when its turn comes.
        views: of `VIEWS`, each once.
        scales: (longest, shortest) sides, or one number for both, which replace the test pipeline's own;
            each scale is seen through each view.
        score: the floor; a candidate's score is at least this.
        dedupe_iou: in (0, 1]; None keeps all (for studies of soft-NMS).
        max_per_image: for each view; None keeps all.
        batch: views of one image that pass through the network at once.
        in_network: views and scales are merged inside the network (see ``in_network``): one set of candidates, from
            one source.

    Yields:
        The image's row, its candidates (descending score within a view, views in order; `source` = number of
        the scale times the number of views + number of the view), and what became of its proposals.

    Raises:
        InputError: unknown views, a row that is not one image, an image whose size is not its row's.
    """
    chosen_views = check_views(views)
    pipelines = _pipelines(network, scales)
    for row, source in images:
        started = time.perf_counter()
        if len(row) != 1:
            raise InputError(f"candidates are predicted image by image: a row with {len(row)} images came")
        image = source.read()
        height, width = int(row.heights[0]), int(row.widths[0])
        if image.shape[:2] != (height, width):
            raise InputError(
                f"image {row.ids[0]}: the file is {image.shape[1]} x {image.shape[0]} pixels and its row "
                f"says {width} x {height}"
            )
        with torch.inference_mode():
            shown = _shown(image, chosen_views, pipelines)
            select = partial(
                _select, shape=(height, width), floor=score, dedupe_iou=dedupe_iou, cap=max_per_image
            )
            if in_network:
                parts, counts = _predict_merged(network, shown, select)
            else:
                parts, counts = _predict(network, shown, select, max(1, batch))
        n_raw, n_unique, n_kept = (int(total) for total in np.sum(counts, axis=0))
        yield (
            row,
            _joined(parts, height, width),
            CandidateStats(
                n_raw=n_raw,
                n_duplicates=n_raw - n_unique,
                n_over_cap=n_unique - n_kept,
                n_kept=n_kept,
                cap_bit=n_kept < n_unique,
                seconds=time.perf_counter() - started,
            ),
        )


def _pipelines(network: Network, scales: Sequence[int | tuple[int, int]] | None) -> list[TestPipeline]:
    steps = network.config["test_pipeline"]
    if scales is None:
        return [TestPipeline(steps)]
    if not scales:
        raise InputError("scales is empty: name at least one, or none at all for the test pipeline's own")
    sides = [(scale, scale) if isinstance(scale, int) else (int(scale[0]), int(scale[1])) for scale in scales]
    return [TestPipeline(steps, scale=pair) for pair in sides]


@dataclass(frozen=True)
class _Part:
    """Candidates of one view, in pixels of the image."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int16]
    source: int
    crops: NDArray[np.uint8]


def _shown(image: NDArray[np.uint8], views: Sequence[str], pipelines: Sequence[TestPipeline]) -> list[Shown]:
    """Every view of the image at every scale, scale by scale."""
    shown = []
    for pipeline in pipelines:
        for view in views:
            tensor, meta = pipeline(view_of_image(image, view))
            shown.append(Shown(view, tensor, meta, height=image.shape[0], width=image.shape[1]))
    return shown


def _predict(network, shown, select, batch):
    """The candidates of each view, and (raw, without duplicates, kept) of each."""
    parts, counts = [], []
    for _, same in groupby(enumerate(shown), key=lambda item: item[1].tensor.shape):
        group = list(same)
        for start in range(0, len(group), batch):
            chunk = group[start : start + batch]
            tensors = torch.from_numpy(np.stack([item.tensor for _, item in chunk])).to(network.device)
            forward = ForwardPass(network.model, tensors, [item.meta for _, item in chunk])
            for number, ((source, item), (boxes, scores)) in enumerate(
                zip(chunk, forward.boxes(), strict=True)
            ):
                kept, count = select(boxes, scores)
                crops, quality = forward.masks(number, kept.boxes, kept.labels)
                if quality is not None:  # mask scoring: the score of a mask is both, in the order of both
                    scores = kept.scores * quality.clip(0.0, 1.0)
                    order = np.argsort(-scores, kind="stable")
                    kept, crops = replace(kept, scores=scores).take(order), crops[order]
                size = {"height": item.height, "width": item.width}
                parts.append(
                    _Part(
                        boxes=boxes_from_view(kept.boxes, item.view, **size),
                        scores=kept.scores,
                        labels=kept.labels,
                        source=source,
                        crops=crops_from_view(crops, item.view),
                    )
                )
                counts.append(count)
    return parts, counts


def _predict_merged(network, shown, select):
    """The candidates of all views merged inside the network, as one part."""
    merged = merged_in_network(network, shown)
    kept, count = select(*merged.boxes())
    part = _Part(kept.boxes, kept.scores, kept.labels, 0, merged.masks(kept.boxes, kept.labels))
    return [part], [count]


def _select(boxes, scores, *, shape, floor, dedupe_iou, cap) -> tuple[Instances, tuple[int, int, int]]:
    """Candidates of one view without masks, by descending score (a tie keeps the order of the proposals)."""
    proposal, label = np.nonzero(scores >= floor)
    order = np.argsort(-scores[proposal, label], kind="stable")
    proposal, label = proposal[order], label[order]
    raw = Instances(
        boxes=np.ascontiguousarray(boxes[proposal, label]),
        scores=scores[proposal, label],
        labels=label.astype(np.int16),
        source=np.zeros(len(label), np.int16),
        masks=None,
        height=shape[0],
        width=shape[1],
    )
    unique = raw if dedupe_iou is None else non_maximum_suppression(raw, iou_threshold=dedupe_iou, by="box")
    kept = unique if cap is None or len(unique) <= cap else unique.take(np.arange(cap))
    return kept, (len(raw), len(unique), len(kept))


def _joined(parts: list[_Part], height: int, width: int) -> Instances:
    """All views of an image as one set."""
    soft = SoftMasks.concatenate(
        [SoftMasks.from_crops(cast(Sequence[NDArray[np.uint8]], part.crops), part.boxes) for part in parts]
    )
    return Instances(
        boxes=np.concatenate([part.boxes for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        source=np.concatenate([np.full(len(part.boxes), part.source, np.int16) for part in parts]),
        masks=Masks.from_soft(soft),
        height=height,
        width=width,
    )
