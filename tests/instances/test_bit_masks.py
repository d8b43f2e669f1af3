import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from hubmap_ml.instances import BitMasks
from hubmap_ml.spec import InputError
from tests.instances.examples import dense_mask, same, seeds

sizes = st.tuples(st.integers(1, 200), st.integers(1, 200))


def encode(dense):
    return coco_mask.encode(np.asfortranarray(dense.astype(np.uint8)))


@st.composite
def dense_masks(draw, most=6):
    height, width = draw(sizes)
    rng = np.random.default_rng(draw(seeds))
    return height, width, [dense_mask(rng, height, width) for _ in range(draw(st.integers(0, most)))]


@settings(deadline=None, max_examples=150)
@given(dense_masks())
def test_run_lengths_are_those_of_pycocotools_and_lead_back(example):
    height, width, dense = example
    masks = BitMasks.from_dense(dense)
    texts = masks.to_rle(height, width)
    assert texts == [encode(mask)["counts"].decode() for mask in dense]
    back = BitMasks.from_rle(texts, height, width)
    assert same(back, masks)
    for k, mask in enumerate(dense):
        assert np.array_equal(back.to_dense(k, height, width), mask)


@settings(deadline=None, max_examples=80)
@given(dense_masks())
def test_areas_and_boxes_count_the_pixels(example):
    _, _, dense = example
    masks = BitMasks.from_dense(dense)
    assert masks.areas().tolist() == [int(mask.sum()) for mask in dense]
    for mask, box in zip(dense, masks.tight_boxes(), strict=True):
        y, x = np.nonzero(mask)
        expected = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0]
        assert box.tolist() == expected


@settings(deadline=None, max_examples=150)
@given(dense_masks(), seeds)
def test_iou_equals_pycocotools_exactly_crowds_included(example, seed):
    height, width, first = example
    rng = np.random.default_rng(seed)
    second = [dense_mask(rng, height, width) for _ in range(4)]
    crowd = rng.random(4) < 0.5
    expected = coco_mask.iou(
        [encode(m) for m in first], [encode(m) for m in second], crowd.astype(np.uint8).tolist()
    )
    got = BitMasks.from_dense(first).iou_matrix(BitMasks.from_dense(second), crowd)
    assert got.shape == (len(first), 4)
    assert got.dtype == np.float64
    if first:  # pycocotools gives an empty list otherwise
        assert np.array_equal(got, expected)


@settings(deadline=None, max_examples=60)
@given(dense_masks(most=8), seeds)
def test_intersections_of_pairs_and_of_all(example, seed):
    _, _, dense = example
    masks = BitMasks.from_dense(dense)
    expected = np.array([[int((a & b).sum()) for b in dense] for a in dense]).reshape(len(dense), len(dense))
    assert np.array_equal(masks.intersection_matrix(), expected)
    assert np.array_equal(masks.intersection_matrix(masks), expected)
    assert np.array_equal(masks.iou_matrix(), masks.iou_matrix(masks))
    pairs = np.random.default_rng(seed).integers(0, max(1, len(dense)), (5 if dense else 0, 2))
    assert masks.intersections(masks, pairs).tolist() == [expected[i, j] for i, j in pairs]


def test_an_iou_of_two_fifths_is_exactly_that():
    """Stored as float32 it would exceed a float64 threshold of 0.4."""
    one, two = np.zeros((1, 10), bool), np.zeros((1, 10), bool)
    one[0, :4], two[0, 2:5] = True, True
    iou = BitMasks.from_dense([one]).iou_matrix(BitMasks.from_dense([two]))[0, 0]
    assert iou == 0.4
    assert float(np.float32(iou)) > 0.4


def test_equal_masks_have_equal_words_however_they_were_made():
    dense = np.zeros((200, 90), bool)
    dense[70:130, 20:40] = True
    masks = BitMasks.from_dense([dense])
    assert masks.windows.tolist() == [[20, 1, 20, 2]]
    assert same(masks, BitMasks.from_rle([encode(dense)["counts"]], 200, 90))


