"""Two hundred mutations of each raw format: one clear line, or every record is accounted for."""

import copy
import csv
import io
import json

import numpy as np
import pytest

from hubmap_ml.data import convert_raw
from hubmap_ml.spec import InputError
from tests.data import raw_folders

MUTATIONS, SEED = 200, 0
WEIRD = [
    None, True, False, -1, 0, 1, 2**31, 2**63, 10**30, 10**400, 0.5, -1.5, 1e308, float("nan"), float("inf"), "", " ",
    "x", "²", "\ud800", "a\0b", "a\nb", "../../etc", "/", "7", "-", "nan", "1e5", [], {}, [[]], [None], [{}], {"a": 1},
    [1, 2], [[1, 2], [3, 4]], "x" * 5000, [1e7] * 8, {"size": [20, 24], "counts": "~"}, {"size": 5, "counts": []},
]  # fmt: skip
CELLS = [
    "",
    " ",
    "x",
    "-1",
    "0",
    "7",
    "1.5",
    "nan",
    "1e400",
    "9" * 40,
    '"',
    "é",
    "1 2 3",
    "1 2 1 2",
    "a\nb",
    "²",
    "\0",
    ",",
]


def write_bytes(rng, content):
    """Flip, cut, double or insert some bytes."""
    data = bytearray(content)
    at = int(rng.integers(max(len(data), 1)))
    kind = rng.integers(5)
    if kind == 0:
        return bytes(data[:at])
    if kind == 1:
        data[at:at] = bytes(rng.integers(0, 256, 3, np.uint8))
    elif kind == 2:
        data[at : at + int(rng.integers(1, 40))] = b""
    elif kind == 3:
        data[at:at] = data[max(0, at - 30) : at]
    elif len(data):
        data[at] ^= 1 << int(rng.integers(8))
    return bytes(data)


def nodes(tree, path=()):
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from nodes(value, (*path, key))


def mutate_tree(rng, tree):
    """Replace, remove, double or rename one node."""
    tree = copy.deepcopy(tree)
    paths = [path for path in nodes(tree) if path]
    # an equal chance for every depth, or the points of polygons take all the blows
    depth = int(rng.choice(sorted({len(path) for path in paths})))
    chosen = [path for path in paths if len(path) == depth]
    *above, key = chosen[int(rng.integers(len(chosen)))]
    parent = tree
    for step in above:
        parent = parent[step]
    kind = rng.integers(4)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif kind == 1:
        parent[f"{key}x"] = parent.pop(key)
    else:
        parent[key] = WEIRD[int(rng.integers(len(WEIRD)))]
    return tree


def mutate_csv(rng, content):
    rows = list(csv.reader(io.StringIO(content.decode())))
    row = int(rng.integers(len(rows)))
    column = int(rng.integers(len(rows[row])))
    kind = rng.integers(5)
    if kind == 0:
        del rows[row][column]
    elif kind == 1:
        rows.insert(row, list(rows[row]))
    elif kind == 2:
        del rows[row]
    else:
        rows[row][column] = CELLS[int(rng.integers(len(CELLS)))]
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def mutate_json(rng, content):
    if rng.random() < 0.25:
        return write_bytes(rng, content)
    return json.dumps(mutate_tree(rng, json.loads(content))).encode()


def mutate_lines(rng, content):
    if rng.random() < 0.25:
        return write_bytes(rng, content)
    lines = [json.loads(line) for line in content.splitlines()]
    mutated = mutate_tree(rng, lines)
    return "".join(json.dumps(line) + "\n" for line in mutated).encode()


def mutate_table(rng, content):
    return write_bytes(rng, content) if rng.random() < 0.25 else mutate_csv(rng, content)


def mutate_picture(rng, path):
    kind = rng.integers(6)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.write_bytes(b"")
    elif kind == 2:
        raw_folders.picture(path, (21, 24))
    elif kind == 3:
        path.rename(path.with_name(f"x{path.name}"))
    elif kind == 4:
        path.rename(path.with_suffix(".txt"))
    else:
        path.write_bytes(write_bytes(np.random.default_rng(int(rng.integers(99))), path.read_bytes()))


