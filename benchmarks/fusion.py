"""Fusion of members, boxes and masks: ours beside ensemble-boxes and beside the usual ways to fuse masks.

Tiles of 512 x 512 pixels, 5 members x 56 instances with 28 x 28 soft masks. ensemble-boxes gets its lists ready made;
the usual ways to fuse masks get the clusters for nothing, as ours in the ``wbf_masks`` rows; in the ``whole`` rows
ours also finds them. All go as far as the decided pixels at threshold 0.5. ``max_abs_diff`` of masks counts the pixels
that differ.

- ``wbf_masks_vs_full_masks``: every mask pasted into the tile by mmdet (its CPU path, the faster one), then a weighted
  sum over each cluster. That path cuts masks a pixel outside their box, so pixels are compared, untimed, with whole
  masks by mmdet's other path.
- ``wbf_masks_vs_union_numpy``: a cluster's union box only, each mask sampled by two small matrix products.
- ``five_members_eight_views``: 5 members x 8 views x 400 instances in one tile, views merged and members fused, beside
  the bars of 150 ms and 100 MB; and all 16,000 in one fusion. Memory is what the process grows by at its peak.

    python benchmarks/fusion.py [--json] [--rounds N] [--tiles N]
"""

import ctypes
import json
import subprocess
import sys
import time
import warnings

import ensemble_boxes
import numpy as np
import torch
from _compare import interleaved, one_thread, options_of, row, show
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

from hubmap_ml.fusion import FusionOptions, MaskFusion, fuse, merge_sources
from hubmap_ml.fusion.clusters import Clusters, image_frames
from hubmap_ml.fusion.mean_masks import mean_pixel_masks
from hubmap_ml.instances import Category, Images, Instances, Masks, PredictionSet, SoftMasks

SIZE, SIDE, THRESHOLD = 512, 28, 0.5
BARS = {"bar_ms": 150.0, "bar_mb": 100.0}


def member(rng, scenes, each, n_sources=1):
    """Predictions of one member: ``each`` instances a tile and source, scattered around the objects of the tile."""
    images = Images.build(ids=[f"tile_{k}" for k in range(len(scenes))], heights=SIZE, widths=SIZE)
    found = [_tile(rng, objects, each * n_sources, n_sources) for objects in scenes]
    return PredictionSet.from_instances(images, (Category(1, "vessel"),), found)


