"""A stage whose code changed must say so: planted changes in a copy of the package."""

import shutil
from pathlib import Path

import check_stages
import pytest

from hubmap_ml.spec import STAGE_VERSION

STAGES = set(STAGE_VERSION)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "hubmap_ml", root / "hubmap_ml", ignore=shutil.ignore_patterns("__pycache__"))
    check_stages.remember_raised(root)
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "project"))


def edit(root: Path, place: str, old: str, new: str) -> None:
    path = root / "hubmap_ml" / place
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def append(root: Path, place: str, text: str) -> None:
    path = root / "hubmap_ml" / place
    path.write_text(path.read_text() + text)


def raise_number(root: Path, stage: str, by: int = 1) -> None:
    number = check_stages.read_stages(root)[stage].version
    edit(root, "spec/identity.py", f'"{stage}": {number}', f'"{stage}": {number + by}')


def test_the_project_is_in_step() -> None:
    assert check_stages.differences(ROOT) == {}


def test_comments_docstrings_and_layout_change_nothing(root: Path) -> None:
    append(root, "fusion/merging.py", "\n\n# a remark\n")
    edit(root, "tuning/study.py", '"""', '"""Other words. ')
    edit(root, "stages/tune.py", '    """Search', '    """Look for')
    edit(
        root,
        "stages/tune.py",
        "candidates, folds = out_of_fold(",
        "candidates, folds = out_of_fold(\n            ",
    )
    append(root, "stages/__init__.py", "")
    (root / "README.md").write_text("news")
    assert check_stages.differences(root) == {}


@pytest.mark.parametrize(
    ("place", "differ", "stay"),
    [
        ("training/mmdet/draws.py", {"pretrain", "finetune"}, {"prepare", "tune", "ensemble", "predict"}),
        ("inference/views.py", {"predict"}, {"prepare", "tune"}),
        ("tuning/study.py", {"tune", "ensemble"}, {"prepare", "pretrain", "finetune", "predict"}),
        ("fusion/weighted_boxes.py", {"ensemble", "predict"}, {"prepare", "pretrain", "finetune"}),
        ("data/tissue.py", {"prepare"}, set()),
        ("metrics/open_images.py", {"finetune", "predict", "tune", "ensemble"}, {"prepare"}),
        ("models/compatibility.py", {"pretrain", "finetune", "predict"}, {"prepare", "tune"}),
        ("viz/report.py", {"report"}, {"prepare", "pretrain", "finetune", "predict", "tune", "ensemble"}),
        ("tracking/ui.py", set(), STAGES),
        ("cli/doctor.py", set(), STAGES),
    ],
)
def test_a_changed_module_concerns_the_stages_that_reach_it(
    root: Path, place: str, differ: set[str], stay: set[str]
) -> None:
    append(root, place, "\nPLANTED = 1\n")
    found = check_stages.differences(root)
    assert differ <= found.keys()
    assert not stay & found.keys()
    for name in differ:
        assert place in found[name]
        assert "its code changed" in found[name]


def test_a_definition_in_stages_concerns_the_stages_that_use_it(root: Path) -> None:
    edit(root, "stages/study_record.py", "RESULT = ", "RESULT = 'x' + ")
    found = check_stages.differences(root)
    assert {"tune", "promote", "ensemble", "report"} <= found.keys()
    assert not {"prepare", "pretrain", "finetune", "predict"} & found.keys()
    assert "stages/study_record.py:RESULT" in found["tune"]


def test_another_stages_work_comes_in_by_its_own_key(root: Path) -> None:
    edit(root, "stages/predict.py", "    with running(", "    print()\n    with running(")
    assert check_stages.differences(root).keys() == {"predict"}


def test_an_import_inside_a_function_counts(root: Path) -> None:
    edit(root, "tuning/study.py", "def run_study(", "def _planted():\n    from hubmap_ml.data import tissue\n"
         "    return tissue.paint_tile\n\n\ndef run_study(")  # fmt: skip
    check_stages.accept(["all"], root)
    append(root, "data/tissue.py", "\nPLANTED = 1\n")
    assert "tune" in check_stages.differences(root)


def test_a_raised_number_is_remembered_and_only_then_all_is_well(root: Path) -> None:
    append(root, "tuning/study.py", "\nPLANTED = 1\n")
    for stage in check_stages.differences(root):
        raise_number(root, stage)
    assert all("--raised" in problem for problem in check_stages.differences(root).values())
    assert "tune" in check_stages.remember_raised(root)
    assert check_stages.differences(root) == {}


def test_unchanged_is_a_statement_about_the_named_stages_only(root: Path) -> None:
    append(root, "tuning/study.py", "\nPLANTED = 1\n")
    assert check_stages.accept(["tune"], root) == ["tune"]
    left = check_stages.differences(root)
    assert "tune" not in left
    assert "ensemble" in left
    check_stages.accept(["all"], root)
    assert check_stages.differences(root) == {}


def test_a_statement_is_refused_where_it_makes_no_sense(root: Path) -> None:
    with pytest.raises(ValueError, match="'tnue' is no stage"):
        check_stages.accept(["tnue"], root)
    raise_number(root, "tune")
    with pytest.raises(ValueError, match="tune: its number is .* use --raised"):
        check_stages.accept(["tune"], root)
    raise_number(root, "tune", -2)
    assert "went back" in check_stages.differences(root)["tune"]
    assert check_stages.remember_raised(root) == []


def test_the_command_says_what_to_type(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_stages.main([], root) == 0
    append(root, "inference/views.py", "\nPLANTED = 1\n")
    assert check_stages.main([], root) == 1
    said = capsys.readouterr().err
    assert "predict: it stands at" in said
    assert "inference/views.py" in said
    assert "--unchanged" in said
    assert check_stages.main(["--unchanged", "all"], root) == 0
    (root / check_stages.LOCK).write_text("{")
    assert check_stages.main([], root) == 1
    assert "damaged" in capsys.readouterr().err
