"""Candidate predictions: what a network proposes before class NMS, with soft masks, one image after the
other.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from hubmap_ml.data import ImageSource
from hubmap_ml.fusion import non_maximum_suppression
from hubmap_ml.inference.network import Network
from hubmap_ml.inference.two_stage import ForwardPass
from hubmap_ml.inference.views import check_views, flip_boxes, flip_crops, flip_image
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
) -> Iterator[tuple[Images, Instances, CandidateStats]]:
    """Predict the candidates of each image, as they come.

    Scores are the network's own; a mask scoring head's word is multiplied in last. A view flips the image itself, and
    boxes and masks are flipped back. Of boxes of a view that overlap by more than `dedupe_iou` and have one label only
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
            parts, counts = _predict(
                network, image, chosen_views, pipelines, score, dedupe_iou, max_per_image, max(1, batch)
            )
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
class _Input:
    """One view of an image, ready for the network."""

    source: int
    view: str
    tensor: NDArray[np.float32]
    meta: dict[str, Any]


@dataclass(frozen=True)
class _Part:
    """Candidates of one view, in pixels of the image."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int16]
    source: int
    crops: NDArray[np.uint8]


def _predict(network, image, views, pipelines, score, dedupe_iou, max_per_image, batch):
    """The candidates of each view, and (raw, without duplicates, kept) of each."""
    inputs = []
    for number, pipeline in enumerate(pipelines):
        for index, view in enumerate(views):
            tensor, meta = pipeline(flip_image(image, view))
            inputs.append(_Input(number * len(views) + index, view, tensor, meta))
    parts, counts = [], []
    for _, same in groupby(inputs, key=lambda item: item.tensor.shape):
        group = list(same)
        for start in range(0, len(group), batch):
            chunk = group[start : start + batch]
            tensors = torch.from_numpy(np.stack([item.tensor for item in chunk])).to(network.device)
            forward = ForwardPass(network.model, tensors, [item.meta for item in chunk])
            for number, (item, (boxes, scores)) in enumerate(zip(chunk, forward.boxes(), strict=True)):
                shape = image.shape[0], image.shape[1]
                kept, count = _select(boxes, scores, shape, score, dedupe_iou, max_per_image)
                crops, quality = forward.masks(number, kept.boxes, kept.labels)
                if quality is not None:  # mask scoring: the score of a mask is both, in the order of both
                    scores = kept.scores * quality.clip(0.0, 1.0)
                    order = np.argsort(-scores, kind="stable")
                    kept, crops = replace(kept, scores=scores).take(order), crops[order]
                parts.append(
                    _Part(
                        boxes=flip_boxes(kept.boxes, item.view, height=shape[0], width=shape[1]),
                        scores=kept.scores,
                        labels=kept.labels,
                        source=item.source,
                        crops=flip_crops(crops, item.view),
                    )
                )
                counts.append(count)
    return parts, counts


def _select(boxes, scores, shape, floor, dedupe_iou, cap) -> tuple[Instances, tuple[int, int, int]]:
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
