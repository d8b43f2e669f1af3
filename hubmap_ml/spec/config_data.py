"""Configurations as data: JSON that keeps tuples apart from lists.

mmdet tells ``(0.1, 0.2)`` from ``[0.1, 0.2]`` in places, and a configuration that changes type on its way through JSON
is another configuration. Tuples are written as ``{"__tuple__": [...]}``; everything else is JSON's own.
"""

import math
from typing import Any

from hubmap_ml.spec.errors import InputError

TUPLE = "__tuple__"


def encode_config(value: Any, where: str = "config") -> Any:
    """Turn a configuration value into JSON-able data; ``decode_config`` gives it back, types included.

    Args:
        value: nested dicts (string keys, or integer ones), lists, tuples, strings, numbers, booleans and None.
        where: how to name the value in an error.

    Raises:
        InputError: a value that is none of these (a function, an array, NaN), named by its place.
    """
    if isinstance(value, dict):
        return {_key(key, where): encode_config(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, tuple):
        return {TUPLE: [encode_config(item, f"{where}[{i}]") for i, item in enumerate(value)]}
    if isinstance(value, list):
        return [encode_config(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where} is {value}: a configuration holds finite numbers only")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InputError(f"{where} is a {type(value).__name__}: a configuration holds plain data only")


def decode_config(data: Any) -> Any:
    """Give back what ``encode_config`` was given."""
    if isinstance(data, dict):
        if set(data) == {TUPLE}:
            return tuple(decode_config(item) for item in data[TUPLE])
        return {key: decode_config(item) for key, item in data.items()}
    if isinstance(data, list):
        return [decode_config(item) for item in data]
    return data


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise InputError(f"{where} has the key {key!r}: keys of a configuration are text")
    if key == TUPLE:
        raise InputError(f"{where} has the key {TUPLE!r}, which stands for a tuple in stored configurations")
    return key
