"""What a model says about images: boxes, scores, labels, masks.

One flat structure over all images, and its view of one.

A fused set also knows its clusters: which rows of the set it was fused from stand behind each instance.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hubmap_ml.instances.images import Category, Images, check_labels
from hubmap_ml.instances.masks import Masks
from hubmap_ml.instances.ragged import (
    as_rows,
    check_offsets,
    concatenate_ragged,
    offsets_of,
    rows_of_groups,
    take_ragged,
)
from hubmap_ml.spec import InputError


@dataclass(frozen=True, eq=False)
class Instances:
    """The instances of one image; every array has length n.

    Attributes:
        boxes: float32 (n, 4), x0, y0, x1, y1 in pixels, half-open.
        scores: float32.
        labels: int16, positions in the set's categories.
        source: int16, which member or view each comes from; 0 where there is one.
        masks: n masks, or None.
        height, width: of the image, pixels.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int16]
    source: NDArray[np.int16]
    masks: Masks | None
    height: int
    width: int

    def __post_init__(self) -> None:
        _settle(self, len(self.scores))

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def build(
        boxes: ArrayLike,
        scores: ArrayLike,
        labels: ArrayLike = 0,
        *,
        masks: Masks | None,
        height: int,
        width: int,
        source: ArrayLike = 0,
    ) -> "Instances":
        """Instances from anything array-like; one label or source stands for all."""
        given = np.asarray(scores, dtype=np.float32).reshape(-1)
        n = len(given)
        return Instances(
            boxes=np.asarray(boxes, dtype=np.float32).reshape(n, 4),
            scores=given,
            labels=np.array(np.broadcast_to(np.asarray(labels), (n,)), dtype=np.int16),
            source=np.array(np.broadcast_to(np.asarray(source), (n,)), dtype=np.int16),
            masks=masks,
            height=height,
            width=width,
        )

    @staticmethod
    def empty(height: int, width: int) -> "Instances":
        """An image in which nothing was found."""
        return Instances.build([], [], [], masks=Masks.empty(), height=height, width=width)

    def take(self, rows: ArrayLike) -> "Instances":
        """The given rows (integers or a boolean selection), in that order."""
        picked = as_rows(rows, len(self))
        return Instances(
            boxes=self.boxes[picked],
            scores=self.scores[picked],
            labels=self.labels[picked],
            source=self.source[picked],
            masks=None if self.masks is None else self.masks.take(picked),
            height=self.height,
            width=self.width,
        )

    def replace(self, **values: Any) -> "Instances":
        """The same instances with some fields replaced."""
        return replace_fields(self, **values)


