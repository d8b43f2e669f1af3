"""Masks: laying crops over the image, run lengths, overlaps, suppression and opening, beside the usual libraries.

A tile is 512 x 512 pixels with 220 detections of 16 objects by descending score, 28 x 28 probabilities each, as a mask
head gives them. Each way goes over all tiles in a round, so that no processor learns a tile by heart; ours goes over
them several times where once is a few clock ticks, and the mean counts. Results are compared: pixel for pixel, text by
text, or by their largest difference.

    python benchmarks/masks.py [--json] [--tiles N] [--rounds N]
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from _compare import Row, growth_row, interleaved, one_thread, options_of, row, show
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from hubmap_ml.fusion import kept_rows
from hubmap_ml.instances import BitMasks, Category, Images, Instances, Masks, PredictionSet, SoftMasks
from hubmap_ml.instances.morphology import opened

SIZE = 512
OURS_TIMES = 5
DETECTIONS = 220
THRESHOLDS = np.linspace(0.3, 0.7, 8)
PACKAGES = ("numba", "pycocotools", "opencv-python-headless", "torch", "mmdet", "scipy")
Rng = np.random.Generator
Tile = tuple[SoftMasks, NDArray[np.float32]]


def tile(rng: Rng, detections: int, size: int = SIZE) -> Tile:
    """Detections around objects: their crops over boxes, and their scores, the highest first."""
    objects = max(1, round(16 * detections / DETECTIONS))
    centres, extents = rng.uniform(0, size, (objects, 2)), rng.uniform(25, 90, (objects, 2))
    at = rng.integers(0, objects, detections)
    spread = extents[at]
    middle = centres[at] + rng.normal(0, 0.12, (detections, 2)) * spread
    half = spread * rng.lognormal(0, 0.15, (detections, 2)) / 2
    boxes = np.clip(np.concatenate([middle - half, middle + half], 1), 0, size)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 2)
    side = (np.arange(28) + 0.5) / 14 - 1
    radius = np.hypot(side[:, None], side[None, :])
    soft = 1 / (1 + np.exp((radius - rng.uniform(0.7, 1.0, (detections, 1, 1))) * 12))
    noisy = np.clip(soft + rng.normal(0, 0.05, soft.shape) * (soft > 0.01), 0, 1)
    return SoftMasks.from_crops(noisy, boxes), np.sort(rng.random(detections).astype(np.float32))[::-1]


def mmdet_masks(soft: SoftMasks, threshold: float) -> NDArray[np.bool_]:
    """(N, H, W) as ``FCNMaskHead.get_seg_masks`` makes them on a CPU: one by one, cut out around the box."""
    import torch
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

    probabilities = torch.from_numpy(soft.values.reshape(-1, 1, 28, 28).astype(np.float32) / np.float32(255))
    boxes = torch.from_numpy(soft.boxes)
    out = torch.zeros(len(boxes), SIZE, SIZE, dtype=torch.bool)
    for chunk in torch.chunk(torch.arange(len(boxes)), len(boxes)):
        pasted, place = _do_paste_mask(probabilities[chunk], boxes[chunk], SIZE, SIZE, skip_empty=True)
        out[(chunk, *place)] = (pasted >= threshold).to(dtype=torch.bool)
    found: NDArray[np.bool_] = out.numpy()
    return found


def paste_rows(tiles: list[Tile], rounds: int) -> list[Row]:
    """Paste and threshold, beside mmdet; several thresholds in one pass, beside one after the other."""
    crops = [soft for soft, _ in tiles]
    dense = [mmdet_masks(soft, 0.5) for soft in crops[:4]]
    few = crops[: len(dense)]  # mmdet's masks are 57 MB a tile
    times, results = interleaved(
        {
            "ours": lambda: [soft.binarize(0.5, SIZE, SIZE) for soft in few],
            "other": lambda: [mmdet_masks(soft, 0.5).shape for soft in few],
        },
        rounds=rounds,
    )
    wrong = max(
        int((bits.to_dense(k, SIZE, SIZE) != masks[k]).sum())
        for bits, masks in zip(results["ours"], dense, strict=True)
        for k in range(len(bits))
    )
    rows = [
        row("paste_threshold_vs_mmdet_cpu", times["ours"], times["other"], max_abs_diff=wrong, n=count(few))
    ]
    times, results = interleaved(
        {
            "ours": lambda: [soft.paste_many(THRESHOLDS, SIZE, SIZE) for soft in crops],
            "other": lambda: [[soft.binarize(t, SIZE, SIZE) for t in THRESHOLDS] for soft in crops],
        },
        rounds=rounds,
    )
    wrong = sum(
        not (np.array_equal(one.words, two.words) and np.array_equal(one.windows, two.windows))
        for many, single in zip(results["ours"], results["other"], strict=True)
        for one, two in zip(many, single, strict=True)
    )
    work = f"paste_{len(THRESHOLDS)}_thresholds_at_once_vs_one_by_one"
    return [*rows, row(work, times["ours"], times["other"], max_abs_diff=wrong, n=count(crops))]


def encode_row(bits: list[BitMasks], rounds: int) -> Row:
    """COCO's run lengths, from words and from a dense stack (N masks, Fortran order, as pycocotools wants it)."""
    few = bits[:4]
    stacks = [
        np.asfortranarray(np.stack([one.to_dense(k, SIZE, SIZE) for k in range(len(one))], axis=-1), np.uint8)
        for one in few
    ]
    times, results = interleaved(
        {
            "ours": lambda: [one.to_rle(SIZE, SIZE) for one in few],
            "other": lambda: [[rle["counts"] for rle in coco_mask.encode(stack)] for stack in stacks],
        },
        rounds=rounds,
    )
    wrong = sum(
        text.encode() != other
        for ours, others in zip(results["ours"], results["other"], strict=True)
        for text, other in zip(ours, others, strict=True)
    )
    return row("rle_encode_vs_pycocotools", times["ours"], times["other"], max_abs_diff=wrong, n=count(few))


