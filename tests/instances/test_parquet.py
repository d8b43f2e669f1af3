import json
import shutil
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import (
    Images,
    Instances,
    PredictionSet,
    PredictionWriter,
    parquet,
    read_annotations,
    read_predictions,
    write_annotations,
    write_predictions,
)
from hubmap_ml.spec import InputError
from tests.instances.examples import (
    CATEGORIES,
    random_annotations,
    random_images,
    random_instances,
    random_predictions,
    same,
    seeds,
)

kinds = st.sampled_from(["mixed", "soft", "bits", None])


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(parquet, "_ROWS_A_GROUP", 4)


def test_small_sets_have_several_row_groups_here(small_groups, tmp_path):
    rng = np.random.default_rng(0)
    found = random_predictions(rng, random_images(rng, 12))
    write_predictions(tmp_path / "set", found)
    file = pq.ParquetFile(tmp_path / "set" / "instances.parquet")
    assert file.metadata.num_row_groups > 3
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    ends = [
        file.read_row_group(k, columns=["image"])["image"].to_pylist()
        for k in range(file.metadata.num_row_groups)
    ]
    assert all(one[-1] < two[0] for one, two in pairwise(ends)), "a group ends with an image"


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(0, 8), kinds, st.booleans())
def test_predictions_come_back_unchanged(tmp_path_factory, seed, count, kinds, whole_ids):
    rng = np.random.default_rng(seed)
    images = random_images(rng, count, original_ids=list(range(count)) if whole_ids and count else None)
    found = random_predictions(rng, images, kinds=kinds)
    folder = tmp_path_factory.mktemp("sets") / "deep" / "set"
    write_predictions(folder, found)
    back = read_predictions(folder)
    assert same(back, found)
    assert [p.name for p in folder.parent.iterdir()] == ["set"]
    assert sorted(p.name for p in folder.iterdir()) == ["images.parquet", "instances.parquet"]


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_clusters_and_file_order_come_back(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    found = random_predictions(rng, random_images(rng, 7))
    lengths = rng.integers(0, 4, len(found))
    found = found.replace(
        cluster_offsets=np.concatenate([[0], np.cumsum(lengths)]),
        member_rows=rng.integers(0, 10**12, lengths.sum()),
        file_order=rng.permutation(len(found)),
    )
    folder = tmp_path_factory.mktemp("sets") / "set"
    write_predictions(folder, found)
    assert same(read_predictions(folder), found)
    ids = list(found.images.ids[[5, 2]])
    assert same(read_predictions(folder, ids), found.take_images([5, 2]))


@pytest.mark.parametrize("kind", ["mixed", "soft", "bits", None])
def test_only_some_images_in_any_order(small_groups, tmp_path, kind):
    rng = np.random.default_rng(1)
    found = random_predictions(rng, random_images(rng, 15), kinds=kind)
    write_predictions(tmp_path / "set", found)
    for rows in ([14, 0, 7], [3], [], list(range(15))):
        assert same(read_predictions(tmp_path / "set", list(found.images.ids[rows])), found.take_images(rows))
    with pytest.raises(InputError, match="'tile 99'"):
        read_predictions(tmp_path / "set", ["tile 1", "tile 99"])


@settings(deadline=None, max_examples=20)
@given(seeds, kinds)
def test_streaming_writes_the_same_set(tmp_path_factory, seed, kinds):
    rng = np.random.default_rng(seed)
    found = random_predictions(rng, random_images(rng, 9), kinds=kinds)
    folder = tmp_path_factory.mktemp("sets") / "set"
    with PredictionWriter(folder, CATEGORIES, found.sources, {"run": "abc"}) as writer:
        for row in range(len(found.images)):
            writer.add(found.images.take([row]), found.image(row))
        assert not folder.exists(), "nothing to read before the end"
    assert same(read_predictions(folder), found)


def test_streaming_in_several_groups(small_groups, tmp_path):
    rng = np.random.default_rng(2)
    found = random_predictions(rng, random_images(rng, 20))
    with PredictionWriter(tmp_path / "set", CATEGORIES, found.sources) as writer:
        for row in range(20):
            writer.add(found.images.take([row]), found.image(row))
        writer.properties["run"] = "abc"
    assert same(read_predictions(tmp_path / "set"), found)
    assert pq.ParquetFile(tmp_path / "set" / "instances.parquet").metadata.num_row_groups > 5


def test_streaming_that_fails_leaves_nothing(tmp_path):
    rng = np.random.default_rng(3)
    found = random_predictions(rng, random_images(rng, 3))
    with pytest.raises(KeyError), PredictionWriter(tmp_path / "set", CATEGORIES) as writer:
        writer.add(found.images.take([0]), found.image(0))
        raise KeyError
    with (
        pytest.raises(InputError, match="'tile 0' occurs twice"),
        PredictionWriter(tmp_path / "set", CATEGORIES) as writer,
    ):
        writer.add(found.images.take([0]), found.image(0))
        writer.add(found.images.take([0]), found.image(0))
    assert list(tmp_path.iterdir()) == []


def test_what_streaming_refuses(tmp_path):
    rng = np.random.default_rng(4)
    image = Images.build(ids=["x"], heights=10, widths=12)
    other = Images.build(ids=["y"], heights=10, widths=12)
    with PredictionWriter(tmp_path / "set", CATEGORIES) as writer:
        with pytest.raises(InputError, match="another size"):
            writer.add(image, Instances.empty(12, 10))
        with pytest.raises(ValueError, match="one image at a time"):
            writer.add(random_images(rng, 2), Instances.empty(12, 10))
        writer.add(image, random_instances(rng, 2, 10, 12))
        with pytest.raises(InputError, match="masks for all"):
            writer.add(other, random_instances(rng, 2, 10, 12, kinds=None))
        writer.add(other, Instances.empty(10, 12))
    assert np.diff(read_predictions(tmp_path / "set").offsets).tolist() == [2, 0]


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(0, 8))
def test_annotations_come_back_unchanged(tmp_path_factory, seed, count):
    rng = np.random.default_rng(seed)
    truth = random_annotations(rng, random_images(rng, count))
    truth = truth.replace(areas=truth.areas + 0.5, ids=truth.ids * 10**10)
    folder = tmp_path_factory.mktemp("sets") / "truth"
    write_annotations(folder, truth, {"raw": "here"})
    assert same(read_annotations(folder), truth)
    if count > 2:
        assert same(read_annotations(folder, ["tile 2", "tile 0"]), truth.take_images([2, 0]))


