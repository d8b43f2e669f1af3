"""A trained and tuned predictor: images in, final instances out.

No MLflow and no global state: everything it knows lies in its folder, so that any process can open it.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.instances import Category, Images, Instances, PredictionSet, read_predictions
from hubmap_ml.predictor.combine import combine, combine_agreed
from hubmap_ml.predictor.folder import read_manifest
from hubmap_ml.predictor.images import ImageInput, Named, name_images
from hubmap_ml.predictor.nodes import Leaf, Network, Node, Stored, leaves_of
from hubmap_ml.spec import InputError

log = logging.getLogger(__name__)

CHUNK = 4


def open_predictor(folder: Path | str, device: str = "cpu") -> "Predictor":
    """Open a predictor folder; networks are loaded now, so that a bad one is found before the first image.

    Args:
        folder: as ``write_predictor`` makes it.
        device: where networks run, ``"cpu"`` or ``"cuda"``.

    Raises:
        InputError: the folder, a node, or a checkpoint is not what it should be.
    """
    return Predictor(Path(folder), device=device)


class Predictor:
    """A predictor folder, opened.

    Attributes:
        categories: what instances' labels index into.
        tree: what it does.
        properties: what was written down at its making.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        manifest = read_manifest(folder)
        self.folder = folder
        self.categories: tuple[Category, ...] = manifest.categories
        self.tree: Node = manifest.tree
        self.properties: Mapping[str, str] = manifest.properties
        self._stored_leaves = [leaf for leaf in leaves_of(self.tree) if isinstance(leaf, Stored)]
        self._networks: dict[str, Any] = {}
        for leaf in leaves_of(self.tree):
            if isinstance(leaf, Network) and leaf.path not in self._networks:
                from hubmap_ml.inference import open_network

                self._networks[leaf.path] = open_network(folder / leaf.path, device=device)

    @property
    def parameters(self) -> int:
        """Parameters of all networks together."""
        return sum(network.parameters for network in self._networks.values())

    @property
    def device_kind(self) -> str:
        """Where networks run: ``cpu`` or ``cuda``; ``cpu`` without any."""
        return next((str(network.device.type) for network in self._networks.values()), "cpu")

    def candidates(self, leaf: str, images: Iterable[Named]) -> PredictionSet:
        """Predict with one leaf alone, before anything above it: what its stage ``predict`` wrote.

        Args:
            leaf: its path.
            images: rows and sources.

        Raises:
            InputError: no such leaf, or what ``predict`` refuses.
        """
        for node in leaves_of(self.tree):
            if node.path == leaf:
                return self._candidates(node, list(images))
        raise InputError(f"predictor {self.folder} has no leaf {leaf!r}")

    def predict(self, images: Iterable[ImageInput] | ImageInput, *, chunk: int = CHUNK) -> PredictionSet:
        """Predict all images, holding pixels and candidates of ``chunk`` images at a time, results of all.

        Args:
            images: what ``name_images`` takes: paths, folders, COCO files, arrays, sources, or (row, source)
                pairs.
            chunk: images that go through the networks together.

        Returns:
            One set in the given order, with an entry for every image, empty ones too.

        Raises:
            InputError: an image that cannot be read, or one that stored predictions do not cover.
        """
        sets = list(self._chunks(images, chunk))
        if not sets:
            return PredictionSet.from_instances(
                Images.build(ids=[], heights=[], widths=[]), self.categories, []
            )
        return PredictionSet.concatenate(sets) if len(sets) > 1 else sets[0]

    def predict_each(
        self, images: Iterable[ImageInput] | ImageInput, *, chunk: int = CHUNK
    ) -> Iterator[tuple[Images, Instances]]:
        """As ``predict``, handing over each image's row and instances as soon as they are there."""
        for predictions in self._chunks(images, chunk):
            for row in range(len(predictions.images)):
                yield predictions.images.take([row]), predictions.image(row)

    def predict_agreed(
        self, images: Iterable[ImageInput] | ImageInput, *, chunk: int = CHUNK
    ) -> tuple[PredictionSet, NDArray[np.int64]]:
        """As ``predict`` of at least one image, and how many members agreed on each instance, int64 (N,).

        Raises:
            InputError: as ``predict``, or an ensemble that fuses by class.
        """
        sets, counts = [], []
        for leaf_of in self._leaves(images, chunk):
            found, agreed = combine_agreed(self.tree, leaf_of)
            sets.append(found.replace(cluster_offsets=None, member_rows=None))
            counts.append(agreed)
        return PredictionSet.concatenate(sets), np.concatenate(counts)

    def _chunks(self, images: Iterable[ImageInput] | ImageInput, chunk: int) -> Iterator[PredictionSet]:
        for leaf_of in self._leaves(images, chunk):
            # Clusters count through rows of this chunk's candidates, which nobody sees.
            yield combine(self.tree, leaf_of).replace(cluster_offsets=None, member_rows=None)

    def _leaves(
        self, images: Iterable[ImageInput] | ImageInput, chunk: int
    ) -> Iterator[Callable[[Leaf], PredictionSet]]:
        """For each chunk of images what gives a leaf's predictions of them, worked out once."""
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}, must be at least 1")
        named = name_images(images)
        while pairs := list(islice(named, chunk)):
            done: dict[Leaf, PredictionSet] = {}

            def leaf_of(
                leaf: Leaf, pairs: list[Named] = pairs, done: dict[Leaf, PredictionSet] = done
            ) -> PredictionSet:
                if leaf not in done:
                    done[leaf] = self._candidates(leaf, pairs)
                return done[leaf]

            for stored in self._stored_leaves:  # what they do not know is said before a network works on it
                leaf_of(stored)
            yield leaf_of

    def _candidates(self, leaf: Leaf, pairs: list[Named]) -> PredictionSet:
        return self._stored(leaf, pairs) if isinstance(leaf, Stored) else self._proposed(leaf, pairs)

    def _proposed(self, leaf: Network, pairs: list[Named]) -> PredictionSet:
        from hubmap_ml.inference import predict_candidates

        proposed = predict_candidates(
            self._networks[leaf.path],
            pairs,
            views=leaf.views,
            scales=leaf.scales,
            score=leaf.score,
            dedupe_iou=leaf.dedupe_iou,
            max_per_image=leaf.max_per_image,
            batch=leaf.batch,
            in_network=leaf.in_network,
        )
        rows, instances = [], []
        for row, found, stats in proposed:
            log.debug("%s: %d candidates of %s, %.2f s", row.ids[0], len(found), leaf.path, stats.seconds)
            rows.append(row)
            instances.append(found)
        images = Images.concatenate(rows)
        return PredictionSet.from_instances(images, self.categories, instances, leaf.sources)

    def _stored(self, leaf: Stored, pairs: list[Named]) -> PredictionSet:
        ids = [str(row.ids[0]) for row, _ in pairs]
        try:
            found = read_predictions(self.folder / leaf.path, image_ids=ids)
        except InputError as error:
            raise InputError(
                f"{error} ({leaf.path} of this predictor is stored predictions: it knows only their images)"
            ) from None
        for (row, _), height, width in zip(pairs, found.images.heights, found.images.widths, strict=True):
            if (row.heights[0], row.widths[0]) != (height, width):
                raise InputError(
                    f"image {row.ids[0]!r} is {row.widths[0]} x {row.heights[0]} pixels, and {leaf.path} of this "
                    f"predictor is stored predictions of one of {width} x {height}: it knows only their images"
                )
        names = [[category.name for category in side] for side in (found.categories, self.categories)]
        if names[0] != names[1]:
            raise InputError(
                f"{self.folder / leaf.path} has other categories than the predictor: make the predictor again"
            )
        return found.replace(categories=self.categories)
