"""The members of HuBMAP 2023 are the published recipes: every value, tuples included, but for the listed differences.

A listed difference changes the published configuration into what a member is expected to say; the comparison that
follows is exact, so nothing is hidden by it.
"""

import ast
import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hubmap_ml.models import TrainPipeline
from hubmap_ml.models.pipelines import PLATFORM_STEPS, TestPipeline
from hubmap_ml.spec import experiment_from_data, load_config_file, load_experiment
from hubmap_ml.spec.config_changes import Change, config_changes
from hubmap_ml.spec.experiment import Experiment
from hubmap_ml.spec.member_config import check
from tests.models.parity import ABSENT, FOLDER

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "hubmap2023"
CONFIGS = FOLDER / "full_size" / "configs"
needs_configs = pytest.mark.skipif(not CONFIGS.is_dir(), reason=ABSENT)

PUBLISHED = {
    "vit_ps50_stage1": "stage1_beit_ps50",
    "vit_ps50_stage2": "beit_ps50",
    "vit_ps60_stage1": "stage1_beit_ps60",
    "vit_ps60_stage2": "beit_ps60",
    "vit_plain_stage1": "stage1_beit_no_pseudo",
    "vit_plain_stage2": "beit_no_pseudo",
    "cbnet_stage1": "stage1_cb_base",
    "cbnet_stage2": "cb_base",
    "detectors_x101_stage1": "stage1_detectors_x101",
    "detectors_x101_stage2": "detectors_x101",
    "detectors_r50_stage1": "stage1_detectors_r50",
    "detectors_r50_stage2": "detectors_r50",
}
"""A member's file and the published configuration that it repeats."""

Config = dict[str, Any]


def published(name: str) -> Config:
    """A published configuration with its tuples back in their places."""
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    tuples = set(config.pop("_tuple_paths"))
    return dict(_with_tuples(config, "", tuples))


def _with_tuples(value: Any, path: str, tuples: set[str]) -> Any:
    if isinstance(value, dict):
        return {k: _with_tuples(v, f"{path}.{k}" if path else k, tuples) for k, v in value.items()}
    if isinstance(value, list):
        items = [_with_tuples(item, f"{path}[{i}]", tuples) for i, item in enumerate(value)]
        return tuple(items) if path in tuples else items
    return value


def trains_by_its_data_section(config: Config) -> None:
    """What trains is data.train.pipeline; the train_pipeline above it differs in some files and is read by nothing."""
    config["train_pipeline"] = config["data"]["train"]["pipeline"]
    config["test_pipeline"] = config["data"]["val"]["pipeline"]


def counts_the_batch_over_all_devices(config: Config) -> None:
    """The batch is that of an optimiser step, whatever the number of devices."""
    config["batch"] = {"global": config["data"]["samples_per_gpu"] * len(config["gpu_ids"])}


def leaves_to_the_platform(config: Config) -> None:
    """Images, evaluation, checkpoints, seed and devices are the experiment's and the platform's."""
    for key in ("data", "evaluation", "checkpoint_config", "seed", "gpu_ids", "initialised_from"):
        del config[key]


def has_no_notes(config: Config) -> None:
    """Where a configuration was found, and a variable that its pipelines were written with, are no settings."""
    for key in ("_source", "_top_level_train_pipeline_equals_data_train_pipeline", "img_norm_cfg"):
        del config[key]


def counts_no_classes(config: Config) -> None:
    """The number of classes is that of the data."""
    for head in (*config["model"]["roi_head"]["bbox_head"], *config["model"]["roi_head"]["mask_head"]):
        assert head.pop("num_classes") == 1


def names_no_weights(config: Config) -> None:
    """The weights to start from are the experiment's; the published ones say that the backbone has none of its own."""
    for part in (config["model"], config["model"]["backbone"]):
        assert part.pop("pretrained", None) is None


def says_no_single_precision(config: Config) -> None:
    """Single precision is what is trained in where nothing is said."""
    if config["fp16"] is None:
        del config["fp16"]


def neither_loads_nor_collects(config: Config) -> None:
    """Loading, formatting and collecting are the platform's."""
    config["train_pipeline"] = [
        step for step in config["train_pipeline"] if step["type"] not in PLATFORM_STEPS
    ]


