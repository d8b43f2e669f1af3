"""Reading an experiment's file: variables filled in, checked, and what is wrong with it said in one line."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from hubmap_ml.spec.errors import InputError
from hubmap_ml.spec.experiment import (
    Champion,
    Data,
    Ensemble,
    Experiment,
    Folds,
    Keep,
    Promote,
    Synthetic,
    Tune,
)
from hubmap_ml.spec.members import Finetune, Member, Predict, Pretrain
from hubmap_ml.spec.pseudo_labels import PseudoLabel

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def load_experiment(
    path: Path, *, raw: str | None = None, environment: Mapping[str, str] | None = None
) -> Experiment:
    """Read and check an experiment file.

    Args:
        path: the yaml file.
        raw: folder of raw files, in place of ``data.raw``.
        environment: where ``${NAME}`` is looked up; the process's own by default.

    Raises:
        InputError: no such file, not yaml, an unknown key or a bad value (named with what is allowed), or a variable
            that is not set.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the experiment file ({error.strerror}); check the path"
        ) from None
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(document, dict):
        raise InputError(f"{path}: an experiment is a mapping of keys such as name, data and members")
    variables = os.environ if environment is None else environment
    document = _with_raw(document, raw) if raw else document
    experiment = experiment_from_data(_expand(document, path, variables), str(path))
    return experiment.model_copy(update={"folder": path.resolve().parent})


def experiment_from_data(document: Mapping[str, Any], where: str, *, raw: str | None = None) -> Experiment:
    """Check an experiment that is data already, such as the ``experiment.json`` of a run.

    Args:
        document: the file's content, variables filled in.
        where: how to name it in an error.
        raw: folder of raw files, in place of ``data.raw``.

    Raises:
        InputError: an unknown key or a bad value, named with what is allowed.
    """
    try:
        return Experiment.model_validate(_with_raw(document, raw) if raw else dict(document))
    except ValidationError as error:
        raise InputError(f"{where}: {_first_problem(error)}") from None


def _with_raw(document: Mapping[str, Any], raw: str) -> dict[str, Any]:
    data = document.get("data")
    if not isinstance(data, Mapping):
        return dict(document)
    rest = {key: value for key, value in data.items() if key != "synthetic"}
    return {**document, "data": {**rest, "raw": raw}}


def _expand(value: Any, path: Path, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, path, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, path, variables) for item in value]
    if isinstance(value, str):
        for name in _VARIABLE.findall(value):
            if name not in variables:
                raise InputError(
                    f"{path}: the environment variable {name} is not set; set it, or pass -P raw=FOLDER"
                )
        return _VARIABLE.sub(lambda match: variables[match[1]], value)
    return value


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        allowed = ", ".join(_allowed(problem["loc"][:-1]))
        return f"unknown key {place!r}; allowed here: {allowed}{more}"
    message = problem["msg"].removeprefix("Value error, ")
    given = "" if problem["type"] in ("missing", "value_error") else f", got {problem['input']!r}"
    return f"{place + ': ' if place else ''}{message}{given}{more}"


def _allowed(place: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the part of an experiment at ``place`` may hold."""
    part: type[BaseModel] = Experiment
    members: dict[str, type[BaseModel]] = {
        "data": Data,
        "folds": Folds,
        "synthetic": Synthetic,
        "pretrain": Pretrain,
        "finetune": Finetune,
        "predict": Predict,
        "tune": Tune,
        "promote": Promote,
        "ensemble": Ensemble,
        "champion": Champion,
        "keep": Keep,
    }
    of_names: dict[str, type[BaseModel]] = {"members": Member, "pseudo_label": PseudoLabel}
    for step, key in enumerate(place):
        part = of_names[str(place[0])] if step == 1 and place[0] in of_names else members.get(str(key), part)
    return [name for name in part.model_fields if name != "folder"]
