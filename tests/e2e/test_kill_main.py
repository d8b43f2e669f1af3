"""The chain, killed three times and started once more, gives what an undisturbed one gives."""

from pathlib import Path

import pytest

from tests.e2e.killing import WORDS, check_sequence, kill_at_random, table_of
from tests.e2e.running import Chain, call

pytestmark = pytest.mark.e2e


def test_killed_three_times_it_ends_with_the_table_of_an_undisturbed_run(
    chain: Chain, tmp_path: Path
) -> None:
    kill_at_random(tmp_path, kills=3, seed=1, longest_s=25)
    done = call(tmp_path, *WORDS)
    assert done.returncode == 0, done.stdout + done.stderr
    check_sequence(tmp_path, table_of(chain.folder))
