import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import SoftMasks
from hubmap_ml.spec import InputError
from tests.instances.examples import random_soft, same, seeds


def paste_like_mmdet(crop, box, height, width):
    """mmdet 2.28's _do_paste_mask(skip_empty=False), word for word."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    masks = torch.from_numpy(np.asarray(crop, dtype=np.float32) / np.float32(255))[None, None]
    x0, y0, x1, y1 = torch.split(torch.from_numpy(np.asarray(box, dtype=np.float32))[None], 1, dim=1)
    img_y = torch.arange(0, height).to(torch.float32) + 0.5
    img_x = torch.arange(0, width).to(torch.float32) + 0.5
    img_y = (img_y - y0) / (y1 - y0) * 2 - 1
    img_x = (img_x - x0) / (x1 - x0) * 2 - 1
    gx = img_x[:, None, :].expand(1, height, width)
    gy = img_y[:, :, None].expand(1, height, width)
    grid = torch.stack([gx, gy], dim=3)
    return torch.nn.functional.grid_sample(masks, grid, align_corners=False)[0, 0].numpy()


def test_the_formula_above_is_mmdets():
    head = pytest.importorskip("mmdet.models.roi_heads.mask_heads.fcn_mask_head", exc_type=ImportError)
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for _ in range(30):
        crop = rng.integers(0, 256, (28, 28)).astype(np.uint8)
        corner = rng.uniform(-60, 120, 2)
        box = np.concatenate([corner, corner + rng.uniform(0.1, 200, 2)]).astype(np.float32)
        masks = torch.from_numpy(crop.astype(np.float32) / np.float32(255))[None, None]
        theirs, _ = head._do_paste_mask(masks, torch.from_numpy(box)[None], 90, 110, skip_empty=False)
        assert np.array_equal(theirs[0].numpy(), paste_like_mmdet(crop, box, 90, 110))


def assert_pasted_as_by_mmdet(crop, box, height, width, threshold):
    expected = paste_like_mmdet(crop, box, height, width)
    masks = SoftMasks.from_crops([crop], [box])
    np.testing.assert_allclose(masks.paste(0, height, width), expected, rtol=0, atol=1e-6)
    got = masks.binarize(threshold, height, width).to_dense(0, height, width)
    differs = got != (expected >= np.float32(threshold))
    assert not (differs & (np.abs(expected - np.float32(threshold)) > 1e-6)).any()


@st.composite
def crops(draw):
    height, width = draw(st.sampled_from([(28, 28), (1, 1), (14, 56), (3, 100), (60, 2)]))
    rng = np.random.default_rng(draw(seeds))
    kind = draw(st.sampled_from(["noise", "full", "blob"]))
    if kind == "full":
        return np.full((height, width), 255, dtype=np.uint8)
    if kind == "noise":
        return rng.integers(0, 256, (height, width)).astype(np.uint8)
    y, x = (np.linspace(-1, 1, side) for side in (height, width))
    return np.uint8(255 * np.exp(-2 * (y[:, None] ** 2 + x[None, :] ** 2)))


@st.composite
def boxes(draw, around=150):
    """Fractional, whole, tiny, huge, partly or wholly outside."""
    place = st.one_of(st.floats(-around, 2 * around, width=32), st.integers(-around, 2 * around))
    extent = st.one_of(st.floats(0.015625, 3, width=32), st.floats(1, 6000, width=32), st.integers(1, 300))
    x0, y0, width, height = draw(place), draw(place), draw(extent), draw(extent)
    box = np.array([x0, y0, x0 + width, y0 + height], dtype=np.float32)
    return box


@settings(deadline=None, max_examples=250)
@given(crops(), boxes(), st.integers(1, 200), st.integers(1, 200), st.floats(0.01, 1))
def test_pasting_equals_mmdet_pixel_for_pixel(crop, box, height, width, threshold):
    if box[2] > box[0] and box[3] > box[1]:
        assert_pasted_as_by_mmdet(crop, box, height, width, threshold)


@pytest.mark.parametrize(
    "box",
    [
        [10, 20, 38, 48],  # a cell a pixel
        [-500, -500, 900, 900],  # the image is a part of one box
        [63.5, 63.5, 64.5, 64.5],  # one pixel on a border of words
        [-40, 30, 1, 90],  # all but a column outside
        [300, 300, 350, 350],  # outside
        [0, 0, 1, 4000],
        [20.25, 30.5, 20.2501, 90],  # thinner than a pixel, between two centres
        [1e6, 1e6, 2e6, 2e6],
        [-1e7, -1e7, 1e7, 1e7],
    ],
)
def test_boxes_at_the_limits(box):
    rng = np.random.default_rng(0)
    for threshold in (0.2, 0.5, 0.9):
        assert_pasted_as_by_mmdet(rng.integers(0, 256, (28, 28)).astype(np.uint8), box, 130, 97, threshold)


@settings(deadline=None, max_examples=60)
@given(crops(), boxes(), st.integers(1, 150), st.integers(1, 150))
def test_pasting_equals_torch_bit_for_bit_where_it_fuses(crop, box, height, width):
    torch = pytest.importorskip("torch")
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        pytest.skip("torch's kernel for this processor does not fuse multiply and add")
    if box[2] > box[0] and box[3] > box[1]:
        pasted = SoftMasks.from_crops([crop], [box]).paste(0, height, width)
        assert np.array_equal(pasted, paste_like_mmdet(crop, box, height, width))


def test_a_probability_at_the_threshold_is_inside():
    levels = np.arange(256, dtype=np.uint8)[None]
    masks = SoftMasks.from_crops([levels], [[0, 0, 256, 1]])  # a cell a pixel
    for level in range(1, 256):
        threshold = np.float32(level) / np.float32(255)
        assert masks.binarize(threshold, 1, 256).areas().tolist() == [256 - level]


def test_large_crops_reach_over_their_box_at_low_thresholds():
    """mmdet's path for GPUs; its path for CPUs cuts these pixels off."""
    masks = SoftMasks.from_crops([np.full((4, 4), 255, np.uint8)], [[40, 40, 120, 120]])
    assert masks.binarize(0.3, 160, 160).tight_boxes()[0].tolist() == [36, 36, 124, 124]
    assert masks.binarize(0.5, 160, 160).tight_boxes()[0].tolist() == [40, 40, 120, 120]


