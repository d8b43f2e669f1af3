"""The two Parquet tables of a set as files: written beside and renamed, checked to belong together.

What is in the rows is said in ``parquet.py``.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hubmap_ml.instances.columns import column
from hubmap_ml.instances.images import Category, Images
from hubmap_ml.instances.on_disk import folder_beside, move_into_place
from hubmap_ml.spec import InputError

SCHEMA_VERSION = 1
IMAGES = "images.parquet"
INSTANCES = "instances.parquet"


class TablePair:
    """The two files being written; ``finish`` makes the set whole."""

    def __init__(self, target: Path, schema: pa.Schema) -> None:
        self.target = target
        self.schema = schema
        self.hash = hashlib.blake2b(digest_size=16)
        self.finished = False

    def __enter__(self) -> "TablePair":
        self.partial = folder_beside(self.target)
        self.writer = pq.ParquetWriter(self.partial / INSTANCES, self.schema, compression="zstd")
        return self

    def add(self, columns: Mapping[str, pa.Array]) -> None:
        """One row group."""
        table = pa.table([columns[name] for name in self.schema.names], schema=self.schema)
        for values in table.itercolumns():
            for chunk in values.chunks:
                for buffer in chunk.buffers():
                    if buffer is not None:
                        self.hash.update(buffer)
        self.writer.write_table(table, row_group_size=max(1, table.num_rows))

    def finish(self, images: Images, about: Mapping[str, Any]) -> None:
        """Write the images and the metadata."""
        table = _image_table(images)
        about = {**about, "schema_version": SCHEMA_VERSION}
        for name in table.column_names:
            self.hash.update(json.dumps(table.column(name).to_pylist()).encode())
        self.hash.update(json.dumps(about, sort_keys=True).encode())
        mark = {"hubmap_content": self.hash.hexdigest()}
        self.writer.add_key_value_metadata(mark)
        self.writer.close()
        pq.write_table(
            table.replace_schema_metadata({"hubmap": json.dumps(about), **mark}),
            self.partial / IMAGES,
            compression="zstd",
        )
        self.finished = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self.finished:
                move_into_place(self.partial, self.target, (INSTANCES, IMAGES))
        finally:
            self.writer.close()
            shutil.rmtree(self.partial, ignore_errors=True)


def _image_table(images: Images) -> pa.Table:
    frame = images.to_frame()
    numbers = {
        "height": pa.int32(),
        "width": pa.int32(),
        "fold": pa.int16(),
        "i": pa.int32(),
        "j": pa.int32(),
    }
    whole = len(images) > 0 and isinstance(images.original_ids[0], int)
    types = {**numbers, "original_id": pa.int64() if whole else pa.string()}
    columns = {name: pa.array(frame[name].tolist(), types.get(name, pa.string())) for name in frame.columns}
    return pa.table(columns)


def read_images(folder: Path, kind: str) -> tuple[Images, dict[str, Any], bytes]:
    """The images of a set, what it says of itself, and the mark that its other file must carry.

    Raises:
        InputError: no such folder or file, another program's file, another kind or schema version.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    table = _read(folder / IMAGES)
    metadata = table.schema.metadata or {}
    if b"hubmap" not in metadata or b"hubmap_content" not in metadata:
        raise InputError(f"{folder / IMAGES}: not written by this program (its metadata is missing)")
    about = json.loads(metadata[b"hubmap"])
    if about["schema_version"] != SCHEMA_VERSION:
        raise InputError(
            f"{folder}: written with schema version {about['schema_version']}, this program reads "
            f"{SCHEMA_VERSION}; write it again, or use the version of this program that wrote it"
        )
    if about["kind"] != kind:
        raise InputError(f"{folder}: holds {about['kind']}, expected {kind}")
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    images = Images.build(
        ids=columns["id"],
        heights=np.array(columns["height"], dtype=np.int64),
        widths=np.array(columns["width"], dtype=np.int64),
        original_ids=columns["original_id"],
        file_names=columns["file_name"],
        datasets=columns["dataset"],
        slides=columns["slide"],
        groups=columns["group"],
        splits=columns["split"],
        folds=np.array(columns["fold"], dtype=np.int64),
        positions=np.stack([np.array(columns[name], dtype=np.int64) for name in ("i", "j")], axis=1),
    )
    return images, about, metadata[b"hubmap_content"]


def read_instances(
    folder: Path, schema: pa.Schema, content: bytes, rows: NDArray[np.int64] | None
) -> pa.Table:
    """The instances, or those of the image rows, whose row groups alone are read; in the file's order."""
    path = folder / INSTANCES
    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata.metadata or {}
            if metadata.get(b"hubmap_content") != content:
                raise InputError(
                    f"{folder}: its two files are not of one set (half-written?); write it again"
                )
            if rows is None:
                return file.read(columns=schema.names)
            groups = []
            for k in range(file.metadata.num_row_groups):
                statistics = file.metadata.row_group(k).column(0).statistics
                if np.any((rows >= statistics.min) & (rows <= statistics.max)):
                    groups.append(k)
            table = file.read_row_groups(groups, columns=schema.names) if groups else schema.empty_table()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file (half-written?); write the set again") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    return table.filter(pa.array(np.isin(column(table, "image"), rows)))


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file (half-written?); write the set again") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def category_list(categories: Sequence[Category]) -> list[list[Any]]:
    """Categories as JSON: pairs of id and name."""
    return [[category.id, category.name] for category in categories]


def as_categories(data: Sequence[Sequence[Any]]) -> tuple[Category, ...]:
    """Back from ``category_list``."""
    return tuple(Category(int(number), str(name)) for number, name in data)