@pytest.mark.parametrize("shape", [(1, 1), (64, 1), (1, 64), (63, 3), (65, 2), (128, 5)])
def test_empty_and_full_masks_first_and_last_pixels(shape):
    empty, full, first, last = (np.zeros(shape, bool) for _ in range(4))
    full[:], first[0, 0], last[-1, -1] = True, True, True
    dense = [empty, full, first, last]
    masks = BitMasks.from_dense(dense)
    texts = masks.to_rle(*shape)
    assert texts == [encode(mask)["counts"].decode() for mask in dense]
    assert same(BitMasks.from_rle(texts, *shape), masks)
    assert masks.windows[0].tolist() == [0, 0, 0, 0]


def test_plain_counts_bytes_and_text_may_be_mixed():
    masks = BitMasks.from_rle([[2, 3, 1], b"06", "6"], 2, 3)
    assert masks.to_dense(0, 2, 3).T.ravel().tolist() == [False, False, True, True, True, False]
    assert masks.areas().tolist() == [3, 6, 0]
    assert BitMasks.from_rle([[0, 0, 2, 4]], 2, 3).areas().tolist() == [4], "runs of length zero are allowed"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ("5", "do not add up to 3 x 2 pixels"),
        ([2, 5], "do not add up"),
        ([8, -2], "do not add up"),
        ([], "do not add up"),
        ("", "do not add up"),
        ("\u00e9", "mask 1: its counts are no COCO"),
        ("o", "no COCO run lengths"),
        ("oooooooooooooooo1", "no COCO run lengths"),
        ("z1", "no COCO run lengths"),
    ],
)
def test_broken_run_lengths_are_refused_by_row(counts, said):
    with pytest.raises(InputError, match=said):
        BitMasks.from_rle(["06", counts], 2, 3)
    with pytest.raises(InputError, match="^annotation 9: its"):
        BitMasks.from_rle([counts], 2, 3, name_of=lambda row: f"annotation {row + 9}")


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12), min_size=1, max_size=4)
)
def test_any_text_is_either_read_or_refused(texts):
    try:
        masks = BitMasks.from_rle(texts, 7, 9)
    except InputError:
        return
    for text, again in zip(texts, masks.to_rle(7, 9), strict=True):
        assert np.array_equal(
            coco_mask.decode({"size": [7, 9], "counts": text.encode()}),
            coco_mask.decode({"size": [7, 9], "counts": again.encode()}),
        )


@pytest.mark.parametrize("size", [(10, 5), (4, 20), (9, 5), (64, 5)])
def test_pixels_outside_the_image_are_refused(size):
    dense = np.zeros((130, 8), bool)
    dense[100, 7] = dense[3, 2] = True
    masks = BitMasks.from_dense([dense])
    with pytest.raises(InputError, match="outside its image"):
        masks.to_rle(*size)
    with pytest.raises(InputError, match="outside its image"):
        masks.to_dense(0, *size)
    assert masks.to_dense(0, 101, 8).sum() == 2


