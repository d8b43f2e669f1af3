"""Networks trained elsewhere: what their files say of their classes."""

from pathlib import Path

import pytest
import torch

from hubmap_ml.models.foreign_checkpoints import import_checkpoint
from hubmap_ml.models.published import read_class_names
from hubmap_ml.spec import InputError

CATEGORIES = [(1, "cort"), (2, "astro")]


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"CLASSES": ("cort", "astro")}, ("cort", "astro")),
        ({"CLASSES": ["cort"]}, ("cort",)),
        ({"CLASSES": None}, ()),
        ({"epoch": 3}, ()),
        ("text", ()),
    ],
)
def test_class_names_stand_beside_the_weights(tmp_path: Path, meta: object, names: tuple[str, ...]) -> None:
    torch.save({"meta": meta, "state_dict": {"a": torch.zeros(1)}}, tmp_path / "epoch_1.pth")
    assert read_class_names(tmp_path / "epoch_1.pth") == names


def test_the_same_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    saved = {"meta": {"CLASSES": ("astro", "cort")}, "state_dict": {"a": torch.zeros(1)}}
    torch.save(saved, tmp_path / "epoch_1.pth")
    with pytest.raises(InputError, match="its classes are astro, cort, and the experiment's cort, astro"):
        import_checkpoint({}, CATEGORIES, tmp_path / "epoch_1.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()
