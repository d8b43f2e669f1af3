"""``-P set="optimizer.lr=0.02;runner.max_epochs=3"``: changes to a member's configuration, from the command line."""

import copy
import math
from typing import Any

import yaml

from hubmap_ml.spec.errors import InputError


def parse_overrides(text: str) -> dict[str, Any]:
    """Read ``key.key=value;...``; values are YAML (``0.02``, ``true``, ``[1, 2]``, ``{type: SGD}``).

    Raises:
        InputError: a part without ``=``, or a value that is no YAML.
    """
    changes: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise InputError(
                f"set: {part!r} is not key=value; example: set='optimizer.lr=0.02;runner.max_epochs=3'"
            )
        try:
            changes[key.strip()] = _number(yaml.safe_load(value))
        except yaml.YAMLError:
            raise InputError(f"set: the value of {key.strip()!r} is not readable: {value!r}") from None
    return changes


def _number(value: Any) -> Any:
    """Read ``1e-3`` as a number, which YAML 1.1 takes for text (it wants ``1.0e-3``)."""
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
        return number if math.isfinite(number) else value
    return value


def apply_overrides(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return ``config`` with each dotted key set; the original stays as it was.

    A key must exist (list items by number: ``train_pipeline.2.img_scale``), so that a typing error is not a silent
    no-op; ``+key`` adds one. Where a tuple stood, a list becomes a tuple.

    Raises:
        InputError: no such key, with what is there.
    """
    changed = copy.deepcopy(config)
    for path, value in changes.items():
        keys = path.removeprefix("+").split(".")
        parent: Any = changed
        for depth, key in enumerate(keys[:-1]):
            parent = parent[_step(parent, key, ".".join(keys[: depth + 1]))]
        last: Any = keys[-1]
        if not (path.startswith("+") and isinstance(parent, dict)):
            last = _step(parent, last, ".".join(keys))
        if isinstance(parent, tuple):
            raise InputError(f"set: {path!r} is inside a tuple; set the whole tuple")
        old = parent[last] if isinstance(parent, list) or last in parent else None
        parent[last] = tuple(value) if isinstance(old, tuple) and isinstance(value, list) else value
    return changed


def _step(parent: Any, key: str, path: str) -> Any:
    if isinstance(parent, dict) and key in parent:
        return key
    if isinstance(parent, list | tuple) and key.isdigit() and int(key) < len(parent):
        return int(key)
    if isinstance(parent, dict):
        there = ", ".join(map(str, parent))
    elif isinstance(parent, list | tuple):
        there = f"items 0 to {len(parent) - 1}"
    else:
        there = f"only the value {parent!r}"
    raise InputError(f"set: there is no {path!r} in this configuration; there: {there}")
