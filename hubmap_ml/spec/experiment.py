"""experiment.yaml: what to run, as validated data.

The file says *what* (data, pools, members, thresholds, ensemble); it holds no logic and no absolute path. Who owns what
stands in docs/design: a member's mmdet configuration owns model, pipelines, optimiser and schedule; this file and the
platform own data, classes, initial weights, seeds and evaluation.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hubmap_ml.spec.data_options import DataFormat, FormatOptions, parse_options
from hubmap_ml.spec.errors import InputError
from hubmap_ml.spec.members import Member
from hubmap_ml.spec.part import Part
from hubmap_ml.spec.pseudo_labels import PseudoLabel, check_pseudo_labels, round_of
from hubmap_ml.spec.refit import ALL_DATA, with_recipes

Metric = Literal["ap60", "coco_segm", "dice", "dsb_map"]
Criteria = dict[str, str | int | list[str | int]]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
RESERVED_MEMBER_NAMES = ("ensemble",)


class Folds(Part):
    """How the images of a pool are split for cross-validation (see ``data.folds``).

    ``by`` names a column of the images table: the classes that ``stratified`` and ``stratified_grouped`` balance, what
    ``grouped`` keeps together, the slides that ``spatial_blocks`` cuts. ``groups`` names what ``stratified_grouped``
    keeps together. ``block`` is the side of a spatial block in pixels (default: four tiles); tiles within ``buffer``
    pixels of a tile of another fold are counted. ``seed: null`` does not shuffle. Images outside ``pool`` and those
    that meet ``always_train`` are in no fold: every fold of a pool that holds them trains on them.
    """

    method: Literal["stratified", "grouped", "stratified_grouped", "spatial_blocks"] = "stratified"
    n: int = Field(default=5, ge=2, le=50)
    by: str
    groups: str = "group"
    seed: int | None = Field(default=42, ge=0, lt=2**32)
    block: int | None = Field(default=None, ge=1)
    buffer: int = Field(default=0, ge=0)
    pool: str = "finetune"
    always_train: Criteria | None = None

    @model_validator(mode="before")
    @classmethod
    def _column_of_the_method(cls, given: Any) -> Any:
        if isinstance(given, dict) and "by" not in given:
            return {**given, "by": "group" if given.get("method") == "grouped" else "source_wsi"}
        return given

    @model_validator(mode="after")
    def _options_of_the_method(self) -> "Folds":
        for option, method in (
            ("groups", "stratified_grouped"),
            ("block", "spatial_blocks"),
            ("buffer", "spatial_blocks"),
        ):
            default = type(self).model_fields[option].default  # a recorded experiment says its defaults too
            if getattr(self, option) != default and self.method != method:
                raise ValueError(f"{option!r} is an option of {method}, and the method is {self.method}")
        return self


class Synthetic(Part):
    """Generated tissue in place of raw files (see ``data.synthetic``)."""

    seed: int = 7
    tile_size: int = Field(default=128, ge=64, le=4096)
    slides: int = Field(default=4, ge=1, le=64)
    clean_per_slide: int = Field(default=12, ge=1)
    noisy_per_slide: int = Field(default=14, ge=1)
    unlabelled_per_slide: int = Field(default=2, ge=0)
    test_per_slide: int = Field(default=4, ge=1)


class Data(Part):
    """Raw files, the annotation types that become classes, folds and named pools of images."""

    format: DataFormat = "hubmap2023"
    raw: str | None = None
    synthetic: Synthetic | None = None
    types: tuple[str, ...] = Field(default=("blood_vessel",), min_length=1)
    folds: Folds = Folds(by="source_wsi")
    pools: dict[str, Criteria] = Field(default={"pretrain": {"dataset": 2}, "finetune": {"dataset": 1}})
    max_rejected: float = Field(default=0.01, ge=0, le=1)
    options: SerializeAsAny[FormatOptions] = Field(default=None, validate_default=True)

    @field_validator("options", mode="plain")
    @classmethod
    def _of_the_format(cls, given: Any, info: ValidationInfo) -> FormatOptions:
        # an unknown format has its own error
        return parse_options(info.data["format"], given) if "format" in info.data else FormatOptions()

    @model_validator(mode="after")
    def _one_source(self) -> "Data":
        if self.raw is not None and self.synthetic is not None:
            raise ValueError("give 'raw' or 'synthetic', not both")
        if self.synthetic is not None and self.format != "hubmap2023":
            raise ValueError(f"synthetic tissue is written as hubmap2023, and the format is {self.format}")
        if self.folds.pool not in self.pools:
            raise ValueError(
                f"folds.pool is {self.folds.pool!r}, which is no pool; pools: {', '.join(self.pools)}"
            )
        return self


class Tune(Part):
    """A threshold study on out-of-fold candidates.

    ``space`` names values of post-processing steps (``score``, ``nms_iou``, ``opening.iterations``, ``score.astro``)
    and what each may be: ``[low, high]``, one number, ``{low, high, log, step}`` or ``{choices}``; what they mean is
    checked with the steps (``tuning.parse_space``). ``per_class`` searches every value for each class. ``storage`` is
    an Optuna storage that several workers share, or that a study goes on from; it changes no result.
    """

    trials: int = Field(default=300, ge=1)
    seed: int = Field(default=0, ge=0)
    sampler: Literal["tpe", "random", "qmc", "grid", "cmaes"] = "tpe"
    per_class: bool = False
    storage: str | None = None
    space: dict[str, Any] = Field(
        default={
            "score": [0.001, 0.6],
            "nms_iou": [0.3, 0.8],
            "mask_threshold": [0.3, 0.7],
            "min_area": [0, 120],
        }
    )

    @field_validator("space")
    @classmethod
    def _ordered(cls, space: dict[str, Any]) -> dict[str, Any]:
        for name, value in space.items():
            low, high = _ends(value)
            if low is not None and high is not None and low > high:
                raise ValueError(f"{name}: the range {value} runs backwards")
        return space


def _ends(value: Any) -> tuple[float | None, float | None]:
    """Return the ends of a range; None where there are none, or no numbers."""
    pair = (value.get("low"), value.get("high")) if isinstance(value, Mapping) else value
    if not isinstance(pair, list | tuple):
        pair = (pair, pair)
    low, high = pair if len(pair) == 2 else (None, None)
    return (
        low if isinstance(low, int | float) else None,
        high if isinstance(high, int | float) else None,
    )


class Promote(Part):
    """The gate that a member passes on its way into the ensemble.

    ``min_overlap`` is the least share of all members' held-out images that a member must have predicted: members are
    compared and fused on images that all of them know.
    """

    best: int = Field(default=5, ge=1)
    min_score: float = Field(default=0.0, ge=0, le=1)
    min_overlap: float = Field(default=0.1, ge=0, le=1)


class Ensemble(Part):
    """How promoted members are fused.

    ``conf_type`` is an option of ``wbf``. ``by`` says whether clusters are made by the overlap of boxes or of masks;
    ``masks`` how a cluster's masks become one, ``vote_share`` is the share of the members that must hold a pixel for
    ``masks: votes``, ``clip`` cuts the mask at the fused box. ``scores`` brings members to one scale
    first: by rank, or calibrated on out-of-fold truths. ``weights`` names members; those that it does not name
    weigh 1.

    ``select`` says which members: ``forward`` selects with replacement in ``rounds`` picks (``bags`` random halves of
    the library; 1 searches it whole), ``all`` takes every promoted one, ``fixed`` those of ``fixed``. ``weights:
    optuna`` searches the chosen members' weights. ``budget_s_per_tile`` and ``max_members`` limit what may be chosen.
    ``space`` lists values of the fusion that are tried for the chosen members. ``per_class`` lets each class choose
    its own. ``carry`` says whether the registered model holds the members' weights or names their versions.
    """

    select: Literal["forward", "all", "fixed"] = "forward"
    fixed: tuple[str, ...] | None = Field(default=None, min_length=1)
    rounds: int = Field(default=10, ge=1, le=100)
    bags: int = Field(default=1, ge=1, le=100)
    budget_s_per_tile: float | None = Field(default=None, gt=0)
    max_members: int | None = Field(default=None, ge=1)
    per_class: bool = False
    space: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default={"iou_threshold": [0.5, 0.6, 0.7]}
    )
    carry: Literal["weights", "references"] = "weights"
    method: Literal["wbf", "nmw", "nms"] = "wbf"
    iou_threshold: float = Field(default=0.6, gt=0, lt=1)
    skip_score: float = Field(default=0.001, ge=0, lt=1)
    conf_type: Literal["avg", "max", "box_and_model_avg", "absent_model_aware_avg"] = "avg"
    by: Literal["box", "mask"] = "box"
    masks: Literal["mean", "votes", "best", "union", "intersection"] = "mean"
    vote_share: float = Field(default=0.5, gt=0, le=1)
    clip: bool = False
    scores: Literal["raw", "rank", "calibrated"] = "raw"
    weights: dict[str, Annotated[float, Field(gt=0, lt=float("inf"))]] | Literal["optuna"] | None = None
    trials: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _options_of_the_method(self) -> "Ensemble":
        if self.conf_type != "avg" and self.method != "wbf":
            raise ValueError(f"'conf_type' is an option of wbf, and the method is {self.method}")
        if self.vote_share != type(self).model_fields["vote_share"].default and self.masks != "votes":
            raise ValueError(f"'vote_share' is an option of masks: votes, and masks is {self.masks}")
        return self

    @field_validator("weights", mode="before")
    @classmethod
    def _weights_or_their_search(cls, given: Any) -> Any:
        if isinstance(given, str) and given != "optuna":
            raise ValueError(f"weights is {given!r}; a number for each member by name is expected, or optuna")
        return given

    @model_validator(mode="after")
    def _options_of_the_selection(self) -> "Ensemble":
        if (self.select == "fixed") != (self.fixed is not None):
            raise ValueError("'fixed' names the members of select: fixed; give both or neither")
        if self.fixed is not None and len(set(self.fixed)) != len(self.fixed):
            raise ValueError("'fixed' names a member twice; how much it counts is said by 'weights'")
        if self.select == "forward" and isinstance(self.weights, dict):
            raise ValueError("forward selection finds the weights; use select: all or fixed with 'weights'")
        return self


class Champion(Part):
    """When a new ensemble takes the lead: the comparison with the leader on common images, paired.

    ``probability`` is the least P(gain > 0) on these slides, ``slide_loss`` how much the score may fall on any slide.
    ``force`` lets the next ensemble lead whatever the comparison says; it is recorded as forced.
    """

    probability: float = Field(default=0.9, gt=0.5, lt=1)
    slide_loss: float = Field(default=0.02, ge=0, le=1)
    force: bool = False


class Keep(Part):
    """What a finished training leaves in the store; a checkpoint that a member goes on with must be among it."""

    checkpoints: tuple[Literal["best", "last"], ...] = ("best", "last")

    @field_validator("checkpoints")
    @classmethod
    def _distinct(cls, checkpoints: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(checkpoints)) != len(checkpoints):
            raise ValueError("a checkpoint is named twice")
        return checkpoints


class Experiment(Part):
    """A whole experiment.yaml.

    Attributes:
        folder: where the file lies; member configurations are named relative to it. Not part of any identity.
    """

    name: str
    task: Literal["instances"] = "instances"
    metric: Metric = "ap60"
    seed: int = 69
    data: Data
    members: dict[str, Member] = Field(min_length=1)
    merge_iou: float = Field(default=0.6, gt=0, lt=1)
    postprocess: tuple[dict[str, Any], ...] = (
        {"score": 0.001},
        {"nms": {"iou": 0.5, "by": "box"}},
        {"mask_threshold": 0.5},
        {"min_area": 0},
        {"max_per_image": 100},
    )
    pseudo_label: dict[str, PseudoLabel] = Field(default={})
    tune: Tune = Tune()
    promote: Promote = Promote()
    ensemble: Ensemble = Ensemble()
    champion: Champion = Champion()
    keep: Keep = Keep()
    min_ensemble_test_score: float | None = Field(default=None, ge=0, le=1)
    folder: Path = Field(default=Path(), exclude=True)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("a name is a letter followed by letters, digits, '_' or '-'")
        return name

    @model_validator(mode="before")
    @classmethod
    def _refits_have_their_recipes(cls, given: Any) -> Any:
        return with_recipes(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _members_fit(self) -> "Experiment":
        for name, member in self.members.items():
            if not _NAME.fullmatch(name) or name in RESERVED_MEMBER_NAMES:
                raise ValueError(
                    f"members.{name}: not a member's name (a letter, then letters, digits, '_' or '-'; "
                    f"not {', '.join(RESERVED_MEMBER_NAMES)})"
                )
            if member.is_predictions:
                continue
            for stage in (member.pretrain, member.finetune):
                if stage is not None and stage.pool not in self.data.pools:
                    raise ValueError(
                        f"members.{name}: pool {stage.pool!r} is none of {', '.join(self.data.pools)}"
                    )
                if stage is not None and stage.checkpoint not in self.keep.checkpoints:
                    raise ValueError(
                        f"members.{name} goes on with checkpoint {stage.checkpoint!r}, which keep.checkpoints "
                        f"{list(self.keep.checkpoints)} does not keep"
                    )
            if member.finetune.pool != self.data.folds.pool:
                raise ValueError(
                    f"members.{name}.finetune.pool is {member.finetune.pool!r}, but the folds are made "
                    f"of {self.data.folds.pool!r}"
                )
            folds = member.finetune.folds
            if folds is not None and (not folds or len(set(folds)) != len(folds)):
                raise ValueError(
                    f"members.{name}.finetune.folds is {list(folds)}; name each fold once, at least one"
                )
            for fold in folds or ():
                if not 0 <= fold < self.data.folds.n:
                    raise ValueError(
                        f"members.{name}.finetune.folds holds {fold}; there are 0 to {self.data.folds.n - 1}"
                    )
        weights = self.ensemble.weights if isinstance(self.ensemble.weights, dict) else ()
        for key, names in (("fixed", self.ensemble.fixed or ()), ("weights", weights)):
            for name in names:
                if name not in self.members:
                    raise ValueError(
                        f"ensemble.{key} names {name!r}, which is no member; members: {', '.join(self.members)}"
                    )
        highest = _ends(self.tune.space.get("nms_iou"))[1]
        trained = [member for member in self.members.values() if not member.is_predictions]
        kept = min((member.predict.dedupe_iou for member in trained), default=1.0)
        if highest is not None and highest > kept:
            raise ValueError(
                "tune.space.nms_iou reaches above predict.dedupe_iou: candidates that close were not kept"
            )
        return self

    @model_validator(mode="after")
    def _pseudo_labels_fit(self) -> "Experiment":
        for name in self.pseudo_label:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"pseudo_label.{name}: not a name (a letter, then letters, digits, '_' or '-')"
                )
        check_pseudo_labels(
            self.pseudo_label,
            learnt=self._learnt(),
            folds={name: self.folds_of(name) for name in self.members},
            refits=frozenset(name for name, member in self.members.items() if member.refit is not None),
            external=frozenset(name for name, member in self.members.items() if member.kind == "external"),
            pools=self.data.pools,
        )
        return self

    def _learnt(self) -> dict[str, str | None]:
        """Return the pseudo-labels that each member's stage 1 learns from."""
        return {
            name: None if member.pretrain is None else member.pretrain.pseudo
            for name, member in self.members.items()
        }

    def teachers_first(self) -> tuple[str, ...]:
        """Return all members, those before others whose predictions these learn from; else in the file's order."""
        learnt = self._learnt()
        rounds = {
            name: 0 if labels is None else round_of(labels, self.pseudo_label, learnt)
            for name, labels in learnt.items()
        }
        return tuple(sorted(self.members, key=lambda name: rounds[name]))

    def labels_named(self, name: str | None) -> str:
        """Return ``name``, or that of the first pseudo-labels where none is given.

        Raises:
            InputError: no pseudo-labels of that name.
        """
        if not self.pseudo_label:
            raise InputError(
                f"experiment {self.name!r} has no pseudo_label block; add one, such as "
                "'pseudo_label: {round1: {teachers: [MEMBER], pool: POOL}}'"
            )
        if name and name not in self.pseudo_label:
            raise InputError(
                f"pseudo-labels {name!r} are not in experiment {self.name!r}; it has {', '.join(self.pseudo_label)}"
            )
        return name or next(iter(self.pseudo_label))

    def folds_of(self, member: str) -> tuple[int, ...]:
        """Return the folds that a member is trained on, in order.

        ``(ALL_DATA,)`` of a refit member, and of an external one, whose predictions of all folds are one set.
        """
        if self.fold_named(member, 0) == ALL_DATA:
            return (ALL_DATA,)
        named = self.members[member].finetune.folds
        return tuple(range(self.data.folds.n)) if named is None else named

    def fold_named(self, member: str, fold: int) -> int:
        """Return ``fold``, or ``ALL_DATA`` for a refit or external member, which is one whatever fold is named."""
        declared = self.members[member]
        return ALL_DATA if declared.refit is not None or declared.is_predictions else fold

    def recipe_of(self, member: str) -> str:
        """Return the member whose cross-validation tells a member's worth: itself, or what it refits."""
        return self.members[member].refit or member

    def member_named(self, name: str | None) -> str:
        """Return ``name``, or the first member's where none is given.

        Raises:
            InputError: no member of that name.
        """
        if not name:
            return next(iter(self.members))
        if name not in self.members:
            raise InputError(
                f"member {name!r} is not in experiment {self.name!r}; it has {', '.join(self.members)}"
            )
        return name
