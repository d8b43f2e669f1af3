"""Which steps must run again after which change: every field of an experiment, its files, its data and its settings.

Keys only: nothing is trained, and no store is needed. A field that the specification gains must be entered here.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from pydantic import BaseModel

from hubmap_ml.data import (
    PreparedData,
    SyntheticTissue,
    assign_folds,
    convert,
    generate,
    read_image,
    select_pool,
    write_prepared,
)
from hubmap_ml.spec import ALL_DATA, Experiment, Member, PseudoLabel, StageInputs
from hubmap_ml.stages import inputs, precision, prepare, splits
from hubmap_ml.stages.session import Session, find_experiment, open_session

Keys = Mapping[str, tuple[str, ...]]

MEMBERS = find_experiment("tiny").resolve().parent / "members"
TISSUE = SyntheticTissue(
    seed=3,
    tile_size=64,
    slides=2,
    clean_per_slide=5,
    noisy_per_slide=4,
    unlabelled_per_slide=1,
    test_per_slide=1,
)
EXPERIMENT = f"""
name: table
data:
  raw: raw
  folds: {{n: 2}}
  pools: {{pretrain: {{dataset: 2}}, finetune: {{dataset: 1}}, same: {{dataset: [2]}}, clean: {{dataset: [1]}},
    unlabelled: {{dataset: 3}}}}
members:
  a: &member
    weights: &weights {{source: "https://example.org/w.pth", sha256: {"a" * 64}}}
    pretrain: {{config: {MEMBERS}/maskrcnn_stage1.py, checkpoint: last}}
    finetune: {{config: {MEMBERS}/maskrcnn_stage2.py}}
  b: *member
