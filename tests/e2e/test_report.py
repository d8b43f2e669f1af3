"""Reports on what the chain left: an experiment, a member, the ensemble, runs, and two beside each other."""

import html
import json
import re
from pathlib import Path

import pytest

from tests.e2e.running import Chain, call

pytestmark = pytest.mark.e2e


SEVERAL = """
import json, sys
from hubmap_ml.spec import InputError
from hubmap_ml.stages import report
said = {}
for name, words in json.loads(sys.argv[1]).items():
    try:
        said[name] = report.run(**words).details["page"]
    except InputError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def pages(chain: Chain) -> dict[str, str]:
    """Several reports, made in one process; of what is refused the words."""
    runs = {
        stage: chain.run_of(stage).info.run_id
        for stage in ("finetune", "predict", "tune", "ensemble", "main")
    }  # type: ignore[attr-defined]
    wanted = {
        "member": {"experiment": "tiny", "member": "maskrcnn"},
        "ensemble": {"experiment": "tiny", "member": "ensemble"},
        **{stage: {"run": runs[stage][:10]} for stage in ("finetune", "predict", "main")},
        "beside": {"run": runs["tune"], "against": runs["ensemble"]},
        "nobody": {"experiment": "tiny", "member": "nobody"},
        "no run": {"run": "zzzz"},
        "both": {"run": "zzzz", "member": "maskrcnn"},
    }
    done = call(chain.folder, "python", "-c", SEVERAL, json.dumps(wanted))
    assert done.returncode == 0, done.stderr
    said: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return said


def text_of(page: str) -> str:
    assert Path(page).stat().st_size < 15_000_000
    return html.unescape(Path(page).read_text())


def test_the_chains_report_says_what_the_runs_say(chain: Chain) -> None:
    run = chain.run_of("report")
    path = chain.client.download_artifacts(run.info.run_id, "report.html")  # type: ignore[attr-defined]
    text = html.unescape(Path(path).read_text())
    study = chain.run_of("tune").data.metrics  # type: ignore[attr-defined]
    for name in ("score/base", "score/tuned"):
        assert f"{study[name]:.4f}" in text
    ensemble = chain.run_of("ensemble")
    kept = chain.client.download_artifacts(ensemble.info.run_id, "ensemble.json")  # type: ignore[attr-defined]
    found = json.loads(Path(kept).read_text())
    assert f"{found['cross_fitted']:.4f}" in text
    # The ensemble's kept predictions are scored again: the same headline, slide by slide and in its interval.
    [row] = re.findall(
        r'<th scope="row" class="set1">.*?tiny\.ensemble</th><td class="number">([\d.]+)</td>', text
    )[:1]
    assert float(row) == pytest.approx(found["cross_fitted"], abs=5e-5)
    interval = found["score"]["on_these"]
    words = (
        interval["words"] if interval["low"] is None else f"{interval['low']:.4f} to {interval['high']:.4f}"
    )
    assert words in text
    for section in (
        "The pipeline",
        "The ensemble's members",
        "Errors",
        "By slide",
        "Lineage",
        "Hidden test of",
    ):
        assert f">{section}" in text
    assert "promoted v1" in text
    assert "passed all 9 checks" in text
    assert "champion v1" in text


def test_runs_show_their_data_their_errors_and_their_first_pictures(chain: Chain) -> None:
    artifacts = {}
    for stage in ("prepare", "predict", "finetune"):
        run_id = chain.run_of(stage).info.run_id  # type: ignore[attr-defined]
        names = [
            item.path for folder in ("", "images") for item in chain.client.list_artifacts(run_id, folder)
        ]
        artifacts[stage] = names
    assert "dataset.html" in artifacts["prepare"]
    assert "held_out.html" in artifacts["predict"]
    assert any("val~worst_tiles+step+0+" in name for name in artifacts["predict"])
    for step in (0, 1):
        assert any(f"val~overlay_0+step+{step}+" in name for name in artifacts["finetune"])
    note = chain.run_of("tune").data.tags["mlflow.note.content"]  # type: ignore[attr-defined]
    assert "Made from [predict · maskrcnn · fold 0](#/experiments/" in note
    version = chain.client.get_model_version_by_alias("tiny.ensemble", "champion")
    assert "**Leak level" in version.description
    assert "| member | weight |" in version.description


def test_pages_about_a_member_the_ensemble_and_runs(chain: Chain, pages: dict[str, str]) -> None:
    assert "tiny.ensemble" not in text_of(pages["member"]).split("<h2>Lineage</h2>")[0]
    assert "<h1>tiny.ensemble</h1>" in text_of(pages["ensemble"])
    for stage, said in (
        ("finetune", "train/loss"),
        ("predict", "one fold, before tuning"),
        ("main", "champion v1"),
    ):
        text = text_of(pages[stage])
        assert said in text
        verdict = chain.run_of(stage).data.tags["mlflow.note.content"].split("; ")[0]  # type: ignore[attr-defined]
        assert verdict in text


def test_two_stand_beside_each_other(pages: dict[str, str]) -> None:
    text = text_of(pages["beside"])
    assert "What they were told differently" in text
    assert re.search(r'<p class="verdict">tiny\.ensemble .*tiny\.maskrcnn', text)


def test_what_cannot_be_reported_is_said_in_one_line(pages: dict[str, str]) -> None:
    for name, said in (("nobody", "nobody"), ("no run", "no run 'zzzz' in this store"), ("both", "not both")):
        assert said in pages[name]
        assert "\n" not in pages[name]
