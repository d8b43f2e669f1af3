"""What mmdet left of a training becomes a live member: taken in, predicting, promoted, fused with others' files."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hubmap_ml.data import PreparedData, generate
from hubmap_ml.instances import write_predictions
from hubmap_ml.models import build_detector, read_checkpoint
from hubmap_ml.models.detectors import set_class_counts
from hubmap_ml.serving import load_predictor
from hubmap_ml.spec import InputError, LeakLevel
from hubmap_ml.spec.config_files import load_config_file
from hubmap_ml.stages import import_predictions, import_workdir, main, reproduce, upstream
from hubmap_ml.stages.imported_work_dir import WorkDir
from hubmap_ml.stages.leaks import declared_level
from hubmap_ml.stages.session import Session, open_session
from hubmap_ml.tracking import get_run, open_store, versions
from tests.stages.registered_members import MEMBERS, STEPS, TISSUE, candidates

TEXT = f"""
name: dirs
data: {{raw: raw, folds: {{n: 2}}, pools: {{finetune: {{dataset: 1}}}}}}
postprocess: {json.dumps(STEPS)}
members:
  theirs: {{kind: external, checkpoints: imported/theirs, finetune: {{config: imported/theirs/member.py}}}}
  files: {{kind: external, predictions: imported/files}}
tune: {{trials: 3, space: {{score: [0.01, 0.5]}}}}
ensemble: {{select: all, trials: 3, space: {{}}}}
"""


def leave_work_dir(folder: Path, *, n_classes: int = 1, **also: Any) -> Path:
    """Write what mmdet would have left of two folds of the tiny recipe."""
    config = load_config_file(MEMBERS / "maskrcnn_stage2.py")
    model = dict(config["model"])
    set_class_counts(model, n_classes)
    said = {**config, "model": model, "data": {"samples_per_gpu": 2}, "load_from": None, **also}
    said.pop("batch")
    for fold in range(2):
        place = folder / f"maskrcnn_fold{fold}"
        place.mkdir(parents=True)
        (place / "maskrcnn.py").write_text("".join(f"{key} = {value!r}\n" for key, value in said.items()))
        torch.manual_seed(fold)
        detector = build_detector(config, n_classes)
        detector.init_weights()
        torch.save({"meta": {"epoch": 2}, "state_dict": detector.state_dict()}, place / "epoch_2.pth")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with raw data and a store, shared by all; each test has work_dirs of its own."""
    folder = tmp_path_factory.mktemp("dirs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("HUBMAP_ML_WORK", str(folder / "work"))
        generate(folder / "raw", TISSUE)
        (folder / "experiment.yaml").write_text(TEXT)
        yield folder


def session_of(place: Path) -> Session:
    return open_session(experiment=str(place / "experiment.yaml"), raw=str(place / "raw"), device="cpu")


def bring(place: Path, work_dirs: Path, **options: Any) -> WorkDir:
    return import_workdir.run(
        work_dirs,
        experiment=str(place / "experiment.yaml"),
        raw=str(place / "raw"),
        **{"member": "theirs", "leak": "neighbour", **options},
    )


def bring_files(place: Path, data: PreparedData) -> None:
    """Predictions of all images of folds, and of the test images, as files of another member."""
    hidden = upstream.hidden_truth(data)
    assert hidden is not None
    of_test = candidates(hidden, 2, 0.2)
    table = data.images.take(data.images.rows_of(list(of_test.images.ids)))
    write_predictions(place / "test", of_test.replace(images=table, categories=data.categories))
    of_folds = data.annotations_of(np.flatnonzero(data.images.folds >= 0))
    write_predictions(place / "oof", candidates(of_folds, 1, 0.2))
    import_predictions.run(
        place / "oof",
        experiment=str(place / "experiment.yaml"),
        raw=str(place / "raw"),
        member="files",
        leak="slide",
        test=place / "test",
    )


def test_a_work_dir_becomes_a_member_that_predicts_and_is_fused_with_files(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = bring(place, leave_work_dir(place / "work_dirs"))
    state = torch.load(place / "work_dirs" / "maskrcnn_fold1" / "epoch_2.pth", weights_only=True)[
        "state_dict"
    ]
    from safetensors.torch import load_file

    kept = load_file(found.folder / "fold1" / "weights.safetensors")
    assert kept.keys() == state.keys()
    assert all(torch.equal(kept[name], state[name]) for name in kept)
    assert read_checkpoint(found.folder / "fold1").categories[0][1] == "blood_vessel"

    session = session_of(place)
    data = upstream.prepared(session).data
    bring_files(place, data)
    done = main.work(session, lambda _: None, lambda _: None)
    runs = {step.name: step.run_id for step in done.steps}
    client = open_store()
    for fold in range(2):
        assert (
            get_run(client, runs[f"predict · theirs · fold {fold}"]).tags["hubmap.leak_level"] == "neighbour"
        )
    assert declared_level(get_run(client, runs["finetune · theirs · fold 0"])) is LeakLevel.NEIGHBOUR
    [version] = versions(client, "dirs.theirs")
    assert version.tags["hubmap.external"] == "true"
    assert "hubmap.knows_test_images" not in version.tags
    assert version.tags["hubmap.gate.reproduces"].startswith("ok")

    [fused] = versions(client, "dirs.ensemble")
    assert fused.tags["hubmap.predictions_only"] == "true"
    assert Path(done.submission).is_file()
    assert [row.badge for row in done.rows] == [
        "promoted v1, made elsewhere", "promoted v1, made elsewhere", "predictions-only v1",
    ]  # fmt: skip
    with pytest.raises(InputError, match="knows only their images"):
        load_predictor(fused.uri, device="cpu").predict(data.sources(np.flatnonzero(data.images.folds == 0)))

    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert reproduce.run(runs["predict · theirs · fold 0"], device="cpu").identical
    with pytest.raises(InputError, match="there is nothing to repeat"):
        reproduce.run(runs["finetune · theirs · fold 0"])


def test_changed_weights_are_refused(place: Path, tmp_path: Path) -> None:
    found = bring(place, leave_work_dir(tmp_path / "dirs"), out=tmp_path / "theirs")
    (found.folder / "fold0" / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match="not the weights that were imported"):
        found.checkpoint(0)
    with pytest.raises(InputError, match="has no fold 2; it has 0, 1"):
        found.checkpoint(2)


def test_what_does_not_fit_is_one_line_and_leaves_nothing(place: Path, tmp_path: Path) -> None:
    dirs, out = leave_work_dir(tmp_path / "dirs", n_classes=3), tmp_path / "theirs"
    with pytest.raises(InputError, match="is for 3 classes, and the experiment has 1"):
        bring(place, dirs, out=out)
    for path in dirs.glob("*/maskrcnn.py"):  # a configuration that lies about its checkpoint
        path.write_text(re.sub(r"'num_classes': 3", "'num_classes': 1", path.read_text()))
    with pytest.raises(InputError, match="has another size for"):
        bring(place, dirs, out=out)
    with pytest.raises(InputError, match="one best_.*pth is expected, found none"):
        bring(place, dirs, out=out, checkpoint="best")
    for path in dirs.glob("*/maskrcnn.py"):
        path.write_text(f"made = open({str(tmp_path / 'made')!r}, 'w')\n{path.read_text()}")
    with pytest.raises(InputError, match="nothing is executed"):
        bring(place, dirs, out=out)
    (dirs / "maskrcnn_fold1").rename(dirs / "maskrcnn_fold7")
    with pytest.raises(InputError, match="is fold 7, and the experiment has 0 to 1"):
        bring(place, dirs, out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["dirs"]
