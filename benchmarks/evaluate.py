"""COCO's twelve figures of final predictions, once: `metrics.evaluate` beside pycocotools' whole path.

pycocotools begins with run lengths that were made beforehand (records of truth and results, COCO, loadRes, COCOeval,
its summary); ours with soft masks, which it lays over the images first, or with packed bits. The figures are compared.

    python benchmarks/evaluate.py [--tiles 500] [--rounds 5] [--json]
"""

import contextlib
import io
from typing import Any

import numpy as np
from _compare import growth_row, interleaved, one_thread, options_of, row, show
from _scenes import SIDE, scene
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hubmap_ml.instances import Annotations, PredictionSet
from hubmap_ml.metrics import METRICS, evaluate
from hubmap_ml.postprocess import MaskThreshold, Nms, Score, apply_steps


def pycocotools_records(
    truth: Annotations, found: PredictionSet
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Truth and results as pycocotools reads them from files, run lengths included."""
    assert found.masks is not None
    texts, results = truth.masks.bits.to_rle(SIDE, SIDE), found.masks.bits.to_rle(SIDE, SIDE)
    dataset = {
        "images": [{"id": k + 1, "height": SIDE, "width": SIDE} for k in range(len(truth.images))],
        "categories": [{"id": 1, "name": "vessel"}],
        "annotations": [
            {"id": k + 1, "image_id": int(image) + 1, "category_id": 1, "iscrowd": 0, "area": float(truth.areas[k]),
             "segmentation": {"size": [SIDE, SIDE], "counts": texts[k]}}
            for k, image in enumerate(truth.image_rows())
        ],
    }  # fmt: skip
    records = [
        {"image_id": int(image) + 1, "category_id": 1, "score": float(found.scores[k]),
         "segmentation": {"size": [SIDE, SIDE], "counts": results[k]}}
        for k, image in enumerate(found.image_rows())
    ]  # fmt: skip
    return dataset, records


def by_pycocotools(dataset: dict[str, Any], records: list[dict[str, Any]]) -> np.ndarray:
    """The twelve figures from records."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(record) for record in records]), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


def figures(truth: Annotations, found: PredictionSet) -> np.ndarray:
    """Our twelve figures."""
    return np.array(list(evaluate("coco_segm", truth, found).details.values()))


def main() -> None:
    """Measure and print."""
    options = options_of(__doc__, rounds=5, tiles=(500, "tiles"))
    one_thread()
    truth, candidates = scene(options.tiles)
    soft = apply_steps(candidates, [Score(0.05), Nms(0.5)])
    packed = MaskThreshold(0.5).apply(soft)
    dataset, records = pycocotools_records(truth, packed)
    rows = []
    for work, found in (("from packed masks", packed), ("from soft masks", soft)):
        times, results = interleaved(
            {"ours": lambda found=found: figures(truth, found), "other": lambda: by_pycocotools(dataset, records)},
            rounds=options.rounds, repeat={"ours": 3},
        )  # fmt: skip
        rows.append(
            row(f"twelve figures {work} vs pycocotools' whole path", times["ours"], times["other"], n=options.tiles,
                max_abs_diff=float(np.max(np.abs(results["ours"] - results["other"]))),
                kept_a_tile=round(len(found) / options.tiles, 1))
        )  # fmt: skip
    sizes = (50, 150, 500)
    for metric in METRICS:
        took = []
        for size in sizes:
            some, part = scene(size)
            final = apply_steps(part, [Score(0.05), Nms(0.5), MaskThreshold(0.5)])
            ways = {"ours": lambda m=metric, a=some, b=final: evaluate(m, a, b)}
            times, _ = interleaved(ways, rounds=3, repeat={"ours": 3})
            took.append(float(np.median(times["ours"])))
        rows.append(growth_row(f"{metric} from packed masks over tiles", sizes, took))
    show(rows, as_json=options.json, packages=("numba", "pycocotools"))


if __name__ == "__main__":
    main()
