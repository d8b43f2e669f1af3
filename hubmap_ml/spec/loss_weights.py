"""How much each term of a training's loss counts, as it goes on: a member's ``loss_weights``.

::

    loss_weights = {
        "loss_cls": dict(start=1.0, end=0.2),                  # linear from the first iteration to the last
        "loss_bbox": dict(start=1.0, end=0.5, by="epoch"),     # in steps, from the first epoch to the last
        "s2.loss_mask": [1.0, 1.0, 2.0],                       # epoch by epoch
        "loss_rpn_cls": 0.5,                                   # always
    }

A name stands for the term of all stages and pyramids (``loss_cls`` for ``s0.loss_cls``, ``s1.loss_cls1``, …); a full
name, as the training logs it, goes before it. A term that no name stands for counts as the network has it: once.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from hubmap_ml.spec.errors import InputError

BY = ("iteration", "epoch")
# "s1." before a term says its stage; a number behind it, and perhaps "_w0.5", which of two pyramids it comes from.
_TERM = re.compile(r"(?:s\d+\.)?(.+?)(?:\d+(?:_w[\d.]+)?)?")


def check_loss_weights(value: Any, max_epochs: int, where: str) -> None:
    """Refuse weights that cannot be followed.

    Args:
        value: of the key ``loss_weights``.
        max_epochs: of the training.
        where: the member's file, for the error.

    Raises:
        InputError: named with what is allowed.
    """
    if not isinstance(value, Mapping) or not value or not all(isinstance(key, str) for key in value):
        raise InputError(f"{where}: loss_weights must be a dict by the names of losses, not {value!r}")
    for key, rule in value.items():
        at = f"{where}: loss_weights.{key}"
        if isinstance(rule, Mapping):
            if not {"start", "end"} <= rule.keys() <= {"start", "end", "by"}:
                raise InputError(f"{at} must have start, end and perhaps by, not {', '.join(map(str, rule))}")
            if rule.get("by", BY[0]) not in BY:
                raise InputError(f"{at}.by is {rule['by']!r}; allowed: {', '.join(BY)}")
            numbers = [rule["start"], rule["end"]]
        elif isinstance(rule, list | tuple):
            if len(rule) != max_epochs:
                raise InputError(
                    f"{at} has {len(rule)} weights for {max_epochs} epochs: one an epoch is needed"
                )
            numbers = list(rule)
        else:
            numbers = [rule]
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
                raise InputError(f"{at}: a weight is a number from 0, not {number!r}")


def weight_at(rule: Any, *, epoch: int, epochs: int, iteration: int, iterations: int) -> float:
    """Return what a rule says in an iteration; both are counted from 0 and over the whole training."""
    if isinstance(rule, Mapping):
        done, last = (epoch, epochs - 1) if rule.get("by") == "epoch" else (iteration, iterations - 1)
        share = done / last if last > 0 else 0.0
        return float(rule["start"] * (1 - share) + rule["end"] * share)
    return float(rule[epoch]) if isinstance(rule, list | tuple) else float(rule)


def rule_of(term: str, names: Mapping[str, Any]) -> str | None:
    """Return which of the names stands for a term; None where none does."""
    if term in names:
        return term
    found = _TERM.fullmatch(term)
    return found[1] if found is not None and found[1] in names else None


def decaying_losses(epochs: int, *, semantic: bool = False) -> dict[str, list[float]]:
    """Return the weights of the Sartorius challenge's eleventh place: while it learns, masks count more and more.

    In epoch e of E (from 1) masks count 1, classes (E + 3 - e) / (E + 2), boxes and proposals
    (E + 2 - floor(e / 2)) / (E + 2), divided by the sum of these five.

    Args:
        epochs: E.
        semantic: whether there is a semantic branch (a hybrid task cascade's); it counts as masks do. The original
            left it out of the sum unawares.
    """
    weights: dict[str, list[float]] = {}
    for e in range(1, epochs + 1):
        slow = (epochs + 2 - e // 2) / (epochs + 2)
        of = {
            "loss_mask": 1.0,
            "loss_cls": (epochs + 3 - e) / (epochs + 2),
            "loss_bbox": slow,
            "loss_rpn_cls": slow,
            "loss_rpn_bbox": slow,
        }
        total = sum(of.values())
        if semantic:
            of["loss_semantic_seg"] = 1.0
        for name, value in of.items():
            weights.setdefault(name, []).append(value / total)
    return weights
