import io

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hubmap_ml.data import ArrayImage, FileImage, ImageSource, Window, read_image, read_size
from hubmap_ml.data.images import decode_image
from hubmap_ml.spec import InputError

PIXELS = np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw", "rowsperstrip": 7},
        {"tile": (16, 32), "compression": "zlib", "predictor": True},
        {"planarconfig": "separate"},
        {"bigtiff": True, "byteorder": ">"},
    ],
    ids=str,
)
def test_a_tiff_of_any_layout_gives_its_pixels(tmp_path, options):
    path = tmp_path / "tile.tif"
    planar = np.moveaxis(PIXELS, -1, 0) if "planarconfig" in options else PIXELS
    tifffile.imwrite(path, planar, photometric="rgb", **options)
    assert np.array_equal(read_image(path), PIXELS)
    assert read_size(path) == (37, 53)


def test_another_writers_tiff_is_read_alike(tmp_path):
    path = tmp_path / "tile.tiff"
    Image.fromarray(PIXELS).save(path, compression="tiff_adobe_deflate")
    assert np.array_equal(read_image(path), PIXELS)


def test_a_jpeg_compressed_tiff_comes_out_in_rgb(tmp_path):
    path = tmp_path / "tile.tif"
    smooth = cv2.GaussianBlur(PIXELS, (0, 0), 8)
    Image.fromarray(smooth).convert("YCbCr").save(path, compression="jpeg", quality=98)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].photometric == tifffile.PHOTOMETRIC.YCBCR
    assert np.abs(read_image(path).astype(int) - smooth).max() < 12


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_colours_keep_their_order(tmp_path, suffix):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 250
    Image.fromarray(red).save(tmp_path / f"red{suffix}")
    assert (read_image(tmp_path / f"red{suffix}") - [250, 0, 0]).max() <= 5


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_becomes_three_channels_and_alpha_is_dropped(tmp_path, suffix):
    Image.fromarray(PIXELS[:, :, 0]).save(tmp_path / f"grey{suffix}")
    Image.fromarray(np.dstack([PIXELS, PIXELS[:, :, 1]])).save(tmp_path / f"alpha{suffix}")
    assert np.array_equal(read_image(tmp_path / f"grey{suffix}"), np.repeat(PIXELS[:, :, :1], 3, axis=2))
    assert np.array_equal(read_image(tmp_path / f"alpha{suffix}"), PIXELS)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_refused(tmp_path, suffix):
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 200).save(path)
    with pytest.raises(InputError, match=r"deep.*uint16"):
        read_image(path)


def test_palette_colours_are_refused(tmp_path):
    path = tmp_path / "palette.tif"
    Image.fromarray(PIXELS).convert("P").save(path)
    with pytest.raises(InputError, match="PALETTE"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path):
    for read in (read_image, read_size):
        with pytest.raises(InputError, match=r"nowhere\.tif does not exist"):
            read(tmp_path / "nowhere.tif")


def test_an_unknown_kind_of_file_says_what_is_known(tmp_path):
    (tmp_path / "slide.svs").write_bytes(b"x")
    with pytest.raises(InputError, match=r"\.tif, \.tiff"):
        read_image(tmp_path / "slide.svs")


def encoded(kind, tmp_path_factory):
    path = tmp_path_factory.mktemp("encoded") / "tile"
    if kind == "strips first":  # header and directory stand before the pixels
        tifffile.imwrite(path, PIXELS, photometric="rgb", metadata=None)
        suffix = ".tif"
    elif kind == "directory last":
        Image.fromarray(PIXELS).save(path, format="TIFF", compression="tiff_adobe_deflate")
        suffix = ".tif"
    else:
        Image.fromarray(PIXELS).save(path, format=kind)
        suffix = f".{kind.lower()}"
    return path.read_bytes(), suffix


@pytest.mark.parametrize("kind", ["strips first", "directory last", "PNG", "JPEG"])
def test_a_file_cut_anywhere_is_an_input_error_that_names_it(kind, tmp_path_factory):
    content, suffix = encoded(kind, tmp_path_factory)
    path = tmp_path_factory.mktemp("cut") / f"tile{suffix}"
    path.write_bytes(content)
    whole = read_image(path)

    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, len(content) - 1))
    def cut(length):
        path.write_bytes(content[:length])
        said = ""
        try:
            pixels = read_image(path)
        except InputError as error:
            said = str(error)
        if said:
            assert str(path) in said
            assert "\n" not in said
        else:
            assert np.array_equal(pixels, whole)  # only what nobody needs was cut off

    cut()
    path.write_bytes(content[: len(content) // 2])
    for read in (read_image, read_size):
        with pytest.raises(InputError, match="cut short"):
            read(path)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200), st.sampled_from(["II*\0", "MM\0*", "II+\0", "\x89PNG", ""]))
def test_noise_in_place_of_an_image_is_an_input_error(noise, magic):
    from pathlib import Path

    with pytest.raises(InputError):
        decode_image(magic.encode("latin1") + noise, Path("noise.tif"))
    with pytest.raises(InputError):
        decode_image(magic.encode("latin1") + noise, Path("noise.png"))


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_window_is_the_same_part_of_the_whole(data):
    x0 = data.draw(st.integers(0, 52))
    y0 = data.draw(st.integers(0, 36))
    x1 = data.draw(st.integers(x0 + 1, 53))
    y1 = data.draw(st.integers(y0 + 1, 37))
    part = ArrayImage(PIXELS).read(Window(x0, y0, x1, y1))
    assert np.array_equal(part, PIXELS[y0:y1, x0:x1])


@pytest.mark.parametrize("window", [(0, 0, 54, 10), (-1, 0, 5, 5), (5, 5, 5, 9), (8, 3, 4, 9)])
def test_a_window_that_leaves_the_image_is_refused(tmp_path, window):
    path = tmp_path / "tile.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb")
    for source in (ArrayImage(PIXELS), FileImage(path)):
        with pytest.raises(ValueError, match="window"):
            source.read(Window(*window))


def test_sources_of_both_kinds_agree(tmp_path):
    path = tmp_path / "tile.png"
    Image.fromarray(PIXELS).save(path)
    for source in (FileImage(path), ArrayImage(PIXELS)):
        assert isinstance(source, ImageSource)
        assert (source.height, source.width) == (37, 53)
        assert np.array_equal(source.read(), PIXELS)
        assert np.array_equal(source.read(Window(3, 1, 9, 30)), PIXELS[1:30, 3:9])


@pytest.mark.parametrize(
    "array", [np.zeros((5, 5, 3)), np.zeros((5, 5, 7), np.uint8), np.zeros((0, 5, 3), np.uint8)]
)
def test_an_array_that_is_no_image_is_refused(array):
    with pytest.raises(InputError, match="the array"):
        ArrayImage(array)


def test_real_tiles_are_read_as_pillow_reads_them(nuclei):
    path = sorted((nuclei / "train").glob("*.tif"))[0]
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(read_image(path), expected)
    assert read_size(path) == expected.shape[:2]
