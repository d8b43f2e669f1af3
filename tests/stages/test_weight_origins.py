"""Weights that a run or version of this store made: what they had seen counts as seen, and lineage follows them."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from hubmap_ml.data import PreparedData
from hubmap_ml.spec import StageInputs, Weights
from hubmap_ml.stages import inputs, upstream, weight_origins
from hubmap_ml.stages.file_digests import digest_of_file
from hubmap_ml.stages.leaks import record_training_images, report_leaks
from hubmap_ml.stages.record import chain_of, prepared_for
from hubmap_ml.stages.running import running
from hubmap_ml.stages.session import Session, find_experiment, open_session
from hubmap_ml.tracking import FoundRun, ensure_model, lineage_of, open_store


@pytest.fixture(scope="module", autouse=True)
def _own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patched.setenv("HUBMAP_ML_WORK", str(folder / "work"))
        patched.delenv("MLFLOW_RUN_ID", raising=False)
        yield


@pytest.fixture(scope="module")
def prepared() -> upstream.Prepared:
    return upstream.prepared(open_session(experiment="tiny", workers=0))


def trained(
    prepared: upstream.Prepared,
    stage: str,
    images: list[str],
    weights: bytes,
    *,
    start: FoundRun | None = None,
    key: str = "",
) -> FoundRun:
    """A training's run, as far as it is looked at here: its origins, its list of images, its checkpoint."""
    with running(open_session(experiment="tiny"), stage, member="maskrcnn", fold=0) as at:
        came_from = [prepared.run.run_id, *([start.run_id] if start else [])]
        at.run.identify(StageInputs(stage, {"a": key or weights.decode()}), upstream_runs=came_from)
        record_training_images(at, stage, images, start=start)
        folder = at.recorder.folder / "last"
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(weights)
        said = {"digest_of_weights": digest_of_file(folder / "weights.safetensors")}
        (folder / "config.json").write_text(json.dumps(said))
        at.recorder.artifact(folder, "checkpoints")
        at.finish("trained")
    return at.run.found()


def tiny_from(folder: Path, source: str) -> Session:
    """The tiny experiment whose member starts from named weights."""
    tiny = find_experiment("tiny").resolve()
    document = yaml.safe_load(tiny.read_text())
    member = document["members"]["maskrcnn"]
    for stage in ("pretrain", "finetune"):
        member[stage]["config"] = str(tiny.parent / member[stage]["config"])
    member["weights"] = source
    (folder / "experiment.yaml").write_text(yaml.safe_dump(document))
    return open_session(experiment=str(folder))


def held_out(data: PreparedData, fold: int) -> list[str]:
    return [str(name) for name in data.images.ids[np.flatnonzero(data.images.folds == fold)]]


def predicted(prepared: upstream.Prepared, network: FoundRun, scored: list[str]) -> FoundRun:
    with running(open_session(experiment="tiny"), "predict", member="maskrcnn", fold=0) as at:
        report_leaks(at, prepared.data, network, held_out=scored, test=[])
        at.finish("predicted")
    return at.run.found()


def test_what_named_weights_have_seen_counts_as_seen(prepared: upstream.Prepared, tmp_path: Path) -> None:
    fold_0, fold_1 = (held_out(prepared.data, fold) for fold in (0, 1))
    noisy = [str(name) for name in prepared.data.images.ids[prepared.data.images.datasets == "2"]]
    first = trained(prepared, "pretrain", noisy, b"one")
    made = trained(prepared, "finetune", fold_1, b"two", start=first)
    session = tiny_from(tmp_path, f"runs:/{made.run_id}/checkpoints/last/weights.safetensors")
    wanted = inputs.pretrain(session, "maskrcnn", 0, prepared.data)
    assert inputs.origins_of_weights(wanted) == [made.run_id]
    named = session.experiment.members["maskrcnn"].weights
    assert named is not None
    parts = weight_origins.seen_by(inputs.origins_of_weights(wanted), named)
    assert [(part["stage"], part["run"]) for part in parts] == [
        ("weights' pretrain", first.run_id),
        ("weights' finetune", made.run_id),
    ]
    with running(session, "pretrain", member="maskrcnn") as at:
        at.run.identify(wanted, upstream_runs=[prepared.run.run_id, *inputs.origins_of_weights(wanted)])
        record_training_images(at, "pretrain", noisy, start=None, weights=parts)
        at.finish("trained")
    network = at.run.found()

    leaking = predicted(prepared, network, fold_1)
    assert leaking.tags["hubmap.leak_level"] == "trained_on"
    pairs = json.loads(leaking.artifact("leaks.json").read_text())["out_of_fold"]["pairs"]
    seen = {pair["seen"] for pair in pairs if pair["kind"] == "trained_on"}
    assert seen == set(fold_1)
    assert {pair["through"] for pair in pairs if pair["kind"] == "trained_on"} == {"weights' finetune"}
    clean = predicted(prepared, network, fold_0)
    assert clean.tags["hubmap.leak_level"] not in ("trained_on", "duplicate")

    found = lineage_of(open_store(), network.run_id)
    assert {made.run_id, first.run_id, prepared.run.run_id} <= {node.id for node in found.of_kind("run")}
    assert prepared_for(network).digest == prepared.digest
    assert [run.run_id for run in chain_of(network)][:3] == [
        network.run_id, prepared.run.run_id, made.run_id,
    ]  # fmt: skip


