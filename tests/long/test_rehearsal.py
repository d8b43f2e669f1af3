"""Every recipe of HuBMAP 2023 at reduced size: both stages train and resume, predict, register, join an ensemble."""

from pathlib import Path

import pytest
import yaml

from hubmap_ml.stages import main
from tests.e2e.rehearsing import CHANGES, REHEARSAL, rehearse, store_in

pytestmark = pytest.mark.long
FOLDS = {"cbnet": (0, 4)}


@pytest.mark.timeout(3600)
def test_every_recipe_trains_resumes_predicts_and_registers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store_in(tmp_path, monkeypatch)
    members = yaml.safe_load(REHEARSAL.read_text())["members"]
    for member, recipe in members.items():
        if "refit" not in recipe:
            rehearse(REHEARSAL, member, client, FOLDS.get(member, (0,)))
    chain = main.run(experiment=str(REHEARSAL), set=CHANGES, workers=0, device="cpu")
    verdicts = {
        model.name.partition(".")[2]: [
            version.tags["hubmap.gate"] for version in client.search_model_versions(f"name = '{model.name}'")
        ]
        for model in client.search_registered_models()
    }
    assert verdicts == {member: ["passed"] for member in (*members, "ensemble")}
    trained = [step for step in chain.steps if step.stage in ("pretrain", "finetune")]
    assert [step.name for step in trained if not step.reused] == ["finetune · vit_ps60_all · all data"]
    assert Path(chain.submission).is_file()
