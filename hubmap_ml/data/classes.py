"""Which types of a raw file become which classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubmap_ml.instances import Category
from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class Classes:
    """The wanted types and the ignored ones.

    Attributes:
        types: become categories 0, 1, … in this order.
        ignored: by type, the label of the class whose predictions it excuses.
    """

    types: tuple[str, ...]
    ignored: Mapping[str, int]

    @staticmethod
    def of(types: Sequence[str], ignore: Mapping[str, str | None] | None = None) -> "Classes":
        """Check what an experiment asks for.

        Args:
            types: of ``data.types``.
            ignore: by type the class that it excuses; None where there is only one.

        Raises:
            InputError: no type, one twice, an ignored type that is a class, or one that excuses no or an unknown class.
        """
        if not types or len(set(types)) != len(types):
            raise InputError(
                f"data.types is {list(types)}: name at least one annotation type, and none twice"
            )
        ignored: dict[str, int] = {}
        for kind, excused in (ignore or {}).items():
            if kind in types:
                raise InputError(f"data.options.ignore: {kind!r} is a class in data.types; it cannot be both")
            if excused is None and len(types) == 1:
                excused = types[0]
            if excused not in types:
                raise InputError(
                    f"data.options.ignore: say which class {kind!r} excuses: {{{kind}: CLASS}} with one of "
                    f"{', '.join(types)}"
                )
            ignored[kind] = tuple(types).index(excused)
        return Classes(tuple(types), ignored)

    @property
    def wanted(self) -> tuple[str, ...]:
        """All types that are read."""
        return (*self.types, *self.ignored)

    @property
    def categories(self) -> tuple[Category, ...]:
        return tuple(Category(label, kind) for label, kind in enumerate(self.types))

    def label(self, kind: str) -> int:
        """The label of a wanted type."""
        return self.ignored[kind] if kind in self.ignored else self.types.index(kind)

    def require(self, counts: Mapping[str, int], where: Path | str) -> None:
        """Stop when a wanted type occurs nowhere.

        Args:
            counts: records by type, wanted or not.
            where: the file, for the message.

        Raises:
            InputError: it does not occur; with those that do.
        """
        for kind in self.wanted:
            if not counts.get(kind):
                have = (
                    ", ".join(f"{name} ({count})" for name, count in sorted(counts.items())) or "none at all"
                )
                option = "data.options.ignore" if kind in self.ignored else "data.types"
                raise InputError(f"type {kind!r} occurs nowhere in {where}; it has {have}: correct {option}")
