"""`pretrain`: stage 1, training on a large and noisy pool; a held-out share of that pool chooses the best epoch."""

from hubmap_ml.spec import InputError
from hubmap_ml.stages import inputs, splits, upstream
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
    """Train stage 1 of a member (the entry point; see `work`)."""
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
    """Train stage 1 of a member.

    Args:
        member: name in the experiment.
        fold: the fold whose images must not be seen; without effect where the pool holds no image of any fold.
    """
    fold = session.experiment.fold_named(member, fold)
    part = session.experiment.members[member].pretrain
    with running(session, "pretrain", member=member) as at:
        if part is None:
            raise InputError(
                f"member {member!r} has no stage 1 ('pretrain') in experiment {session.experiment.name!r}"
            )
        prepared = upstream.prepared(session)
        without = splits.pretrain_fold(session, member, fold, prepared.data)
        if without is not None:
            at.run.tag({"hubmap.fold": without})
        wanted = inputs.pretrain(session, member, fold, prepared.data)
        if done := at.reuse(wanted):
            return done
        taught = upstream.pseudo_labelled(session, member, fold, prepared)
        came_from = [prepared.run.run_id, *inputs.origins_of_weights(wanted)]
        came_from += [taught.run_id] if taught else []
        at.run.identify(wanted, upstream_runs=came_from)
        return fit_and_record(at, member, wanted, prepared, start=None, taught=taught)
