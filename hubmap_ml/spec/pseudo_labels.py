"""Pseudo-labels in an experiment: who labels which images, and by which rule.

A block has a name, by which a member's stage 1 asks for what it makes::

    pseudo_label:
      round1: {teachers: [htc, cbnet], pool: unlabelled, score: 0.6, agreement: 2}
    members:
      student: {pretrain: {config: …, pseudo: round1}, …}
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hubmap_ml.spec.part import Part

_VERSION = re.compile(r"models:/[^/@]+/[0-9]+")


FUSION_OF_TEACHERS = (
    "method", "iou_threshold", "skip_score", "conf_type", "by", "masks", "vote_share", "clip", "weights",
)  # fmt: skip
"""Values of the fusion of teachers, which a registered version has of its own."""


class PseudoLabel(Part):
    """How labels of one name are made.

    ``teachers`` are members: for the student of fold k their networks of fold k look at the images, none of which has
    seen fold k; ``shared`` lets the networks of all folds label once for all students, which have then seen every fold
    through them and say so in their leak level. ``model`` is a registered version instead, ``models:/NAME/NUMBER``,
    such as a champion: shared in the same sense, and fused its own way.

    ``pool`` names the images. Those that touch or repeat test images or images held out in the student's fold are
    refused, or with ``touching: leave_out`` left out of that fold's labels. A fused instance becomes a label from
    ``score`` on, if at least ``agreement`` teachers (members of ``model``) are in its cluster and its mask has
    ``min_area`` pixels; the rest are values of the fusion as in ``ensemble``.
    """

    teachers: tuple[str, ...] | None = Field(default=None, min_length=1)
    model: str | None = None
    pool: str = "unlabelled"
    shared: bool = False
    touching: Literal["refuse", "leave_out"] = "refuse"
    score: float = Field(default=0.5, ge=0, le=1)
    min_area: float = Field(default=0, ge=0)
    agreement: int = Field(default=1, ge=1)
    mask_threshold: float = Field(default=0.5, gt=0, le=1)
    method: Literal["wbf", "nmw", "nms"] = "wbf"
    iou_threshold: float = Field(default=0.6, gt=0, lt=1)
    skip_score: float = Field(default=0.01, ge=0, lt=1)
    conf_type: Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"] = "avg"
    by: Literal["box", "mask"] = "box"
    masks: Literal["mean", "votes", "best", "union", "intersection"] = "votes"
    vote_share: float = Field(default=0.5, gt=0, le=1)
    clip: bool = False
    weights: dict[str, Annotated[float, Field(gt=0, lt=float("inf"))]] | None = None

    @model_validator(mode="after")
    def _somebody_teaches(self) -> "PseudoLabel":
        if (self.teachers is None) == (self.model is None):
            raise ValueError("give 'teachers' (members) or 'model' (a registered version), one of them")
        if self.model is not None and not _VERSION.fullmatch(self.model):
            raise ValueError(
                f"model is {self.model!r}; name a version, models:/NAME/NUMBER (an alias such as @champion moves, and "
                "who learnt from its labels would be trained again)"
            )
        teachers = self.teachers or (str(self.model),)
        if len(set(teachers)) != len(teachers):
            raise ValueError("a teacher is named twice; how much it counts is said by 'weights'")
        if self.teachers is not None and self.agreement > len(teachers):
            raise ValueError(f"agreement is {self.agreement}, and there are {len(teachers)} teachers")
        foreign = [name for name in FUSION_OF_TEACHERS if name in self.model_fields_set]
        if self.model is not None and foreign:
            raise ValueError(
                f"{foreign[0]!r} says how teachers are fused, and 'model' is fused its own way: leave it out"
            )
        for name in self.weights or ():
            if name not in teachers:
                raise ValueError(
                    f"weights name {name!r}, which is no teacher; there are {', '.join(teachers)}"
                )
        if self.conf_type != "avg" and self.method != "wbf":
            raise ValueError(f"'conf_type' is an option of wbf, and the method is {self.method}")
        return self


def round_of(labels: str, blocks: Mapping[str, PseudoLabel], learnt: Mapping[str, str | None]) -> int:
    """Return the round in which labels are made: 1 where no teacher learns from others, else one more than theirs.

    Args:
        labels: name of a block.
        blocks: all of them.
        learnt: of each member the block that its stage 1 learns from; None for none.

    Raises:
        ValueError: labels that would be made by their own students.
    """
    return _round(labels, blocks, learnt, ())


def _round(
    labels: str, blocks: Mapping[str, PseudoLabel], learnt: Mapping[str, str | None], above: tuple[str, ...]
) -> int:
    if labels in above:
        raise ValueError(f"pseudo_label.{labels} would be made by its own students")
    block = blocks[labels]
    earlier = [learnt[name] for name in block.teachers or ()]
    asked = [name for name in earlier if name is not None]
    return 1 + max((_round(name, blocks, learnt, (*above, labels)) for name in asked), default=0)


def check_pseudo_labels(
    blocks: Mapping[str, PseudoLabel],
    *,
    learnt: Mapping[str, str | None],
    folds: Mapping[str, tuple[int, ...]],
    refits: frozenset[str],
    external: frozenset[str],
    pools: Mapping[str, object],
) -> None:
    """Refuse blocks that do not fit the members and pools.

    Args:
        blocks: by name.
        learnt: as for `round_of`.
        folds: of each member.
        refits: members that are trained on all data.
        external: members that were made elsewhere.
        pools: by name.

    Raises:
        ValueError: a teacher, block or pool that there is not, a circle, or a teacher without its student's fold.
    """
    for name, block in blocks.items():
        if block.pool not in pools:
            raise ValueError(f"pseudo_label.{name}: pool {block.pool!r} is none of {', '.join(pools)}")
        for teacher in block.teachers or ():
            if teacher not in learnt:
                raise ValueError(
                    f"pseudo_label.{name} names {teacher!r}, which is no member; members: {', '.join(learnt)}"
                )
            if teacher in external:
                raise ValueError(
                    f"pseudo_label.{name}: {teacher!r} was made elsewhere, so what students would have seen through it "
                    "cannot be told; teachers are members that are trained here"
                )
    for member, labels in learnt.items():
        if labels is not None and labels not in blocks:
            raise ValueError(
                f"members.{member}.pretrain.pseudo is {labels!r}; pseudo_label has {', '.join(blocks) or 'none'}"
            )
    for name, block in blocks.items():
        round_of(name, blocks, learnt)
        for member in (one for one, labels in learnt.items() if labels == name and one not in refits):
            for teacher in block.teachers or ():
                missing = sorted(set(folds[member]) - set(folds[teacher]))
                if missing and not block.shared and teacher not in refits:
                    raise ValueError(
                        f"pseudo_label.{name}: teacher {teacher!r} has no network of fold {missing[0]} for student "
                        f"{member!r}; train it on that fold, or say shared: true"
                    )
