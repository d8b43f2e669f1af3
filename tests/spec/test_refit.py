from pathlib import Path
from typing import Any

import pytest
import yaml

from hubmap_ml.spec import ALL_DATA, Experiment, InputError, experiment_from_data, load_experiment


def document(**members: Any) -> dict[str, Any]:
    recipe = {"pretrain": {"config": "one.py"}, "finetune": {"config": "two.py", "folds": [0, 1]}}
    return {"name": "vessels", "data": {"folds": {"n": 3}}, "members": {"a": recipe, **members}}


def read(**members: Any) -> Experiment:
    return experiment_from_data(document(**members), "experiment.yaml")


def test_a_refit_has_its_recipe_s_stages_and_one_network_of_all_data() -> None:
    experiment = read(whole={"refit": "a"})
    whole, recipe = experiment.members["whole"], experiment.members["a"]
    assert (whole.pretrain, whole.finetune, whole.predict) == (
        recipe.pretrain,
        recipe.finetune,
        recipe.predict,
    )
    assert experiment.folds_of("whole") == (ALL_DATA,)
    assert experiment.folds_of("a") == (0, 1)
    assert (experiment.recipe_of("whole"), experiment.recipe_of("a")) == ("a", "a")
    assert (experiment.fold_named("whole", 1), experiment.fold_named("a", 1)) == (ALL_DATA, 1)


def test_views_may_be_its_own() -> None:
    experiment = read(whole={"refit": "a", "predict": {"views": ["none", "hflip"]}})
    assert experiment.members["whole"].predict.views == ("none", "hflip")
    assert experiment.members["a"].predict.views == ("none",)


def test_a_recorded_experiment_is_read_again(tmp_path: Path) -> None:
    """What is filled in stands in the record beside the recipe's name."""
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(document(whole={"refit": "a"})))
    experiment = load_experiment(path)
    again = experiment_from_data(experiment.model_dump(mode="json"), "experiment.json")
    assert again.model_dump() == experiment.model_dump()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (
            {"whole": {"refit": "b"}},
            "members.whole.refit is 'b', which is no member trained on folds; there are a",
        ),
        ({"whole": {"refit": "whole"}}, "no member trained on folds"),
        ({"x": {"refit": "a"}, "y": {"refit": "x"}}, "members.y.refit is 'x'"),
        (
            {"whole": {"refit": "a", "finetune": {"config": "x.py"}}},
            "members.whole.finetune: a refit member takes it",
        ),
        (
            {"b": {"finetune": {"config": "b.py", "checkpoint": "best"}}, "whole": {"refit": "b"}},
            "give the recipe checkpoint: last",
        ),
    ],
)
def test_a_mistake_is_one_line_with_the_remedy(members: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"^experiment\.yaml: ") as error:
        read(**members)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
