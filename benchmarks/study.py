"""A whole threshold study, cache build included: from candidates in memory to the cross-fitted, checked winner.

Five folds; every choice, the one on all folds and the one for each held-out fold, is made of ``--trials`` settings.
There is no other side: the usual way takes seconds a trial (benchmarks/threshold_study.py).

    python benchmarks/study.py --tiles 1000 --trials 1000 [--sampler tpe] [--metric ap60] [--json]
"""

import resource
import time

from _compare import one_thread, options_of, show
from _scenes import scene

from hubmap_ml.postprocess import parse_steps
from hubmap_ml.tuning import run_study

STEPS = parse_steps(
    [
        {"score": 0.001},
        {"nms": {"iou": 0.5}},
        {"mask_threshold": 0.5},
        {"min_area": 0},
        {"max_per_image": 100},
    ]
)
SPACE = {"score": [0.001, 0.6], "nms_iou": [0.3, 0.8], "mask_threshold": [0.3, 0.7], "min_area": [0, 120]}


def main() -> None:
    """Measure and print."""
    options = options_of(
        __doc__, rounds=1, tiles=(1000, "tiles"), trials=(1000, "settings that each choice is made of"),
        sampler=("tpe", "as run_study's"), metric=("ap60", "as metrics.evaluate's"),
    )  # fmt: skip
    one_thread()
    run_study(*scene(10), base_steps=STEPS, space=SPACE, metric=options.metric, trials=4)  # compiles
    truth, found = scene(options.tiles)
    before = _peak_mib()
    wall, processor = time.perf_counter(), time.process_time()
    first_trial = [0.0]

    def progress(done: int, total: int, best: float) -> None:
        if done == 1:
            first_trial[0] = time.process_time() - processor

    study = run_study(
        truth, found, base_steps=STEPS, space=SPACE, metric=options.metric, trials=options.trials,
        sampler=options.sampler, progress=progress,
    )  # fmt: skip
    ours = time.process_time() - processor
    row = {
        "work": f"study_{options.trials}x{options.tiles}",
        "ours_ms": round(1000 * ours),
        "other_ms": None,
        "ratio": None,
        "max_abs_diff": study.mismatch,
        "n": options.trials,
        "wall_ms": round(1000 * (time.perf_counter() - wall)),
        "build_ms": round(1000 * first_trial[0]),
        "settings_scored": len(study.trials),
        "candidates": len(found),
        "sampler": study.sampler,
        "metric": study.metric,
        "peak_mib": round(_peak_mib()),
        "peak_mib_before": round(before),
        "score_base": round(study.base_value, 4),
        "score_in_sample": round(study.value, 4),
        "score_cross_fitted": round(study.cross_fitted, 4),
        "interpolation_error": round(study.interpolation_error, 5),
    }
    show([row], as_json=options.json, packages=("numba", "optuna", "pycocotools"))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