@dataclass(frozen=True, eq=False)
class PredictionSet:
    """The instances of M images, N in all, sorted by image.

    Attributes:
        images: M rows; an image without instances is still a row.
        categories: what labels count through.
        offsets: int64 (M + 1,); image ``m`` has the rows ``offsets[m]`` to ``offsets[m + 1]``.
        boxes: float32 (N, 4), x0, y0, x1, y1 in pixels, half-open.
        scores: float32 (N,).
        labels: int16 (N,), positions in ``categories``.
        source: int16 (N,), positions in ``sources`` (member, view).
        masks: N masks, or None.
        sources: names that ``source`` counts through; () where nobody named them.
        cluster_offsets: int64 (N + 1,) or None: instance ``i`` was fused from the rows
            ``member_rows[cluster_offsets[i]:cluster_offsets[i + 1]]`` of the set that was fused.
        member_rows: int64, or None.
        file_order: int64 (N,) or None: place of each instance in the file it was read from, where that is not
            sorted by image; breaks ties in score.
        properties: what else is known, such as the run that made it.
    """

    images: Images
    categories: tuple[Category, ...]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int16]
    source: NDArray[np.int16]
    masks: Masks | None
    sources: tuple[str, ...] = ()
    cluster_offsets: NDArray[np.int64] | None = None
    member_rows: NDArray[np.int64] | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    file_order: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        n = len(self.scores)
        _settle(self, n)
        check_offsets(self.offsets, len(self.images), n)
        check_labels(self.labels, self.categories)
        if (self.cluster_offsets is None) != (self.member_rows is None):
            raise ValueError("clusters need both their offsets and their rows")
        if self.cluster_offsets is not None and self.member_rows is not None:
            check_offsets(self.cluster_offsets, n, len(self.member_rows))
        if self.file_order is not None and len(self.file_order) != n:
            raise ValueError(f"{n} instances with a file order of {len(self.file_order)}")

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def from_instances(
        images: Images,
        categories: Sequence[Category],
        instances: Sequence[Instances],
        sources: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
    ) -> "PredictionSet":
        """Instances of each image, in the order of the images.

        Raises:
            InputError: another number of images, or instances of an image of another size.
        """
        if len(instances) != len(images):
            raise InputError(f"instances of {len(instances)} images for a table of {len(images)}")
        for row, found in enumerate(instances):
            if (found.height, found.width) != (images.heights[row], images.widths[row]):
                raise InputError(
                    f"image {images.ids[row]!r} is {images.widths[row]} x {images.heights[row]}, "
                    f"its instances were made for {found.width} x {found.height}"
                )
        some = [found for found in instances if len(found) > 0]
        masks: list[Masks] = [found.masks for found in some if found.masks is not None]
        if masks and len(masks) != len(some):
            raise InputError("some images have masks and some have none: a set has masks for all or for none")
        unmasked = any(found.masks is None for found in instances) and not masks
        return PredictionSet(
            images=images,
            categories=tuple(categories),
            offsets=offsets_of([len(found) for found in instances]),
            boxes=np.concatenate([found.boxes for found in some]) if some else np.zeros((0, 4), np.float32),
            scores=np.concatenate([found.scores for found in some]) if some else np.zeros(0, np.float32),
            labels=np.concatenate([found.labels for found in some]) if some else np.zeros(0, np.int16),
            source=np.concatenate([found.source for found in some]) if some else np.zeros(0, np.int16),
            masks=None if unmasked else Masks.concatenate(masks),
            sources=tuple(sources),
            properties=dict(properties or {}),
        )

    def image(self, row: int) -> Instances:
        """The instances of one image (views, nothing is copied)."""
        rows = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return Instances(
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            source=self.source[rows],
            masks=None if self.masks is None else self.masks.take(np.arange(rows.start, rows.stop)),
            height=int(self.images.heights[row]),
            width=int(self.images.widths[row]),
        )

    def image_rows(self) -> NDArray[np.int64]:
        """The image of each instance, int64 (N,)."""
        return np.repeat(np.arange(len(self.images)), np.diff(self.offsets))

    def heights_of_instances(self) -> NDArray[np.int64]:
        """The height of each instance's image, int64 (N,)."""
        return np.repeat(self.images.heights.astype(np.int64), np.diff(self.offsets))

    def widths_of_instances(self) -> NDArray[np.int64]:
        """The width of each instance's image, int64 (N,)."""
        return np.repeat(self.images.widths.astype(np.int64), np.diff(self.offsets))

    def take(self, rows: ArrayLike) -> "PredictionSet":
        """Some instances of all images; every image stays a row.

        Args:
            rows: instances (integers or a boolean selection), those of an image together and images in order;
                any order inside an image.

        Raises:
            ValueError: rows that jump back to an earlier image.
        """
        picked = as_rows(rows, len(self))
        images = self.image_rows()[picked]
        if len(images) and np.any(np.diff(images) < 0):
            raise ValueError("instances must be taken image by image, images in order")
        counts = np.bincount(images, minlength=len(self.images))
        return self._picked(picked, images=self.images, offsets=offsets_of(counts))

    def take_images(self, rows: ArrayLike) -> "PredictionSet":
        """Some images with all their instances, in the given order."""
        chosen = as_rows(rows, len(self.images))
        picked, offsets = rows_of_groups(self.offsets, chosen)
        return self._picked(picked, images=self.images.take(chosen), offsets=offsets)

    def replace(self, **values: Any) -> "PredictionSet":
        """The same set with some fields replaced."""
        return replace_fields(self, **values)

    def _picked(
        self, rows: NDArray[np.int64], *, images: Images, offsets: NDArray[np.int64]
    ) -> "PredictionSet":
        clusters: NDArray[np.int64] | None = None
        members: NDArray[np.int64] | None = None
        if self.cluster_offsets is not None and self.member_rows is not None:
            members, clusters = take_ragged(self.member_rows, self.cluster_offsets, rows)
        return replace_fields(
            self,
            images=images,
            offsets=offsets,
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            source=self.source[rows],
            masks=None if self.masks is None else self.masks.take(rows),
            cluster_offsets=clusters,
            member_rows=members,
            file_order=None if self.file_order is None else self.file_order[rows],
        )

    @staticmethod
    def concatenate(sets: Sequence["PredictionSet"]) -> "PredictionSet":
        """Sets over different images, one after the other.

        Clusters and file orders are not kept, properties that all share are.

        Raises:
            InputError: an image in two sets, or sets with other categories, sources or kinds of content.
        """
        first = _alike(sets, "sources", lambda one: one.sources)
        return PredictionSet(
            images=Images.concatenate([one.images for one in sets]),
            offsets=concatenate_ragged([(one.scores, one.offsets) for one in sets])[1],
            source=np.concatenate([one.source for one in sets]),
            sources=first.sources,
            **_joined(sets),
        )

    @staticmethod
    def stack_sources(sets: Sequence["PredictionSet"], names: Sequence[str]) -> "PredictionSet":
        """Several opinions on the same images, side by side: ``source`` says which set an instance is from.

        Args:
            sets: over the same images (any order); what their own ``source`` said is lost.
            names: one for each set.

        Returns:
            A set over the first one's images; in each image the instances of the first set, then of the
            second, and so on. Clusters and file orders are not kept.

        Raises:
            InputError: sets over other images or categories.
        """
        if len(names) != len(sets):
            raise ValueError(f"{len(sets)} sets with {len(names)} names")
        first = _alike(sets, "images", lambda one: frozenset(one.images.ids))
        aligned = [
            one
            if np.array_equal(one.images.ids, first.images.ids)
            else one.take_images(one.images.rows_of(list(first.images.ids)))
            for one in sets
        ]
        side_by_side = PredictionSet(
            images=Images.build(ids=["all"], heights=1, widths=1),
            offsets=offsets_of([sum(len(one) for one in aligned)]),
            source=np.repeat(np.arange(len(aligned)), [len(one) for one in aligned]).astype(np.int16),
            sources=tuple(names),
            **_joined(aligned),
        )
        rows = np.concatenate([one.image_rows() for one in aligned])
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=len(first.images))
        return side_by_side._picked(order, images=first.images, offsets=offsets_of(counts))


