"""What changed between two pieces of configuration, by dotted path."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Change:
    """One place that differs.

    Attributes:
        path: dotted; items of a list by number.
        before, after: the values; None on the side where there is nothing.
    """

    path: str
    kind: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None


def config_changes(before: Any, after: Any, path: str = "") -> list[Change]:
    """Compare two configurations: mappings by key, lists of one length by item, anything else as a whole.

    Example:
        >>> config_changes({"lr": 0.1, "warmup": 5}, {"lr": 0.2, "clip": 1})
        [Change(path='lr', kind='changed', before=0.1, after=0.2), Change(path='warmup', kind='removed', before=5, \
after=None), Change(path='clip', kind='added', before=None, after=1)]
    """
    return list(_changes(before, after, path))


def _changes(before: Any, after: Any, path: str) -> Iterator[Change]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            place = f"{path}.{key}" if path else str(key)
            if key not in after:
                yield Change(place, "removed", before=before[key])
            elif key not in before:
                yield Change(place, "added", after=after[key])
            else:
                yield from _changes(before[key], after[key], place)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes(one, other, f"{path}.{number}" if path else str(number))
    elif type(before) is not type(after) or before != after:
        yield Change(path, "changed", before, after)
