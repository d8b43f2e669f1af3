"""Weights that a member's configuration names: in its identity a local file stands with its bytes, not with its path.

mmcv writes them as ``init_cfg=dict(type="Pretrained", checkpoint=…)``, older configurations as ``pretrained=…``. What
is no local file (``torchvision://resnet50``, an address) stands by its name.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hubmap_ml.stages.file_digests import digest_of_file

MARK = "sha256:"


def by_content(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in which local weight files are named by the digest of their bytes."""
    return {**config, "model": _renamed(config["model"], _digest)}


def by_path(config: Mapping[str, Any], original: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in which the digests that ``by_content`` wrote are the files of ``original`` again."""
    places: dict[str, str] = {}

    def learn(text: str) -> str:
        places[_digest(text)] = text
        return text

    _renamed(original["model"], learn)
    return {**config, "model": _renamed(config["model"], lambda text: places.get(text, text))}


def _digest(text: str) -> str:
    path = Path(text).expanduser()
    return f"{MARK}{digest_of_file(path)}" if path.is_file() else text


def _renamed(value: Any, rename: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        named = "checkpoint" if value.get("type") == "Pretrained" else "pretrained"
        return {
            key: rename(item) if key == named and isinstance(item, str) else _renamed(item, rename)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_renamed(item, rename) for item in value)
    return value
