"""What trainings cost elsewhere: read beside the experiment, checked, and as the reference's own logs say."""

from pathlib import Path

import pytest

from hubmap_ml.spec import InputError
from hubmap_ml.spec.reference_costs import ReferenceCost, read_reference_costs
from hubmap_ml.training.mmdet_log import read_mmdet_log
from tests.reference_logs import CBNET_STAGE1, R50_STAGE2, needs_logs

HUBMAP = Path(__file__).parents[2] / "experiments" / "hubmap2023"


def test_an_experiment_without_a_reference_has_none(tmp_path: Path) -> None:
    assert read_reference_costs(tmp_path) is None


def test_what_is_known_is_found_by_member_and_stage() -> None:
    found = read_reference_costs(HUBMAP)
    assert found is not None
    assert found.of("vit_ps50", "pretrain") is None
    assert found.of("nobody", "finetune") is None
    assert found.of("vit_ps50", "finetune") == ReferenceCost(
        epochs=23, epoch_length=56, iteration_s=5.72, memory_mib=32217, wall_s=2 * 3600 + 41 * 60 + 14
    )


@needs_logs
@pytest.mark.parametrize(
    ("log", "member", "stage"),
    [(CBNET_STAGE1, "cbnet", "pretrain"), (R50_STAGE2, "detectors_r50", "finetune")],
)
def test_the_figures_are_those_of_the_logs(log: Path, member: str, stage: str) -> None:
    found, said = read_reference_costs(HUBMAP), read_mmdet_log(log)
    assert found is not None
    known = found.of(member, stage)
    assert known is not None
    assert (known.epochs, known.epoch_length) == (said.epochs, said.epoch_length)
    assert known.iteration_s == pytest.approx(said.iteration_s, abs=0.005)
    assert known.memory_mib == said.peak_memory_mib
    assert 0 <= known.wall_s - said.wall_s < 90  # the logs here begin with the first line of training


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("machine: [", "cannot be read"),
        ("machine: a box", "trainings: Field required"),
        ("machine: a\ntrainings: {m: {finetune: {epochs: 0}}}", "trainings.m.finetune.epochs: .*, got 0"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "reference.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"reference\.yaml: {said}") as caught:
        read_reference_costs(tmp_path)
    assert "\n" not in str(caught.value)
