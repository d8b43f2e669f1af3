"""Predictions and annotations as two Parquet tables in one folder.

``images.parquet`` has a row for each image and, in its metadata, what the whole set says of itself: what it
is, the schema's version, categories, sources, properties. ``instances.parquet`` has a row for each instance,
sorted by image (``image`` is the row in the other table), zstd, in row groups that end with an image. A new
folder is written beside its place and renamed; in a folder that is there already the two files are replaced,
and carry the same ``content`` mark, so that files which do not belong together are not read as a set.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hubmap_ml.instances.annotations import Annotations
from hubmap_ml.instances.columns import MASK_FIELDS, column, lists, masks_from_table, masks_to_columns
from hubmap_ml.instances.images import Category, Images
from hubmap_ml.instances.masks import Masks
from hubmap_ml.instances.parquet_tables import (
    TablePair,
    as_categories,
    category_list,
    read_images,
    read_instances,
)
from hubmap_ml.instances.predictions import Instances, PredictionSet
from hubmap_ml.instances.ragged import offsets_of
from hubmap_ml.spec import InputError

_BOX = ("x0", "y0", "x1", "y1")
_PLACE = (pa.field("image", pa.int32()), *(pa.field(name, pa.float32()) for name in _BOX))
_PREDICTIONS = pa.schema(
    [
        *_PLACE,
        pa.field("score", pa.float32()),
        pa.field("label", pa.int16()),
        pa.field("source", pa.int16()),
        *MASK_FIELDS,
        pa.field("member_rows", pa.large_list(pa.int64())),
        pa.field("file_order", pa.int64()),
    ]
)
_ANNOTATIONS = pa.schema(
    [
        *_PLACE,
        pa.field("label", pa.int16()),
        pa.field("iscrowd", pa.bool_()),
        pa.field("area", pa.float64()),
        pa.field("id", pa.int64()),
        *MASK_FIELDS,
    ]
)
_ROWS_A_GROUP = 4096
"""Instances in a row group, at least, but for the last: with 28 x 28 soft masks about 3 MB."""


def write_predictions(folder: Path | str, predictions: PredictionSet) -> None:
    """Write a set; ``read_predictions`` gives it back, every field."""
    images = predictions.images
    with TablePair(Path(folder), _PREDICTIONS) as out:
        for first, stop in _groups(predictions.offsets):
            rows = slice(int(predictions.offsets[first]), int(predictions.offsets[stop]))
            clusters = None
            if predictions.cluster_offsets is not None and predictions.member_rows is not None:
                part = predictions.cluster_offsets[rows.start : rows.stop + 1]
                clusters = (predictions.member_rows[part[0] : part[-1]], part - part[0])
            places = np.repeat(np.arange(first, stop), np.diff(predictions.offsets[first : stop + 1]))
            out.add(
                _prediction_columns(
                    places,
                    boxes=predictions.boxes[rows],
                    scores=predictions.scores[rows],
                    labels=predictions.labels[rows],
                    source=predictions.source[rows],
                    masks=None
                    if predictions.masks is None
                    else predictions.masks.take(np.arange(rows.start, rows.stop)),
                    clusters=clusters,
                    file_order=None if predictions.file_order is None else predictions.file_order[rows],
                )
            )
        out.finish(
            images,
            {
                "kind": "predictions",
                "categories": category_list(predictions.categories),
                "sources": list(predictions.sources),
                "properties": dict(predictions.properties),
                "masks": predictions.masks is not None,
                "clusters": predictions.cluster_offsets is not None,
                "file_order": predictions.file_order is not None,
            },
        )


def read_predictions(folder: Path | str, image_ids: Sequence[str] | None = None) -> PredictionSet:
    """Read a set, or only some of its images, in the order asked for.

    Raises:
        InputError: no such folder, files that are broken, half-written, of another kind or version; an id
            that is not there.
    """
    folder = Path(folder)
    images, about, content = read_images(folder, "predictions")
    rows = None if image_ids is None else images.rows_of(image_ids)
    table = read_instances(folder, _PREDICTIONS, content, rows)
    place = column(table, "image")
    clusters: NDArray[np.int64] | None = None
    members: NDArray[np.int64] | None = None
    if about["clusters"]:
        members, clusters = lists(table, "member_rows")
    found = PredictionSet(
        images=images,
        categories=as_categories(about["categories"]),
        offsets=offsets_of(np.bincount(place, minlength=len(images))),
        boxes=np.stack([column(table, name) for name in _BOX], axis=1),
        scores=column(table, "score"),
        labels=column(table, "label"),
        source=column(table, "source"),
        masks=masks_from_table(table) if about["masks"] else None,
        sources=tuple(about["sources"]),
        cluster_offsets=clusters,
        member_rows=members,
        properties=about["properties"],
        file_order=column(table, "file_order").astype(np.int64) if about["file_order"] else None,
    )
    return found if rows is None else found.take_images(rows)


class PredictionWriter:
    """Writes predictions image by image, holding one row group in memory.

    Use as a context manager: the folder appears when the block ends, and not at all if it ends with an error.
    Every image has masks, or none has.

    Example:
        >>> with PredictionWriter(folder, categories=[Category(1, "vessel")]) as writer:  # doctest: +SKIP
        ...     writer.add(images.take([0]), instances)
    """

    def __init__(
        self,
        folder: Path | str,
        categories: Sequence[Category],
        sources: Sequence[str] = (),
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.properties: dict[str, str] = dict(properties or {})  # may grow until the block ends
        self._about = {"categories": category_list(categories), "sources": list(sources)}
        self._out = TablePair(self.folder, _PREDICTIONS)
        self._images: list[Images] = []
        self._pending: list[tuple[int, Instances]] = []
        self._n_pending = 0
        self._masks: bool | None = None

    def __enter__(self) -> "PredictionWriter":
        self._out.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._write_group()
                self._out.finish(
                    Images.concatenate(self._images),
                    {
                        "kind": "predictions",
                        **self._about,
                        "properties": self.properties,
                        "masks": self._masks is not False,
                        "clusters": False,
                        "file_order": False,
                    },
                )
        except BaseException as raised:
            self._out.__exit__(type(raised), raised, raised.__traceback__)
            raise
        self._out.__exit__(kind, error, trace)

    def add(self, image: Images, instances: Instances) -> None:
        """Add one image.

        Args:
            image: its row (a table of length 1).
            instances: what was found in it, possibly nothing.

        Raises:
            InputError: another size than the image's, or masks after none (or none after masks).
        """
        if len(image) != 1:
            raise ValueError(f"one image at a time, not {len(image)}")
        if (instances.height, instances.width) != (image.heights[0], image.widths[0]):
            raise InputError(f"image {image.ids[0]!r}: its instances were made for another size")
        if len(instances):
            masks = instances.masks is not None
            if self._masks is not None and masks != self._masks:
                raise InputError(f"image {image.ids[0]!r}: a set has masks for all instances or for none")
            self._masks = masks
        self._pending.append((len(self._images), instances))
        self._images.append(image)
        self._n_pending += len(instances)
        if self._n_pending >= _ROWS_A_GROUP:
            self._write_group()

    def _write_group(self) -> None:
        some = [(row, found) for row, found in self._pending if len(found)]
        self._pending, self._n_pending = [], 0
        if not some:
            return
        masks = [found.masks for _, found in some if found.masks is not None]
        self._out.add(
            _prediction_columns(
                np.repeat([row for row, _ in some], [len(found) for _, found in some]),
                boxes=np.concatenate([found.boxes for _, found in some]),
                scores=np.concatenate([found.scores for _, found in some]),
                labels=np.concatenate([found.labels for _, found in some]),
                source=np.concatenate([found.source for _, found in some]),
                masks=Masks.concatenate(masks) if masks else None,
            )
        )


def write_annotations(
    folder: Path | str, annotations: Annotations, properties: Mapping[str, str] | None = None
) -> None:
    """Write annotations; ``read_annotations`` gives them back, every field."""
    with TablePair(Path(folder), _ANNOTATIONS) as out:
        for first, stop in _groups(annotations.offsets):
            rows = slice(int(annotations.offsets[first]), int(annotations.offsets[stop]))
            places = np.repeat(np.arange(first, stop), np.diff(annotations.offsets[first : stop + 1]))
            out.add(
                {
                    "image": pa.array(places.astype(np.int32)),
                    **{name: pa.array(annotations.boxes[rows, k]) for k, name in enumerate(_BOX)},
                    "label": pa.array(annotations.labels[rows]),
                    "iscrowd": pa.array(annotations.iscrowd[rows]),
                    "area": pa.array(annotations.areas[rows]),
                    "id": pa.array(annotations.ids[rows]),
                    **masks_to_columns(annotations.masks.take(np.arange(rows.start, rows.stop)), len(places)),
                }
            )
        about = {"kind": "annotations", "categories": category_list(annotations.categories)}
        out.finish(annotations.images, {**about, "properties": dict(properties or {})})


def read_annotations(folder: Path | str, image_ids: Sequence[str] | None = None) -> Annotations:
    """Read annotations, or those of some images only, in the order asked for.

    Raises:
        InputError: as ``read_predictions``.
    """
    folder = Path(folder)
    images, about, content = read_images(folder, "annotations")
    rows = None if image_ids is None else images.rows_of(image_ids)
    table = read_instances(folder, _ANNOTATIONS, content, rows)
    found = Annotations(
        images=images,
        categories=as_categories(about["categories"]),
        offsets=offsets_of(np.bincount(column(table, "image"), minlength=len(images))),
        boxes=np.stack([column(table, name) for name in _BOX], axis=1),
        labels=column(table, "label"),
        masks=masks_from_table(table),
        iscrowd=column(table, "iscrowd"),
        areas=column(table, "area"),
        ids=column(table, "id"),
    )
    return found if rows is None else found.take_images(rows)


def _groups(offsets: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs of whole images [first, stop) with about ``_ROWS_A_GROUP`` instances each; none for no
    instances.
    """
    out, first = [], 0
    for stop in range(1, len(offsets)):
        if offsets[stop] - offsets[first] >= _ROWS_A_GROUP:
            out.append((first, stop))
            first = stop
    if offsets[-1] > offsets[first]:
        out.append((first, len(offsets) - 1))
    return out


def _prediction_columns(
    places: NDArray[Any],
    *,
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    labels: NDArray[np.int16],
    source: NDArray[np.int16],
    masks: Masks | None,
    clusters: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    file_order: NDArray[np.int64] | None = None,
) -> dict[str, pa.Array]:
    n = len(scores)
    members, cluster_offsets = (
        clusters if clusters is not None else (np.zeros(0, np.int64), np.zeros(n + 1, np.int64))
    )
    return {
        "image": pa.array(np.asarray(places, dtype=np.int32)),
        **{name: pa.array(boxes[:, k]) for k, name in enumerate(_BOX)},
        "score": pa.array(scores),
        "label": pa.array(labels),
        "source": pa.array(source),
        **masks_to_columns(masks, n),
        "member_rows": pa.LargeListArray.from_arrays(pa.array(cluster_offsets), pa.array(members)),
        "file_order": pa.nulls(n, pa.int64()) if file_order is None else pa.array(file_order),
    }