def test_the_same_bytes_by_another_address_are_another_training(
    prepared: upstream.Prepared, tmp_path: Path
) -> None:
    """What is known of where they come from decides what a score is worth."""
    made = trained(prepared, "pretrain", held_out(prepared.data, 0), b"one")
    source = f"runs:/{made.run_id}/checkpoints/last/weights.safetensors"
    path = made.artifact("checkpoints/last/weights.safetensors")
    keys = [
        inputs.pretrain(tiny_from(tmp_path, where), "maskrcnn", 0, prepared.data).key
        for where in (source, str(path), source)
    ]
    assert keys[0] == keys[2] != keys[1]


def test_of_a_version_the_training_is_told_by_the_weights_or_all_of_them_count(
    prepared: upstream.Prepared,
) -> None:
    client = open_store()
    networks = [
        trained(prepared, "finetune", held_out(prepared.data, 1 - k), weights, key=str(k))
        for k, weights in enumerate((b"one", b"two"))
    ]
    with running(open_session(experiment="tiny"), "promote") as at:
        at.run.identify(StageInputs("promote", {}), upstream_runs=[run.run_id for run in networks])
        at.finish("promoted")
    ensure_model(client, "tiny.maskrcnn")
    client.create_model_version("tiny.maskrcnn", source="file:///nowhere", run_id=at.run.run_id)
    client.set_registered_model_alias("tiny.maskrcnn", "promoted", "1")
    file = networks[1].artifact("checkpoints/last/weights.safetensors")
    for address in ("models:/tiny.maskrcnn/1/leaves/x", "models:/tiny.maskrcnn@promoted/leaves/x"):
        named = Weights(source=address)
        assert weight_origins.origins(named, digest=digest_of_file(file)) == [networks[1].run_id]
        every = weight_origins.origins(named, digest="0" * 64)
        assert set(every) == {run.run_id for run in networks}
        images = [set(part["images"]) for part in weight_origins.seen_by(every, named)]
        assert set.union(*images) == {*held_out(prepared.data, 0), *held_out(prepared.data, 1)}


def test_weights_of_which_nobody_knows_are_said(
    prepared: upstream.Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    client = open_store()
    foreign = client.create_run(client.create_experiment("elsewhere")).info.run_id
    named = Weights(source=f"runs:/{foreign}/w.pth")
    assert weight_origins.origins(named, digest="0" * 64) == []
    with caplog.at_level(logging.WARNING, "hubmap_ml"):
        parts = weight_origins.seen_by([], named)
    assert "does not know what these weights were trained on" in caplog.text
    with running(open_session(experiment="tiny"), "finetune", member="maskrcnn") as at:
        record_training_images(at, "finetune", held_out(prepared.data, 1), start=None, weights=parts)
        at.finish("trained")
    found = predicted(prepared, at.run.found(), held_out(prepared.data, 0))
    assert json.loads(found.artifact("leaks.json").read_text())["unknown_weights"] == [named.source]
    for address in ("models:/m-0123456789abcdef/w.pth", "w.pth", "https://example.org/w.pth"):
        sha256 = "0" * 64 if ":" in address else None
        assert weight_origins.origins(Weights(source=address, sha256=sha256), digest="0" * 64) == []
    assert weight_origins.seen_by([], Weights(source="w.pth")) == []


def test_weights_of_other_data_are_compared_by_their_pictures(
    prepared: upstream.Prepared, tmp_path: Path
) -> None:
    """Two experiments on generated tissue of different seeds have slides of one name, and nothing in common."""
    tiny = find_experiment("tiny").resolve()
    document = yaml.safe_load(tiny.read_text())
    document["data"]["synthetic"]["seed"] = 4
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "experiment.yaml").write_text(yaml.safe_dump(document))
    other = upstream.prepared(open_session(experiment=str(tmp_path / "other"), workers=0))
    made = trained(other, "finetune", held_out(other.data, 0), b"one")
    parts = weight_origins.seen_by([made.run_id], Weights(source=f"runs:/{made.run_id}/checkpoints"))
    with running(open_session(experiment="tiny"), "finetune", member="maskrcnn") as at:
        record_training_images(at, "finetune", [], start=None, weights=parts)
        at.finish("trained")
    found = predicted(prepared, at.run.found(), held_out(prepared.data, 0))
    assert found.tags["hubmap.leak_level"] == "none"
    again = predicted(other, at.run.found(), held_out(other.data, 0))
    assert again.tags["hubmap.leak_level"] == "trained_on"
