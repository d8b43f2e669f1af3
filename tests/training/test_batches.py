"""Every image is seen in every epoch, in an order of its own; batches are padded, not stretched."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hubmap_ml.training.mmdet.batches import EpochOrder, collate, to_device


@given(
    wide=st.lists(st.booleans(), min_size=1, max_size=40),
    batch=st.integers(1, 9),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 99),
)
def test_an_epoch_sees_every_image_in_full_batches_of_one_orientation(
    wide: list[bool], batch: int, seed: int, epoch: int
) -> None:
    order = EpochOrder(np.array(wide), batch=batch, seed=seed)
    order.epoch = epoch
    batches = list(order)
    assert len(batches) == len(order)
    assert {number for keys in batches for _, number in keys} == set(range(len(wide)))
    for keys in batches:
        assert len(keys) == batch
        assert {key for key, _ in keys} == {epoch}
        assert len({wide[number] for _, number in keys}) == 1
    again = EpochOrder(np.array(wide), batch=batch, seed=seed)
    again.epoch = epoch
    assert list(again) == batches


def test_epochs_and_seeds_order_differently() -> None:
    orders = set()
    for seed in (0, 1):
        order = EpochOrder(np.zeros(20, bool), batch=2, seed=seed)
        for epoch in range(3):
            order.epoch = epoch
            orders.add(tuple(number for keys in order for _, number in keys))
    assert len(orders) == 6


def test_smaller_images_are_padded_at_the_right_and_below() -> None:
    parts = [
        {"img": torch.ones(3, 4, 6), "gt_labels": torch.tensor([0]), "img_metas": {"a": 1}},
        {"img": 2 * torch.ones(3, 5, 3), "gt_labels": torch.tensor([0, 1]), "img_metas": {"a": 2}},
    ]
    batch = collate(parts)
    assert batch["img"].shape == (2, 3, 5, 6)
    assert batch["img"][0, :, :4, :6].eq(1).all()
    assert batch["img"][0, :, 4:].eq(0).all()
    assert batch["img"][1, :, :, 3:].eq(0).all()
    assert [len(labels) for labels in batch["gt_labels"]] == [1, 2]
    assert batch["img_metas"] == [{"a": 1}, {"a": 2}]


def test_tensors_go_to_the_device_and_the_rest_stays() -> None:
    batch = {"img": torch.ones(2, 3), "gt_labels": [torch.ones(1)], "gt_masks": ["bits"], "img_metas": [{}]}
    moved = to_device(batch, torch.device("meta"))
    assert moved["img"].device.type == "meta"
    assert moved["gt_labels"][0].device.type == "meta"
    assert moved["gt_masks"] == ["bits"]
    assert to_device(batch, torch.device("cpu")) is batch