@pytest.mark.parametrize(
    "box",
    [
        [10, 10, 10, 30],
        [10, 10, 30, 10],
        [30, 10, 10, 30],
        [np.nan, 0, 10, 10],
        [0, 0, np.inf, 10],
        [-np.inf, 0, 10, 10],
        [5, 5, 5, 5],
    ],
)
def test_a_box_without_an_inside_gives_an_empty_mask(box):
    masks = SoftMasks.from_crops([np.full((28, 28), 255, np.uint8)], [box])
    assert masks.binarize(0.5, 40, 40).areas().tolist() == [0]
    assert not masks.paste(0, 40, 40).any()


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_many_thresholds_in_one_pass_equal_one_after_the_other(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 200, 2)
    masks = random_soft(rng, int(rng.integers(0, 12)), height, width)
    thresholds = rng.uniform(0.05, 0.95, 4)
    together = masks.paste_many(thresholds, height, width)
    assert len(together) == 4
    for threshold, bits in zip(thresholds, together, strict=True):
        assert same(bits, masks.binarize(threshold, height, width))


def test_thresholds_and_sizes_may_differ_from_row_to_row():
    rng = np.random.default_rng(3)
    masks = random_soft(rng, 20, 90, 90)
    thresholds, heights, widths = rng.uniform(0.1, 0.9, 20), rng.integers(1, 99, 20), rng.integers(1, 99, 20)
    together = masks.binarize(thresholds, heights, widths)
    for k in range(20):
        assert same(together.take([k]), masks.take([k]).binarize(thresholds[k], heights[k], widths[k]))


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, np.nan])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(InputError, match="mask threshold"):
        random_soft(np.random.default_rng(0), 2, 10, 10).binarize(threshold, 10, 10)


def test_probabilities_are_rounded_to_255ths():
    masks = SoftMasks.from_crops([np.array([[0.0, 0.5, 1.0, 1.7, -3, 0.0021]])], [[0, 0, 6, 1]])
    assert masks.crop(0).tolist() == [[0, 128, 255, 255, 0, 1]]


def test_one_array_of_crops_equals_a_list_of_them():
    rng = np.random.default_rng(1)
    crops, boxes = rng.random((5, 28, 14)), rng.uniform(0, 90, (5, 4))
    assert same(SoftMasks.from_crops(crops, boxes), SoftMasks.from_crops(list(crops), boxes))
    assert len(SoftMasks.from_crops(np.zeros((0, 28, 28)), np.zeros((0, 4)))) == 0


def test_a_probability_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="not numbers"):
        SoftMasks.from_crops([np.array([[0.2, np.nan]])], [[0, 0, 1, 1]])


def test_each_crop_needs_its_box():
    with pytest.raises(InputError, match="1 mask crops with 2 boxes"):
        SoftMasks.from_crops([np.zeros((2, 2))], np.zeros((2, 4)))


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(0, 15))
def test_taking_and_concatenating_keep_crops_and_boxes(seed, count):
    rng = np.random.default_rng(seed)
    masks = random_soft(rng, count, 50, 50)
    rows = rng.integers(0, count, rng.integers(0, 20)) if count else np.zeros(0, int)
    taken = masks.take(rows)
    assert [taken.crop(k).tolist() for k in range(len(taken))] == [masks.crop(row).tolist() for row in rows]
    assert np.array_equal(taken.boxes, masks.boxes[rows])
    first, second = masks.take(np.arange(count // 2)), masks.take(np.arange(count // 2, count))
    assert same(SoftMasks.concatenate([first, second]), masks)


def test_rows_outside_are_refused():
    masks = random_soft(np.random.default_rng(0), 3, 10, 10)
    for rows in ([3], [-1], [True, False], [0.5]):
        with pytest.raises(IndexError):
            masks.take(rows)


def test_fields_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="belong together"):
        SoftMasks(
            np.zeros(5, np.uint8),
            np.array([0, 5]),
            np.array([[2, 2]], np.int32),
            np.zeros((1, 4), np.float32),
        )
