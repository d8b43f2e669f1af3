"""How far the results of two runs of one stage are apart: scores, weights, candidates, thresholds, prepared data."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hubmap_ml.data import open_prepared
from hubmap_ml.spec import InputError
from hubmap_ml.tracking import FoundRun

NOT_RESULTS = ("time/", "system/")
"""Metrics that say how the work went, not what came out."""


@dataclass(frozen=True)
class Difference:
    """One result that is not the same: what, the recorded value and the repeated one."""

    what: str
    recorded: str
    repeated: str


Found = tuple[list[Difference], list[str], list[str]]
"""Differences, what was compared, and what could not be."""


def differences(stage: str, recorded: FoundRun, repeated: FoundRun) -> Found:
    """Compare the results of a stage: its metrics, and the artifacts that later stages read."""
    found, compared, missing = _metrics(recorded, repeated), ["metrics"], []
    for name, compare in _ARTIFACTS[stage].items():
        try:
            before = recorded.artifact(name)
        except InputError:
            missing.append(f"{name} of run {recorded.run_id[:12]} is gone and could not be compared")
            continue
        try:
            after = repeated.artifact(name)
        except InputError:
            found.append(Difference(name, "there", "missing"))
            continue
        found += compare(name, before, after)
        compared.append(name)
    return found, compared, missing


def _metrics(recorded: FoundRun, repeated: FoundRun) -> list[Difference]:
    before, after = (
        {key: value for key, value in run.metrics.items() if not key.startswith(NOT_RESULTS)}
        for run in (recorded, repeated)
    )
    return [
        Difference(f"metric {key}", _said(before.get(key)), _said(after.get(key)))
        for key in sorted(before.keys() | after.keys())
        if not _same(before.get(key), after.get(key))
    ]


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return a == b or (math.isnan(a) and math.isnan(b))


def _said(value: float | None) -> str:
    return "none" if value is None else repr(value)


def _bytes(name: str, before: Path, after: Path) -> list[Difference]:
    a, b = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (before, after))
    return [] if a == b else [Difference(f"digest of {name}", a, b)]


def _document(name: str, before: Path, after: Path) -> list[Difference]:
    a, b = (json.loads(path.read_text()) for path in (before, after))
    return [
        Difference(f"{name}: {key}", json.dumps(a.get(key)), json.dumps(b.get(key)))
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
    ]


def _table(name: str, before: Path, after: Path) -> list[Difference]:
    """Compare two Parquet files by value; the metadata names the run that wrote them."""
    a, b = (pq.read_table(path).replace_schema_metadata(None) for path in (before, after))
    if a.equals(b):
        return []
    if a.num_rows != b.num_rows:
        return [Difference(f"{name}: rows", str(a.num_rows), str(b.num_rows))]
    names = [column for column in a.column_names if column in b.column_names and a[column] != b[column]]
    names += sorted(set(a.column_names) ^ set(b.column_names))
    return [Difference(f"{name}: {column}", *_apart(a, b, column)) for column in names]


def _apart(a: pa.Table, b: pa.Table, column: str) -> tuple[str, str]:
    """Say how two columns differ: by how much where they are numbers, in how many rows where not."""
    if column not in a.column_names or column not in b.column_names:
        return tuple("there" if column in table.column_names else "missing" for table in (a, b))  # type: ignore[return-value]
    if pa.types.is_floating(a[column].type) or pa.types.is_integer(a[column].type):
        x, y = (np.asarray(table[column].to_numpy(), np.float64) for table in (a, b))
        row = int(np.nanargmax(np.abs(x - y))) if np.any(~np.isnan(x - y)) else 0
        return f"{x[row]!r} in row {row}, where they are furthest apart", repr(float(y[row]))
    n = sum(one != other for one, other in zip(a[column].to_pylist(), b[column].to_pylist(), strict=True))
    return "recorded", f"other in {n} of {a.num_rows} rows"


def _prepared(name: str, before: Path, after: Path) -> list[Difference]:
    a, b = open_prepared(before), open_prepared(after)
    found = [] if a.digest == b.digest else [Difference("digest of the prepared data", a.digest, b.digest)]
    for file in ("images.parquet", "instances.parquet"):
        found += _table(f"{name}/{file}", before / file, after / file)
    return found


_Compare = Callable[[str, Path, Path], list[Difference]]
_TRAINED: dict[str, _Compare] = {
    f"checkpoints/{name}/weights.safetensors": _bytes for name in ("best", "last")
}
_ARTIFACTS: dict[str, dict[str, _Compare]] = {
    "prepare": {"prepared": _prepared},
    "pseudo_label": {
        f"{name}/{file}": _table
        for name in ("annotations", "labels")
        for file in ("images.parquet", "instances.parquet")
    },
    "pretrain": _TRAINED,
    "finetune": _TRAINED,
    "predict": {
        f"{name}/{file}": _table
        for name in ("out_of_fold", "test")
        for file in ("images.parquet", "instances.parquet")
    },
    "tune": {"study.json": _document, "trials.parquet": _table},
}