def _tile(rng, objects, count, n_sources):
    near = objects[rng.integers(0, len(objects), count)]
    astray = rng.random(count) < 0.1  # found where nothing is
    near = np.where(astray[:, None], near[rng.permutation(count)] + rng.uniform(-80, 80, (count, 1)), near)
    boxes = near + rng.normal(0, 0.06, (count, 4)) * np.tile(near[:, 2:] - near[:, :2], 2)
    boxes = np.clip(boxes, 0, [SIZE - 4, SIZE - 4, SIZE, SIZE])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 4)
    axis = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    radius = np.hypot(*np.meshgrid(axis, axis))
    crops = 255 / (1 + np.exp((radius - rng.uniform(0.7, 1.0, (count, 1, 1))) * 6))
    masks = SoftMasks.from_crops(np.round(crops).astype(np.uint8), boxes)
    return Instances.build(
        boxes, rng.uniform(0.01, 1, count), masks=Masks.from_soft(masks), height=SIZE, width=SIZE,
        source=np.repeat(np.arange(n_sources), count // n_sources),
    )  # fmt: skip


def scenes(rng, n_tiles, n_objects):
    """Objects of each tile, boxes (n_objects, 4): sides around 75 pixels, some three times that, as vessels have."""
    centre = rng.uniform(0, SIZE, (n_tiles, n_objects, 2))
    half = np.clip(rng.lognormal(np.log(75), 0.45, (n_tiles, n_objects, 2)), 20, 250) / 2
    return list(np.clip(np.concatenate([centre - half, centre + half], axis=2), 0, SIZE))


def box_rows(members, options):
    """Boxes only, every method, beside ensemble-boxes."""
    bare = [one.replace(masks=None) for one in members]
    n_tiles, threshold = len(bare[0].images), 0.55
    lists = [
        ([m.image(t).boxes / float(SIZE) for m in bare], [m.image(t).scores.astype(float) for m in bare],
         [m.image(t).labels for m in bare])
        for t in range(n_tiles)
    ]  # fmt: skip
    theirs = {
        "wbf": ensemble_boxes.weighted_boxes_fusion,
        "nmw": ensemble_boxes.non_maximum_weighted,
        "nms": ensemble_boxes.nms,
    }
    rows = []
    for method, other in theirs.items():
        how = FusionOptions(method=method, iou_threshold=threshold, skip_score=0.0)
        ways = {
            "ours": lambda how=how: fuse(bare, how),
            "theirs": lambda other=other: [other(*one, iou_thr=threshold) for one in lists],
        }
        times, results = interleaved(ways, rounds=options.rounds, repeat={"ours": 5})
        fused = results["ours"]
        worst = 0.0
        for t, (boxes, scores, _) in enumerate(results["theirs"]):
            ours = np.column_stack([fused.image(t).boxes / float(SIZE), fused.image(t).scores])
            other_rows = np.column_stack([boxes, scores])
            assert len(ours) == len(other_rows)
            distance = np.abs(ours[:, None] - other_rows[None]).max(axis=2)
            worst = max(worst, float(distance.min(axis=1).max()))
        name = f"{method}_boxes_vs_ensemble_boxes"
        per_tile = {way: [ms / n_tiles for ms in took] for way, took in times.items()}
        rows.append(row(name, per_tile["ours"], per_tile["theirs"], max_abs_diff=worst, n=n_tiles))
    return rows


def full_masks(stacked, clusters, weights, *, cut):
    """Decided masks (C, H, W) of one tile: full-size pasted masks, weighted sum over each cluster."""
    soft = stacked.masks.soft
    crops = torch.from_numpy(soft.values.reshape(-1, 1, SIDE, SIDE).astype(np.float32) / 255)
    boxes = torch.from_numpy(soft.boxes)
    pasted = np.zeros((len(soft), SIZE, SIZE), np.float32)
    for k in range(len(soft)):
        part, place = _do_paste_mask(crops[k : k + 1], boxes[k : k + 1], SIZE, SIZE, skip_empty=cut)
        pasted[(k, *place) if cut else k] = part[0].numpy()
    return [
        np.tensordot(weights[rows] / weights[rows].sum(), pasted[rows], axes=1) >= THRESHOLD
        for rows in clusters
    ]


def union_masks(stacked, clusters, weights):
    """Decided masks of one tile as (window, pixels): each cluster's union box, sampled by matrix products."""
    soft = stacked.masks.soft
    reach = (soft.boxes[:, 2:] - soft.boxes[:, :2]) / SIDE
    first = np.clip(np.floor(soft.boxes[:, :2] - reach), 0, SIZE).astype(int)
    last = np.clip(np.ceil(soft.boxes[:, 2:] + reach), 0, SIZE).astype(int)
    out = []
    for rows in clusters:
        (x0, y0), (x1, y1) = first[rows].min(axis=0), last[rows].max(axis=0)
        total = np.zeros((y1 - y0, x1 - x0))
        for r in rows:
            left, top, right, bottom = soft.boxes[r].astype(float)
            wide, tall = sampling(left, right, x0, x1), sampling(top, bottom, y0, y1)
            total += weights[r] * (tall @ (soft.crop(r) / 255.0) @ wide.T)
        out.append(((x0, y0, x1, y1), total / weights[rows].sum() >= THRESHOLD))
    return out


def sampling(low, high, first, stop):
    """Matrix (pixels, cells) of bilinear weights between the centres of the cells."""
    position = (np.arange(first, stop) + 0.5 - low) / (high - low) * SIDE - 0.5
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(SIDE)[None]))


