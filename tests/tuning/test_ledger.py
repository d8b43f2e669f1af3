import tempfile
from pathlib import Path

import numpy as np
import pytest

from hubmap_ml.spec import InputError
from hubmap_ml.tuning.ledger import Shared
from hubmap_ml.tuning.searching import plan_trials, search
from hubmap_ml.tuning.space import Parameter, Space

SPACE = Space(
    (Parameter("score", 0, 1), Parameter("min_area", 0, 90, whole=True), Parameter("nms_iou", 0.5, 0.5))
)
BASE = {"score": 0.5, "min_area": 0, "nms_iou": 0.5}
WEIGHTS = np.ones(2)


def score(setting):
    return [setting["score"] * (1 - setting["score"]), 0.2 - abs(setting["min_area"] - 30) / 1000]


@pytest.fixture
def folder(tmp_path):
    """Where sqlite need not wait for a disk, if there is such a place."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        yield Path(place)


def searched(*, sampler="tpe", trials=10, scorer=score, **options):
    plan = plan_trials(SPACE, sampler, trials, 3, (0, 1))
    return search(scorer, BASE, SPACE, plan, WEIGHTS, sampler=sampler, seed=3, **options)


def url(folder):
    return f"sqlite:///{folder}/trials.db"


def same(a, b):
    return a.settings == b.settings and a.parts == b.parts and np.array_equal(a.scores, b.scores)


def test_a_shared_study_is_the_one_in_memory_and_is_not_done_again(folder):
    expected = searched()
    assert same(searched(storage=url(folder)), expected)
    asked = []
    second = searched(scorer=lambda s: (asked.append(s), score(s))[1], storage=url(folder))
    assert same(second, expected)
    assert asked == [BASE]


@pytest.mark.parametrize(("sampler", "after"), [("tpe", 9), ("qmc", 3)])
def test_a_study_that_was_broken_off_goes_on_as_it_would_have(folder, sampler, after):
    done = []

    def breaking(setting):
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(setting)
        return score(setting)

    with pytest.raises(KeyboardInterrupt):
        searched(sampler=sampler, scorer=breaking, storage=url(folder))
    asked = []
    found = searched(sampler=sampler, scorer=lambda s: (asked.append(s), score(s))[1], storage=url(folder))
    assert same(found, searched(sampler=sampler))
    assert len(asked) == len(found.settings) - after + 1  # the base steps are scored by everyone


def test_two_workers_in_turns_share_the_trials(folder):
    made = [Shared(url(folder), "s", SPACE, 6, lambda n: {**BASE, "score": n / 10}) for _ in range(2)]
    taken = []
    for turn in range(6):
        number, setting = made[turn % 2].take()
        assert setting["score"] == number / 10
        taken.append(number)
        made[turn % 2].finish(number, setting, score(setting), 0.0)
    assert taken == list(range(6))
    assert [worker.take() for worker in made] == [None, None]
    assert [[trial.number for trial in worker.news()] for worker in made] == [taken, taken]
    assert [worker.news() for worker in made] == [[], []]


@pytest.mark.parametrize(
    "address", ["sqlite:////nowhere/at/all.db", "postgresql+psycopg://me:planted99@127.0.0.1:1/x"]
)
def test_a_storage_that_cannot_be_opened_is_one_line_without_its_password(address):
    with pytest.raises(InputError, match="cannot be opened") as error:
        searched(storage=address)
    assert "\n" not in str(error.value)
    assert "planted99" not in str(error.value)