def has_no_views(config: Config) -> None:
    """Flips and scales are views, which the experiment names; the size of one view is the test pipeline's."""
    assert config["test_pipeline"][0] == {"type": "LoadImageFromFile"}
    (views,) = config["test_pipeline"][1:]
    assert views.pop("flip_direction") == ["horizontal", "vertical"]
    assert views.pop("flip") is True
    resize, flip, *rest = views.pop("transforms")
    assert flip == {"type": "RandomFlip"}
    size = {"img_scale": views.pop("img_scale")}
    assert views == {"type": "MultiScaleFlipAug"}
    config["test_pipeline"] = [
        resize | size,
        *(step for step in rest if step["type"] not in PLATFORM_STEPS),
    ]


def speaks_to_albumentations_2(config: Config) -> None:
    """Its distortions take neither alpha_affine nor shift_limit, moves of 3.6 and half a pixel."""
    for step in config["train_pipeline"]:
        for transform in step.get("transforms", ()):
            for one in transform.get("transforms", ()):
                assert one.pop("alpha_affine", 3.5999999999999996) == 3.5999999999999996
                if one["type"] == "OpticalDistortion":
                    assert one.pop("shift_limit") == 0.5


DIFFERENCES: tuple[Callable[[Config], None], ...] = (
    trains_by_its_data_section,
    counts_the_batch_over_all_devices,
    leaves_to_the_platform,
    has_no_notes,
    counts_no_classes,
    names_no_weights,
    says_no_single_precision,
    neither_loads_nor_collects,
    has_no_views,
    speaks_to_albumentations_2,
)


def expected(name: str) -> Config:
    config = copy.deepcopy(published(name))
    for difference in DIFFERENCES:
        difference(config)
    return config


def member(name: str) -> Config:
    return load_config_file(EXPERIMENT / "members" / f"{name}.py")


def experiment() -> Experiment:
    folders = {"HUBMAP_RAW": "raw", "HUBMAP_WEIGHTS": "weights"}
    return load_experiment(EXPERIMENT / "experiment.yaml", environment=folders)


def compare(ours: Any, theirs: Any) -> list[Change]:
    """Every place that differs in value or in type."""
    return config_changes(ours, theirs)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value that is no dictionary and no list of such."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from places(item, (*path, number))
    else:
        yield path


def mutated(config: Config, draws: random.Random) -> tuple[Config, str]:
    """The configuration with one value changed, one value's type changed, one key lost or one item lost."""
    changed = copy.deepcopy(config)
    path = draws.choice(sorted(places(changed), key=str))
    parent: Any = changed
    for step in path[:-1]:
        parent = parent[step]
    old, kind = parent[path[-1]], draws.choice(["value", "type", "lost"])
    if kind == "lost":
        del parent[path[-1]]
    elif kind == "type" and isinstance(old, tuple):
        parent[path[-1]] = list(old)
    elif isinstance(old, bool) or old is None:
        parent[path[-1]] = not old
    elif isinstance(old, int | float):
        parent[path[-1]] = float(old) if kind == "type" and isinstance(old, int) else old * 1.1 + 1e-9
    else:
        parent[path[-1]] = (*old, old[-1]) if isinstance(old, tuple) else f"{old}_"
    return changed, f"{kind} {path}"


@needs_configs
@pytest.mark.parametrize(("ours", "theirs"), PUBLISHED.items())
def test_a_member_is_the_published_recipe(ours: str, theirs: str) -> None:
    assert compare(member(ours), expected(theirs)) == []


@needs_configs
@pytest.mark.parametrize(("ours", "theirs"), PUBLISHED.items())
def test_a_mutated_member_is_another_recipe(ours: str, theirs: str) -> None:
    config, reference, draws = member(ours), expected(theirs), random.Random(ours)
    for _ in range(20):
        other, what = mutated(config, draws)
        assert compare(other, reference), what


@needs_configs
def test_every_published_configuration_has_its_member() -> None:
    assert sorted(PUBLISHED.values()) == sorted(path.stem for path in CONFIGS.glob("*.json"))