def mask_rows(members, options):
    """Masks: the whole of ours beside two usual ways that are told the clusters."""
    how = FusionOptions(iou_threshold=0.55, skip_score=0.0)
    n_tiles = len(members[0].images)
    fused = fuse(members, how)
    stacked = PredictionSet.stack_sources(members, [str(k) for k in range(len(members))])
    tiles = [stacked.take_images([t]) for t in range(n_tiles)]
    clusters = [
        [
            fused.member_rows[fused.cluster_offsets[k] : fused.cluster_offsets[k + 1]] - stacked.offsets[t]
            for k in range(fused.offsets[t], fused.offsets[t + 1])
        ]
        for t in range(n_tiles)
    ]
    given = Clusters(fused.cluster_offsets, fused.member_rows, fused.offsets)
    voices, frames = stacked.scores.astype(float)[given.rows], image_frames(stacked, given)
    ways = {
        "ours": lambda: mean_pixel_masks(stacked.masks, given, voices, frames).binarize(
            THRESHOLD, SIZE, SIZE
        ),
        "whole": lambda: fuse(members, how).masks.binarize(THRESHOLD, SIZE, SIZE),
        "full": lambda: [
            full_masks(tile, rows, tile.scores.astype(float), cut=True)
            for tile, rows in zip(tiles, clusters, strict=True)
        ],
        "union": lambda: [
            union_masks(tile, rows, tile.scores.astype(float))
            for tile, rows in zip(tiles, clusters, strict=True)
        ],
    }
    times, results = interleaved(ways, rounds=options.rounds, repeat={"ours": 5, "whole": 5})
    per_tile = {way: [ms / n_tiles for ms in took] for way, took in times.items()}
    bits = results["ours"]
    assert np.array_equal(bits.words, results["whole"].words)
    different, different_from_union, different_from_cut, total = 0, 0, 0, int(bits.areas().sum())
    compared = min(3, n_tiles)  # whole masks by mmdet take seconds a tile
    for t in range(n_tiles):
        voices = tiles[t].scores.astype(float)
        whole = full_masks(tiles[t], clusters[t], voices, cut=False) if t < compared else None
        for k in range(len(clusters[t])):
            ours = bits.to_dense(int(fused.offsets[t]) + k, SIZE, SIZE)
            different += 0 if whole is None else int((ours != whole[k]).sum())
            different_from_cut += int((ours != results["full"][t][k]).sum())
            (x0, y0, x1, y1), pixels = results["union"][t][k]
            from_union = np.zeros((SIZE, SIZE), bool)
            from_union[y0:y1, x0:x1] = pixels
            different_from_union += int((ours != from_union).sum())
    common = {
        "n": n_tiles,
        "pixels": total,
        "instances_a_tile": len(stacked) / n_tiles,
        "clusters_a_tile": len(fused) / n_tiles,
    }
    from_full = {
        "max_abs_diff": different,
        "compared_tiles": compared,
        "different_pixels_where_mmdet_cuts": different_from_cut,
    }
    from_union = {"max_abs_diff": different_from_union}
    return [
        row("wbf_masks_vs_full_masks", per_tile["ours"], per_tile["full"], **from_full, **common),
        row("wbf_masks_vs_union_numpy", per_tile["ours"], per_tile["union"], **from_union, **common),
        row("whole_wbf_vs_full_masks", per_tile["whole"], per_tile["full"], **from_full, **common),
        row("whole_wbf_vs_union_numpy", per_tile["whole"], per_tile["union"], **from_union, **common),
    ]


