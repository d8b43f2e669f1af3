"""Raw files of Sartorius - Cell Instance Segmentation (Kaggle, 2021).

train.csv has a row for each cell: ``id, annotation, width, height, cell_type, plate_time, sample_date, sample_id,
elapsed_timedelta``, with row-major run lengths from 1. Cell types are the annotation types. ``sample_id`` names plate
and well (``shsy5y[diff]_E10-4_Vessel-714_Ph_3``: plate 714, well E10): the slide is the plate, the group
``714_E10``, so that folds can keep wells together. Images are train/*.png (dataset ``train``),
train_semi_supervised/*.png (dataset ``semi_supervised``, no annotations), on request LIVECell's, which the competition
gave along (dataset ``livecell``, with COCO annotations), and test/*.png.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubmap_ml.data.assembly import Converted, Entry, Plan, Progress, Record, assemble, require_raw
from hubmap_ml.data.classes import Classes
from hubmap_ml.data.coco_files import Reading, make_masks
from hubmap_ml.data.listing import image_ids, test_order
from hubmap_ml.data.livecell import read_beside
from hubmap_ml.data.rejected import Rejected
from hubmap_ml.data.tables import read_loose_csv
from hubmap_ml.instances import BitMasks
from hubmap_ml.instances.row_runs import from_row_runs
from hubmap_ml.spec import InputError
from hubmap_ml.spec.data_options import Sartorius2021Options

TABLE = "train.csv"
LIVECELL = "livecell"
COLUMNS = ("id", "annotation", "width", "height", "cell_type", "sample_id")
_SAMPLE = re.compile(r"_([A-Za-z]+[0-9]+)-[0-9]+_Vessel-([0-9A-Za-z]+)_")
_WHOLE = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class _Runs:
    """Run lengths, and the image size that their row states."""

    text: str
    height: int
    width: int


@dataclass(frozen=True)
class _Table:
    samples: Mapping[str, str]
    records: Mapping[str, Sequence[Record]]
    rejected: Sequence[Rejected]
    unwanted: Mapping[str, int]


def convert(
    raw: Path,
    *,
    types: Sequence[str],
    workers: int = 1,
    max_rejected: float = 0.01,
    progress: Progress | None = None,
    options: Sartorius2021Options | None = None,
) -> Converted:
    """Read a raw folder.

    Training images come in the order of train.csv, then those without annotations by name, then test images in the
    order of sample_submission.csv.

    Args:
        raw: the folder that holds train/ and train.csv.
        types: cell types that become categories 0, 1, … in this order.
        workers: threads; they change nothing in the result.
        max_rejected: share of rows, and of training images, that may be left out before this stops.
        progress: called with (images done, images in all).
        options: of the experiment file.

    Raises:
        InputError: a missing file or column, an image that cannot be read or comes twice, a type that occurs nowhere,
            or too many rejected rows.
    """
    options = options or Sartorius2021Options()
    classes = Classes.of(types, options.ignore)
    require_raw(raw, workers)
    train = image_ids(raw / "train", ".png")
    table = _read_table(raw / TABLE, train, classes)
    strays = [
        Rejected(f"train/{image}.png", "the image", f"no usable row of {TABLE} names it", 0)
        for image in sorted(train - set(table.samples))
    ]
    entries = [_entry(image, f"train/{image}.png", "train", s) for image, s in table.samples.items()]
    if options.semi_supervised:
        folder = "train_semi_supervised"
        bare = sorted(image_ids(raw / folder, ".png"))
        entries += [_entry(image, f"{folder}/{image}.png", "semi_supervised", image) for image in bare]
    more = Reading() if options.livecell is None else read_beside(raw, options.livecell, classes, LIVECELL)
    entries += more.entries.values()
    test = test_order(raw, image_ids(raw / "test", ".png"), ".png")
    entries += [Entry(image, f"test/{image}.png", split="test", dataset="test") for image in test]
    twice = [image for image, times in Counter(entry.id for entry in entries).items() if times > 1]
    if twice:
        raise InputError(
            f"{raw}: the image {twice[0]} is in two of train/, train_semi_supervised/, LIVECell and test/: keep one"
        )
    plan = Plan(
        entries=entries,
        records={**table.records, **more.records},
        rejected=[*table.rejected, *more.rejected],
        strays=[*strays, *more.strays],
        left_out={**{f"type {kind}": count for kind, count in table.unwanted.items()}, **more.left_out},
        images_are="training images",
    )
    return assemble(
        raw,
        plan,
        _decode,
        classes=classes,
        options=options,
        workers=workers,
        max_rejected=max_rejected,
        progress=progress,
    )


def plate_and_well(sample_id: str) -> tuple[str, str] | None:
    """Plate and well of a ``sample_id`` (or of a semi-supervised image's name); None where it names none.

    Example:
        >>> plate_and_well("shsy5y[diff]_E10-4_Vessel-714_Ph_3")
        ('714', 'E10')
    """
    found = _SAMPLE.search(sample_id)
    return (found[2], found[1]) if found else None


def _entry(image: str, file_name: str, dataset: str, sample_id: str) -> Entry:
    plate, well = plate_and_well(sample_id) or ("", "")
    return Entry(image, file_name, dataset=dataset, slide=plate, group=f"{plate}_{well}" if well else "")


def _read_table(path: Path, images: set[str], classes: Classes) -> _Table:
    """train.csv, row by row; a wrong row is rejected."""
    samples: dict[str, str] = {}
    records: dict[str, list[Record]] = {}
    rejected: list[Rejected] = []
    counts: Counter[str] = Counter()
    for line, row in read_loose_csv(path, COLUMNS):
        place = f"line {line}"
        reason = _wrong(row, images, samples)
        if row is None or reason is not None:
            rejected.append(Rejected(path.name, place, reason or ""))
            continue
        image, kind = row["id"], row["cell_type"]
        samples.setdefault(image, row["sample_id"])
        counts[kind] += 1
        if kind in classes.wanted:
            runs = _Runs(row["annotation"], int(row["height"]), int(row["width"]))
            records.setdefault(image, []).append(Record(kind, runs, path.name, f"{place} (image {image})"))
    if not samples and rejected:
        first = rejected[0]
        raise InputError(f"{path} has no usable row; the first is {first.record}: {first.reason}")
    classes.require(counts, path)
    unwanted = {kind: count for kind, count in counts.items() if kind not in classes.wanted}
    return _Table(samples, records, rejected, unwanted)


def _wrong(row: Mapping[str, str] | None, images: set[str], samples: Mapping[str, str]) -> str | None:
    if row is None:
        return "it has another number of cells than the first line"
    if row["id"] not in images:
        return f"there is no train/{row['id']}.png"
    if not row["cell_type"]:
        return "it has no cell_type"
    if plate_and_well(row["sample_id"]) is None:
        return f"its sample_id {row['sample_id']!r} names no well and plate (…_E10-4_Vessel-714_…)"
    if samples.get(row["id"], row["sample_id"]) != row["sample_id"]:
        return f"its sample_id {row['sample_id']!r} is not that of the image's first row"
    for side in ("width", "height"):
        if not _WHOLE.fullmatch(row[side]):
            return f"its {side} {row[side]!r} is no whole number of pixels"
    return None


def _decode(
    entry: Entry, records: Sequence[Record], height: int, width: int
) -> tuple[BitMasks, list[str | None]]:
    if entry.dataset == LIVECELL:
        return make_masks(entry, records, height, width)
    runs: list[_Runs] = [record.geometry for record in records]
    masks, reasons = from_row_runs([one.text for one in runs], height, width)
    for k, one in enumerate(runs):
        if (one.height, one.width) != (height, width):
            reasons[k] = (
                f"its image is {width} x {height} pixels (width x height), the row says {one.width} x {one.height}"
            )
    return masks, reasons
