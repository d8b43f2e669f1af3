"""`finetune`: stage 2, training on the clean pool without one fold, from the weights of the member's stage 1."""

from hubmap_ml.spec import InputError
from hubmap_ml.stages import imported_work_dir, inputs, upstream
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
    with_upstream: bool = False,
    fresh: bool = False,
    nproc: int = 1,
    nodes: int = 1,
    rdzv: str = "",
    parent: str = "",
) -> Outcome:
    """Train stage 2 of a member on one fold (the entry point; see `work`)."""
    session = open_session(
        experiment=experiment,
        raw=raw,
        set=set,
        workers=workers,
        device=device,
        with_upstream=with_upstream,
        fresh=fresh,
        parent=parent,
        nproc=nproc,
        nodes=nodes,
        rdzv=rdzv,
    )
    return work(session, session.experiment.member_named(member), fold)


def work(session: Session, member: str, fold: int) -> Outcome:
    """Train a member on all images of its pool but those of ``fold``, and evaluate on these after each epoch.

    A network that was trained elsewhere is taken in instead.
    """
    fold = session.experiment.fold_named(member, fold)
    with running(session, "finetune", member=member, fold=fold) as at:
        check_fold(session, member, fold)
        prepared = upstream.prepared(session)
        wanted = inputs.finetune(session, member, fold, prepared.data)
        if done := at.reuse(wanted):
            return done
        start = upstream.pretrained(session, member, fold, prepared)
        started_from = [start.run_id] if start else inputs.origins_of_weights(wanted)
        came_from = [prepared.run.run_id, *started_from]
        at.run.identify(wanted, upstream_runs=came_from)
        elsewhere = imported_work_dir.imported(session, member)
        if elsewhere is not None:
            return imported_work_dir.take_in(at, member, fold, elsewhere, prepared.data)
        return fit_and_record(at, member, wanted, prepared, start=start)


def check_fold(session: Session, member: str, fold: int) -> None:
    """Refuse a fold that the member is not trained on."""
    folds = session.experiment.folds_of(member)
    if fold not in folds:
        raise InputError(f"fold {fold} is none of member {member!r}; its folds: {', '.join(map(str, folds))}")