@needs_configs
@pytest.mark.parametrize(
    "name", ["vit_ps50", "vit_ps60", "vit_plain", "cbnet", "detectors_x101", "detectors_r50"]
)
def test_the_experiment_says_what_the_members_do_not(name: str) -> None:
    """Weights, the checkpoint that stage 2 starts from, pool, fold, seed and views, against the published files."""
    ours = experiment()
    recipe = ours.members[name]
    first, second = published(PUBLISHED[f"{name}_stage1"]), published(PUBLISHED[f"{name}_stage2"])
    assert recipe.weights is not None
    assert recipe.pretrain is not None
    assert Path(recipe.weights.source).name == Path(first["initialised_from"]).name
    chosen = "best" if "best_segm_mAP" in second["initialised_from"] else "last"
    assert recipe.pretrain.checkpoint == chosen
    only_two_slides = first["data"]["train"]["ann_file"] == "ds2_coco_1024_train_fold1.json"
    slides = {"source_wsi": [3, 4]} if only_two_slides else {}
    assert ours.data.pools[recipe.pretrain.pool] == {"dataset": 2, **slides}
    assert ours.data.pools[recipe.finetune.pool] == {"dataset": 1}
    fold = int(second["data"]["val"]["ann_file"].removesuffix(".json")[-1])
    assert set(ours.folds_of(name)) == {0, fold - 1}  # fold 0: tiles that all members predict out of fold
    assert ours.seed == first["seed"] == second["seed"]
    assert recipe.predict.views == ("none", "hflip", "vflip")
    whole = "train_full" in second["data"]["train"]["ann_file"]
    assert whole == (name in {other.refit for other in ours.members.values()})


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_member_is_accepted_and_its_pipelines_are_built(name: str) -> None:
    config = member(name)
    check(config, name)
    TrainPipeline(config["train_pipeline"])
    TestPipeline(config["test_pipeline"])


def test_each_stage_of_the_experiment_has_its_file_and_each_file_its_stage() -> None:
    stages = [
        stage for recipe in experiment().members.values() for stage in (recipe.pretrain, recipe.finetune)
    ]
    named = {stage.config for stage in stages if stage is not None}
    assert named == {f"members/{path.name}" for path in (EXPERIMENT / "members").glob("*.py")}


def test_the_rehearsal_has_the_experiments_members() -> None:
    """But for weights to start from and sizes to look at, which are those of the generated tissue."""
    ours, small = experiment(), load_experiment(EXPERIMENT / "rehearsal.yaml", environment={})
    leave = {"weights": True, "predict": {"scales"}}
    for name, recipe in ours.members.items():
        assert small.members[name].model_dump(exclude=leave) == recipe.model_dump(exclude=leave), name
    assert list(small.members) == list(ours.members)
    assert small.data.folds == ours.data.folds
    assert small.postprocess == ours.postprocess


def test_the_published_students_may_learn_from_the_published_teachers() -> None:
    """``split/pseudogen.ipynb``: the fusion of its second generation, kept from .5 and from .6."""
    document = experiment().model_dump(mode="json")
    document["members"]["vit_ps60_all"] = {"refit": "vit_ps60"}
    for name, labels in {"vit_ps50": "ps50", "vit_ps60": "ps60", "detectors_r50": "ps60"}.items():
        document["members"][name]["pretrain"]["pseudo"] = labels
    taught = experiment_from_data(document, "the experiment with students")
    assert taught.teachers_first()[:3] == ("cbnet", "detectors_x101", "vit_plain")
    assert [taught.pseudo_label[name].score for name in ("ps50", "ps60")] == [0.5, 0.6]
    for block in taught.pseudo_label.values():
        assert block.teachers == ("detectors_x101", "cbnet")
        assert (block.method, block.iou_threshold, block.skip_score, block.weights) == (
            "wbf",
            0.6,
            0.01,
            None,
        )
        assert (block.masks, block.vote_share, block.clip, block.min_area) == ("votes", 0.2, True, 0)
        assert taught.data.pools[block.pool] == {"dataset": 3, "source_wsi": [6, 7]}


def test_the_members_read_nothing_but_each_other() -> None:
    for path in (EXPERIMENT / "members").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not isinstance(node, ast.Import), path
            if isinstance(node, ast.ImportFrom):
                assert node.module == "hubmap_ml.spec.augmentation_sets", path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"open", "eval", "exec", "__import__"}, path