def test_a_set_is_replaced_and_other_files_of_the_folder_stay(tmp_path):
    rng = np.random.default_rng(5)
    one, two = (random_predictions(rng, random_images(rng, 4)) for _ in range(2))
    write_predictions(tmp_path / "set", one)
    (tmp_path / "set" / "note.txt").write_text("mine")
    write_predictions(tmp_path / "set", two)
    assert same(read_predictions(tmp_path / "set"), two)
    assert (tmp_path / "set" / "note.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_the_same_set_is_written_as_the_same_bytes(tmp_path):
    found = random_predictions(np.random.default_rng(6), random_images(np.random.default_rng(6), 4))
    for name in ("one", "two"):
        write_predictions(tmp_path / name, found)
    for name in ("images.parquet", "instances.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def written(tmp_path, seed=7):
    rng = np.random.default_rng(seed)
    write_predictions(tmp_path, random_predictions(rng, random_images(rng, 4), most=9))
    return tmp_path


def test_half_written_sets_are_refused(tmp_path):
    folder, other = written(tmp_path / "a"), written(tmp_path / "b", seed=8)
    shutil.copy(other / "instances.parquet", folder / "instances.parquet")
    with pytest.raises(InputError, match="not of one set"):
        read_predictions(folder)
    (folder / "instances.parquet").unlink()
    with pytest.raises(InputError, match=r"instances\.parquet: no such file"):
        read_predictions(folder)
    (other / "images.parquet").unlink()
    with pytest.raises(InputError, match=r"images\.parquet: no such file"):
        read_predictions(other)


@pytest.mark.parametrize("name", ["images.parquet", "instances.parquet"])
def test_cut_off_files_are_refused(tmp_path, name):
    path = written(tmp_path / "set") / name
    whole = path.read_bytes()
    for size in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="cannot be read"):
            read_predictions(path.parent)


def test_damage_inside_the_data_is_refused(tmp_path):
    path = written(tmp_path / "set") / "instances.parquet"
    whole = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(1).data_page_offset
    whole[start : start + 40] = b"\xff" * 40
    path.write_bytes(whole)
    for ids in (None, ["tile 1"]):
        with pytest.raises(InputError, match="cannot be read"):
            read_predictions(path.parent, ids)


def test_other_kinds_versions_and_programs_are_refused(tmp_path):
    folder = written(tmp_path / "set")
    with pytest.raises(InputError, match="holds predictions, expected annotations"):
        read_annotations(folder)
    table = pq.read_table(folder / "images.parquet")
    about = json.loads(table.schema.metadata[b"hubmap"])
    assert about["schema_version"] == 1
    newer = {**table.schema.metadata, b"hubmap": json.dumps({**about, "schema_version": 2})}
    pq.write_table(table.replace_schema_metadata(newer), folder / "images.parquet")
    with pytest.raises(InputError, match="schema version 2"):
        read_predictions(folder)
    pq.write_table(table.replace_schema_metadata(None), folder / "images.parquet")
    with pytest.raises(InputError, match="not written by this program"):
        read_predictions(folder)
    with pytest.raises(InputError, match="no such folder"):
        read_predictions(tmp_path / "nowhere")


def test_what_is_read_can_be_worked_with(tmp_path):
    """Arrow's memory is read-only; ours is not."""
    rng = np.random.default_rng(9)
    found = random_predictions(rng, random_images(rng, 4), most=9)
    write_predictions(tmp_path / "set", found)
    back = read_predictions(tmp_path / "set")
    heights, widths = back.heights_of_instances(), back.widths_of_instances()
    assert same(back.masks.binarize(0.5, heights, widths), found.masks.binarize(0.5, heights, widths))
    for values in (back.scores, back.boxes, back.labels, back.masks.soft.values, back.masks.bits.words):
        assert values.flags.writeable
    assert same(PredictionSet.concatenate([back]), found)
