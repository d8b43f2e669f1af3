import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import BitMasks
from hubmap_ml.instances.morphology import closed, dilated, eroded, opened, structuring_element
from hubmap_ml.spec import InputError
from tests.instances.examples import dense_mask, same, seeds

OPERATIONS = {
    eroded: cv2.MORPH_ERODE,
    dilated: cv2.MORPH_DILATE,
    opened: cv2.MORPH_OPEN,
    closed: cv2.MORPH_CLOSE,
}
SHAPES = {"square": cv2.MORPH_RECT, "cross": cv2.MORPH_CROSS, "ellipse": cv2.MORPH_ELLIPSE}
NOTHING_BEYOND = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}

kernels = st.one_of(
    st.integers(1, 9),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(60, 150), st.integers(1, 3)),  # over more than a word
)


def by_opencv(mask, operation, kernel, shape, iterations, border):
    """OpenCV over the whole image; with ``border=1`` as it is without any argument."""
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    element = cv2.getStructuringElement(SHAPES[shape], size[::-1])
    beyond = {} if border else NOTHING_BEYOND
    image = mask.astype(np.uint8)
    return cv2.morphologyEx(image, OPERATIONS[operation], element, iterations=iterations, **beyond) > 0


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(list(OPERATIONS)),
    kernels,
    st.sampled_from(list(SHAPES)),
    st.integers(1, 3),
    st.sampled_from([0, 1]),
    st.tuples(st.integers(1, 200), st.integers(1, 150)),
    seeds,
)
def test_every_pixel_is_as_opencv_has_it_over_the_whole_image(
    operation, kernel, shape, iterations, border, size, seed
):
    rng = np.random.default_rng(seed)
    dense = [dense_mask(rng, *size) for _ in range(3)]
    beyond = {} if operation is dilated else {"border": border}
    got = operation(
        BitMasks.from_dense(dense), *size, kernel=kernel, shape=shape, iterations=iterations, **beyond
    )
    expected = [by_opencv(mask, operation, kernel, shape, iterations, border) for mask in dense]
    assert same(got, BitMasks.from_dense(expected))


@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_are_opencvs(shape):
    for height in range(1, 24):
        for width in range(1, 24):
            expected = cv2.getStructuringElement(SHAPES[shape], (width, height))
            assert np.array_equal(structuring_element((height, width), shape), expected > 0)


def test_images_of_different_sizes_in_one_call():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 140, (30, 2))
    dense = [dense_mask(rng, *size) for size in sizes]
    masks = BitMasks.from_dense(dense)
    got = closed(masks, sizes[:, 0], sizes[:, 1], kernel=5, shape="ellipse", border=1)
    expected = [by_opencv(mask, closed, 5, "ellipse", 1, 1) for mask in dense]
    assert same(got, BitMasks.from_dense(expected))


def test_the_border_decides_about_masks_at_the_edge():
    whole = BitMasks.from_dense([np.ones((70, 20), bool)])
    assert eroded(whole, 70, 20).areas().tolist() == [68 * 18]
    assert same(eroded(whole, 70, 20, border=1), whole)
    assert closed(whole, 70, 20).areas().tolist() == [68 * 18]
    assert same(closed(whole, 70, 20, border=1), whole)


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(1, 3), st.sampled_from(list(SHAPES)), st.sampled_from([0, 1]))
def test_opening_takes_away_closing_adds_and_a_second_time_changes_nothing(seed, half, shape, border):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 150, 2)
    masks = BitMasks.from_dense([dense_mask(rng, height, width) for _ in range(4)])
    options = {"kernel": 2 * half + 1, "shape": shape}
    pairs = [[k, k] for k in range(len(masks))]
    once = opened(masks, height, width, border=border, **options)
    assert np.array_equal(once.intersections(masks, pairs), once.areas())
    assert same(opened(once, height, width, border=border, **options), once)
    gaps = closed(masks, height, width, border=1, **options)
    assert np.array_equal(gaps.intersections(masks, pairs), masks.areas())
    assert same(closed(gaps, height, width, border=1, **options), gaps)


def test_no_iteration_and_a_kernel_of_one_pixel_change_nothing():
    rng = np.random.default_rng(2)
    masks = BitMasks.from_dense([dense_mask(rng, 90, 65) for _ in range(20)])
    for operation in OPERATIONS:
        assert same(operation(masks, 90, 65, iterations=0), masks)
        assert same(operation(masks, 90, 65, kernel=1), masks)


@pytest.mark.parametrize("count", [0, 2000])
def test_none_and_many_masks(count):
    rng = np.random.default_rng(0)
    dense = rng.random((count, 30, 20)) < 0.8
    got = opened(BitMasks.from_dense(dense), 30, 20)
    assert same(got, BitMasks.from_dense([by_opencv(mask, opened, 3, "square", 1, 0) for mask in dense]))


def test_a_dot_grows_into_the_image_only():
    dot = np.zeros((130, 3), bool)
    dot[64, 0] = True
    grown = dilated(BitMasks.from_dense([dot]), 130, 3, kernel=(3, 9))
    assert grown.windows.tolist() == [[0, 0, 3, 2]]
    assert grown.areas().tolist() == [9]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernel": 0}, "kernel of 0 x 0"),
        ({"kernel": (3, 2000)}, "kernel of 2000 x 3"),
        ({"shape": "star"}, "'star'.*square, cross, ellipse"),
        ({"iterations": -1}, "-1 iterations"),
        ({"border": 2}, "border of 2"),
    ],
)
def test_what_does_not_exist_is_refused(options, said):
    with pytest.raises(InputError, match=said):
        eroded(BitMasks.empty(1), 5, 5, **options)


@pytest.mark.parametrize("size", [(10, 30), (70, 3), (69, 30)])
def test_a_mask_of_another_image_is_refused(size):
    mask = np.zeros((70, 30), bool)
    mask[69, 5] = True
    with pytest.raises(InputError, match="mask 1 has pixels outside"):
        opened(BitMasks.concatenate([BitMasks.empty(1), BitMasks.from_dense([mask])]), *size)