pseudo_label: {{p: {{teachers: [b], touching: leave_out}}}}
tune: {{trials: 8}}
"""

TRAINING = ("pretrain", "finetune", "predict", "tune")
LAST = {"ensemble", "submit", "report"}
LATE = {"promote", *LAST}


LABELS = {"pseudo_label p"}
"""What member b teaches, with its networks and the values of its stage `predict`; nobody learns from it."""


def of(*members: str, since: str) -> set[str]:
    """Everything that follows from a stage of some members."""
    stages = TRAINING[TRAINING.index(since) :]
    taught = LABELS if "b" in members and since != "tune" else set()
    return {f"{stage} {member}" for member in members for stage in stages} | LATE | taught


def both(since: str) -> set[str]:
    return of("a", "b", since=since)


ALL = both("pretrain") | {"prepare"}
DATA_LINE = {"prepare", *LATE}
"""A new line of comparable scores; no training and no tuning looks at what changed."""

TABLE: Mapping[str, tuple[Any, set[str]]] = {
    "name": ("other", set()),
    "task": ("semantic", set()),
    "metric": ("coco_segm", both("pretrain")),
    "seed": (70, both("pretrain")),
    "data.format": ("other", {"prepare", "submit", "report"}),
    "data.raw": ("elsewhere", set()),
    "data.types": (("blood_vessel", "glomerulus"), ALL),
    "data.max_rejected": (0.5, {"prepare", "report"}),
    "data.pools": (
        {
            "pretrain": {"dataset": 2, "source_wsi": 1},
            "finetune": {"dataset": 1},
            "unlabelled": {"dataset": 3},
        },
        both("pretrain"),
    ),
    "data.folds.method": ("other", DATA_LINE),
    "data.folds.n": (3, both("finetune") | DATA_LINE),
    "data.folds.by": ("dataset", both("finetune") | DATA_LINE),
    "data.folds.seed": (43, both("finetune") | DATA_LINE),
    "data.folds.pool": ("clean", DATA_LINE),
    "data.folds.groups": ("slide", DATA_LINE),
    "data.folds.block": (512, DATA_LINE),
    "data.folds.buffer": (64, DATA_LINE),
    "data.folds.always_train": ({"source_wsi": 1}, both("finetune") | DATA_LINE),
    "data.options": ({"bad_images": "bad.csv"}, {"prepare", "report"}),
    "keep.checkpoints": (("last",), both("pretrain")),
    "members.a.kind": ("other", set()),
    "members.a.predictions": ("elsewhere", set()),
    "members.a.checkpoints": ("elsewhere", set()),
    "members.a.refit": ("b", of("a", since="finetune")),
    "members.a.trainer": ("other", of("a", since="pretrain")),
    "members.a.weights.source": ("https://example.org/moved.pth", set()),
    "members.a.weights.sha256": ("b" * 64, of("a", since="pretrain")),
    "members.a.weights.ema": (True, of("a", since="pretrain")),
    "members.a.pretrain.config": (f"{MEMBERS}/maskrcnn_stage2.py", of("a", since="pretrain")),
    "members.a.pretrain.pool": ("clean", of("a", since="pretrain")),
    "members.a.pretrain.checkpoint": ("best", of("a", since="finetune")),
    "members.a.pretrain.pseudo": ("p", of("a", since="pretrain")),
    "members.a.pretrain.valid": (0.5, of("a", since="pretrain")),
    "members.a.finetune.config": (f"{MEMBERS}/maskrcnn_stage1.py", of("a", since="finetune")),
    "members.a.finetune.pool": ("clean", set()),
    "members.a.finetune.folds": ((0,), of("a", since="finetune")),
    "members.a.finetune.checkpoint": ("best", of("a", since="predict")),
    "members.a.predict.views": (("none", "hflip"), of("a", since="predict")),
    "members.a.predict.merge": ("nms", of("a", since="predict")),
    "members.a.predict.scales": ((128,), of("a", since="predict")),
    "members.a.predict.score": (0.01, of("a", since="predict")),
    "members.a.predict.dedupe_iou": (0.95, of("a", since="predict")),
    "members.a.predict.batch": (4, set()),
    "members.a.predict.max_per_image": (99, of("a", since="predict")),
    "merge_iou": (0.5, both("predict")),
    "postprocess": (({"score": 0.1}, {"mask_threshold": 0.4}), both("pretrain")),
    "pseudo_label.p.teachers": (("a",), LABELS),
    "pseudo_label.p.model": ("models:/table.ensemble/1", LABELS),
    "pseudo_label.p.pool": ("same", LABELS),
    "pseudo_label.p.shared": (True, LABELS),
    "pseudo_label.p.touching": ("refuse", set()),
    "pseudo_label.p.score": (0.6, LABELS),
    "pseudo_label.p.min_area": (40, LABELS),
    "pseudo_label.p.agreement": (2, LABELS),
    "pseudo_label.p.mask_threshold": (0.4, LABELS),
    "pseudo_label.p.method": ("nmw", LABELS),
    "pseudo_label.p.iou_threshold": (0.5, LABELS),
    "pseudo_label.p.skip_score": (0.1, LABELS),
    "pseudo_label.p.conf_type": ("max", LABELS),
    "pseudo_label.p.by": ("mask", LABELS),
    "pseudo_label.p.masks": ("mean", LABELS),
    "pseudo_label.p.vote_share": (0.2, LABELS),
    "pseudo_label.p.clip": (True, LABELS),
    "pseudo_label.p.weights": ({"b": 2.0}, LABELS),
    "tune.trials": (9, both("tune")),
    "tune.seed": (9, both("tune")),
    "tune.sampler": ("qmc", both("tune")),
    "tune.per_class": (True, both("tune")),
    "tune.storage": ("sqlite:///trials.db", set()),
    "tune.space": ({"score": [0.1, 0.2]}, both("tune")),
    "promote.best": (1, set()),
    "promote.min_score": (0.1, {"promote"}),
    "ensemble.select": ("all", LAST),
    "ensemble.fixed": (("a",), LAST),
    "ensemble.rounds": (3, LAST),
    "ensemble.bags": (3, LAST),
    "ensemble.budget_s_per_tile": (2.0, LAST),
    "ensemble.max_members": (1, LAST),
    "ensemble.per_class": (True, LAST),
    "ensemble.space": ({"iou_threshold": [0.4]}, LAST),
    "ensemble.carry": ("references", LAST),
    "champion.probability": (0.8, LAST),
    "champion.slide_loss": (0.1, LAST),
    "champion.force": (True, LAST),
    "promote.min_overlap": (0.5, {"promote"}),
    "ensemble.method": ("other", LAST),
    "ensemble.iou_threshold": (0.5, LAST),
    "ensemble.skip_score": (0.1, LAST),
    "ensemble.conf_type": ("max", LAST),
    "ensemble.by": ("mask", LAST),
    "ensemble.masks": ("votes", LAST),
    "ensemble.vote_share": (0.2, LAST),
    "ensemble.clip": (True, LAST),
    "ensemble.scores": ("rank", LAST),
    "ensemble.weights": ({"a": 2.0}, LAST),
    "ensemble.trials": (9, LAST),
    "min_ensemble_test_score": (0.5, set()),
    "folder": (Path("elsewhere"), set()),
}
ACTS_THROUGH_BYTES = ("data.synthetic",)
"""Generated tissue is identified by the files that it consists of."""

CHANGED_WHOLE = ("data.options",)
"""What a reader's options hold depends on the format; every one of them acts through `prepare` alone."""