def decode_row(bits: list[BitMasks], rounds: int) -> Row:
    """From run lengths to words, and to a dense stack."""
    texts = [one.to_rle(SIZE, SIZE) for one in bits[:4]]
    rles = [encoded(one) for one in bits[:4]]
    times, results = interleaved(
        {
            "ours": lambda: [BitMasks.from_rle(some, SIZE, SIZE) for some in texts],
            "other": lambda: [coco_mask.decode(some).shape for some in rles],
        },
        rounds=rounds,
    )
    wrong = sum(
        not np.array_equal(one.words, two.words) for one, two in zip(results["ours"], bits, strict=False)
    )
    return row("rle_decode_vs_pycocotools", times["ours"], times["other"], max_abs_diff=wrong, n=count(rles))


def overlap_rows(bits: list[BitMasks], rounds: int) -> list[Row]:
    """Overlap of all masks of a tile with all: over the union, and over the smaller one."""
    rles = [encoded(one) for one in bits]

    def smaller(rle: list[Any]) -> NDArray[np.float64]:
        of_first = coco_mask.iou(rle, rle, [1] * len(rle))  # with a crowd: over the first one's area
        return np.maximum(of_first, of_first.T)

    others: dict[str, tuple[Callable[[BitMasks], Any], Callable[[list[Any]], Any]]] = {
        "iou_matrix_vs_pycocotools": (
            BitMasks.iou_matrix,
            lambda rle: coco_mask.iou(rle, rle, [0] * len(rle)),
        ),
        "ios_matrix_vs_pycocotools": (BitMasks.ios_matrix, smaller),
    }
    rows = []
    for work, (ours, other) in others.items():
        times, results = interleaved(
            {"ours": partial(each, ours, bits), "other": partial(each, other, rles)},
            rounds=rounds,
            repeat={"ours": OURS_TIMES},
        )
        worst = max(
            float(np.abs(one - two).max()) for one, two in zip(results["ours"], results["other"], strict=True)
        )
        rows.append(row(work, times["ours"], times["other"], max_abs_diff=worst, n=count(bits)))
    return rows


def suppression_row(tiles: list[Tile], bits: list[BitMasks], rounds: int) -> Row:
    """NMS by mask at IoU 0.5: ours against kept masks only; a full matrix and the usual loop."""
    found = predictions(tiles, bits)
    rles = [encoded(one) for one in bits]

    def usual(rle: list[Any]) -> list[int]:
        overlap = coco_mask.iou(rle, rle, [0] * len(rle))
        alive, kept = np.ones(len(rle), np.bool_), []
        for k in range(len(rle)):
            if alive[k]:
                kept.append(k)
                alive[k + 1 :] &= overlap[k, k + 1 :] <= 0.5
        return kept

    times, results = interleaved(
        {
            "ours": lambda: kept_rows(found, iou_threshold=0.5, by="mask"),
            "other": lambda: [usual(rle) for rle in rles],
        },
        rounds=rounds,
        repeat={"ours": OURS_TIMES},
    )
    kept = [start + k for start, some in zip(found.offsets, results["other"], strict=False) for k in some]
    wrong = len(set(np.flatnonzero(results["ours"])) ^ set(kept))
    return row(
        "mask_nms_vs_pycocotools_and_greedy", times["ours"], times["other"], max_abs_diff=wrong, n=len(found),
        kept=len(kept),
    )  # fmt: skip


