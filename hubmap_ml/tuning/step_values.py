"""Values of post-processing steps by name: ``score``, ``nms.iou``, ``opening.iterations``, ``score.astro``.

A name is a step and, dotted, a key of what the step holds as data (``Step.to_data``), so that a new step needs nothing
here. A class name after a value that a step holds per class means that class. Where a list has a step twice, its place
among them stands in brackets: ``nms[1].iou`` is the second.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hubmap_ml.postprocess import STEPS, Step, parse_steps, steps_to_data
from hubmap_ml.spec import InputError

Value = float | int | str | bool
Setting = Mapping[str, Value]
"""A value for each name."""

SHORT_NAMES: Mapping[str, str] = {"nms_iou": "nms.iou"}
"""Names that stand for others; a step that holds one number is named by itself (``score``, ``min_area``)."""

DEFAULT, PER_CLASS = "default", "per_class"

_STEP = re.compile(r"([a-z_0-9]+)(?:\[(\d+)\])?")


def value_at(steps: Sequence[Step], name: str, where: str = "tune.space") -> Value:
    """Return the value that the steps hold under a name; a class without one of its own has the step's default.

    Raises:
        InputError: no such step or value, or a step that is there twice.
    """
    place, keys = _find(steps, name, where)
    found = next(iter(steps_to_data(steps)[place].values()))
    for k, key in enumerate(keys):
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif k == 0 and isinstance(found, Mapping) and DEFAULT not in found and hasattr(steps[place], key):
            found = getattr(steps[place], key)  # a value that is not written where it is the default
        elif _is_of_class(found, keys[k:]):
            own = found.get(PER_CLASS) or {} if isinstance(found, Mapping) else {}
            found = own.get(".".join(keys[k:]), found[DEFAULT] if isinstance(found, Mapping) else found)
            break
        else:
            has = f"it has {', '.join(found)}" if isinstance(found, Mapping) else "it is one value"
            raise InputError(f"{where}.{name}: {'.'.join(_words(name)[: k + 1])!r} has no {key!r}; {has}")
    if isinstance(found, Mapping) and DEFAULT in found:
        found = found[DEFAULT]
    if isinstance(found, Mapping | list | tuple) or found is None:
        keys_of = ", ".join(found) if isinstance(found, Mapping) else ""
        raise InputError(f"{where}.{name} is no single value; name one of its values ({keys_of})")
    value: Value = found
    return value


def with_setting(steps: Sequence[Step], setting: Setting, where: str = "tune.space") -> tuple[Step, ...]:
    """Return the steps with the setting's values in them.

    Raises:
        InputError: as `value_at`, or a value that its step refuses.
    """
    if not setting:
        return tuple(steps)
    data = steps_to_data(steps)
    changed = set()
    for name, value in setting.items():
        place, keys = _find(steps, name, where)
        step = next(iter(data[place]))
        data[place] = {step: _changed(data[place][step], keys, value)}
        changed.add(place)
    result = list(steps)
    for place in changed:
        [result[place]] = parse_steps([data[place]])
    return tuple(result)


def setting_of(steps: Sequence[Step], names: Sequence[str]) -> dict[str, Value]:
    """Return the values that the steps hold under the names."""
    return {name: value_at(steps, name) for name in names}


def name_of_class(name: str, class_name: str) -> str:
    """Return the name of a class's own value."""
    return f"{SHORT_NAMES.get(name, name)}.{class_name}"


def step_named(steps: Sequence[Step], name: str, where: str = "tune.space") -> Step:
    """Return the step that a name speaks of."""
    return steps[_find(steps, name, where)[0]]


def _words(name: str) -> list[str]:
    return SHORT_NAMES.get(name, name).split(".")


def _find(steps: Sequence[Step], name: str, where: str) -> tuple[int, list[str]]:
    """Return the place of the step that a name speaks of, and the rest of the name."""
    step, *keys = _words(name)
    match = _STEP.fullmatch(step)
    if match is None or match[1] not in STEPS:
        known = ", ".join([*SHORT_NAMES, *STEPS])
        raise InputError(
            f"{where}: unknown name {name!r}; allowed: {known}, and values of these (opening.kernel)"
        )
    places = [place for place, item in enumerate(steps) if item.name == match[1]]
    if not places:
        raise InputError(
            f"{where}.{name}: the post-processing has no {match[1]!r} step; add one to postprocess, or leave {name} out"
        )
    if match[2] is None and len(places) > 1:
        raise InputError(
            f"{where}.{name}: the post-processing has {len(places)} {match[1]!r} steps; "
            f"say which one: {match[1]}[0] is the first"
        )
    which = int(match[2] or 0)
    if which >= len(places):
        raise InputError(f"{where}.{name}: the post-processing has only {len(places)} {match[1]!r} step(s)")
    return places[which], keys


def _is_of_class(found: Any, keys: Sequence[str]) -> bool:
    """Whether the rest of a name can be a class: what is found is a number, or a number per class."""
    per_class = isinstance(found, Mapping) and DEFAULT in found
    return bool(keys) and (per_class or (isinstance(found, int | float) and not isinstance(found, bool)))


def _changed(data: Any, keys: Sequence[str], value: Value) -> Any:
    if not keys:
        return {**data, DEFAULT: value} if isinstance(data, Mapping) and DEFAULT in data else value
    if isinstance(data, Mapping) and (DEFAULT not in data or keys[0] in (DEFAULT, PER_CLASS)):
        return {**data, keys[0]: _changed(data.get(keys[0]), keys[1:], value)}
    if isinstance(data, Mapping):
        own = {**(data.get(PER_CLASS) or {}), ".".join(keys): value}
        return {DEFAULT: data[DEFAULT], PER_CLASS: own}
    if data is None:
        return value
    return {DEFAULT: data, PER_CLASS: {".".join(keys): value}}


def require_per_class(base_steps: Sequence[Step], names: Sequence[str], class_name: str) -> None:
    """Check that the named values can be those of a class.

    Raises:
        InputError: one cannot; says which.
    """
    for name in names:
        try:
            with_setting(base_steps, {name_of_class(name, class_name): value_at(base_steps, name)})
        except InputError:
            raise InputError(
                f"tune.per_class: {name} cannot differ by class; fix it in postprocess and leave it out of tune.space"
            ) from None
