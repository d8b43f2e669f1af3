import re
from pathlib import Path

import pytest
import yaml

from hubmap_ml.spec import InputError, experiment_from_data
from hubmap_ml.spec.experiment import Champion, Ensemble

DOCS = Path(__file__).parents[2] / "docs" / "ensembles.md"
MEMBER = {"finetune": {"config": "x.py"}}


def experiment(**parts):
    return experiment_from_data(
        {"name": "e", "data": {"raw": "r"}, "members": {"a": MEMBER, "b": MEMBER}, **parts}, "e"
    )


def test_every_option_of_ensembles_is_told():
    words = set(re.findall(r"`([\w.]+)`", DOCS.read_text()))
    assert set(Ensemble.model_fields) <= words
    assert {f"champion.{name}" for name in Champion.model_fields} <= words


def test_the_example_of_the_page_is_an_experiment():
    text = re.search(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL).group(1)
    found = experiment(**yaml.safe_load(text))
    assert found.ensemble.budget_s_per_tile == 20
    assert found.champion == Champion()


@pytest.mark.parametrize(
    ("ensemble", "message"),
    [
        ({"select": "fixed"}, "'fixed' names the members"),
        ({"fixed": ["a"]}, "'fixed' names the members"),
        ({"select": "fixed", "fixed": ["a", "a"]}, "names a member twice"),
        ({"select": "fixed", "fixed": ["c"]}, "ensemble.fixed names 'c'"),
        ({"weights": {"a": 2.0}}, "forward selection finds the weights"),
        ({"select": "all", "weights": {"c": 2.0}}, "ensemble.weights names 'c'"),
        ({"select": "all", "weights": "guess"}, "optuna"),
        ({"space": {"iou_threshold": []}}, "at least 1"),
        ({"rounds": 0}, "greater than or equal to 1"),
    ],
)
def test_what_does_not_fit_is_one_line(ensemble, message):
    with pytest.raises(InputError, match=message) as error:
        experiment(ensemble=ensemble)
    assert "\n" not in str(error.value)


def test_a_policy_that_lets_chance_lead_is_refused():
    with pytest.raises(InputError, match=r"champion\.probability"):
        experiment(champion={"probability": 0.5})
    with pytest.raises(InputError, match="unknown key 'champion.eps'; allowed here: probability"):
        experiment(champion={"eps": 0.1})
