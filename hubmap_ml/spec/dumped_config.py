"""Configurations as mmdet 2 leaves them in a work_dir: Python text, read as data and never executed.

``mmcv.Config.dump`` (1.7) writes one assignment a key, of ``dict(...)``, lists, tuples and plain values. Only that is
read; anything else, a call or a name, is refused with its line.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hubmap_ml.spec.errors import InputError
from hubmap_ml.spec.member_config import CLASS_COUNT_KEYS, check


def read_dumped_config(path: Path) -> dict[str, Any]:
    """Read a dumped configuration.

    Returns:
        Nested plain dictionaries, lists and tuples.

    Raises:
        InputError: it cannot be read, is no Python, or holds more than assignments of plain values.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); check the path") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: not a dumped configuration ({error})") from None
    found = {}
    for statement in tree.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if (
            not isinstance(statement, ast.Assign)
            or len(statement.targets) != 1
            or not isinstance(target, ast.Name)
        ):
            raise InputError(
                f"{path}, line {statement.lineno}: a dumped configuration holds assignments alone; give the file that "
                "mmdet wrote into the work_dir"
            )
        found[target.id] = _value(statement.value, path)
    return found


def member_config_of(dumped: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Reduce a dumped configuration to what a member may say, for networks that are trained already.

    Class counts and published first weights are taken out of the model. Nothing is trained: the pipeline of training is
    left out (it may ask for what is not there, such as semantic maps), and of the schedule only what a member must name
    stays.

    Args:
        dumped: as `read_dumped_config` gives it.
        where: its file, for errors.

    Raises:
        InputError: no model, no test pipeline, or something that no member may say.
    """
    if not isinstance(dumped.get("model"), Mapping):
        raise InputError(f"{where}: says no 'model'; give the configuration of a detector")
    data = dumped.get("data")
    data = data if isinstance(data, Mapping) else {}
    test_pipeline = _test_pipeline(dumped, data)
    if test_pipeline is None:
        raise InputError(f"{where}: says no test_pipeline, so nobody knows how its networks look at an image")
    optimizer = dumped.get("optimizer")
    config = {
        "model": _untrained(dumped["model"]),
        "train_pipeline": [],
        "test_pipeline": test_pipeline,
        "optimizer": optimizer if isinstance(optimizer, Mapping) else {"type": "SGD", "lr": 0.0},
        "runner": {"type": "EpochBasedRunner", "max_epochs": 1},
        "batch": {"global": 1},
    }
    check(config, where)
    return config


def class_count(dumped: Mapping[str, Any]) -> int | None:
    """Return the number of classes that a model's heads agree on; None where none counts them, or they differ."""
    counts = set(_counts(dumped.get("model")))
    return counts.pop() if len(counts) == 1 else None


def _counts(value: Any) -> list[int]:
    if isinstance(value, Mapping):
        return [
            number
            for key, item in value.items()
            if key != "semantic_head"
            for number in ([item] if key in CLASS_COUNT_KEYS and isinstance(item, int) else _counts(item))
        ]
    return [number for item in value for number in _counts(item)] if isinstance(value, list | tuple) else []


def _untrained(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _untrained(item) if key != "semantic_head" else item
            for key, item in value.items()
            if key not in (*CLASS_COUNT_KEYS, "pretrained")
            and not (key == "init_cfg" and isinstance(item, Mapping) and item.get("type") == "Pretrained")
        }
    return type(value)(_untrained(item) for item in value) if isinstance(value, list | tuple) else value


def _test_pipeline(dumped: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
    """The pipeline inside the test set, wrapped or not, or by its own name."""
    inner: Any = data.get("test")
    while isinstance(inner, Mapping) and "pipeline" not in inner and "dataset" in inner:
        inner = inner["dataset"]
    if isinstance(inner, Mapping) and inner.get("pipeline") is not None:
        return inner["pipeline"]
    return dumped.get("test_pipeline")


def _value(node: ast.expr, path: Path) -> Any:
    """A plain value; ``dict(a=1)`` is one too."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "dict"
        and not node.args
    ):
        named = {word.arg: _value(word.value, path) for word in node.keywords}
        if None not in named:
            return named
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = [ast.literal_eval(key) for key in node.keys if isinstance(key, ast.Constant)]
        if len(keys) == len(node.values):
            return {key: _value(item, path) for key, item in zip(keys, node.values, strict=True)}
    if isinstance(node, ast.List):
        return [_value(item, path) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item, path) for item in node.elts)
    if isinstance(node, ast.Constant | ast.UnaryOp):
        try:
            return ast.literal_eval(node)
        except ValueError:
            pass
    raise InputError(
        f"{path}, line {node.lineno}: {ast.unparse(node)[:60]!r} is no plain value, and nothing is executed; give the "
        "file that mmdet wrote into the work_dir"
    )