NOT_READ_BY_THE_DATA = ("data.format", "data.raw", "data.folds.method")
"""Values that the table makes up, and that no raw file could be read with."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder with an experiment and its raw files."""

    folder: Path

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def file(self) -> Path:
        return self.folder / "experiment.yaml"

    def session(self, **settings: Any) -> Session:
        return open_session(experiment=str(self.file), raw=str(self.raw), **settings)


@pytest.fixture(scope="module")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = generate(tmp_path_factory.mktemp("tissue") / "raw", TISSUE)
    polygons = raw / "polygons.jsonl"  # a second type, so that there is something to choose
    lines = polygons.read_text().splitlines()
    for number, line in enumerate(lines):
        record = json.loads(line)
        record["annotations"].append({"type": "glomerulus", "coordinates": [[[1, 1], [20, 3], [9, 30]]]})
        lines[number] = json.dumps(record)
    polygons.write_text("\n".join(lines) + "\n")
    return raw


@pytest.fixture
def place(tissue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("HUBMAP_ML_WORK", str(tmp_path / "work"))
    shutil.copytree(tissue, tmp_path / "raw")
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    return Place(tmp_path)


def prepared(session: Session, folder: Path) -> PreparedData:
    """What `prepare` makes, without a store."""
    raw, data = Path(str(session.experiment.data.raw)), session.experiment.data
    converted = convert(raw, types=data.types, max_rejected=data.max_rejected)
    split = data.folds
    rows = select_pool(converted.images, data.pools[split.pool], annotations=converted.annotations)
    folds = assign_folds(
        converted.images,
        rows=rows,
        annotations=converted.annotations,
        **split.model_dump(exclude={"pool", "buffer"}),
    )
    return write_prepared(folder, converted, folds, raw=raw)


_COUNT = iter(range(10**6))


def keys(session: Session, data: PreparedData | None = None) -> Keys:
    """The keys of all steps, by stage and member; the registry is taken to hold every member and the ensemble."""
    data = data or prepared(session, Path(str(session.experiment.data.raw)).parent / f"data{next(_COUNT)}")
    found: dict[str, tuple[StageInputs, ...]] = {
        "prepare": (inputs.prepare(session, prepare.digest_of_files(data.raw)),)
    }
    for member in session.experiment.members:
        folds = session.experiment.folds_of(member)
        for stage in (inputs.pretrain, inputs.finetune, inputs.predict):
            name = f"{stage.__name__} {member}"
            found[name] = tuple(stage(session, member, fold, data) for fold in folds)
        found[f"tune {member}"] = (inputs.tune(session, member, data),)
    tuned = {member: found[f"tune {member}"][0].key for member in session.experiment.members}
    found["promote"] = (inputs.promote(session, list(tuned), data),)
    fused = inputs.ensemble(session, tuned, data)
    sent = inputs.submit(
        session, "models:/table.ensemble/1", fused.key, data, data.raw / "sample_submission.csv"
    )
    shown = [item.key for name in found if name != "promote" for item in found[name]]
    page = inputs.report(session, [*shown, fused.key, sent.key], data, {"table.a": "promoted v1"})
    students = (*range(session.experiment.data.folds.n), ALL_DATA)
    labels = tuple(inputs.pseudo_label(session, "p", fold, data) for fold in students)
    found |= {"ensemble": (fused,), "submit": (sent,), "report": (page,), "pseudo_label p": labels}
    return {name: tuple(dict.fromkeys(item.key for item in items)) for name, items in found.items()}


def differences(before: Keys, after: Keys) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def changed(part: Any, path: list[str], value: Any) -> Any:
    """A copy with one value replaced, unchecked: also values that only a later version will know."""
    name, rest = path[0], path[1:]
    if isinstance(part, dict):
        return {**part, name: changed(part[name], rest, value)}
    new = value if not rest else changed(getattr(part, name), rest, value)
    return part.model_copy(update={name: new})


def fields(model: type[BaseModel], path: str = "") -> set[str]:
    """Every field of a specification by its dotted path; members are called ``a``."""
    found = set()
    for name, field in model.model_fields.items():
        here = f"{path}{name}"
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ()))
        inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if name == "members":
            found |= fields(Member, "members.a.")
        elif name == "pseudo_label":
            found |= fields(PseudoLabel, "pseudo_label.p.")
        elif inner is not None and here not in (*ACTS_THROUGH_BYTES, *CHANGED_WHOLE):
            found |= fields(inner, f"{here}.")
        else:
            found.add(here)
    return found


