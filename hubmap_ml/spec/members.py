"""Members of an experiment: what is trained for each, what it starts from, how it looks at images, or where it lies."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, field_validator, model_validator

from hubmap_ml.spec.part import Part

View = Literal["none", "hflip", "vflip", "diagonal", "transpose", "rot90", "rot270", "transverse"]


def _named(value: Any) -> Any:
    return {"source": value} if isinstance(value, str) else value


class Weights(Part):
    """Weights of others that a member's first training starts from, in place of random ones.

    ``source`` is a file: a path (from the experiment's folder), ``https://…``, ``s3://BUCKET/…``, ``runs:/RUN/…`` or
    ``models:/NAME/VERSION/…``. What may change behind its address needs its SHA-256. ``ema`` takes the weights averaged
    over time, where a file stores both.
    """

    source: str = Field(min_length=1)
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    ema: bool = False

    @property
    def scheme(self) -> str:
        """How the file is had: ``""`` for a path, else the address's scheme."""
        scheme, separator, _ = self.source.partition(":/")
        return scheme if separator else ""

    @model_validator(mode="after")
    def _known_and_fixed(self) -> "Weights":
        if self.scheme not in ("", "http", "https", "s3", "runs", "models"):
            raise ValueError(
                f"source {self.source!r} is none of a path, https://…, s3://…, runs:/…, models:/…"
            )
        if self.scheme in ("http", "https", "s3") and self.sha256 is None:
            raise ValueError(f"source {self.source!r} may change: say the file's sha256 beside it")
        return self


class Pretrain(Part):
    """Stage 1: training on a large, noisy pool.

    ``valid`` is the share of the pool that is held out to choose the best epoch: never tiles of a fold. ``pseudo``
    names pseudo-labels that are learnt from beside the pool; an image of the pool keeps its own truth.
    """

    config: str
    pool: str = "pretrain"
    pseudo: str | None = None
    checkpoint: Literal["best", "last"] = "best"
    valid: float = Field(default=0.15, gt=0, lt=0.9)


class Finetune(Part):
    """Stage 2: training on the clean pool, fold by fold.

    ``folds`` may name some of the folds (default: all). ``checkpoint`` names what predicts: ``best`` was chosen on the
    very tiles that it then scores, so ``last`` is the honest default.
    """

    config: str
    pool: str = "finetune"
    folds: tuple[int, ...] | None = None
    checkpoint: Literal["best", "last"] = "last"


class Predict(Part):
    """How a member's networks look at an image, and what is kept as a candidate.

    ``views: d4`` is all eight. ``merge`` says how views and scales become one: ``match_mean``, ``nms`` and ``wbf`` are
    rules over what each of them found (see ``fusion.merging``), ``in_network`` lets all of them judge the same regions
    (mmdet's ``aug_test``). ``batch`` views of an image pass through the network at once: it changes memory and time
    only.
    """

    views: tuple[View, ...] = Field(default=("none",), min_length=1)
    scales: tuple[int, ...] | None = None
    merge: Literal["match_mean", "nms", "wbf", "in_network"] = "match_mean"
    score: float = Field(default=0.001, ge=0, lt=1)
    dedupe_iou: float = Field(default=0.9, gt=0, le=1)
    max_per_image: int = Field(default=1000, ge=1)
    batch: int = Field(default=1, ge=1)

    @field_validator("views", mode="before")
    @classmethod
    def _all_eight(cls, views: Any) -> Any:
        return get_args(View) if views == "d4" else views

    @field_validator("views")
    @classmethod
    def _distinct(cls, views: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(views)) != len(views):
            raise ValueError("a view is named twice")
        return views


class Member(Part):
    """One recipe: trained in one or two stages on each fold; the first of them starts from ``weights``.

    ``refit`` names another member whose recipe is trained on all data instead (see ``spec.refit``).

    An ``external`` member was made elsewhere and nothing is trained for it. ``predictions`` is the folder (from the
    experiment's) that `hubmap-ml import-predictions` wrote; ``finetune`` is filled in for those who ask. Or
    ``checkpoints`` is one that `hubmap-ml import-workdir` wrote, whose networks stand for ``finetune`` of their folds.
    """

    kind: Literal["trained", "external"] = "trained"
    predictions: str | None = Field(default=None, min_length=1)
    checkpoints: str | None = Field(default=None, min_length=1)
    refit: str | None = None
    trainer: Literal["mmdet"] = "mmdet"
    weights: Annotated[Weights | None, BeforeValidator(_named)] = None
    pretrain: Pretrain | None = None
    finetune: Finetune
    predict: Predict = Predict()

    @model_validator(mode="before")
    @classmethod
    def _external_are_not_trained(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        folders = [key for key in ("predictions", "checkpoints") if given.get(key) is not None]
        if len(folders) != (1 if given.get("kind") == "external" else 0):
            raise ValueError(
                "'predictions' or 'checkpoints' names the folder of kind: external; give both or neither"
            )
        for key in ("refit", "weights", "pretrain") if folders else ():
            if given.get(key) is not None:
                raise ValueError(f"{key!r} is said of a trained member, and this one is external")
        if folders != ["predictions"]:
            return given
        filled = {"finetune": _NOT_TRAINED, **given}
        filled_in = (Finetune(**_NOT_TRAINED), Predict())
        for key, plain in zip(("finetune", "predict"), filled_in, strict=True):
            if _says_more(filled.get(key, {}), plain):
                raise ValueError(f"{key!r} is said of a trained member, and this one is external")
        return filled

    @property
    def is_predictions(self) -> bool:
        """Whether it is predictions alone, made elsewhere."""
        return self.predictions is not None and self.kind == "external"


_NOT_TRAINED: dict[str, Any] = {"config": ""}


def _says_more(given: Any, plain: BaseModel) -> bool:
    """Whether a part says anything beyond what is filled in for an external member (a record holds that too)."""
    filled = plain.model_dump(mode="json")
    return not isinstance(given, Mapping) or any(filled.get(key) != value for key, value in given.items())
