"""A training's cost is measured with all that the member asks for, and without what says something of each epoch."""

from pathlib import Path

from hubmap_ml.training import FitData, FitInputs, measure_cost
from tests.detectors import VESSEL, mask_rcnn, vessels


def test_schedules_of_the_whole_training_do_not_stand_in_the_way_and_an_average_costs(tmp_path: Path) -> None:
    truth = vessels(tmp_path / "tiles", 3)
    data = FitData(train=truth, valid=truth.take_images([0]), image_root=tmp_path / "tiles")
    whole = {
        **mask_rcnn(),
        "runner": {"type": "EpochBasedRunner", "max_epochs": 5},
        "batch": {"global": 1, "repeat": 4},
        "lr_config": {"policy": "Plateau"},
        "loss_weights": {"loss_cls": [1.0, 0.8, 0.6, 0.4, 0.2]},
        "freeze": {"modules": ["backbone.layer1"]},
    }
    plain, averaged = (
        measure_cost(
            "mmdet",
            FitInputs(config={**whole, **changes}, categories=VESSEL, seed=0),
            data,
            tmp_path / name,
            iterations=2,
        )
        for name, changes in (("plain", {}), ("averaged", {"ema": {"momentum": 0.1}}))
    )
    assert plain.epoch_length == averaged.epoch_length == 12
    assert averaged.weights_bytes == plain.weights_bytes
    assert averaged.state_bytes > plain.state_bytes + 0.9 * plain.weights_bytes
