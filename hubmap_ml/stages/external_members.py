"""External members in the chain: their predictions taken in by `predict`, examined and registered by `promote`."""

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hubmap_ml.data import PreparedData
from hubmap_ml.ensembling import EXTERNAL_TAG, KNOWS_TEST_TAG, GateResult, check_external
from hubmap_ml.instances import PredictionSet, write_predictions
from hubmap_ml.predictor import write_predictor
from hubmap_ml.spec import LEAK_TAG, InputError, StageInputs
from hubmap_ml.stages import inputs, splits, upstream
from hubmap_ml.stages.candidates import MERGE
from hubmap_ml.stages.imported_predictions import MANIFEST, OUT_OF_FOLD, TEST, Imported, imported, open_import
from hubmap_ml.stages.leaks import TEST_LEAK_TAG, UNPLACED, in_words, leak_tags
from hubmap_ml.stages.plain_score import plain_score
from hubmap_ml.stages.record import TAKEN_IN, TAKEN_IN_TAG
from hubmap_ml.stages.running import Running
from hubmap_ml.stages.session import Outcome
from hubmap_ml.stages.study_record import believable
from hubmap_ml.stages.study_record import in_words as score_in_words
from hubmap_ml.tracking import FoundRun, register_folder


def take_in(at: Running, wanted: StageInputs, member: str, prepared: upstream.Prepared) -> Outcome:
    """Keep an external member's predictions in a run, as `predict` keeps those of a network; its leaks are declared.

    Raises:
        InputError: they are not those that were imported, or of other images or classes.
    """
    found = imported(at.session, member)
    at.run.identify(wanted, upstream_runs=[prepared.run.run_id])
    at.recorder.params(
        {"member": member, **{f"source/{name}": words for name, words in found.sources.items()}}
    )
    sets = {name: found.read(name) for name in found.digests}
    for name, one in sets.items():
        if problem := _misfit(one, found, prepared.data):
            raise InputError(f"{found.folder / name}: {problem}; import the predictions again")
    tags = {
        LEAK_TAG: str(found.leak_level),
        TEST_LEAK_TAG: str(found.test_leak_level),
        LEAK_TAG + UNPLACED: "false",
        TEST_LEAK_TAG + UNPLACED: "false",
        TAKEN_IN_TAG: "true",
        KNOWS_TEST_TAG: str(knows_test(found, prepared.data)).lower(),
    }
    at.run.tag(tags)
    kept = at.recorder.folder / TAKEN_IN
    shutil.copytree(found.folder, kept)
    at.recorder.artifact(kept)
    for name in {OUT_OF_FOLD, TEST} & set(sets):  # where the stages look for them
        at.recorder.artifact(kept / name)
    score, interval = plain_score(at, prepared.data, sets[OUT_OF_FOLD], wanted.values["scoring"])
    n = len(sets[OUT_OF_FOLD].images)
    return at.finish(
        f"{score.metric} {score.value:.3f} on {n} held-out images before tuning "
        f"(95 % on these slides {interval.in_words()}), leak level {in_words(tags)} as declared; made elsewhere",
        headline=score.value,
        details={"n_images": n, "leak_level": tags[LEAK_TAG]},
    )


def knows_test(found: Imported, data: PreparedData) -> bool:
    """Whether an import has predictions of all test images, and there are such."""
    ids = {str(name) for name in data.images.ids[splits.test_rows(data)]}
    return bool(ids) and ids <= found.ids.get(TEST, frozenset())


