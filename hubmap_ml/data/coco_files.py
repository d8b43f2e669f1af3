"""COCO files as raw data: every image and annotation record is taken or rejected for itself.

(``instances.read_coco`` reads a file that must be right as a whole, such as a truth to score against.)
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hubmap_ml.data.assembly import Entry, Plan, Record
from hubmap_ml.data.classes import Classes
from hubmap_ml.data.rejected import Rejected
from hubmap_ml.instances import BitMasks
from hubmap_ml.instances.coco_records import field as field_of
from hubmap_ml.instances.coco_records import load_json, number, read_categories, records_of, run_lengths
from hubmap_ml.spec import InputError

_LARGEST_ID = 2**62
_LARGEST_PLACE = 2**31 - 1


@dataclass(frozen=True)
class CocoFile:
    """One file: its name in reports, and its records as they stand there.

    Attributes:
        categories: names by id.
        annotations: a record, or something else, each with its place in the file.
    """

    name: str
    images: Sequence[Any]
    annotations: Sequence[tuple[str, Any]]
    categories: Mapping[int, str]


@dataclass
class Reading:
    """What has been found so far, over all files.

    Attributes:
        counts: annotations by type, wanted or not.
        left_out: annotations by the reason why they are not wanted.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    records: dict[str, list[Record]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    strays: list[Rejected] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def plan(self) -> Plan:
        """All of it, training images before test images."""
        entries = sorted(self.entries.values(), key=lambda entry: entry.split == "test")
        if not all(isinstance(entry.original_id, int) for entry in entries):
            entries = [Entry(**{**entry.__dict__, "original_id": entry.id}) for entry in entries]
        return Plan(entries, self.records, self.rejected, self.strays, self.left_out, "images")


def read_coco_file(path: Path, name: str) -> CocoFile:
    """Read a file.

    Args:
        name: what to call it in reports.

    Raises:
        InputError: no such file, no json, or something else than lists (or mappings from id) of images, annotations
            and categories with an id and a name each.
    """
    data = load_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or key not in data:
            raise InputError(
                f"{path}: a COCO file is an object with images, annotations and categories; no {key!r}"
            )
        if not isinstance(data[key], list | dict):
            raise InputError(f"{path}: {key!r} is a {type(data[key]).__name__}, expected a list of records")
    images, annotations = data["images"], data["annotations"]
    if isinstance(images, dict):
        images = [{"id": key, **part} if isinstance(part, dict) else part for key, part in images.items()]
    if isinstance(annotations, dict):  # LIVECell's files of single cell types
        placed = [(f"annotation {_short(key)}", part) for key, part in annotations.items()]
    else:
        placed = [(f"annotation {k} of the list", part) for k, part in enumerate(annotations)]
    categories = read_categories(path, records_of(path, data, "categories"))
    return CocoFile(name, images, placed, {category.id: category.name for category in categories})


def take_file(
    reading: Reading,
    file: CocoFile,
    classes: Classes,
    *,
    make_entry: Callable[[Mapping[str, Any], int | str], Entry],
    type_of: Callable[[Entry, str], str] = lambda entry, category: category,
) -> None:
    """Take a file's records into ``reading``.

    Args:
        make_entry: an image from its record and its id there; raises InputError with what is wrong.
        type_of: the type of an annotation from its image and the name of its category.
    """
    by_id: dict[int | str, Entry | None] = {}  # None: the image was rejected
    for k, record in enumerate(file.images):
        place = f"image {k} of the list"
        try:
            original = _image_id(record)
            place = f"image {_short(original)}"
            if original in by_id:
                raise InputError("its id came already")
            by_id[original] = None
            entry = make_entry(record, original)
            if entry.id in reading.entries:
                raise InputError(f"an image {_short(entry.id)} came already")
        except InputError as error:
            reading.strays.append(Rejected(file.name, place, str(error), 0))
            continue
        by_id[original] = reading.entries[entry.id] = entry
    for place, record in file.annotations:
        try:
            entry, kind = _place(record, by_id, file, type_of)
            reading.counts[kind] += 1
            if entry.split == "test":
                reading.left_out["annotations of test images"] += 1
            elif kind not in classes.wanted:
                reading.left_out[f"type {kind}"] += 1
            else:
                reading.records.setdefault(entry.id, []).append(_record(record, kind, file.name, place))
        except InputError as error:
            reading.rejected.append(Rejected(file.name, place, str(error)))


def make_masks(
    entry: Entry, records: Sequence[Record], height: int, width: int
) -> tuple[BitMasks, list[str | None]]:
    """Masks of segmentations in any of COCO's forms."""
    counts: list[Any] = []
    reasons: list[str | None] = []
    for record in records:
        try:
            counts.append(run_lengths(record.geometry, height, width, ""))
            reasons.append(None)
        except InputError as error:
            counts.append([height * width])
            reasons.append(str(error).removeprefix(": "))
    try:
        return BitMasks.from_rle(counts, height, width), reasons
    except InputError:
        return _one_by_one(counts, reasons, height, width)


def text(record: Mapping[str, Any], key: str, default: str = "") -> str:
    """A text of a record, "" (or the default) where it has none.

    Raises:
        InputError: something else than text, or text that no file can hold.
    """
    value = record.get(key, default)
    if not isinstance(value, str) or "\0" in value or not _encodes(value):
        raise InputError(f"its {key} is {_short(value)}, expected text")
    return value


def size_of(record: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of an image record.

    Raises:
        InputError: one is missing or no whole number of pixels.
    """
    height, width = (_whole(field_of(record, side, "the image"), side) for side in ("height", "width"))
    return height, width


def position_of(record: Mapping[str, Any]) -> tuple[int, int]:
    """The place i, j of an image record, -1 where unknown.

    Raises:
        InputError: no whole number.
    """
    return _whole(record.get("i", -1), "i"), _whole(record.get("j", -1), "j")


def _one_by_one(
    counts: Sequence[Any], reasons: list[str | None], height: int, width: int
) -> tuple[BitMasks, list[str | None]]:
    masks = []
    for k, one in enumerate(counts):
        try:
            masks.append(BitMasks.from_rle([one], height, width, name_of=lambda row: ""))
        except InputError as error:
            masks.append(BitMasks.empty(1))
            reasons[k] = str(error).removeprefix(": ")
    return BitMasks.concatenate(masks), reasons


def _place(
    record: Any,
    by_id: Mapping[int | str, Entry | None],
    file: CocoFile,
    type_of: Callable[[Entry, str], str],
) -> tuple[Entry, str]:
    """The image of an annotation, and its type."""
    if not isinstance(record, dict):
        raise InputError(f"it is a {type(record).__name__}, expected a record")
    image, category = (field_of(record, key, "the annotation") for key in ("image_id", "category_id"))
    if isinstance(image, bool) or not isinstance(image, int | str) or image not in by_id:
        raise InputError(f"there is no image {_short(image)}")
    entry = by_id[image]
    if entry is None:
        raise InputError(f"its image {_short(image)} was left out")
    if isinstance(category, bool) or not isinstance(category, int) or category not in file.categories:
        raise InputError(f"there is no category {_short(category)}")
    return entry, type_of(entry, file.categories[category])


def _record(record: Mapping[str, Any], kind: str, file: str, place: str) -> Record:
    crowd, area = record.get("iscrowd", 0), record.get("area")
    if crowd not in (0, 1):
        raise InputError(f"its iscrowd is {_short(crowd)}, expected 0 or 1")
    if area is not None and number(area, "area", "the annotation") < 0:
        raise InputError(f"its area is {_short(area)}, expected a number from 0 up")
    segmentation = field_of(record, "segmentation", "the annotation")
    return Record(kind, segmentation, file, place, bool(crowd), None if area is None else float(area))


def _image_id(record: Any) -> int | str:
    if not isinstance(record, dict):
        raise InputError(f"it is a {type(record).__name__}, expected a record")
    original = field_of(record, "id", "the image")
    if isinstance(original, str):
        return text(record, "id")
    if isinstance(original, bool) or not isinstance(original, int) or abs(original) >= _LARGEST_ID:
        raise InputError(f"its id is {_short(original)}, expected a whole number or text")
    return original


def _whole(value: Any, key: str) -> int:
    found = number(value, key, "the image", whole=True)
    if abs(found) > _LARGEST_PLACE:
        raise InputError(f"its {key} is {_short(value)}: no number of pixels")
    return int(found)


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(value: Any) -> str:
    try:
        shown = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a whole number of thousands of digits"
    return shown if len(shown) <= 80 else shown[:77] + "…"
