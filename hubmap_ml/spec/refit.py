"""Refit members: a recipe trained once on all data, without a held-out fold and so without a score of its own.

In an experiment file a refit member names its recipe, another member, and may have its own ``predict``::

    htc:     {pretrain: {…}, finetune: {…}}
    htc_all: {refit: htc}

What its networks are worth is told by the recipe's cross-validation, "by proxy".
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

ALL_DATA = -1
"""In place of a fold's number: nothing is held out (as an image outside every fold has this number)."""

_OWN = ("refit", "predict", "kind")


def with_recipes(document: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the stages of refit members in from their recipes.

    Args:
        document: an experiment's data, unchecked; a recorded one holds what is filled in already.

    Raises:
        ValueError: a refit of no other trained member, stages of its own, or a recipe whose score is no proxy.
    """
    members = document.get("members")
    if not isinstance(members, Mapping):
        return dict(document)
    filled = {name: _filled(name, member, members) for name, member in members.items()}
    return {**document, "members": filled}


def _filled(name: str, member: Any, members: Mapping[str, Any]) -> Any:
    if not isinstance(member, Mapping) or member.get("refit") is None:
        return member
    recipe = members.get(member["refit"])
    if not _trained_on_folds(recipe):
        known = [other for other, given in members.items() if _trained_on_folds(given)]
        raise ValueError(
            f"members.{name}.refit is {member['refit']!r}, which is no member trained on folds; "
            f"there are {', '.join(known) or 'none'}"
        )
    finetune = recipe.get("finetune")
    if isinstance(finetune, Mapping) and finetune.get("checkpoint", "last") != "last":
        raise ValueError(
            f"members.{name} refits {member['refit']!r}, whose epoch is chosen on held-out tiles (finetune.checkpoint: "
            "best): without held-out tiles there is none to choose; give the recipe checkpoint: last"
        )
    for stage in member:
        if stage not in _OWN and member[stage] != recipe.get(
            stage, member[stage] if member[stage] is None else None
        ):
            raise ValueError(
                f"members.{name}.{stage}: a refit member takes it from its recipe {member['refit']!r}; only "
                "'predict' may be its own"
            )
    return {**recipe, **member}


def _trained_on_folds(member: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(member, Mapping) and member.get("refit") is None and member.get("kind") != "external"
