"""Four sequences of twenty kills of the chain, each on one store; the end is that of an undisturbed run."""

from pathlib import Path

import pytest

from tests.e2e.killing import WORDS, check_sequence, kill_at_random, table_of
from tests.e2e.running import call

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

KILLS = 20


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = call(folder, *WORDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return table_of(folder)


@pytest.mark.parametrize("seed", range(4))
def test_a_sequence_of_kills_changes_nothing(
    undisturbed: dict[str, float], tmp_path: Path, seed: int
) -> None:
    kill_at_random(tmp_path, kills=KILLS, seed=seed, longest_s=40)
    done = call(tmp_path, *WORDS)
    assert done.returncode == 0, done.stdout + done.stderr
    check_sequence(tmp_path, undisturbed)
