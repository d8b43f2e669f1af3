"""Trained networks of others as checkpoint folders of ours."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hubmap_ml.models.checkpoints import Checkpoint, write_checkpoint
from hubmap_ml.models.detectors import build_detector
from hubmap_ml.models.importing import import_weights
from hubmap_ml.models.published import read_class_names
from hubmap_ml.spec import InputError

log = logging.getLogger(__name__)


def import_checkpoint(
    config: Mapping[str, Any],
    categories: Sequence[tuple[int, str]],
    source: Path,
    target: Path,
    *,
    ema: bool = False,
) -> Checkpoint:
    """Write a trained network of mmdet as a checkpoint folder.

    Args:
        config: a member's configuration, without weights to fetch.
        categories: (id, name) of each class, in the order of the network's labels.
        source: the file that its training saved; read as ``published.read_published`` does, nothing is executed.
        target: the folder to write.
        ema: the averaged weights, see ``read_published``.

    Raises:
        InputError: a file that cannot be read, that lacks a tensor of the network at its size, or that names the same
            classes in another order.
    """
    _compare_classes(source, [name for _, name in categories])
    model = build_detector(config, len(categories))
    report = import_weights(model, source, ema=ema)
    # a buffer such as BN's num_batches_tracked may be missing in old files and changes no prediction
    missing = [name for name in report.missing if not name.endswith("num_batches_tracked")]
    for what, names in (("another size for", report.reinitialised), ("no", missing)):
        if names:
            raise InputError(
                f"{source}: has {what} {names[0]!r} and {len(names) - 1} other tensors of the network that its "
                f"configuration describes for {len(categories)} classes; is it the checkpoint of this work_dir?"
            )
    log.info("%s: %s", source, report)
    return write_checkpoint(target, model, family="mmdet", config=config, categories=categories)


def _compare_classes(source: Path, ours: Sequence[str]) -> None:
    """Refuse a network that counts the same classes in another order; say it where it calls them otherwise."""
    theirs = read_class_names(source)
    if not theirs or list(theirs) == list(ours):
        return
    said = f"{source}: its classes are {', '.join(theirs)}, and the experiment's {', '.join(ours)}"
    if sorted(theirs) == sorted(ours):
        raise InputError(f"{said}: name them in the network's order (data.types)")
    log.warning("%s; they are taken to be the same, in this order", said)