def _settle(found: Instances | PredictionSet, n: int) -> None:
    """Check lengths and bring the arrays to the types that the class promises."""
    for name, dtype, shape in (
        ("boxes", np.float32, (n, 4)),
        ("scores", np.float32, (n,)),
        ("labels", np.int16, (n,)),
        ("source", np.int16, (n,)),
    ):
        values = np.asarray(getattr(found, name), dtype=dtype)
        if values.shape != shape:
            raise ValueError(f"{name} of shape {values.shape} for {n} instances")
        object.__setattr__(found, name, values)
    if found.masks is not None and len(found.masks) != n:
        raise ValueError(f"{len(found.masks)} masks for {n} instances")


def _alike(sets: Sequence[PredictionSet], what: str, of: Callable[[PredictionSet], object]) -> PredictionSet:
    """The first set, after checking that the others agree in categories, in ``what`` and in having masks."""
    if not sets:
        raise InputError("no predictions to put together")
    for k, one in enumerate(sets[1:], start=2):
        if one.categories != sets[0].categories:
            raise InputError(
                f"predictions 1 and {k} have different categories: {sets[0].categories}, {one.categories}"
            )
        if of(one) != of(sets[0]):
            raise InputError(f"predictions 1 and {k} have different {what}")
        if (one.masks is None) != (sets[0].masks is None):
            raise InputError(f"predictions 1 and {k}: one has masks and the other none")
    return sets[0]


def _joined(sets: Sequence[PredictionSet]) -> dict[str, Any]:
    masks = [one.masks for one in sets if one.masks is not None]
    shared = set.intersection(*(set(one.properties.items()) for one in sets))
    return {
        "categories": sets[0].categories,
        "boxes": np.concatenate([one.boxes for one in sets]),
        "scores": np.concatenate([one.scores for one in sets]),
        "labels": np.concatenate([one.labels for one in sets]),
        "masks": Masks.concatenate(masks) if masks else None,
        "properties": {key: value for key, value in sets[0].properties.items() if (key, value) in shared},
    }