@settings(deadline=None, max_examples=40)
@given(dense_masks(most=12), seeds)
def test_taking_and_concatenating(example, seed):
    height, width, dense = example
    masks, n = BitMasks.from_dense(dense), len(dense)
    rows = np.random.default_rng(seed).integers(0, n, 7) if n else np.zeros(0, int)
    taken = masks.take(rows)
    for k, row in enumerate(rows):
        assert np.array_equal(taken.to_dense(k, height, width), dense[row])
    parts = [masks.take(np.arange(n // 2)), BitMasks.empty(2), masks.take(np.arange(n // 2, n))]
    joined = BitMasks.concatenate(parts)
    assert joined.areas().tolist() == [*parts[0].areas(), 0, 0, *parts[2].areas()]
    chosen = np.arange(n) % 2 == 0
    assert same(masks.take(chosen), masks.take(np.flatnonzero(chosen)))


def test_taking_rows_that_follow_each_other_copies_nothing():
    masks = BitMasks.from_dense([np.ones((5, 5), bool)] * 6)
    assert np.shares_memory(masks.take([2, 3, 4]).words, masks.words)


def test_no_masks_at_all():
    none = BitMasks.from_dense([])
    assert none.to_rle(5, 5) == []
    assert none.iou_matrix(BitMasks.empty(3)).shape == (0, 3)
    assert BitMasks.empty(3).iou_matrix(none).shape == (3, 0)
    assert len(BitMasks.concatenate([])) == len(BitMasks.from_rle([], 3, 3)) == 0
    assert BitMasks.empty(2).iou_matrix().tolist() == [[0, 0], [0, 0]]


def test_images_larger_than_two_billion_pixels():
    text = BitMasks.from_rle([[2_999_999_990, 7, 3]], 60_000, 50_000)
    assert text.areas().tolist() == [7]
    assert text.to_rle(60_000, 50_000) == [
        coco_mask.frPyObjects({"size": [60_000, 50_000], "counts": [2_999_999_990, 7, 3]}, 60_000, 50_000)[
            "counts"
        ].decode()
    ]


def test_fields_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="belong together"):
        BitMasks(np.zeros(3, np.uint64), np.array([0, 3]), np.array([[0, 0, 2, 1]], np.int32))
    with pytest.raises(ValueError, match="2 rows"):
        BitMasks.empty(2).to_rle([1, 2, 3], 5)


@settings(deadline=None, max_examples=60)
@given(dense_masks(), seeds)
def test_overlap_over_the_smaller_mask(example, seed):
    height, width, first = example
    rng = np.random.default_rng(seed)
    second = [dense_mask(rng, height, width) for _ in range(4)]
    expected = np.zeros((len(first), 4))
    for i, one in enumerate(first):
        for j, two in enumerate(second):
            if (one & two).any():
                expected[i, j] = (one & two).sum() / min(one.sum(), two.sum())
    got = BitMasks.from_dense(first).ios_matrix(BitMasks.from_dense(second))
    assert np.array_equal(got, expected)
    assert np.array_equal(BitMasks.from_dense(second).ios_matrix(BitMasks.from_dense(first)), expected.T)


@pytest.mark.parametrize("crowds", [False, True])
def test_overlaps_of_two_thousand_masks_with_themselves_are_pycocotools(crowds):
    rng = np.random.default_rng(4)
    dense = np.zeros((2000, 70, 90), bool)
    for mask in dense:
        y, x, high, wide = (*rng.integers(0, [65, 85]), *rng.integers(1, 30, 2))
        mask[y : y + high, x : x + wide] = rng.random((70, 90))[y : y + high, x : x + wide] < 0.8
    masks = BitMasks.from_dense(dense)
    rles = coco_mask.encode(np.asfortranarray(dense.transpose(1, 2, 0).astype(np.uint8)))
    crowd = rng.random(2000) < 0.3 if crowds else np.zeros(2000, bool)
    expected = coco_mask.iou(rles, rles, crowd.astype(np.uint8).tolist())
    assert np.array_equal(masks.iou_matrix(iscrowd=crowd), expected)
    assert np.array_equal(masks.iou_matrix(masks, crowd), expected)


def test_runs_that_go_on_from_column_to_column():
    """The last pixel of a column and the first of the next belong to one run."""
    rng = np.random.default_rng(7)
    for height in (1, 5, 63, 64, 65, 127, 128, 130):
        for share in (0.5, 0.97):
            dense = [rng.random((height, 40)) < share for _ in range(20)]
            dense += [np.roll(mask, 3, axis=1) | (np.arange(40) > 20) for mask in dense]
            texts = BitMasks.from_dense(dense).to_rle(height, 40)
            assert texts == [encode(mask)["counts"].decode() for mask in dense]
