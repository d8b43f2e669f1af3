"""`pretrain`: stage 1, training on a large and noisy pool; a held-out share of that pool chooses the best epoch."""

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.stages import inputs, upstream
from hubmap_ml.stages.fitting import fit_and_record
from hubmap_ml.stages.running import running
from hubmap_ml.stages.session import Outcome, Session, open_session


def run(
    *,
    experiment: str = "demo",
    member: str = "",
    fold: int = 0,
    raw: str = "",
    set: str = "",
    workers: int = -1,
    device: str = "auto",
    parent: str = "",
) -> Outcome:
    """Train stage 1 of a member (the entry point; see `work`)."""
    session = open_session(
        experiment=experiment, raw=raw, set=set, workers=workers, device=device, parent=parent
    )
    return work(session, session.experiment.member_named(member), fold)


def work(session: Session, member: str, fold: int) -> Outcome:
    """Train stage 1 of a member.

    Args:
        member: name in the experiment.
        fold: the fold whose images must not be seen; without effect where the pool holds no image of any fold.
    """
    from hubmap_ml.spec import InputError

    part = session.experiment.members[member].pretrain
    with running(session, "pretrain", member=member) as at:
        if part is None:
            raise InputError(
                f"member {member!r} has no stage 1 ('pretrain') in experiment {session.experiment.name!r}"
            )
        prepared = upstream.prepared(session)
        without = upstream.pretrain_fold(session, member, fold, prepared.data)
        wanted = inputs.pretrain(session, member, prepared.run.key, prepared.digest, without_fold=without)
        at.run.identify(wanted, upstream_runs=[prepared.run.run_id])
        if without is not None:
            at.run.tag({"hubmap.fold": without})
        rows = upstream.pool_rows(session, part.pool, prepared.data)
        if without is not None:
            rows = rows[prepared.data.images.folds[rows] != without]
        train, valid = hold_out(rows, part.valid, session.experiment.seed)
        return fit_and_record(at, member, "pretrain", prepared, train, valid, start=None)


def hold_out(rows: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split rows at random into the kept and a share of at least one; both ascending, the same for the same seed."""
    count = min(len(rows) - 1, max(1, round(share * len(rows))))
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    held = np.zeros(len(rows), bool)
    held[chosen] = True
    return rows[~held], rows[held]
