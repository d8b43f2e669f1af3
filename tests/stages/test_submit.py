import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hubmap_ml.instances import BitMasks, Category, Images, Instances, Masks, PredictionSet
from hubmap_ml.postprocess import apply_steps, parse_steps
from hubmap_ml.spec import InputError
from hubmap_ml.stages.session import open_session
from hubmap_ml.stages.submit import _check, is_possible
from hubmap_ml.submission import submission_format


def predictions(shift: int = 0) -> PredictionSet:
    masks = np.zeros((2, 30, 30), bool)
    masks[0, 2:8, 2 + shift : 8 + shift] = masks[1, 12:18, 12:18] = True
    bits = BitMasks.from_dense(masks)
    one = Instances.build(
        bits.tight_boxes(),
        np.array([0.9, 0.8]),
        np.array([0, 1]),
        masks=Masks.from_bits(bits),
        height=30,
        width=30,
    )
    categories = (Category(0, "blood_vessel"), Category(1, "other"))
    return PredictionSet.from_instances(Images.build(ids=["a"], heights=30, widths=30), categories, [one])


@pytest.mark.parametrize("name", ["hubmap2023", "sartorius2021"])
def test_the_file_must_give_back_what_was_predicted(name: str, tmp_path: Path) -> None:
    written = submission_format(name)
    file = written.write(tmp_path / "submission.csv", predictions())
    _check(written, file, predictions())
    with pytest.raises(RuntimeError, match="does not give back"):
        _check(written, file, predictions(shift=1))


def test_overlapping_cells_are_handed_in_after_no_overlaps_and_not_before(tmp_path: Path) -> None:
    """Sartorius 2021 allows no pixel in two cells: the refusal names the step, and what the step makes is read back."""
    masks = np.zeros((2, 30, 30), bool)
    masks[0, 2:12, 2:12] = masks[1, 8:18, 8:18] = True
    bits = BitMasks.from_dense(masks)
    one = Instances.build(
        bits.tight_boxes(),
        np.array([0.9, 0.8]),
        np.array([0, 0]),
        masks=Masks.from_bits(bits),
        height=30,
        width=30,
    )
    found = PredictionSet.from_instances(
        Images.build(ids=["a"], heights=30, widths=30), (Category(0, "cort"),), [one]
    )
    written = submission_format("sartorius2021")
    with pytest.raises(InputError, match="no_overlaps"):
        written.write(tmp_path / "refused.csv", found)
    apart = apply_steps(found, parse_steps([{"no_overlaps": None}]))
    file = written.write(tmp_path / "submission.csv", apart)
    _check(written, file, apart)
    back = written.read(file, images=apart.images, categories=apart.categories)
    pixels = back.masks.bits.areas() if back.masks is not None else np.zeros(0)
    assert sorted(pixels) == [84, 100]


@pytest.mark.parametrize(
    ("format_", "split", "possible"),
    [("hubmap2023", "test", True), ("hubmap2023", "train", False), ("livecell", "test", False)],
)
def test_the_chain_hands_in_only_where_there_is_something_to_hand_in(
    format_: str, split: str, possible: bool
) -> None:
    session = open_session(experiment="tiny")
    data = session.experiment.data.model_copy(update={"format": format_})
    session = dataclasses.replace(session, experiment=session.experiment.model_copy(update={"data": data}))
    images = Images.build(ids=["a"], heights=30, widths=30, splits=[split])
    prepared: Any = SimpleNamespace(images=images, raw=Path("raw"))
    assert is_possible(session, prepared) is possible
