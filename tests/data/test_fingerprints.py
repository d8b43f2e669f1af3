import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.data import ArrayImage, FileImage, SyntheticTissue, generate, read_image
from hubmap_ml.data.fingerprints import (
    Fingerprints,
    fingerprint,
    fingerprint_all,
    near_duplicates,
    read_fingerprints,
    write_fingerprints,
)
from hubmap_ml.spec import InputError

FLIPS = {
    "as it is": lambda pixels: pixels,
    "mirrored": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: pixels[::-1],
    "turned": lambda pixels: pixels[::-1, ::-1],
}


def recompressed(pixels, quality=60):
    _, content = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(content, cv2.IMREAD_COLOR)[:, :, ::-1])


def prints_of(pictures):
    return fingerprint_all([f"t{k}" for k in range(len(pictures))], [ArrayImage(p) for p in pictures])


def every_pair(prints):
    rows = np.arange(len(prints))
    return near_duplicates(prints, rows, rows)


def assert_copies_are_found_and_nothing_else(pictures):
    """Nothing among the pictures; of each, every recompressed flip."""
    assert len(every_pair(prints_of(pictures))[0]) == 0
    n = len(pictures)
    for flip in FLIPS.values():
        copies = [recompressed(np.ascontiguousarray(flip(picture))) for picture in pictures]
        prints = prints_of([*pictures, *copies])
        pairs, distances = near_duplicates(prints, np.arange(n), np.arange(n, 2 * n))
        assert pairs.tolist() == [[k, n + k] for k in range(n)]
        assert distances.max() < 0.06


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    """Tiles of 128 pixels, 48 of them."""
    wanted = SyntheticTissue(seed=5, slides=3, clean_per_slide=6, noisy_per_slide=6)
    folder = generate(tmp_path_factory.mktemp("tissue") / "raw", wanted)
    return [read_image(path) for path in sorted(folder.glob("t*/*.tif"))]


def test_recompressed_flips_of_generated_tissue_are_found_and_nothing_else(tissue):
    assert_copies_are_found_and_nothing_else(tissue)


def test_recompressed_flips_of_real_stained_tissue_are_found_and_nothing_else(nuclei):
    assert_copies_are_found_and_nothing_else([read_image(path) for path in sorted(nuclei.glob("t*/*.tif"))])


@pytest.mark.parametrize("pattern", ["train/*.png", "livecell/**/*.tif"])
def test_recompressed_flips_of_real_fluorescence_are_found_and_nothing_else(nuclei, pattern):
    paths = sorted((nuclei.parent / "nuclei-sartorius").glob(pattern))
    if not paths:
        pytest.skip("no nuclei-sartorius beside nuclei-hubmap2023")
    assert_copies_are_found_and_nothing_else([read_image(path) for path in paths])


def test_a_resized_or_brightened_copy_is_found(tissue):
    picture = tissue[0]
    smaller = cv2.resize(picture, (96, 80), interpolation=cv2.INTER_AREA)
    brighter = np.clip(picture.astype(np.float32) * 0.8 + 30, 0, 255).astype(np.uint8)
    pairs, _ = every_pair(prints_of([picture, smaller, brighter, *tissue[1:8]]))
    assert {tuple(pair) for pair in pairs.tolist()} == {(a, b) for a in range(3) for b in range(3) if a != b}


def test_the_neighbour_shifted_by_half_a_tile_is_another_picture(tissue):
    wide = np.concatenate([tissue[0], tissue[1]], axis=1)
    assert len(every_pair(prints_of([wide[:, :128], wide[:, 64:192], wide[:, 128:]]))[0]) == 0


def test_pictures_without_contrast_are_like_nothing():
    rng = np.random.default_rng(0)
    flat = [np.full((64, 64, 3), 200, np.uint8)] * 2
    noise = [rng.integers(198, 203, (64, 64, 3), np.uint8) for _ in range(6)]
    prints = prints_of([*flat, *noise])
    assert prints.blank.tolist() == [True] * 2 + [False] * 6
    assert len(every_pair(prints)[0]) == 0


def test_the_digest_is_of_the_pixels_and_their_shape_not_of_the_file(tissue, tmp_path):
    picture = tissue[0]
    cv2.imwrite(str(tmp_path / "a.png"), picture[:, :, ::-1])
    cv2.imwrite(str(tmp_path / "b.png"), picture[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 0])
    from_files = [fingerprint(FileImage(tmp_path / name).read())[0] for name in ("a.png", "b.png")]
    assert from_files == [fingerprint(picture)[0]] * 2
    changed = picture.copy()
    changed[3, 5, 1] ^= 1
    assert len({fingerprint(p)[0] for p in (picture, changed, picture.reshape(64, 256, 3))}) == 3


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from(list(FLIPS)))
def test_the_hash_of_a_flip_is_the_hash_with_some_signs_changed(seed, name):
    small = np.random.default_rng(seed).integers(0, 255, (32, 32), np.uint8)
    turned = np.ascontiguousarray(FLIPS[name](small))
    ids = np.array(["a", "b"], object)
    prints = Fingerprints(ids, ids, np.stack([small, turned]), np.zeros(2, bool))
    pairs, distances = near_duplicates(prints, np.array([0]), np.array([1]))
    assert pairs.tolist() == [[0, 1]]
    assert distances[0] < 1e-5


def test_workers_change_nothing_and_progress_is_told(generated):
    paths = sorted((generated / "train").glob("*.tif"))
    told = []
    one, four = (
        fingerprint_all(
            [path.stem for path in paths],
            [FileImage(path) for path in paths],
            workers=workers,
            progress=lambda done, total: told.append((done, total)),
        )
        for workers in (1, 4)
    )
    assert one.digests.tolist() == four.digests.tolist()
    assert np.array_equal(one.thumbnails, four.thumbnails)
    assert told == [(k, len(paths)) for k in range(1, len(paths) + 1)] * 2


def test_what_is_written_is_what_is_read(tissue, tmp_path):
    prints = prints_of(tissue[:5])
    write_fingerprints(tmp_path, prints)
    again = read_fingerprints(tmp_path)
    assert again.ids.tolist() == prints.ids.tolist()
    assert again.digests.tolist() == prints.digests.tolist()
    assert np.array_equal(again.thumbnails, prints.thumbnails)
    assert np.array_equal(again.blank, prints.blank)
    write_fingerprints(tmp_path, prints_of([]))
    assert len(read_fingerprints(tmp_path)) == 0
    assert len(every_pair(read_fingerprints(tmp_path))[0]) == 0


@pytest.mark.parametrize("content", [None, b"", b"PAR1 nothing"])
def test_a_missing_or_damaged_file_says_to_prepare_again(tmp_path: Path, content):
    if content is not None:
        (tmp_path / "fingerprints.parquet").write_bytes(content)
    with pytest.raises(
        InputError, match=r"fingerprints.parquet is missing or damaged.*run prepare again"
    ) as said:
        read_fingerprints(tmp_path)
    assert os.linesep not in str(said.value)