def vote_rows(members, options):
    """The pseudo-label rule: count of full-size masks beside packed words; both begin with decided masks."""
    how = FusionOptions(iou_threshold=0.55, skip_score=0.0, masks=MaskFusion("votes", vote_share=0.4))
    decided = [one.replace(masks=Masks.from_bits(one.masks.binarize(0.5, SIZE, SIZE))) for one in members]
    fused = fuse(decided, how)
    stacked = PredictionSet.stack_sources(decided, [str(k) for k in range(len(members))])
    dense = [stacked.masks.bits.to_dense(k, SIZE, SIZE) for k in range(len(stacked))]

    def counted():
        out = []
        for k in range(len(fused)):
            rows = fused.member_rows[fused.cluster_offsets[k] : fused.cluster_offsets[k + 1]]
            out.append(np.sum([dense[r] for r in rows], axis=0) >= max(1, int(0.4 * len(rows))))
        return out

    n_tiles = len(members[0].images)
    times, results = interleaved(
        {"ours": lambda: fuse(decided, how), "full": counted}, rounds=options.rounds, repeat={"ours": 5}
    )
    bits = results["ours"].masks.bits
    different = sum(
        int((bits.to_dense(k, SIZE, SIZE) != expected).sum()) for k, expected in enumerate(results["full"])
    )
    per_tile = {way: [ms / n_tiles for ms in took] for way, took in times.items()}
    return [row("votes_vs_full_masks", per_tile["ours"], per_tile["full"], max_abs_diff=different, n=n_tiles)]


def large_tile():
    """5 members x 8 views x 400 instances of one tile of 90 objects."""
    rng = np.random.default_rng(5)
    objects = scenes(rng, 1, 90)
    return [member(rng, objects, 400, n_sources=8) for _ in range(5)]


def views_then_members(members):
    """Merge the views of each member, then fuse the members."""
    merged = [merge_sources(one, n_sources=8, iou_threshold=0.6) for one in members]
    return fuse(merged, FusionOptions(iou_threshold=0.55))


def all_at_once(members):
    """Fuse all instances in one step."""
    return fuse(members, FusionOptions(iou_threshold=0.55))


def peak_growth(way):
    """Run one large fusion and print how many MB the process grew by at its peak, candidates not counted."""
    small = [one.take(np.arange(40)) for one in large_tile()]
    way(small)  # kernels are compiled
    members = large_tile()
    ctypes.CDLL("libc.so.6").malloc_trim(
        0
    )  # what was freed is given back, so that it is counted when taken again
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before = _status("VmRSS")
    way(members)
    print(json.dumps({"mb": (_status("VmHWM") - before) / 1024}))


def _status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


def large_rows(options):
    """One very full tile, beside fixed bars."""
    members = large_tile()
    rows = []
    for name, way in (
        ("five_members_eight_views", views_then_members),
        ("sixteen_thousand_at_once", all_at_once),
    ):
        way(members)
        took = []
        for _ in range(max(3, options.rounds)):
            begun = time.process_time()
            fused = way(members)
            took.append(1000 * (time.process_time() - begun))
        told = subprocess.run(
            [sys.executable, __file__, "--peak", way.__name__], check=True, capture_output=True, text=True
        )
        rows.append({
            "work": name, "ours_ms": round(float(np.median(took)), 1), "other_ms": None, "ratio": None,
            "max_abs_diff": None, "n": sum(len(one) for one in members), "clusters": len(fused),
            "range_ms": [round(min(took), 1), round(max(took), 1)],
            "peak_mb": round(json.loads(told.stdout)["mb"], 1), **BARS,
        })  # fmt: skip
    return rows


def main():
    """Run all comparisons."""
    options = options_of(__doc__, rounds=5, tiles=(20, "tiles"))
    one_thread()
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    objects = scenes(rng, options.tiles, 16)
    members = [member(rng, objects, 56) for _ in range(5)]
    some = [[one.take_images(np.arange(min(n, options.tiles))) for one in members] for n in (8, 3)]
    rows = box_rows(members, options) + mask_rows(some[0], options) + vote_rows(some[1], options)
    show(
        rows + large_rows(options),
        as_json=options.json,
        packages=("numba", "ensemble-boxes", "torch", "mmdet"),
    )


if __name__ == "__main__":
    if "--peak" in sys.argv:
        peak_growth({"views_then_members": views_then_members, "all_at_once": all_at_once}[sys.argv[-1]])
    else:
        main()