def examine(
    at: Running,
    member: str,
    *,
    name: str,
    study: Mapping[str, Any],
    tuned: FoundRun,
    taken_in: FoundRun,
    prepared: upstream.Prepared,
    tags: Mapping[str, str],
) -> GateResult:
    """Put an external member through its gate, and register it where it passes.

    Args:
        at: the run of `promote`.
        member: its name.
        name: of the registered model.
        study, tuned: its threshold study and the study's run.
        taken_in: the run that took its predictions in.
        prepared: the data.
        tags: further tags of the version.
    """
    session, data = at.session, prepared.data
    digest_problem = format_problem = ""
    found: Imported | None = None
    sets: dict[str, PredictionSet] = {}
    folds: list[int] = []
    try:
        found = open_import(taken_in.artifact(TAKEN_IN))
        sets = {one: found.read(one) for one in found.digests}
    except InputError as error:
        digest_problem = str(error)
    else:
        folds = sorted(set(sets[OUT_OF_FOLD].images.folds.tolist()))
        format_problem = next(
            (
                f"{one}: {problem}"
                for one, predictions in sets.items()
                if (problem := _misfit(predictions, found, data))
            ),
            "",
        )
    headline = believable(study["cross_fitted"], study["value"])
    gate = session.experiment.promote
    result = check_external(
        member,
        folds=folds,
        headline=headline,
        line=inputs.line(session, data),
        leak_level=imported(session, member).leak_level if found is None else found.leak_level,
        overlap=splits.overlap(session, member, data),
        digest_problem=digest_problem,
        format_problem=format_problem,
        min_score=gate.min_score,
        min_overlap=gate.min_overlap,
    )
    if not result.passed or found is None:
        return result
    complete = knows_test(found, data)
    known = [name for name in sets if name != OUT_OF_FOLD] if complete else [OUT_OF_FOLD]
    leaf = f"leaves/{member}"
    folder = at.recorder.folder / "members" / member
    folder.parent.mkdir(parents=True, exist_ok=True)
    stored = at.recorder.folder / "stored" / member
    write_predictions(stored, _together([sets[one] for one in known]))
    write_predictor(
        folder,
        tree=_tree(member, study["best_steps"], leaf, sets[known[0]], session.experiment.merge_iou),
        leaves={leaf: stored},
        categories=data.annotations.categories,
        properties={"member": member, "tune_run": tuned.run_id},
    )
    (folder / MANIFEST).write_bytes((found.folder / MANIFEST).read_bytes())
    leaks = leak_tags([taken_in])
    card = _card(name, session.experiment.metric, study, found, known, in_words(leaks), result)
    (folder / "card.md").write_text(card)
    at.run.client.log_artifacts(at.run.run_id, str(folder), f"members/{member}")
    register_folder(
        at.run.client,
        name=name,
        run_id=at.run.run_id,
        artifact=f"members/{member}",
        tags={
            **result.tags(),
            **leaks,
            EXTERNAL_TAG: "true",
            KNOWS_TEST_TAG: str(complete).lower(),
            "hubmap.member": member,
            "hubmap.data_digest": prepared.digest,
            "hubmap.refitted": repr(float(study["value"])),
            "hubmap.stage_key": tuned.key,
            "hubmap.tune_run": tuned.run_id,
            "hubmap.predict_runs": taken_in.run_id,
            **tags,
        },
        description=card,
    )
    return result


def _tree(
    member: str, steps: list[Any], leaf: str, predictions: PredictionSet, merge_iou: float
) -> dict[str, Any]:
    """The tree of stored predictions: their views merged as they ask for, then the member's steps."""
    merge = {"rule": "match_mean", "iou_threshold": merge_iou}
    rule = predictions.properties.get(MERGE, merge["rule"])
    views = {"kind": "views", **merge, "rule": rule, "children": [{"kind": "stored", "path": leaf}]}
    return {
        "kind": "steps",
        "name": member,
        "steps": steps,
        "child": {"kind": "folds", **merge, "children": [views]},
    }


def _together(sets: Sequence[PredictionSet]) -> PredictionSet:
    """Return several sets as one; an image of two sets is taken from the first."""
    seen: set[str] = set()
    parts = []
    for one in sets:
        parts.append(one.take_images(np.flatnonzero([name not in seen for name in one.images.ids])))
        seen |= set(one.images.ids)
    return PredictionSet.concatenate(parts)


def _misfit(found: PredictionSet, said: Imported, data: PreparedData) -> str:
    """Say how predictions do not fit the data: classes, images, sizes, folds, masks; empty where they do."""
    wanted = tuple(category.name for category in data.categories)
    for names in (said.categories, tuple(category.name for category in found.categories)):
        if names != wanted:
            return f"has the classes {', '.join(names)}; the experiment has {', '.join(wanted)}"
    unknown = ~data.images.has(list(found.images.ids))
    if unknown.any():
        return f"image {found.images.ids[unknown][0]!r} is none of the experiment's"
    table = data.images.take(data.images.rows_of(list(found.images.ids)))
    for column in ("heights", "widths", "folds"):
        other = np.asarray(getattr(table, column)) != getattr(found.images, column)
        if other.any():
            return f"image {table.ids[other][0]!r} has other {column} than in the experiment's data"
    return "has no masks" if found.masks is None else ""


def _card(
    name: str,
    metric: str,
    study: Mapping[str, Any],
    found: Imported,
    known: Sequence[str],
    leaks: str,
    result: GateResult,
) -> str:
    return "\n".join(
        [
            f"# {name}",
            "",
            f"**External: {metric} {score_in_words(study['cross_fitted'], study['value'])}, leak level {leaks} as its "
            f"user declares**; {len(result.record.expected_folds)} folds; {study['base_value']:.3f} before tuning.",
            "",
            f"- predictions alone, no network: it knows the images of {' and '.join(known)}"
            + ("; no ensemble takes it without the test's" if OUT_OF_FOLD in known else ""),
            "- looked up, so it counts nothing in a budget of seconds",
            *(f"- {one}: {len(found.ids[one])} images, from {words}" for one, words in found.sources.items()),
            f"- post-processing: `{json.dumps(study['best_steps'])}`",
        ]
    )
