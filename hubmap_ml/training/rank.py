"""One process of a training on several: what torchrun starts (see `hubmap_ml.training.distributed`)."""

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

from hubmap_ml.spec import InputError, Interrupted
from hubmap_ml.training.contract import open_trainer
from hubmap_ml.training.distributed import die_with_torchrun
from hubmap_ml.training.rank_job import read_job, write_end, write_result
from hubmap_ml.training.rank_recorder import RankRecorder


def main(folder: Path) -> None:
    """Train as torchrun's variables say."""
    die_with_torchrun()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    work(folder)


def work(folder: Path) -> None:
    """Train as this rank; rank 0 leaves the result, and each that comes to another end says which."""
    rank = int(os.environ["RANK"])
    try:
        _train(folder, rank)
    except Interrupted as asked:
        write_end(folder, rank, "interrupted", str(asked))
    except InputError as error:
        write_end(folder, rank, "input", str(error))
        raise
    except BaseException as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        write_end(folder, rank, "error", f"{type(error).__name__}: {first_line}")
        raise


def _train(folder: Path, rank: int) -> None:
    trainer, inputs, data, run, resume_from = read_job(folder)
    fit = open_trainer(trainer)
    from hubmap_ml.training.mmdet import ranks

    device = ranks.join(data.device, int(os.environ["LOCAL_RANK"]))
    recorder = RankRecorder(folder, run, speaks=rank == 0)
    try:
        result = fit(inputs, replace(data, device=device), recorder, resume_from)
    except Interrupted:
        ranks.leave()
        raise
    if rank == 0:
        write_result(folder, result)
    ranks.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
