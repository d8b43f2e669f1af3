"""What a run or version came from is followed by tags, to the raw data, whatever is missing on the way."""

import json
import re

import pytest
from mlflow import MlflowClient

from hubmap_ml.spec import InputError
from hubmap_ml.tracking import ensure_model, experiment_id, lineage_from, lineage_of, run_named


def run(client: MlflowClient, stage: str, *upstream: str, **tags: str) -> str:
    made = client.create_run(experiment_id(client, "here"), run_name=stage)
    run_id = str(made.info.run_id)
    all_tags = {"hubmap.stage": stage, "hubmap.stage_key": stage * 4, "hubmap.data_digest": "d" * 64}
    all_tags |= {"hubmap.upstream_runs": ",".join(upstream)} if upstream else {}
    for key, value in (all_tags | {f"hubmap.{key}": value for key, value in tags.items()}).items():
        client.set_tag(run_id, key, value)
    client.set_terminated(run_id)
    return run_id


def version(client: MlflowClient, name: str, run_id: str, **tags: str) -> str:
    ensure_model(client, name)
    made = client.create_model_version(
        name,
        source="file:///nowhere",
        run_id=run_id,
        tags={f"hubmap.{key}": tag for key, tag in tags.items()},
    )
    return f"models:/{name}/{made.version}"


@pytest.fixture
def chain(store: MlflowClient) -> dict[str, str]:
    prepared = run(store, "prepare", data_digest="ra" * 32)
    pretrained = run(store, "pretrain", prepared, member="m")
    trained = run(store, "finetune", prepared, pretrained, member="m", fold="0")
    predicted = run(store, "predict", prepared, trained, member="m", fold="0")
    tuned = run(store, "tune", predicted, member="m")
    promoted = run(store, "promote", tuned)
    member = version(store, "x.m", promoted, tune_run=tuned, predict_runs=predicted)
    ensembled = run(store, "ensemble", promoted)
    whole = version(store, "x.ensemble", ensembled, run=ensembled, members=json.dumps([member]))
    store.set_registered_model_alias("x.ensemble", "champion", "1")
    return {
        "prepare": prepared, "finetune": trained, "predict": predicted, "tune": tuned, "promote": promoted,
        "ensemble": ensembled, "member": member, "whole": whole,
    }  # fmt: skip


def test_a_version_is_followed_through_members_and_runs_to_the_raw_data(
    store: MlflowClient, chain: dict[str, str]
) -> None:
    found = lineage_of(store, "models:/x.ensemble@champion")
    assert found.root == chain["whole"]
    assert set(chain.values()) <= found.nodes.keys()
    assert [node.id for node in found.of_kind("raw data")] == ["ra" * 32]
    assert dict(found.nodes[chain["whole"]].comes_from) == {
        chain["ensemble"]: "registered by",
        chain["member"]: "member",
    }
    assert dict(found.nodes[chain["member"]].comes_from)[chain["tune"]] == "thresholds"
    data = json.loads(json.dumps(found.to_data()))
    assert data["root"] == chain["whole"]
    assert {node["id"] for node in data["nodes"]} == set(found.nodes)


def test_a_run_is_found_by_the_beginning_of_its_id(store: MlflowClient, chain: dict[str, str]) -> None:
    found = lineage_of(store, chain["predict"][:16].upper())
    assert found.root == chain["predict"]
    assert {node.title for node in found.of_kind("run")} == {
        "predict · m · fold 0", "finetune · m · fold 0", "pretrain · m", "prepare",
    }  # fmt: skip


def test_pseudo_labels_stand_in_a_lineage_with_their_generation(
    store: MlflowClient, chain: dict[str, str]
) -> None:
    labels = run(store, "pseudo_label", chain["finetune"], fold="0", labels="round1", generation="1")
    student = run(store, "pretrain", labels, member="s", fold="0", labels="round1", generation="1")
    made = version(store, "x.s", student, labels="round1", generation="1")
    found = lineage_of(store, made)
    assert found.nodes[labels].title == "pseudo_label · round1 · fold 0"
    assert found.nodes[student].title == "pretrain · s · fold 0"
    assert {found.nodes[name].facts["generation"] for name in (labels, student, made)} == {"1"}
    assert "generation" not in found.nodes[chain["finetune"]].facts


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("zzzz", "no run 'zzzz'"),
        ("../x", "is no run id"),
        ("", "is no run id"),
        ("models:/x.ensemble@nobody", "no registered model"),
        ("models:/x.ensemble/99", "no such version"),
        ("models:/x", "use models:/NAME@ALIAS"),
    ],
)
def test_what_is_not_there_is_one_line(store: MlflowClient, target: str, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        lineage_of(store, target)


def test_a_beginning_of_several_ids_names_them(store: MlflowClient) -> None:
    ids = [run(store, "prepare") for _ in range(17)]  # two of seventeen begin alike
    twice = next(a[0] for a in ids if sum(b[0] == a[0] for b in ids) > 1)
    with pytest.raises(InputError, match=r"begins the ids of several runs .*prepare"):
        run_named(store, twice)


def test_what_is_gone_is_said_and_the_rest_followed(store: MlflowClient, chain: dict[str, str]) -> None:
    store.set_tag(chain["tune"], "hubmap.upstream_runs", "f" * 32 + "," + chain["predict"])
    store.delete_model_version("x.m", "1")
    found = lineage_from(store, [chain["tune"], chain["whole"]])
    assert {node.id for node in found.of_kind("missing")} == {"f" * 32, chain["member"]}
    assert found.of_kind("raw data")


def test_a_run_that_stands_for_another_is_followed_to_it(store: MlflowClient, chain: dict[str, str]) -> None:
    again = run(store, "tune", reuses=chain["tune"])
    found = lineage_of(store, again)
    assert dict(found.nodes[again].comes_from) == {chain["tune"]: "stands for"}
    assert found.of_kind("raw data")


def test_a_whole_chain_is_followed_from_its_last_steps(store: MlflowClient, chain: dict[str, str]) -> None:
    whole = run(store, "main")
    first = run(store, "prepare")
    last = run(store, "submit", first, model=chain["whole"])
    for step in (first, last):
        store.set_tag(step, "mlflow.parentRunId", whole)
    found = lineage_of(store, whole)
    assert dict(found.nodes[whole].comes_from) == {last: "step"}
    assert chain["whole"] in found.nodes


def test_data_stands_in_where_no_run_is_named(store: MlflowClient) -> None:
    alone = run(store, "tune")
    assert [node.id for node in lineage_of(store, alone).of_kind("prepared data")] == ["d" * 64]


def test_a_circle_ends(store: MlflowClient) -> None:
    one = run(store, "tune")
    store.set_tag(one, "hubmap.upstream_runs", one)
    assert lineage_of(store, one).nodes.keys() == {one}
