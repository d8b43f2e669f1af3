"""mmdet configuration files of members: read as data, with inheritance, without mmcv.

Follows ``mmcv.Config.fromfile`` (1.7) for Python files: ``_base_`` names one or several files relative to the one that
says it; dictionaries are merged key by key, ``_delete_=True`` replaces instead; lists and everything else replace.
Beyond it, a dictionary of item numbers changes those items of the base's list: ``neck={0: dict(drop_path=0.3)}``. Not
supported, and refused: ``{{ ... }}`` references and yaml or json bases. A configuration file is code of the user's own
experiment folder; nothing is ever executed from an artifact.
"""

import runpy
import types
from pathlib import Path
from typing import Any

from hubmap_ml.spec.errors import InputError

BASE = "_base_"
DELETE = "_delete_"


def load_config_file(path: Path) -> dict[str, Any]:
    """Read a configuration file with everything it inherits.

    Args:
        path: a Python file whose public names are the configuration (``_name`` is for the file's own use).

    Returns:
        Nested plain dictionaries, lists and tuples.

    Raises:
        InputError: a missing file, an error inside it (with its line), a circle of bases, two bases with one key.
    """
    loaded = _strip(_load(path.resolve(), ()))
    return {key: value for key, value in loaded.items() if not key.startswith("_")}


def merge_configs(child: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` changed by ``child``, as mmcv merges them."""
    merged = dict(base)
    for key, value in child.items():
        replaces = isinstance(value, dict) and bool(value.get(DELETE, False))
        if isinstance(value, dict) and not replaces and isinstance(merged.get(key), dict):
            merged[key] = merge_configs(value, merged[key])
        elif isinstance(merged.get(key), list) and _numbers_items(value):
            merged[key] = _merge_items(key, value, merged[key])
        elif isinstance(value, dict) and not replaces and key in merged:
            raise InputError(
                f"configuration key {key!r} is a dict here and a {type(merged[key]).__name__} in the "
                f"base; say {DELETE}=True to replace it"
            )
        else:
            merged[key] = value
    return merged


def _numbers_items(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(type(number) is int for number in value)


def _merge_items(key: str, changes: dict[int, Any], base: list[Any]) -> list[Any]:
    for number in changes:
        if not 0 <= number < len(base):
            raise InputError(f"configuration key {key!r} has the items 0 to {len(base) - 1}, not {number}")
    items = merge_configs(
        {str(number): value for number, value in changes.items()},
        {str(number): value for number, value in enumerate(base)},
    )
    return list(items.values())


def _load(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path in seen:
        raise InputError(f"{path}: inherits from itself through {' -> '.join(p.name for p in (*seen, path))}")
    if path.suffix != ".py" or not path.is_file():
        raise InputError(f"{path}: no such configuration file (a Python file is expected)")
    if "{{" in path.read_text():
        raise InputError(f"{path}: '{{{{ }}}}' references are not supported; write the value")
    try:
        names = runpy.run_path(str(path))
    except Exception as error:
        raise InputError(
            f"{path}: {type(error).__name__} while reading the configuration: {error}"
        ) from error
    own = {
        key: value
        for key, value in names.items()
        if not key.startswith("__") and not isinstance(value, types.ModuleType | types.FunctionType | type)
    }
    bases = own.pop(BASE, [])
    inherited: dict[str, Any] = {}
    for name in [bases] if isinstance(bases, str) else bases:
        base = _load((path.parent / name).resolve(), (*seen, path))
        twice = inherited.keys() & base.keys()
        if twice:
            raise InputError(f"{path}: two of its bases define {', '.join(sorted(twice))}")
        inherited |= base
    return merge_configs(own, inherited)


def _strip(value: Any) -> Any:
    """Remove the ``_delete_`` marks that are left where there was nothing to replace."""
    if isinstance(value, dict):
        return {key: _strip(item) for key, item in value.items() if key != DELETE}
    if isinstance(value, list | tuple):
        return type(value)(_strip(item) for item in value)
    return value
