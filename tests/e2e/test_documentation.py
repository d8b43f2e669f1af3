"""What the documentation tells people to type is run in the folder of a finished chain, where that is cheap."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from hubmap_ml.instances import Masks, write_coco, write_coco_results
from tests.command_lines import called
from tests.documented_commands import documented
from tests.e2e.running import Chain
from tests.e2e.test_records import run_id
from tests.random_scenes import images, predictions, truths
from tests.reference_logs import train, val, written

pytestmark = pytest.mark.e2e

ONLY_UNDERSTOOD = {
    "finetune": "a training; test_chain.py runs it",
    "plan": "times trainings; its own tests run it",
    "prepare": "of somebody's own data; test_chain.py runs it on ours",
    "submit": "loads networks; test_chain.py runs it",
    "ui": "serves until it is stopped",
    "doctor": "looks at the machine for seconds; tests/cli/test_doctor.py runs it",
    "reproduce": "test_records.py repeats every stage",
    "rollback": "needs two ensembles; tests/stages/test_ensemble.py has them",
    "import-predictions": "needs another tool's files; tests/stages/test_external_members.py has them",
    "import-workdir": "needs a training of mmdet; test_work_dir.py has one",
}
"""Commands that are not run here, and why; tests/packaging/test_documentation.py parses them."""

WITH_EXPERIMENT = {"report", "status", "tune"}
LESS = {("tune", "--truth"): ["--trials", "20"], ("compare",): ["--resamples", "200"]}
"""What keeps a run short."""


def lines() -> list[tuple[str, ...]]:
    """The documented commands of ours that are run here, each once."""
    ours = [line.words[1:] for line in documented() if line.words[0] == "hubmap-ml"]
    assert {words[0] for words in ours} >= set(ONLY_UNDERSTOOD), "a reason for what is not documented"
    run_here = dict.fromkeys(words for words in ours if words[0] not in ONLY_UNDERSTOOD)
    return sorted(run_here, key=lambda words: words[:2] == ("score", "page"))  # of a log with something in it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the names that the pages use."""
    place = tmp_path_factory.mktemp("documented")
    table = images(6, n_folds=3)
    write_coco(place / "coco.json", truths(3, table=table))
    for name, seed in (("a", 1), ("b", 2), ("c", 4), ("results", 5)):
        found = predictions(seed, table=table, objects_seed=3, count=15)
        assert found.masks is not None
        decided = found.replace(masks=Masks.from_bits(found.masks.binarize(0.5, 96, 128)))
        write_coco_results(place / f"{name}.json", decided)
    shutil.move(written(place, train(1, 20), val(1, 0.4)), place / "20230708.log")
    shutil.copy(place / "20230708.log", place / "20230708_183936.log")
    (place / "submission.csv").write_text("id,height,width,prediction_string\n")
    scores = np.linspace(0.4, 0.6, 8).round(3)
    rows = [f"v{k},{score},{score + 0.05:.3f}" for k, score in enumerate(scores)]
    (place / "submissions.csv").write_text("\n".join(["name,public,cv", *rows]))
    return place


def meant(chain: Chain, words: tuple[str, ...]) -> list[str]:
    """The same command for what is there: the tiny experiment's members, models and runs."""
    names = {
        "demo": "tiny",
        "htc": "maskrcnn",
        "mine": "tiny",
        "3f2a91": run_id(chain, "tune"),
        "91bc07": run_id(chain, "ensemble"),
    }
    said = [names.get(word, re.sub(r"models:/demo\.", "models:/tiny.", word)) for word in words]
    for begin, more in LESS.items():
        if set(begin) <= set(said):
            said += more
    if said[0] == "score":
        said += ["--experiment", "documented"]
    elif said[0] in WITH_EXPERIMENT and not {"--experiment", "--truth"} & set(said):
        said += ["--experiment", "tiny"]
    return said


@pytest.mark.parametrize("words", lines(), ids=" ".join)
def test_a_documented_command_works(
    words: tuple[str, ...], chain: Chain, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{chain.folder}/mlflow.db")
    monkeypatch.setenv("HUBMAP_ML_WORK", str(chain.folder / ".hubmap_ml"))
    assert called(monkeypatch, *meant(chain, words)) == 0
    for name in re.findall(r"[\w-]+\.html", " ".join(words)):
        assert (folder / name).stat().st_size > 5000
