"""pyproject.toml, both locks, conda.yaml and the mmcv-full build are in step, and a planted difference is
named.
"""

import re
import shutil
from pathlib import Path

import check_dependencies
import pytest
from check_dependencies import differences

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's dependency files, to be damaged."""
    for name in ("pyproject.toml", "requirements.lock", "requirements-core.lock", "conda.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "packaging", tmp_path / "packaging", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_projects_own_files_are_in_step() -> None:
    assert differences(ROOT) == []


@pytest.mark.parametrize(
    ("file", "pattern", "new", "named"),
    [
        ("pyproject.toml", r'"optuna==5\.0\.0"', '"optuna==5.1.0"', ["optuna==5.1.0", "requirements.lock"]),
        ("pyproject.toml", r'"rich>=', '"cowsay", "rich>=', ["cowsay", "requirements.lock has no cowsay"]),
        ("pyproject.toml", r'">=3\.11,<3\.12"', '">=3.12"', ["conda.yaml", "python=3.12"]),
        ("pyproject.toml", r"mmcv-full==1\.7\.2", "mmcv-full==1.7.1", ["packaging/mmcv-full builds 1.7.2"]),
        ("requirements.lock", r"torch==2\.12\.1", "torch==2.12.0", ["torch==2.12.1", "torch==2.12.0"]),
        ("requirements.lock", r"(rich==\S+ \\\n)(    --hash.*\n)+", r"\1", ["rich has no hash"]),
        ("requirements.lock", r"^addict==", "--index-url https://x.org\naddict==", ["--index-url"]),
        ("requirements.lock", r"^addict==\S+", "addict @ https://x.org/addict.whl", ["addict names a place"]),
        ("requirements-core.lock", r"rich==\S+", "rich==1.0", ["requirements-core.lock has rich==1.0"]),
        ("requirements-core.lock", r"\Z", "torch==2.12.1 --hash=sha256:0\n", ["torch: it must do without"]),
        ("conda.yaml", r"optuna==5\.0\.0", "optuna==4.9.0", ["conda.yaml has optuna==4.9.0", "5.0.0"]),
        ("conda.yaml", r"      - torch==.*\n", "", ["conda.yaml does not list it", "torch"]),
        ("conda.yaml", r"torch==2\.12\.1", "torch>=2.12.1", ["conda.yaml has torch>=2.12.1"]),
        ("conda.yaml", r"\./packaging/mmcv-full", "mmcv-full==1.7.2", ["./packaging/mmcv-full"]),
        ("conda.yaml", r"python=3\.11", "python=3.10", ["python=3.11"]),
        (
            "packaging/mmcv-full/pyproject.toml",
            r"torch==2\.12\.1",
            "torch==2.13.0",
            ["is built with torch==2.13.0"],
        ),
        (
            "packaging/mmcv-full/build_mmcv_full.py",
            r'VERSION = "1\.7\.2"',
            'VERSION = "1.7.3"',
            ["builds 1.7.3"],
        ),
    ],
)
def test_a_planted_difference_is_named(
    copy: Path, file: str, pattern: str, new: str, named: list[str]
) -> None:
    target = copy / file
    changed, count = re.subn(pattern, new, target.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    target.write_text(changed)
    found = "\n".join(differences(copy))
    for words in named:
        assert words in found


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("conda.yaml", None, "conda.yaml: No such file"),
        ("conda.yaml", "name: [", "conda.yaml: not readable"),
        ("conda.yaml", "", "conda.yaml: not readable"),
        ("requirements.lock", None, "requirements.lock: No such file"),
        ("pyproject.toml", "x = ", "pyproject.toml: "),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    copy: Path, file: str, content: str | None, named: str
) -> None:
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_text(content)
    with pytest.raises(ValueError, match=re.escape(named)):
        differences(copy)


def test_the_command_ends_with_one_and_the_difference(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_dependencies.main(copy) == 0
    assert "in step" in capsys.readouterr().out
    (copy / "conda.yaml").unlink()
    assert check_dependencies.main(copy) == 1
    assert capsys.readouterr().err == "conda.yaml: No such file or directory\n"
