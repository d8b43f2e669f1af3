import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from hubmap_ml.data import assign_folds, count_across_folds, grouped, stratified, stratified_grouped
from hubmap_ml.data.places import near_pairs
from hubmap_ml.instances import Annotations, BitMasks, Category, Images
from hubmap_ml.spec import InputError


def table(slides):
    return Images.build(
        ids=[f"t{k}" for k in range(len(slides))], heights=8, widths=8, slides=list(slides), splits="train"
    )


@pytest.mark.filterwarnings("ignore:The least populated class")
@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from("abc"), min_size=12, max_size=80), st.integers(2, 4), st.integers(0, 2**31 - 1)
)
def test_folds_are_scikit_learns(labels, n, seed):
    folds = stratified(labels, n, seed)
    splitter = StratifiedKFold(n, shuffle=True, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels)):
        assert np.array_equal(np.flatnonzero(folds == fold), held_out)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from("ab"), min_size=10, max_size=60), st.integers(2, 5))
def test_each_class_is_spread_as_evenly_as_it_can_be(labels, n):
    folds = stratified(labels, n, 0)
    for label in set(labels):
        counts = np.bincount(folds[np.array(labels) == label], minlength=n)
        assert counts.max() - counts.min() <= 1


def test_the_reference_gets_its_fold_sizes():
    # 422 reviewed tiles, 270 of slide 1 and 152 of slide 2: folds of 85, 85, 84, 84, 84.
    folds = stratified(["1"] * 270 + ["2"] * 152, 5, 42)
    assert sorted(np.bincount(folds).tolist(), reverse=True) == [85, 85, 84, 84, 84]


def test_images_outside_the_pool_are_in_no_fold():
    images = table("aabbaabb" + "cc")
    rows = np.arange(8)
    folds = assign_folds(images, rows=rows, n=2, by="source_wsi", seed=1)
    assert folds.dtype == np.int16
    assert np.array_equal(folds[rows], stratified(list("aabbaabb"), 2, 1))
    assert (folds[8:] == -1).all()


def test_slide_and_source_wsi_are_one_column():
    images = table("aabbaabb")
    by_slide, by_wsi = (
        assign_folds(images, rows=np.arange(8), n=2, by=by, seed=5) for by in ("slide", "source_wsi")
    )
    assert np.array_equal(by_slide, by_wsi)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"method": "by_hand"},
            "'by_hand' is unknown: use one of stratified, grouped, stratified_grouped, spa",
        ),
        ({"by": "colour"}, "'colour' is no column .* dataset, slide, source_wsi"),
        ({"n": 1}, "at least 2"),
        ({"n": 9}, "cannot be split into 9 folds"),
        ({"n": 5}, "at most 4 of one class"),
        ({"rows": np.arange(0)}, "0 images"),
        ({"method": "grouped", "n": 3, "by": "slide"}, r"2 groups \(a, b\) are too few for 3 folds"),
        ({"method": "grouped", "by": "group"}, "8 of 8 images have no group"),
        ({"method": "grouped", "by": "slide", "rows": np.arange(0)}, r"0 groups \(none\)"),
        ({"method": "stratified_grouped", "groups": "group"}, "8 of 8 images have no group"),
        ({"method": "stratified_grouped", "groups": "slide", "n": 3}, r"2 groups \(a, b\) are too few"),
        (
            {"method": "spatial_blocks"},
            r"8 of 8 images have no slide or no position \(i, j\), the first is 't0'",
        ),
        ({"always_train": {"slide": "c"}}, "folds.always_train: no image meets .*slide can be a, b"),
        ({"always_train": {"slide": ["a", "b"]}}, "met by all of the 8 images"),
        ({"rows": np.array([0, 1, 4, 5]), "always_train": {"slide": "b"}}, "met by none of the 4 images"),
        ({"always_train": {"colour": 1}}, "folds.always_train: 'colour' is no column"),
    ],
)
def test_what_cannot_be_done_is_said(change, message):
    with pytest.raises(InputError, match=message) as said:
        assign_folds(table("aabbaabb"), **{"rows": np.arange(8), "n": 2, "seed": 0, **change})
    assert len(str(said.value).splitlines()) == 1


SEEDS = st.none() | st.integers(0, 2**31 - 1)
GROUPED = st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 11)), min_size=8, max_size=90).filter(
    lambda pairs: len({group for _, group in pairs}) >= 4
)


@settings(deadline=None, max_examples=60)
@given(GROUPED, st.integers(2, 4), SEEDS)
def test_grouped_folds_are_scikit_learns_and_keep_groups_whole(pairs, n, seed):
    groups = [f"g{group:02}" for _, group in pairs]
    folds = grouped(groups, n, seed)
    splitter = GroupKFold(n, shuffle=seed is not None, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(groups, groups, groups)):
        assert np.array_equal(np.flatnonzero(folds == fold), held_out)
    assert set(folds) == set(range(n))
    assert all(len(set(folds[np.array(groups) == group])) == 1 for group in set(groups))
    assert np.array_equal(folds, grouped(groups, n, seed))


@pytest.mark.filterwarnings("ignore:The least populated class")
@settings(deadline=None, max_examples=60)
@given(GROUPED, st.integers(2, 4), SEEDS)
def test_stratified_grouped_folds_are_scikit_learns_or_refused(pairs, n, seed):
    labels, groups = [label for label, _ in pairs], [f"g{group:02}" for _, group in pairs]
    try:
        folds = stratified_grouped(labels, groups, n, seed)
    except InputError as error:
        if "empty" not in str(error) and "cannot be split" not in str(error):
            raise
        return
    splitter = StratifiedGroupKFold(n, shuffle=seed is not None, random_state=seed)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        assert np.array_equal(np.flatnonzero(folds == fold), held_out)
    assert set(folds) == set(range(n))
    assert all(len(set(folds[np.array(groups) == group])) == 1 for group in set(groups))


