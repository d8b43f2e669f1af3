"""A tile is a window of the image, anywhere, with the instances that can be seen in it."""

import numpy as np
from scipy.stats import chisquare

from hubmap_ml.models.augmentations import RandomTile
from tests.models.augmented import loaded


def seeded(step: RandomTile, seed: int) -> RandomTile:
    step.set_random_state(np.random.default_rng(seed), None)  # type: ignore[arg-type]
    return step


def numbered() -> dict:
    """Each pixel says where it was."""
    results = loaded()
    rows, columns = np.mgrid[:96, :96]
    results["img"] = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    return results


def test_what_is_seen_of_an_instance_decides_whether_it_stays() -> None:
    whole = loaded()["gt_masks"].masks
    step = seeded(RandomTile((40, 50), 0.5), 3)
    dropped = kept = 0
    for _ in range(60):
        after = step(numbered())
        window = np.zeros((96, 96), bool)
        if after is None:
            continue
        top, left = after["img"][0, 0, :2]
        assert after["img"].shape == (40, 50, 3)
        window[top : top + 40, left : left + 50] = True
        seen = [np.count_nonzero(mask & window) / np.count_nonzero(mask) for mask in whole]
        assert after["gt_labels"].tolist() == [i for i, share in enumerate(seen) if share >= 0.5]
        for label, mask in zip(after["gt_labels"], after["gt_masks"].masks, strict=True):
            np.testing.assert_array_equal(mask, whole[label][top : top + 40, left : left + 50])
        kept += len(after["gt_labels"])
        dropped += sum(0 < share < 0.5 for share in seen)
    assert kept
    assert dropped


def test_each_place_is_as_likely_as_the_others() -> None:
    step = seeded(RandomTile((90, 92), 0.0), 5)
    counts = np.zeros((7, 5))
    for _ in range(1400):
        top, left = step(numbered())["img"][0, 0, :2]  # type: ignore[index]
        counts[top, left] += 1
    assert chisquare(counts.ravel()).pvalue > 1e-3


def test_without_an_instance_the_sample_is_given_up() -> None:
    results = loaded()
    results["gt_masks"].masks[:] = 0
    results["gt_masks"].masks[:, 0, 0] = 1
    step = seeded(RandomTile((10, 10)), 0)
    assert step(results) is None


def test_a_small_image_is_taken_whole() -> None:
    after = RandomTile((200, 50), 0.0)(loaded())
    assert after is not None
    assert after["img"].shape == (96, 50, 3)
