"""Draws follow their key alone, and leave the process's own states alone."""

import random

import numpy as np
import torch

from hubmap_ml.training.mmdet.draws import derived_seed, own_draws, seed_everything


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_one_key_gives_one_draw_and_another_key_another() -> None:
    seen = []
    for key in ((1, 2), (1, 2), (2, 1), (1, 3)):
        with own_draws(*key):
            seen.append(drawn())
    assert seen[0] == seen[1]
    for number in range(3):
        assert len({values[number] for values in seen}) == 3


def test_the_states_of_before_come_back() -> None:
    seed_everything(5)
    expected = drawn()
    seed_everything(5)
    with own_draws(7):
        drawn()
    assert drawn() == expected


def test_the_states_come_back_after_an_error_too() -> None:
    seed_everything(5)
    expected = drawn()
    seed_everything(5)
    try:
        with own_draws(7):
            drawn()
            raise KeyError
    except KeyError:
        pass
    assert drawn() == expected


def test_neighbouring_keys_give_unrelated_seeds() -> None:
    seeds = [derived_seed(69, 0, epoch, number) for epoch in range(30) for number in range(30)]
    assert len(set(seeds)) == 900
    bits = np.array([[seed >> bit & 1 for bit in range(64)] for seed in seeds])
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.09
