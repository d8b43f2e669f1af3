"""Which images a stage looks at: pools, the held-out share of stage 1, folds of stage 2."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hubmap_ml.data import PreparedData, leak_report
from hubmap_ml.spec import ALL_DATA
from hubmap_ml.stages.imported_predictions import OUT_OF_FOLD, imported
from hubmap_ml.stages.session import Session

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of the images table: what a network learns from and what it is scored on."""

    train: Rows
    valid: Rows


def pool_rows(session: Session, pool: str, data: PreparedData) -> Rows:
    """Return the rows of a named pool among the training images."""
    return data.pool(session.experiment.data.pools[pool])


def pretrain_fold(session: Session, member: str, fold: int, data: PreparedData) -> int | None:
    """Return the fold that stage 1 must not see; None where there is none.

    There is none for a refit, and for a pool without images of folds unless pseudo-labels are learnt from, whose
    teachers saw all other folds.
    """
    part = session.experiment.members[member].pretrain
    assert part is not None
    rows = pool_rows(session, part.pool, data)
    depends = part.pseudo is not None or np.any(data.images.folds[rows] >= 0)
    return fold if fold != ALL_DATA and depends else None


def pretrain_split(session: Session, member: str, fold: int, data: PreparedData) -> Split:
    """Return the images of stage 1: its pool without the fold, and a share of that held out."""
    part = session.experiment.members[member].pretrain
    assert part is not None
    rows = pool_rows(session, part.pool, data)
    without = pretrain_fold(session, member, fold, data)
    if without is not None:
        rows = rows[data.images.folds[rows] != without]
    return Split(*hold_out(rows, part.valid, session.experiment.seed))


@dataclass(frozen=True, eq=False)
class Labelled:
    """Rows of the images table: what teachers label, and what touches or repeats held-out or test images."""

    rows: Rows
    touching: Rows


def labelled(session: Session, labels: str, fold: int, data: PreparedData) -> Labelled:
    """Return the images of pseudo-labels for the students of a fold; a refit (``ALL_DATA``) holds out none."""
    rows = pool_rows(session, session.experiment.pseudo_label[labels].pool, data)
    held_out = np.flatnonzero((data.images.folds == fold) & (fold != ALL_DATA))
    scored = (*held_out.tolist(), *test_rows(data).tolist())
    touching = np.isin(rows, _near(data, scored, tuple(rows.tolist())))
    return Labelled(rows[~touching], rows[touching])


@functools.lru_cache(maxsize=16)
def _near(data: PreparedData, scored: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    """Return those of other rows that touch, repeat or are scored ones; kept, as every key of a student asks for it."""
    ids = data.images.ids
    found = leak_report(
        data.images, data.fingerprints, scored=list(ids[list(scored)]), seen={"pool": list(ids[list(others)])}
    )
    return tuple(sorted(set(data.images.rows_of(list(found.pairs["seen"])).tolist())))


def pseudo_rows(session: Session, member: str, fold: int, data: PreparedData) -> Rows:
    """Return the images whose pseudo-labels a member's stage 1 learns from: none that its own pool holds."""
    part = session.experiment.members[member].pretrain
    assert part is not None
    if part.pseudo is None:
        return np.empty(0, np.int64)
    rows = labelled(session, part.pseudo, fold, data).rows
    return rows[~np.isin(rows, pool_rows(session, part.pool, data))]


def teaching_networks(session: Session, labels: str, fold: int) -> list[tuple[str, int]]:
    """Return the members and folds whose networks label for the students of a fold; none where a version does."""
    return [
        (teacher, k)
        for teacher in session.experiment.pseudo_label[labels].teachers or ()
        for k in teaching_folds(session, labels, teacher, fold)
    ]


def teaching_folds(session: Session, labels: str, teacher: str, fold: int) -> tuple[int, ...]:
    """Return the folds whose networks of a teacher label for the students of a fold: that one, or all there are."""
    experiment = session.experiment
    there = experiment.folds_of(teacher)
    everyone = experiment.pseudo_label[labels].shared or fold == ALL_DATA or there == (ALL_DATA,)
    return there if everyone else (fold,)


def finetune_split(session: Session, member: str, fold: int, data: PreparedData) -> Split:
    """Return the images of stage 2: its pool without the fold, and the fold; nothing is held out from a refit.

    Of an external member all images of folds are held out that its out-of-fold predictions speak of.
    """
    declared = session.experiment.members[member]
    if declared.is_predictions:
        rows = pool_rows(session, session.experiment.data.folds.pool, data)
        known = imported(session, member).ids[OUT_OF_FOLD]
        predicted = np.array([str(name) in known for name in data.images.ids[rows]], bool)
        return Split(rows[:0], rows[predicted & (data.images.folds[rows] >= 0)])
    rows = pool_rows(session, declared.finetune.pool, data)
    held_out = (data.images.folds[rows] == fold) & (fold != ALL_DATA)
    return Split(rows[~held_out], rows[held_out])


def overlap(session: Session, member: str, data: PreparedData) -> float:
    """Return the share of all members' held-out images that a member's own cross-validation predicts."""
    experiment = session.experiment

    def held_out(name: str) -> set[int]:
        recipe = experiment.recipe_of(name)
        folds = experiment.folds_of(recipe)
        return {int(row) for fold in folds for row in finetune_split(session, recipe, fold, data).valid}

    everyone = set().union(*(held_out(name) for name in experiment.members))
    return len(held_out(member)) / len(everyone) if everyone else 1.0


def test_rows(data: PreparedData) -> Rows:
    """Return the test images."""
    return np.flatnonzero(data.images.splits == "test")


def hold_out(rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Split rows at random into the kept and a share of at least one; both ascending, the same for the same seed."""
    count = min(len(rows) - 1, max(1, round(share * len(rows))))
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    held = np.zeros(len(rows), bool)
    held[chosen] = True
    return rows[~held], rows[held]
