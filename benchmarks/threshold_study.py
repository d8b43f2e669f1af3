"""A trial of a threshold study: filters, suppression and score, beside the usual way on the same candidates.

The usual way: torchvision's NMS on the boxes, greedy mask NMS on pycocotools.iou of cached run lengths, a list of
records, COCOeval. Each round draws new thresholds; kept instances and figures are compared in each. One thread.

    python benchmarks/threshold_study.py --tiles 1000 [--rounds 5] [--json]
"""

import contextlib
import io
import resource
import sys
import time
from typing import Any

import numpy as np
from _compare import growth_row, interleaved, one_thread, options_of, row, show
from _scenes import SIDE, scene
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics import CocoOptions
from hubmap_ml.postprocess import MaskThreshold, MaxPerImage, MinArea, Nms, Score, Step
from hubmap_ml.tuning import CachedScorer
from hubmap_ml.tuning.filters import filtered
from hubmap_ml.tuning.rules import CocoRule

GRID = (0.45, 0.55)
FLOOR = (Score(0.05), Nms(0.3), MaskThreshold(GRID[0]), Nms(0.3, "mask"), MinArea(0), MaxPerImage(1000))
AP60 = CocoOptions(iou_thresholds=(0.6,), area_ranges={"all": (0, 1e10)}, max_detections=(100,))


def draw(rng: np.random.Generator) -> tuple[Step, ...]:
    """Thresholds around those of performance.md's setting (.05 / .5 / .5 / 50)."""
    return (
        Score(float(rng.uniform(0.05, 0.1))), Nms(float(rng.uniform(0.45, 0.55))),
        MaskThreshold(float(rng.choice(GRID))),
        Nms(float(rng.uniform(0.45, 0.55)), "mask"), MinArea(float(rng.integers(30, 70))), MaxPerImage(1000),
    )  # fmt: skip


class UsualWay:
    """Filters and COCOeval over records with run lengths that were made beforehand."""

    def __init__(self, truth: Annotations, found: PredictionSet) -> None:
        import torch  # here, so that the memory of what is measured alone is its own

        assert found.masks is not None
        self._offsets = found.offsets
        self._boxes = torch.from_numpy(found.boxes.astype(np.float64))
        self._scores = found.scores
        self._records: dict[float, list[dict[str, Any]]] = {}
        self._areas: dict[float, np.ndarray] = {}
        for threshold in GRID:
            bits = found.masks.binarize(threshold, SIDE, SIDE)
            self._areas[threshold] = bits.areas()
            self._records[threshold] = [
                {"image_id": int(image), "category_id": 1, "score": float(score),
                 "segmentation": {"size": [SIDE, SIDE], "counts": text}}
                for image, score, text in zip(
                    found.image_rows() + 1, found.scores, bits.to_rle(SIDE, SIDE), strict=True
                )
            ]  # fmt: skip
        self._coco = COCO()
        texts = truth.masks.bits.to_rle(SIDE, SIDE)
        self._coco.dataset = {
            "images": [{"id": k + 1, "height": SIDE, "width": SIDE} for k in range(len(truth.images))],
            "categories": [{"id": 1, "name": "vessel"}],
            "annotations": [
                {"id": k + 1, "image_id": int(image) + 1, "category_id": 1, "iscrowd": 0, "area": float(truth.areas[k]),
                 "segmentation": {"size": [SIDE, SIDE], "counts": texts[k]}}
                for k, image in enumerate(truth.image_rows())
            ],
        }  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            self._coco.createIndex()

    def kept(self, steps: tuple[Step, ...]) -> list[dict[str, Any]]:
        """The records that the steps leave, as a results file would list them."""
        import torch
        import torchvision

        score, box, cut, mask, area, most = steps
        records, areas = self._records[cut.threshold], self._areas[cut.threshold]
        out: list[dict[str, Any]] = []
        for first, stop in zip(self._offsets[:-1], self._offsets[1:], strict=True):
            rows = np.arange(first, stop)[self._scores[first:stop] >= np.float32(score.threshold)]
            scores = torch.from_numpy(self._scores[rows].astype(np.float64))
            rows = rows[np.sort(torchvision.ops.nms(self._boxes[rows], scores, box.iou).numpy())]
            rows = rows[areas[rows] > 0]
            masks = [records[row]["segmentation"] for row in rows]
            clash = coco_mask.iou(masks, masks, [0] * len(masks)) > mask.iou if masks else np.zeros((0, 0))
            alive = np.ones(len(rows), bool)
            for k in range(len(rows)):
                if alive[k]:
                    alive[k + 1 :] &= ~clash[k, k + 1 :]
            rows = rows[alive]
            out += [dict(records[row]) for row in rows[areas[rows] >= area.pixels][: most.count]]
        return out

    def twelve(self, steps: tuple[Step, ...]) -> np.ndarray:
        """NMS, pycocotools' twelve figures, and the number of instances."""
        found = self.kept(steps)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._coco, self._coco.loadRes(found), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return np.array([*evaluation.stats, len(found)])

    def twelve_faster(self, steps: tuple[Step, ...]) -> np.ndarray:
        """The same by faster_coco_eval."""
        from faster_coco_eval import COCO as FasterCoco
        from faster_coco_eval import COCOeval_faster

        found = self.kept(steps)
        with contextlib.redirect_stdout(io.StringIO()):
            if not hasattr(self, "_faster"):
                self._faster = FasterCoco(self._coco.dataset)
            evaluation = COCOeval_faster(
                self._faster, self._faster.loadRes(found), "segm", print_function=lambda *_: None
            )
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return np.array([*evaluation.stats[:12], len(found)])

    def ap60(self, steps: tuple[Step, ...]) -> np.ndarray:
        """NMS and pycocotools held to one IoU, one area range, one number of detections."""
        found = self.kept(steps)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._coco, self._coco.loadRes(found), "segm")
            evaluation.params.iouThrs = np.array([0.6])
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.params.maxDets = [100]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"]
        return np.array([np.mean(precision[precision > -1]), len(found)])


