"""The finished chain, called again: nothing is done twice, and a changed setting does again what depends on it."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.e2e.running import Chain, call, client_of

pytestmark = pytest.mark.e2e

STAGE = "hubmap.stage"  # rows of a study have none
WATCHED = """
import sys
from multiprocessing.context import SpawnProcess
SpawnProcess.start = lambda self: sys.exit(f"a process was started: {self.name}")
from hubmap_ml.cli.main import main
for words in " ".join(sys.argv[1:]).split(" ; "):
    sys.argv = ["hubmap-ml", *words.split()]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
heavy = [name for name in ("torch", "mmcv", "mmdet", "albumentations") if name in sys.modules]
assert not heavy, heavy
"""


@dataclass(frozen=True)
class Copy:
    """A copy of the finished chain's store, whose runs keep their artifacts where they are."""

    folder: Path
    client: MlflowClient

    @staticmethod
    def of(chain: Chain, folder: Path) -> "Copy":
        shutil.copy(chain.folder / "mlflow.db", folder)
        shutil.copytree(chain.folder / ".hubmap_ml", folder / ".hubmap_ml")
        return Copy(folder, client_of(folder))

    def runs(self, condition: str = "") -> list:  # type: ignore[type-arg]
        ids = [item.experiment_id for item in self.client.search_experiments()]
        return list(self.client.search_runs(ids, condition, order_by=["start_time DESC"]))

    def versions(self) -> set[tuple[str, str]]:
        return {(item.name, item.version) for item in self.client.search_model_versions()}

    def data(self, run_id: str, name: str) -> list[dict[str, object]]:
        return list(json.loads(Path(self.client.download_artifacts(run_id, name)).read_text()))


@pytest.fixture
def copy(chain: Chain, tmp_path: Path) -> Copy:
    return Copy.of(chain, tmp_path)


def watched(copy: Copy, *words: str) -> subprocess.CompletedProcess[str]:
    """Run commands, separated by semicolons, that must start no worker and import no torch."""
    return call(copy.folder, "python", "-c", WATCHED, *words)


def test_the_chain_again_makes_one_run_and_starts_nothing(chain: Chain, copy: Copy) -> None:
    runs, versions = {run.info.run_id for run in copy.runs()}, copy.versions()
    done = watched(copy, "main", "--experiment", "tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    new = [run for run in copy.runs() if run.info.run_id not in runs]
    assert [run.data.tags["hubmap.stage"] for run in new] == ["main"]
    parent = new[0]
    assert parent.info.status == "FINISHED"
    assert copy.versions() == versions
    rows = copy.data(parent.info.run_id, "steps.json")
    assert all(row["reused"] for row in rows)
    assert parent.data.metrics["steps/all"] == parent.data.metrics["steps/reused"] == len(rows)
    assert f"{len(rows)} reused" in parent.data.tags["mlflow.note.content"]
    first = next(run for run in copy.runs("tags.`hubmap.stage` = 'main'") if run.info.run_id in runs)
    assert copy.data(parent.info.run_id, "table.json") == copy.data(first.info.run_id, "table.json")
    assert parent.data.metrics["headline"] == first.data.metrics["headline"]
    assert done.stdout.count("reused run") == len(rows)
    print(f"reused in {parent.data.metrics['time/seconds']:.1f} s")


def test_a_stage_again_stands_for_the_run_that_did_it(copy: Copy) -> None:
    stages = ("prepare", "pretrain", "finetune", "predict", "tune", "promote", "ensemble")
    versions, known = copy.versions(), {run.info.run_id: run for run in copy.runs()}
    commands = " ; ".join(f"{stage} --experiment tiny" for stage in stages)
    done = watched(copy, *commands.split())
    assert done.returncode == 0, done.stdout + done.stderr
    new = [run for run in copy.runs() if run.info.run_id not in known]
    assert sorted(run.data.tags["hubmap.stage"] for run in new) == sorted(stages)
    for run in new:
        real = known[run.data.tags["hubmap.reuses"]]
        assert run.info.status == "FINISHED"
        assert run.data.tags["hubmap.stage_key"] == real.data.tags["hubmap.stage_key"]
        assert run.data.metrics.get("headline") == real.data.metrics.get("headline")
        assert run.data.tags.get("hubmap.upstream_runs") == real.data.tags.get("hubmap.upstream_runs")
    assert copy.versions() == versions


def test_a_missing_alias_is_back_after_promote_and_ensemble(copy: Copy) -> None:
    copy.client.delete_registered_model_alias("tiny.maskrcnn", "promoted")
    copy.client.delete_registered_model_alias("tiny.ensemble", "champion")
    done = watched(copy, *["promote", "--experiment", "tiny", ";", "ensemble", "--experiment", "tiny"])
    assert done.returncode == 0, done.stderr
    assert copy.client.get_model_version_by_alias("tiny.maskrcnn", "promoted").version
    assert copy.client.get_model_version_by_alias("tiny.ensemble", "champion").version


def test_a_deleted_version_is_made_again(copy: Copy) -> None:
    version = copy.client.get_model_version_by_alias("tiny.ensemble", "champion").version
    copy.client.delete_model_version("tiny.ensemble", version)
    done = watched(copy, "ensemble", "--experiment", "tiny")
    assert done.returncode == 0, done.stderr
    assert copy.client.get_model_version_by_alias("tiny.ensemble", "champion").version != version


def test_a_members_setting_runs_again_what_depends_on_it(copy: Copy) -> None:
    known = {run.info.run_id for run in copy.runs()}
    done = call(
        copy.folder, "hubmap-ml", "main", "--experiment", "tiny", "--set",
        "maskrcnn.finetune.runner.max_epochs=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    new = [run for run in copy.runs() if run.info.run_id not in known and STAGE in run.data.tags]
    parent = next(run for run in new if run.data.tags[STAGE] == "main")
    rows = copy.data(parent.info.run_id, "steps.json")
    reused = [row["stage"] for row in rows if row["reused"]]
    ran = [row["stage"] for row in rows if not row["reused"]]
    assert reused[:2] == ["prepare", "pretrain"]
    assert ran[:6] == ["finetune", "predict", "finetune", "predict", "tune", "promote"]
    # The worse version is not promoted: then the ensemble is what it was.
    assert set(reused[2:]) <= {"ensemble", "submit"}
    assert len(new) == len(ran) + 1


def test_fresh_does_it_again(copy: Copy) -> None:
    first = copy.runs("tags.`hubmap.stage` = 'tune'")[0].info.run_id
    done = watched(
        copy, *["tune", "--experiment", "tiny", "--fresh", "true", ";", "tune", "--experiment", "tiny"]
    )
    assert done.returncode == 0, done.stderr
    last, again = copy.runs("tags.`hubmap.stage` = 'tune'")[:2]
    assert again.info.run_id != first
    assert "hubmap.reuses" not in again.data.tags
    assert last.data.tags["hubmap.reuses"] == again.info.run_id


def test_a_stray_raw_file_trains_nothing(copy: Copy, chain: Chain) -> None:
    raw = next((copy.folder / ".hubmap_ml" / "raw").iterdir())
    (raw / "notes.txt").write_text("a remark")
    done = watched(copy, "main", "--experiment", "tiny")
    assert done.returncode == 0, done.stdout + done.stderr
    parent = copy.runs("tags.`hubmap.stage` = 'main'")[0]
    rows = copy.data(parent.info.run_id, "steps.json")
    assert [row["stage"] for row in rows if not row["reused"]] == ["prepare", "report"]
