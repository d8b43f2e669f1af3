import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.instances import Annotations, Category, Images, join_annotations
from hubmap_ml.spec import InputError

SIZE = 12


def scene(names: list[str], seed: int, categories: tuple[str, ...] = ("a", "b")) -> Annotations:
    rng = np.random.default_rng(seed)
    images = Images.build(ids=names, heights=SIZE, widths=SIZE)
    masks = [[rng.random((SIZE, SIZE)) < 0.3 for _ in range(rng.integers(0, 4))] for _ in names]
    return Annotations.from_dense(
        images,
        tuple(Category(k + 1, name) for k, name in enumerate(categories)),
        masks,
        [rng.integers(0, 2, len(each)) for each in masks],
        iscrowd=[rng.random(len(each)) < 0.3 for each in masks],
    )


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_each_image_keeps_its_annotations(n: int, m: int, seed: int) -> None:
    first, second = scene([f"f{k}" for k in range(n)], seed), scene([f"s{k}" for k in range(m)], seed + 1)
    found = join_annotations(first, second)
    assert [*first.images.ids, *second.images.ids] == [*found.images.ids]
    assert len(found) == len(first) + len(second)
    for row in range(n + m):
        own = first.image(row) if row < n else second.image(row - n)
        other = found.image(row)
        assert np.array_equal(own.boxes, other.boxes)
        assert np.array_equal(own.labels, other.labels)
        assert np.array_equal(own.iscrowd, other.iscrowd)
        assert np.array_equal(own.areas, other.areas)
    dense = [
        bits.to_dense(k, SIZE, SIZE)
        for bits in (first.masks.bits, second.masks.bits)
        for k in range(len(bits))
    ]
    assert all(np.array_equal(found.masks.bits.to_dense(k, SIZE, SIZE), one) for k, one in enumerate(dense))


def test_what_does_not_belong_together_is_one_line() -> None:
    with pytest.raises(InputError, match=r"image 'x' is in both sets"):
        join_annotations(scene(["x", "y"], 0), scene(["x"], 1))
    with pytest.raises(InputError, match=r"annotations of a, b and of a, c cannot be joined"):
        join_annotations(scene(["x"], 0), scene(["y"], 1, ("a", "c")))