def difference(results: dict[str, Any]) -> float:
    """The largest difference between the two ways' figures."""
    ours, other = results.values()
    return float(np.max(np.abs(ours - other)))


def main() -> None:
    """Measure and print."""
    options = options_of(__doc__, rounds=5, tiles=(1000, "tiles"), candidates=(200, "candidates a tile"))
    one_thread()
    rows = alone(options.tiles, options.candidates)
    rows += growth(options.candidates)
    rows += beside_the_usual_way(options.tiles, options.candidates, options.rounds)
    show(rows, as_json=options.json, packages=("numba", "pycocotools", "faster_coco_eval", "torchvision"))


def beside_the_usual_way(tiles: int, candidates: int, rounds: int) -> list[dict[str, Any]]:
    """The rows with a bar."""
    truth, found = scene(tiles, candidates=candidates)
    usual = UsualWay(truth, found)
    one_thread()  # torch is there by now
    everything = [np.arange(tiles)]
    ways = {
        "coco12": CachedScorer(truth, found, everything, metric="coco_segm", variants=[FLOOR], mask_thresholds=GRID),
        "ap60": CachedScorer(
            truth, found, everything, metric="ap60", variants=[FLOOR], mask_thresholds=GRID,
            rule=lambda setting: CocoRule(setting, AP60, twelve=False),
        ),
        "openimages": CachedScorer(truth, found, everything, metric="ap60", variants=[FLOOR], mask_thresholds=GRID),
    }  # fmt: skip

    def ours(name: str) -> np.ndarray:
        (score,) = ways[name].scores(steps)
        values = list(score.details.values()) if name == "coco12" else [score.value]
        return np.array([*values, score.n_instances])

    rng = np.random.default_rng(1)
    steps = draw(rng)
    worst = 0.0

    def renew(_: int) -> None:
        nonlocal steps
        steps = draw(rng)

    def compare(results: dict[str, Any]) -> None:
        nonlocal worst
        worst = max(worst, difference(results))

    out = []
    comparisons = [
        ("coco12_vs_pycocotools", "coco12", usual.twelve), ("ap60_vs_pycocotools", "ap60", usual.ap60),
        ("coco12_vs_faster_coco_eval", "coco12", usual.twelve_faster),
    ]  # fmt: skip
    for work, name, other in comparisons:
        if "faster" in work and not _has_faster():
            print("faster_coco_eval is not installed: its row is left out", file=sys.stderr)
            continue
        worst = 0.0
        times, results = interleaved(
            {"ours": lambda name=name: ours(name), "other": lambda other=other: other(steps)}, rounds=rounds,
            before=renew, check=compare, repeat={"ours": 20},
        )  # fmt: skip
        kept = int(results["ours"][-1]) / tiles
        out.append(
            row(work, times["ours"], times["other"], max_abs_diff=worst, n=tiles, kept_a_tile=round(kept, 1))
        )
        if name == "ap60":
            mine, _ = interleaved(
                {"ours": lambda: ours("openimages")}, rounds=rounds, before=renew, repeat={"ours": 20}
            )
            out.append(
                row("ap60 by OpenImages' rule beside pycocotools' ap60", mine["ours"], times["other"],
                    max_abs_diff=0.0, n=tiles,
                    said="another rule: its figures are not compared")
            )  # fmt: skip
    return out


