"""A predictor tried out in a process of its own: it loads, gives finite numbers, executes nothing, costs so much."""

import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hubmap_ml.instances import write_predictions
from hubmap_ml.predictor.audit import ForbiddenError, forbid_code_from
from hubmap_ml.predictor.images import Named
from hubmap_ml.predictor.predictor import open_predictor
from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class Trial:
    """What a predictor showed.

    Attributes:
        problem: what went wrong, in one line; empty if nothing did.
        device: kind of device that it ran on, ``cpu`` or ``cuda``.
        parameters: of all its networks together, each counted once.
        seconds: median time for one image, everything included.
        peak_mib: peak memory of the process.
    """

    problem: str
    device: str = "cpu"
    parameters: int = 0
    seconds: float = float("nan")
    peak_mib: float = 0.0


def try_predictor(
    folder: Path,
    *,
    timed: Sequence[Named],
    again: Mapping[str, Sequence[Named]],
    out: Path,
    device: str = "cpu",
) -> Trial:
    """Open a predictor and use it, under `forbid_code_from`; to be called in a fresh process, once.

    Args:
        folder: the predictor's.
        timed: images that it predicts whole; the first also warms it up and is not timed where there are more.
        again: for leaves by path, the images whose candidates are wanted.
        out: folder that receives the candidates of the i-th of these leaves as ``out/i``.
        device: where networks run.
    """
    try:
        import hubmap_ml.inference  # noqa: F401  torch and mmdet, before anything is forbidden

        forbid_code_from(folder)
        predictor = open_predictor(folder, device=device)
        seconds = []
        for image in timed:
            started = time.perf_counter()
            found = predictor.predict([image])
            seconds.append(time.perf_counter() - started)
            if not (np.isfinite(found.scores).all() and np.isfinite(found.boxes).all()):
                return Trial(f"scores or boxes of {image[0].ids[0]} are not finite")
        for number, (leaf, images) in enumerate(again.items()):
            write_predictions(out / str(number), predictor.candidates(leaf, images))
    except (InputError, ForbiddenError) as error:
        return Trial(str(error) if isinstance(error, InputError) else f"refused while it ran: {error}")
    except Exception as error:
        return Trial(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}")
    return Trial(
        "",
        device=predictor.device_kind,
        parameters=predictor.parameters,
        seconds=float(np.median(seconds[1:] or seconds)) if seconds else float("nan"),
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