def test_the_table_holds_every_field() -> None:
    assert set(TABLE) | set(ACTS_THROUGH_BYTES) == fields(Experiment)


@pytest.fixture(scope="module")
def untouched(tissue: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, PreparedData, Keys]:
    """The experiment as it is; not to be changed."""
    folder = tmp_path_factory.mktemp("untouched")
    shutil.copytree(tissue, folder / "raw")
    (folder / "experiment.yaml").write_text(EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBMAP_ML_WORK", str(folder / "work"))
        session = Place(folder).session()
        data = prepared(session, folder / "data")
        return Place(folder), data, keys(session, data)


@pytest.mark.parametrize("path", TABLE)
def test_a_changed_field_runs_again_what_depends_on_it_and_nothing_else(
    untouched: tuple[Place, PreparedData, Keys], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, data, before = untouched
    monkeypatch.setenv("HUBMAP_ML_WORK", str(place.folder / "work"))
    value, expected = TABLE[path]
    session = place.session()
    other = dataclasses.replace(session, experiment=changed(session.experiment, path.split("."), value))
    if path.startswith("data.") and path not in NOT_READ_BY_THE_DATA:
        data = prepared(other, tmp_path / "data")
    assert differences(before, keys(other, data)) == expected


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def change_pixel(place: Place, dataset: str | None) -> None:
    """One pixel of the first tile of a data set, or of the first test tile."""
    if dataset is None:
        tile = min((place.raw / "test").glob("*.tif"))
    else:
        lines = (place.raw / "tile_meta.csv").read_text().splitlines()
        at = lines[0].split(",").index("dataset")
        named = next(line for line in lines[1:] if line.split(",")[at] == dataset)
        tile = place.raw / "train" / f"{named.split(',')[0]}.tif"
    pixels = read_image(tile).copy()
    pixels[5, 7, 1] ^= 1
    tifffile.imwrite(tile, pixels, photometric="rgb")


def config_with(place: Place, text: str) -> None:
    """Give member a a stage 2 configuration of its own that inherits the tiny one's."""
    own = place.folder / "own.py"
    own.write_text(f'_base_ = "{MEMBERS}/maskrcnn_stage2.py"\n{text}')
    edit(place.file, f"{MEMBERS}/maskrcnn_stage2.py}}", f"{own}}}")


CHANGES: Mapping[str, tuple[Callable[[Place], object], set[str]]] = {
    "a comment in the experiment": (lambda place: edit(place.file, "tune: {trials", "# why\ntune: {trials"), set()),
    "a README": (lambda place: (place.folder / "README.md").write_text("news"), set()),
    "another order of keys": (
        lambda place: edit(place.file, "name: table\n", "tune: {trials: 8}\nname: table\n"),
        set(),
    ),
    "a comment in a configuration": (
        lambda place: config_with(place, "# no value\n"),
        set(),
    ),
    "the learning rate in a configuration": (
        lambda place: (
            config_with(place, "optimizer = dict(lr=0.3)\n"),
            edit(place.file, "b: *member", f"b: {{weights: *weights, finetune: {{config: {MEMBERS}/"
                 f"maskrcnn_stage2.py}}, pretrain: {{config: {MEMBERS}/maskrcnn_stage1.py, checkpoint: last}}}}"),
        ),
        of("a", since="finetune"),
    ),
    "a pool that nobody uses": (
        lambda place: edit(place.file, "pools: {", "pools: {spare: {dataset: 3}, "),
        set(),
    ),
    "a pool's name": (lambda place: edit(place.file, "checkpoint: last", "checkpoint: last, pool: same"), set()),
    "a pixel of stage 1": (lambda place: change_pixel(place, "2"), ALL),
    "a pixel of stage 2": (lambda place: change_pixel(place, "1"), both("finetune") | DATA_LINE),
    "a pixel of a test tile": (lambda place: change_pixel(place, None), (both("predict") | DATA_LINE) - LABELS),
    "a pixel of a labelled pool": (lambda place: change_pixel(place, "3"), DATA_LINE | LABELS),
    "a stray file": (lambda place: (place.raw / "notes.txt").write_text("x"), {"prepare", "report"}),
    "the hidden truth": (
        lambda place: edit(place.raw / "hidden_truth.json", "{", " {"),
        {"prepare", "submit", "report"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_runs_again_what_looks_at_it_and_nothing_else(place: Place, name: str) -> None:
    change, expected = CHANGES[name]
    before = keys(place.session())
    change(place)
    after = keys(place.session())
    assert differences(before, after) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.finetune.optimizer.lr=0.5", of("a", since="finetune")),
        ("a.optimizer.lr=0.5", of("a", since="pretrain")),
        ("optimizer.lr=0.5", both("pretrain")),
        ("b.finetune.batch.global=3", of("b", since="finetune")),
    ],
)
def test_a_members_setting_runs_again_that_member_its_tuning_and_the_ensemble(
    untouched: tuple[Place, PreparedData, Keys], text: str, expected: set[str]
) -> None:
    place, data, before = untouched
    assert differences(before, keys(place.session(set=text), data)) == expected


def student(session: Session, labels: str = "p", **values: Any) -> Session:
    """The session in which member a learns from b's labels, made with other values."""
    block = session.experiment.pseudo_label[labels].model_copy(update=values)
    experiment = session.experiment.model_copy(update={"pseudo_label": {labels: block}})
    return dataclasses.replace(
        session, experiment=changed(experiment, ["members", "a", "pretrain", "pseudo"], labels)
    )


def test_a_teachers_change_trains_its_student_again(untouched: tuple[Place, PreparedData, Keys]) -> None:
    place, data, _ = untouched
    before = keys(student(place.session()), data)
    after = keys(student(place.session(set="b.finetune.batch.global=3")), data)
    assert differences(before, after) == of("a", since="pretrain") | of("b", since="finetune")
    assert len(before["pretrain a"]) == 2, "each fold's student has its own teacher"


def test_a_folds_students_are_taught_by_its_networks_unless_labels_are_shared(
    untouched: tuple[Place, PreparedData, Keys],
) -> None:
    place, data, _ = untouched

    def networks(fold: int, **values: Any) -> list[str]:
        return list(
            inputs.pseudo_label(student(place.session(), **values), "p", fold, data).values["networks"]
        )

    assert networks(0) == ["b/0"]
    assert networks(1) == ["b/1"]
    assert networks(0, shared=True) == networks(1, shared=True) == networks(ALL_DATA) == ["b/0", "b/1"]


def test_held_out_images_of_a_pool_are_labelled_for_no_student_of_that_fold(
    untouched: tuple[Place, PreparedData, Keys],
) -> None:
    place, data, _ = untouched
    session = student(place.session(), pool="clean")
    every = splits.pool_rows(session, "clean", data)
    for fold in (0, 1):
        found = splits.labelled(session, "p", fold, data)
        assert set(np.flatnonzero(data.images.folds == fold)) <= set(found.touching)
        assert sorted([*found.rows, *found.touching]) == sorted(every)
        wanted = inputs.pretrain(session, "a", fold, data)
        assert wanted.values["pseudo"] == list(data.images.ids[found.rows])
        assert not set(wanted.values["pseudo"]) & set(wanted.values["train"])


@pytest.mark.parametrize("fold", [0, 1, ALL_DATA])
def test_images_that_touch_scored_ones_are_labelled_for_no_student(
    untouched: tuple[Place, PreparedData, Keys], fold: int
) -> None:
    place, data, _ = untouched
    session = student(place.session(), pool="same")
    noisy, test = np.flatnonzero(data.images.datasets == "2")[0], splits.test_rows(data)[0]
    slides, positions = data.images.slides.copy(), data.images.positions.copy()
    slides[test], positions[test] = slides[noisy], positions[noisy] + [int(data.images.heights[0]), 0]
    data = dataclasses.replace(
        data, images=dataclasses.replace(data.images, slides=slides, positions=positions)
    )
    images, found = data.images, splits.labelled(session, "p", fold, data)
    scored = np.flatnonzero((images.splits == "test") | ((images.folds == fold) & (fold != ALL_DATA)))
    size = int(images.heights[0])

    def touches(row: int) -> bool:
        near = (images.slides[scored] == images.slides[row]) & (images.slides[scored] != "")
        apart = np.abs(images.positions[scored] - images.positions[row])
        return bool(np.any(near & (apart <= size).all(axis=1)))

    every = splits.pool_rows(session, "same", data)
    assert found.touching.tolist() == [row for row in every if touches(row)]
    assert found.rows.tolist() == [row for row in every if not touches(row)]
    assert noisy in found.touching, "it touches a test image"


def test_a_registered_version_is_fused_its_own_way(untouched: tuple[Place, PreparedData, Keys]) -> None:
    place, data, _ = untouched

    def key(**values: Any) -> str:
        return inputs.pseudo_label(student(place.session(), teachers=None, **values), "p", 0, data).key

    first, second = "models:/table.ensemble/1", "models:/table.ensemble/2"
    assert key(model=first) == key(model=first, method="nms", iou_threshold=0.3, weights={"b": 2.0})
    assert len({key(model=first), key(model=second), key(model=first, agreement=2)}) == 3


def test_an_image_of_the_students_own_pool_keeps_its_truth(
    untouched: tuple[Place, PreparedData, Keys],
) -> None:
    place, data, _ = untouched
    assert inputs.pretrain(student(place.session(), pool="same"), "a", 0, data).values["pseudo"] == []


@pytest.mark.parametrize(
    "settings",
    [{"workers": 3}, {"device": "cpu"}, {"device": "cuda:1"}, {"with_upstream": True}, {"parent": "x"},
     {"fresh": True}],
    ids=str,
)  # fmt: skip
def test_settings_that_change_no_result_are_in_no_key(
    untouched: tuple[Place, PreparedData, Keys], settings: dict[str, Any]
) -> None:
    place, data, before = untouched
    assert keys(place.session(**settings), data) == before


def test_half_precision_counts_where_it_is_used(
    untouched: tuple[Place, PreparedData, Keys], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, data, before = untouched
    half = "+a.finetune.fp16={loss_scale: dynamic}"
    assert keys(place.session(set=half, device="cpu"), data) == before
    on_gpu = keys(place.session(set=half, device="cuda"), data)
    assert differences(before, on_gpu) == of("a", since="finetune")
    monkeypatch.setattr(precision, "_gpu_is_there", lambda: True)
    assert keys(place.session(set=half, device="auto"), data) == on_gpu


def test_initial_weights_count_by_their_bytes_and_not_by_their_place(place: Place) -> None:
    def with_weights(path: Path) -> Keys:
        text = f"+a.pretrain.model.init_cfg={{type: Pretrained, checkpoint: {path}}}"
        return keys(place.session(set=text), data)

    data = prepared(place.session(), place.folder / "data")
    here, there = place.folder / "here.pth", place.folder / "there.pth"
    here.write_bytes(b"weights")
    there.write_bytes(b"weights")
    first = with_weights(here)
    assert with_weights(there) == first
    there.write_bytes(b"Weights")
    assert differences(first, with_weights(there)) == of("a", since="pretrain")
    session = place.session(set=f"+a.pretrain.model.init_cfg={{type: Pretrained, checkpoint: {there}}}")
    config = inputs.training_config(session, inputs.pretrain(session, "a", 0, data), "a")
    assert config == session.member_config("a", "pretrain")


def test_generated_tissue_is_its_bytes(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tissue = "{" + ", ".join(f"{key}: {value}" for key, value in dataclasses.asdict(TISSUE).items()) + "}"
    edit(place.file, "raw: raw", f"synthetic: {tissue}")
    session = open_session(experiment=str(place.file))
    folder, digest = prepare.raw_folder(session)
    copied = shutil.copytree(folder, tmp_path / "copy")
    from_files = open_session(experiment=str(place.file), raw=str(copied))
    assert inputs.prepare(session, digest).key == keys(from_files)["prepare"][0]
    (folder / "notes.txt").write_text("edited")
    assert prepare.raw_folder(session)[1] != digest


def test_two_folds_are_never_one_training(untouched: tuple[Place, PreparedData, Keys]) -> None:
    _, _, found = untouched
    assert len(set(found["finetune a"])) == 2
    assert len(set(found["predict a"])) == 2
    assert len(set(found["pretrain a"])) == 1  # its pool holds no image of any fold


def test_the_values_of_the_inputs_are_a_copy(untouched: tuple[Place, PreparedData, Keys]) -> None:
    place, data, _ = untouched
    session = place.session()
    wanted = inputs.finetune(session, "a", 0, data)
    rows = data.images.rows_of(wanted.values["train"])
    assert np.all(data.images.folds[rows] == 1)
    key = wanted.key
    given = {"config": {"lr": 1}}
    own = StageInputs("tune", given)
    given["config"]["lr"] = 2
    assert own.values == {"config": {"lr": 1}}
    assert wanted.key == key


def test_a_file_is_read_again_only_when_it_may_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hubmap_ml.stages import file_digests

    monkeypatch.setenv("HUBMAP_ML_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(file_digests, "SETTLED_S", -1.0)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "tile.tif").write_bytes(b"pixels")
    first = file_digests.digest_of_files(raw)
    with monkeypatch.context() as patch:
        patch.setattr(file_digests.hashlib, "file_digest", None)  # reading anything would fail
        assert file_digests.digest_of_files(raw) == first
    time.sleep(0.01)
    (raw / "tile.tif").write_bytes(b"pixelS")
    assert file_digests.digest_of_files(raw) != first