def alone(tiles: int, candidates: int) -> list[dict[str, Any]]:
    """Building, trials by fold, memory, and how near a trial is to what memory allows."""
    truth, found = scene(tiles, candidates=candidates)
    folds = [np.flatnonzero(found.images.folds == k) for k in range(5)]
    base = (Score(0.05), Nms(0.3), MaskThreshold(0.5), MinArea(0), MaxPerImage(1000))
    grid = tuple(np.round(np.arange(0.3, 0.71, 0.05), 2).tolist())
    before = _peak_mib()
    began = time.process_time()
    scorer = CachedScorer(truth, found, folds, metric="ap60", variants=[base], mask_thresholds=grid)
    build = time.process_time() - began
    rng = np.random.default_rng(2)
    spent = []
    for _ in range(200):
        steps = (
            Score(float(rng.uniform(0.05, 0.6))), Nms(float(rng.uniform(0.3, 0.8))),
            MaskThreshold(float(rng.choice(grid))), MinArea(float(rng.integers(0, 120))), MaxPerImage(1000),
        )  # fmt: skip
        began = time.process_time()
        scorer.scores(steps)
        spent.append(1e3 * (time.process_time() - began))
    within_reach = [memory_row(scorer, steps, float(np.median(spent[5:])))]
    nothing = (Score(1.0), *steps[1:])
    began = time.process_time()
    for _ in range(200):
        scorer.scores(nothing)
    fixed = 1e3 * (time.process_time() - began) / 200
    return [
        {"work": f"build for ap60 in 5 folds, {len(grid)} mask thresholds", "ours_ms": round(1e3 * build), "n": tiles,
         "peak_mib": round(_peak_mib()), "peak_mib_before": round(before)},
        {"work": "a trial of ap60 in 5 folds", "ours_ms": round(float(np.median(spent[5:])), 3), "n": tiles},
        {"work": "a trial that nothing survives: calls and arrays made new", "ours_ms": round(fixed, 3), "n": tiles},
        *within_reach,
    ]  # fmt: skip


def memory_row(scorer: CachedScorer, steps: tuple[Step, ...], trial_ms: float) -> dict[str, Any]:
    """A trial beside moving the bytes that it touches once, at the speed of a large copy.

    What stands between: a trial jumps (the flag of each suppressed candidate, each kept one's truth and its place in
    the order of scores) where a copy streams; its loops branch on data that the processor cannot foresee (suppressed
    or not, hit or not); and the fixed cost of its calls (the row above).
    """
    known, level = scorer.candidates, scorer.candidates.thresholds.index(steps[2].threshold)
    left = [filtered(None, steps[0], known, level)]
    for step in steps[1:]:
        left.append(filtered(left[-1], step, known, level))
    scored, kept, final = len(left[0]), left[1], len(left[-1])
    pairs = known.pairs(steps[1], level)
    entries = np.repeat(np.arange(len(pairs.starts) - 1), np.diff(pairs.starts))
    visited = int((np.isin(entries, kept) & (pairs.overlaps > steps[1].iou)).sum()) + len(kept)
    touched = (
        scored * (4 + 4 + 4 + 4 + 1)  # score, label, row written and read, flag
        + len(kept) * (16 + 8 + 12)  # where its pairs are, area, row through three filters
        + visited * (12 + 1)  # partner, overlap, flag
        + final
        * (4 + 4 + 4 + 4 + 4 + 4 + 1 + 2 + 8)  # rank, place, order, label, best truth, hits, precision
    )
    source, target = np.ones(2**23), np.empty(2**23)  # 64 MiB each, beyond the caches
    copies = []
    for _ in range(10):
        began = time.process_time()
        np.copyto(target, source)
        copies.append(time.process_time() - began)
    per_ms = 2 * source.nbytes / (1e3 * float(np.median(copies)))
    return {
        "work": "a trial of ap60 beside a copy of the bytes that it touches", "ours_ms": round(trial_ms, 3),
        "other_ms": round(touched / per_ms, 3), "ratio": round(touched / per_ms / trial_ms, 3), "max_abs_diff": 0.0,
        "n": scored, "kib": round(touched / 1024), "copy_gb_per_s": round(per_ms / 1e6, 1),
    }  # fmt: skip


def growth(candidates: int) -> list[dict[str, Any]]:
    """How building and trials grow with tiles and with candidates a tile."""
    out = []
    for what, sizes in (("tiles", (50, 150, 500)), ("candidates", (50, 150, 500))):
        built, twelve, ap60 = [], [], []
        for size in sizes:
            tiles, each = (size, candidates) if what == "tiles" else (100, size)
            truth, found = scene(tiles, candidates=each)
            took: dict[str, list[float]] = {}
            for metric in ("coco_segm", "ap60"):
                began = time.process_time()
                scorer = CachedScorer(
                    truth, found, [np.arange(tiles)], metric=metric, variants=[FLOOR], mask_thresholds=GRID
                )
                if metric == "ap60":
                    built.append(1e3 * (time.process_time() - began))
                rng = np.random.default_rng(3)
                times, _ = interleaved(
                    {"ours": lambda s=scorer, r=rng: s.scores(draw(r))}, rounds=5, repeat={"ours": 20}
                )
                took[metric] = times["ours"]
            twelve.append(float(np.median(took["coco_segm"])))
            ap60.append(float(np.median(took["ap60"])))
        out += [
            growth_row(f"build over {what}", sizes, built),
            growth_row(f"trial of twelve figures over {what}", sizes, twelve),
            growth_row(f"trial of ap60 over {what}", sizes, ap60),
        ]
    return out


def _has_faster() -> bool:
    from importlib.util import find_spec

    return find_spec("faster_coco_eval") is not None


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
