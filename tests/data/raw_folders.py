"""Small raw folders in the formats that are read, each with what it holds."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import tifffile

SIZE = (20, 24)  # height, width
SARTORIUS_HEADER = (
    "id", "annotation", "width", "height", "cell_type", "plate_time", "sample_date", "sample_id", "elapsed_timedelta"
)  # fmt: skip


def picture(path, size=SIZE, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(1, 255, size, np.uint8)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels)
    else:
        assert cv2.imwrite(str(path), pixels)


def blob(x, y, width=5, height=4, size=SIZE):
    mask = np.zeros(size, np.uint8)
    mask[y : y + height, x : x + width] = 1
    return mask


def row_runs(mask):
    """The encoder that every Sartorius notebook holds."""
    pixels = np.concatenate([[0], mask.flatten(), [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(x) for x in runs)


def sartorius_row(image, mask, kind="cort", sample="cort[diff]_A1-1_Vessel-714_Ph_1"):
    height, width = mask.shape
    return [image, row_runs(mask), width, height, kind, "11h30m00s", "2019-06-16", sample, "0 days 11:30:00"]


def write_sartorius(folder, rows=None):
    """Three training images (two plates, two types), two without labels, one for the test; six cells."""
    other = "shsy5y[diff]_E10-4_Vessel-715_Ph_3"
    if rows is None:
        rows = [
            sartorius_row("a0", blob(1, 1)),
            sartorius_row("a0", blob(10, 10)),
            sartorius_row("b1", blob(2, 3), "shsy5y", other),
            sartorius_row("b1", blob(12, 3), "shsy5y", other),
            sartorius_row("b1", blob(2, 13), "shsy5y", other),
            sartorius_row("c2", blob(18, 15)),
        ]
    for seed, name in enumerate(("train/a0", "train/b1", "train/c2", "test/t0")):
        picture(folder / f"{name}.png", seed=seed)
    for name in ("astro[hippo]_D1-1_Vessel-361_Ph_1-00d00h00m00s", "nowhere"):
        picture(folder / "train_semi_supervised" / f"{name}.png")
    with (folder / "train.csv").open("w", newline="") as out:
        csv.writer(out).writerows([SARTORIUS_HEADER, *rows])
    return folder


def ring(x, y, width=5, height=4):
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def coco_data(images=None, annotations=None):
    """Three images, two categories; polygons, plain and compressed run lengths; six annotations."""
    from pycocotools import mask as coco_mask

    compressed = coco_mask.encode(np.asfortranarray(blob(3, 3)))["counts"].decode()
    size = list(SIZE)
    return {
        "images": [
            {"id": k, "file_name": f"{name}.tif", "height": SIZE[0], "width": SIZE[1]}
            for k, name in (
                (7, "A172_Phase_A7_1_00d00h00m_1"),
                (8, "SkBr3_Phase_B3_1_00d00h00m_2"),
                (9, "plain"),
            )
        ]
        if images is None
        else images,
        "annotations": [
            {
                "id": 1,
                "image_id": 7,
                "category_id": 1,
                "segmentation": [ring(1, 1)],
                "area": 20.0,
                "iscrowd": 0,
            },
            {"id": 2, "image_id": 7, "category_id": 1, "segmentation": [ring(9, 9), ring(15, 9)]},
            {"id": 3, "image_id": 8, "category_id": 2, "segmentation": {"size": size, "counts": compressed}},
            {
                "id": 4,
                "image_id": 8,
                "category_id": 1,
                "segmentation": {"size": size, "counts": [100, 6, 374]},
            },
            {"id": 5, "image_id": 9, "category_id": 2, "segmentation": [ring(2, 2)], "iscrowd": 1},
            {
                "id": 6,
                "image_id": 9,
                "category_id": 1,
                "segmentation": [ring(12, 12)],
                "bbox": [12, 12, 5, 4],
            },
        ]
        if annotations is None
        else annotations,
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "unsure", "supercategory": "cell"}],
    }


def write_coco_folder(folder, data=None, name="annotations.json", images=""):
    for k, file in enumerate(("A172_Phase_A7_1_00d00h00m_1", "SkBr3_Phase_B3_1_00d00h00m_2", "plain")):
        picture(folder / images / f"{file}.tif", seed=k)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(coco_data() if data is None else data))
    return folder


def write_livecell(folder, data=None, *, as_mapping=True):
    """As ``write_coco_folder``, in LIVECell's places: annotations as a mapping, images in folders by type."""
    data = coco_data() if data is None else data
    if as_mapping and isinstance(data["annotations"], list):
        data["annotations"] = {str(one["id"]): one for one in data["annotations"]}
    write_coco_folder(
        folder, data, "annotations/livecell_coco_train.json", "images/livecell_train_val_images"
    )
    inner = folder / "images" / "livecell_train_val_images"
    (inner / "A172").mkdir()
    file = inner / "A172_Phase_A7_1_00d00h00m_1.tif"
    file.rename(inner / "A172" / file.name)
    return folder


def write_dsb(folder):
    """Two training images with two and one masks, one test image."""
    for k, (name, masks) in enumerate({"aa": [blob(1, 1), blob(10, 10)], "bb": [blob(5, 5)]}.items()):
        picture(folder / "stage1_train" / name / "images" / f"{name}.png", seed=k)
        for number, mask in enumerate(masks):
            path = folder / "stage1_train" / name / "masks" / f"{name}{number}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), 255 * mask)
    picture(folder / "stage1_test" / "tt" / "images" / "tt.png")
    return folder


def write_hubmap(folder):
    """Three tiles and one for the test; four outlines, one of them unsure."""
    for k, name in enumerate(("train/a1", "train/b2", "train/c3", "test/t4")):
        picture(folder / f"{name}.tif", seed=k)
    rows = [["a1", "1", "1", "0", "512"], ["b2", "2", "2", "512", "0"], ["c3", "2", "3", "0", "0"]]
    with (folder / "tile_meta.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["id", "source_wsi", "dataset", "i", "j"], *rows])
    outline = [[3, 4], [15, 5], [12, 17]]
    lines = [
        {"id": "a1", "annotations": [{"type": "blood_vessel", "coordinates": [outline]}] * 2},
        {
            "id": "b2",
            "annotations": [
                {"type": "unsure", "coordinates": [outline]},
                {"type": "blood_vessel", "coordinates": [outline]},
            ],
        },
    ]
    (folder / "polygons.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def masks_of(annotations):
    """Dense masks in order."""
    rows, images = annotations.image_rows(), annotations.images
    return [
        annotations.masks.bits.to_dense(k, int(images.heights[row]), int(images.widths[row])).astype(np.uint8)
        for k, row in enumerate(rows)
    ]


def files(folder: Path):
    return sorted(path for path in folder.rglob("*") if path.is_file())