def test_a_fold_that_stays_empty_is_refused():
    with pytest.raises(InputError, match=r"leave fold \d of 4 empty"):
        stratified_grouped("yyxyxyxyy", "aabbbbcdd", 4, None)


def tiles(places, size=64):
    """Tiles at (slide, i, j)."""
    return Images.build(
        ids=[f"t{k}" for k in range(len(places))],
        heights=size,
        widths=size,
        slides=[slide for slide, _, _ in places],
        positions=np.array([(i, j) for _, i, j in places], np.int32),
    )


PLACES = st.lists(
    st.tuples(st.sampled_from("pq"), st.integers(0, 1500), st.integers(0, 1500)), min_size=12, max_size=80
)


@settings(deadline=None, max_examples=60)
@given(PLACES, st.integers(2, 4), SEEDS, st.sampled_from([64, 200, 333]))
def test_spatial_blocks_stay_whole_and_folds_are_balanced(places, n, seed, block):
    images = tiles(places)
    block_of = [(slide, (i + 32) // block, (j + 32) // block) for slide, i, j in places]
    options = dict(
        rows=np.arange(len(places)), method="spatial_blocks", n=n, by="slide", seed=seed, block=block
    )
    if len(set(block_of)) < n:
        with pytest.raises(InputError, match="too few for"):
            assign_folds(images, **options)
        return
    folds = assign_folds(images, **options)
    fold_of = {}
    for key, fold in zip(block_of, folds, strict=True):
        assert fold_of.setdefault(key, fold) == fold
    sizes = np.bincount(folds, minlength=n)
    assert len(sizes) == n
    assert sizes.max() - sizes.min() <= max(block_of.count(key) for key in fold_of)
    assert np.array_equal(folds, assign_folds(images, **options))


def test_a_block_is_four_tiles_wide_unless_said_and_never_smaller_than_one():
    images = tiles([("p", 64 * i, 64 * j) for i in range(8) for j in range(8)])
    options = dict(rows=np.arange(64), method="spatial_blocks", n=4, by="slide", seed=1)
    folds = assign_folds(images, **options).reshape(8, 8)
    assert [len(np.unique(folds[a : a + 4, b : b + 4])) for a in (0, 4) for b in (0, 4)] == [1] * 4
    assert set(folds.ravel()) == {0, 1, 2, 3}
    assert np.array_equal(folds.ravel(), assign_folds(images, **options, block=256))
    with pytest.raises(InputError, match="a block of 63 pixels is smaller than a tile of 64"):
        assign_folds(images, **options, block=63)
    with pytest.raises(InputError, match="64 images lie in 1 blocks of 512 pixels, too few for 4 folds"):
        assign_folds(images, **options, block=512)


def test_tiles_near_another_fold_are_counted():
    images = tiles([("p", 0, 0), ("p", 0, 64), ("p", 0, 200), ("q", 0, 0), ("p", 0, 70)])
    images = images.replace(folds=np.array([0, 1, 0, 1, -1], np.int16))
    assert count_across_folds(images) == 2  # the first two touch
    assert count_across_folds(images, buffer=71) == 2
    assert count_across_folds(images, buffer=72) == 3
    assert count_across_folds(table("aab").replace(folds=np.array([0, 1, 0], np.int16)), buffer=9) == 0


def near_by_brute_force(images, within):
    found = {}
    for a in range(len(images)):
        for b in range(len(images)):
            if a != b and images.slides[a] == images.slides[b]:
                gaps = np.maximum(
                    images.positions[a] - images.positions[b], images.positions[b] - images.positions[a]
                )
                if (gap := int(gaps.max()) - 64) <= within:
                    found[a, b] = gap
    return found


@settings(deadline=None, max_examples=60)
@given(PLACES, st.sampled_from([0, 5, 100]))
def test_near_pairs_are_those_found_one_by_one(places, within):
    images = tiles(places)
    rows = np.arange(len(places))
    pairs, gaps = near_pairs(images, rows, rows, within=within)
    assert dict(zip(map(tuple, pairs.tolist()), gaps.tolist(), strict=True)) == near_by_brute_force(
        images, within
    )


def test_always_train_images_are_in_no_fold_and_the_others_split_as_without_them():
    images = table("aabbaabb" + "cccc")
    folds = assign_folds(images, rows=np.arange(12), n=2, seed=1, always_train={"slide": "c"})
    assert (folds[8:] == -1).all()
    assert np.array_equal(folds[:8], stratified(list("aabbaabb"), 2, 1))


def test_the_most_frequent_category_can_be_balanced():
    images = table("abcdefgh").replace(groups=np.array(list("uuvvwwxx"), object))
    image_rows = np.repeat(np.arange(8), 3)
    labels = np.array([0, 0, 1] * 4 + [1, 1, 0] * 4, np.int16)
    masks = BitMasks.from_dense([np.ones((8, 8), bool)] * 24)
    truth = Annotations.from_bits(
        images, (Category(0, "cort"), Category(1, "astro")), image_rows, masks, labels
    )
    folds = assign_folds(
        images,
        rows=np.arange(8),
        method="stratified_grouped",
        n=2,
        by="category",
        seed=3,
        annotations=truth,
    )
    assert sorted(zip(folds[::2].tolist(), [0, 0, 1, 1], strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
