"""``data.options`` of an experiment: what can be asked of the reader of each raw format.

What the readers do with it stands in ``data``. All paths are relative to the raw folder and inside it, so that the
digest of the raw files covers them.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

DataFormat = Literal["hubmap2023", "sartorius2021", "livecell", "coco", "dsb2018"]


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError("a path must be relative to the raw folder and inside it")
    return path


def _none_given(value: Any) -> Any:
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return dict.fromkeys(value)
    return value


InsidePath = Annotated[str, AfterValidator(_inside)]
Ignored = Annotated[dict[str, str | None], BeforeValidator(_none_given)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CleanMasks(_Part):
    """Masks drawn by somebody else: training annotations lose what lies outside them.

    ``folder`` holds ``IMAGE_ID.png``; an image without one keeps its annotations. Inside is what is greater than 0 in
    the ``channel``. ``types`` names the types that are cut (default: all).
    """

    folder: InsidePath
    channel: Literal["any", "red", "green", "blue"] = "any"
    types: tuple[str, ...] = ()


class FormatOptions(_Part):
    """What every reader can do.

    ``bad_images`` (ids) are dropped and listed. ``fill_holes`` and ``clean_masks`` change the annotations that are
    trained on; those that score stay raw.
    """

    bad_images: tuple[str, ...] = ()
    fill_holes: bool = False
    clean_masks: CleanMasks | None = None


class TypedOptions(FormatOptions):
    """Readers of files that know several types.

    ``ignore`` names types whose annotations are neither learned nor counted against a prediction (COCO's crowd), each
    with the class of ``data.types`` that it excuses; a list is enough where there is one class.
    """

    ignore: Ignored = {}


class Hubmap2023Options(TypedOptions):
    """HuBMAP 2023."""


class LivecellPart(_Part):
    """LIVECell below another raw folder: its ``folder``, and which annotation type of the experiment each of its cell
    types (in lower case, as file names begin) stands for. Cell types that are not named are left out.
    """

    folder: InsidePath = "LIVECell_dataset_2021"
    types: dict[str, str]


class Sartorius2021Options(TypedOptions):
    """Sartorius 2021.

    ``semi_supervised``: train_semi_supervised/ becomes the dataset ``semi_supervised``, if there. ``livecell``: the
    LIVECell images that the competition gave along become the dataset ``livecell``, to pre-train on.
    """

    semi_supervised: bool = True
    livecell: LivecellPart | None = None


class LivecellOptions(TypedOptions):
    """LIVECell.

    ``annotations`` names the COCO files (default: every ``livecell_coco_*.json`` below the raw folder), ``images`` the
    folder below which the pictures lie (default: the raw folder). ``classes: cell_type`` takes the class from the file
    name (``a172`` of ``A172_Phase_A7_1_00d00h00m_1.tif``) instead of from the category.
    """

    annotations: tuple[InsidePath, ...] = ()
    images: InsidePath = ""
    classes: Literal["category", "cell_type"] = "category"


class CocoOptions(TypedOptions):
    """Any COCO file: ``annotations`` (default: the only json file in the raw folder) and the folder ``images`` that its
    file names are relative to (default: the raw folder).
    """

    annotations: InsidePath = ""
    images: InsidePath = ""


class Dsb2018Options(FormatOptions):
    """Data Science Bowl 2018: the folders of training and test images; a test folder need not exist."""

    train: InsidePath = "stage1_train"
    test: InsidePath = "stage1_test"


OPTIONS: Mapping[str, type[FormatOptions]] = {
    "hubmap2023": Hubmap2023Options,
    "sartorius2021": Sartorius2021Options,
    "livecell": LivecellOptions,
    "coco": CocoOptions,
    "dsb2018": Dsb2018Options,
}


def parse_options(format: str, given: Any) -> FormatOptions:
    """Check the options of a format.

    Args:
        given: a mapping, None, or options already checked.

    Raises:
        ValueError: an unknown key or a bad value, in one line.
    """
    model = OPTIONS[format]
    if isinstance(given, FormatOptions):
        given = given.model_dump()
    try:
        return model.model_validate({} if given is None else given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            parts: dict[str, type[BaseModel]] = {"clean_masks": CleanMasks, "livecell": LivecellPart}
            part = parts.get(str(problem["loc"][0]), model)
            known = ", ".join(part.model_fields)
            raise ValueError(f"unknown key {place!r} for {format}; allowed here: {known}") from None
        message = problem["msg"].removeprefix("Value error, ")
        raise ValueError(f"{place + ': ' if place else ''}{message}, got {problem['input']!r}") from None