def opening_rows(bits: list[BitMasks], rounds: int) -> list[Row]:
    """Opening 3 x 3 and 5 x 5 (ellipse), beside OpenCV on crops with a frame of zeros, and on the whole image."""
    rows = []
    for size, shape, kind in ((3, "square", cv2.MORPH_RECT), (5, "ellipse", cv2.MORPH_ELLIPSE)):
        element = cv2.getStructuringElement(kind, (size, size))
        crops = [[cut_out(one, k) for k in range(len(one))] for one in bits]
        ours = partial(opened, heights=SIZE, widths=SIZE, kernel=size, shape=shape)
        times, results = interleaved(
            {
                "ours": partial(each, ours, bits),
                "other": partial(each, partial(opened_by_opencv, element=element, frame=size), crops),
            },
            rounds=rounds,
            repeat={"ours": OURS_TIMES},
        )
        wrong = 0
        for one, images in zip(results["ours"], results["other"], strict=True):
            wrong += int(np.abs(one.areas() - [image.sum() for image in images]).sum())
        rows.append(
            row(
                f"opening_{size}x{size}_{shape}_vs_opencv_on_padded_crops", times["ours"], times["other"],
                max_abs_diff=wrong, n=count(bits),
            )
        )  # fmt: skip
    return rows


def cut_out(bits: BitMasks, k: int) -> NDArray[np.uint8]:
    """A mask as a dense crop, as tight as it can be."""
    x0, y0, x1, y1 = bits.tight_boxes()[k].astype(int)
    return np.ascontiguousarray(bits.to_dense(k, SIZE, SIZE)[y0:y1, x0:x1], np.uint8)


def opened_by_opencv(
    crops: list[NDArray[np.uint8]], element: NDArray[np.uint8], frame: int
) -> list[NDArray[np.uint8]]:
    """Each crop in a frame of zeros (as there would be in its image), opened."""
    return [
        cv2.morphologyEx(
            cv2.copyMakeBorder(crop, frame, frame, frame, frame, cv2.BORDER_CONSTANT, value=0),
            cv2.MORPH_OPEN,
            element,
        )
        for crop in crops
    ]


def growth_rows(rng: Rng, rounds: int) -> list[Row]:
    """How times of a tile grow with its instances; everything over all tiles is in proportion."""
    sizes = (50, 100, 200, 400, 800)
    tiles = [tile(rng, size) for size in sizes]
    bits = [soft.binarize(0.5, SIZE, SIZE) for soft, _ in tiles]
    found = [predictions([one], [masks]) for one, masks in zip(tiles, bits, strict=True)]
    work: dict[str, Callable[[int], Any]] = {
        "paste_threshold": lambda k: tiles[k][0].binarize(0.5, SIZE, SIZE),
        "rle_encode": lambda k: bits[k].to_rle(SIZE, SIZE),
        "iou_matrix": lambda k: bits[k].iou_matrix(),
        "mask_nms": lambda k: kept_rows(found[k], iou_threshold=0.5, by="mask"),
        "opening": lambda k: opened(bits[k], SIZE, SIZE),
    }
    rows = []
    for name, ours in work.items():
        ways = {str(size): partial(ours, k) for k, size in enumerate(sizes)}
        times, _ = interleaved(ways, rounds=rounds, repeat={str(size): 1600 // size for size in sizes})
        medians = [float(np.median(times[str(size)])) for size in sizes]
        rows.append(growth_row(f"{name}_over_instances", sizes, medians))
    return rows


def encoded(bits: BitMasks) -> list[dict[str, Any]]:
    """pycocotools' run lengths of a tile's masks."""
    return [{"size": [SIZE, SIZE], "counts": text.encode()} for text in bits.to_rle(SIZE, SIZE)]


def predictions(tiles: Sequence[Tile], bits: Sequence[BitMasks]) -> PredictionSet:
    """Tiles with decided masks as a set."""
    images = Images.build(ids=[f"tile {k}" for k in range(len(tiles))], heights=SIZE, widths=SIZE)
    found = [
        Instances.build(
            soft.boxes, scores, np.zeros(len(scores), np.int16), masks=Masks.from_bits(masks), height=SIZE, width=SIZE
        )
        for (soft, scores), masks in zip(tiles, bits, strict=True)
    ]  # fmt: skip
    return PredictionSet.from_instances(images, (Category(1, "object"),), found)


def each(work: Callable[[Any], Any], things: Sequence[Any]) -> list[Any]:
    """The work done on each."""
    return [work(thing) for thing in things]


def count(things: Sequence[Any]) -> int:
    """Instances of all."""
    return sum(map(len, things))


def main() -> None:
    """Run and print."""
    options = options_of(__doc__, rounds=5, tiles=(16, "tiles of 220 detections"))
    one_thread()
    rng = np.random.default_rng(0)
    tiles = [tile(rng, DETECTIONS) for _ in range(options.tiles)]
    bits = [soft.binarize(0.5, SIZE, SIZE) for soft, _ in tiles]
    rows = paste_rows(tiles, options.rounds)
    rows.append(encode_row(bits, options.rounds))
    rows.append(decode_row(bits, options.rounds))
    rows += overlap_rows(bits, options.rounds)
    rows.append(suppression_row(tiles, bits, options.rounds))
    rows += opening_rows(bits, options.rounds)
    rows += growth_rows(rng, options.rounds)
    show(rows, as_json=options.json, packages=PACKAGES)


if __name__ == "__main__":
    main()