def count_csv(folder):
    with (folder / "train.csv").open(newline="", encoding="utf-8-sig") as lines:
        return sum(bool(row) for row in csv.reader(lines)) - 1


def count_coco(folder):
    return len(json.loads(next(folder.rglob("*.json")).read_text())["annotations"])


def count_dsb(folder):
    return sum(len(list(masks.iterdir())) for masks in folder.glob("*/*/masks"))


def count_hubmap(folder):
    """Annotations, and one for a line that says nothing of any."""
    with (folder / "tile_meta.csv").open(newline="", encoding="utf-8-sig") as lines:
        tiles = {row["id"] for row in csv.DictReader(lines)}
    total, seen = 0, set()
    for line in (folder / "polygons.jsonl").read_bytes().splitlines():
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name, annotations = record["id"], record["annotations"]
            assert isinstance(name, str)
            assert isinstance(annotations, list)
        except (ValueError, KeyError, TypeError, AssertionError):
            total += 1
            continue
        total += len(annotations)
        kinds = [one.get("type") if isinstance(one, dict) else None for one in annotations]
        wanted = [kind for kind in kinds if not isinstance(kind, str) or kind == "blood_vessel"]
        if (name in seen or name not in tiles) and not wanted:
            total += 1
        seen.add(name)
    return total


FORMATS = {
    "hubmap2023": (
        raw_folders.write_hubmap,
        {"polygons.jsonl": mutate_lines, "tile_meta.csv": mutate_table},
        count_hubmap,
        ("blood_vessel",),
    ),
    "sartorius2021": (
        raw_folders.write_sartorius,
        {"train.csv": mutate_table},
        count_csv,
        ("cort", "shsy5y"),
    ),
    "livecell": (
        raw_folders.write_livecell,
        {"annotations/livecell_coco_train.json": mutate_json},
        count_coco,
        ("cell",),
    ),
    "coco": (
        raw_folders.write_coco_folder,
        {"annotations.json": mutate_json},
        count_coco,
        ("cell", "unsure"),
    ),
    "dsb2018": (raw_folders.write_dsb, {}, count_dsb, ("nucleus",)),
}


def outcome(name, folder, types):
    """What is made of a folder, or the one line that refuses it."""
    try:
        return convert_raw(name, folder, types=types, max_rejected=1.0), ""
    except InputError as error:
        return None, str(error)


def restore(folder, contents):
    """Make the folder hold these files again, without writing those that are right."""
    for path in raw_folders.files(folder):
        if path not in contents:
            path.unlink()
    for path, content in contents.items():
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)


@pytest.mark.parametrize("name", FORMATS)
def test_every_mutation_is_a_line_or_accounted_for(name, tmp_path):
    write, texts, count, types = FORMATS[name]
    folder = write(tmp_path / "raw")
    contents = {path: path.read_bytes() for path in raw_folders.files(folder)}
    rng = np.random.default_rng(SEED + sum(map(ord, name)))
    good = convert_raw(name, folder, types=types)
    assert good.rejected == ()
    assert len(good.annotations) + sum(good.left_out.values()) == count(folder)
    refused = rejected = 0
    for number in range(MUTATIONS):
        restore(folder, contents)
        if texts and rng.random() < 0.85:
            path = folder / sorted(texts)[int(rng.integers(len(texts)))]
            path.write_bytes(texts[path.relative_to(folder).as_posix()](rng, path.read_bytes()))
        else:
            pictures = [path for path in raw_folders.files(folder) if path.suffix in (".png", ".tif")]
            mutate_picture(rng, pictures[int(rng.integers(len(pictures)))])
        found, refusal = outcome(name, folder, types)
        if found is None:
            refused += 1
            assert refusal, f"mutation {number}"
            assert "\n" not in refusal, f"mutation {number}"
            continue
        rejected += bool(found.rejected)
        lost = sum(record.lost for record in found.rejected)
        assert found.records == len(found.annotations) + lost, f"mutation {number}"
        assert count(folder) == found.records + sum(found.left_out.values()), f"mutation {number}"
        assert all(record.reason and "\n" not in record.reason for record in found.rejected), (
            f"mutation {number}"
        )
    assert refused > 10
    assert rejected > 10
