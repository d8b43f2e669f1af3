"""How much a model may know of the images that it is scored on."""

from collections.abc import Iterable
from enum import IntEnum

from hubmap_ml.spec.errors import InputError

LEAK_TAG = "hubmap.leak_level"


class LeakLevel(IntEnum):
    """The worst thing that connects scored images with anything that a model was ever trained on, in order.

    Attributes:
        NONE: nothing.
        SLIDE: they share a slide (or the group, where images have no slide).
        NEIGHBOUR: tiles of one slide touch or overlap.
        DUPLICATE: the same picture under two names.
        TRAINED_ON: the very image.
    """

    NONE = 0
    SLIDE = 1
    NEIGHBOUR = 2
    DUPLICATE = 3
    TRAINED_ON = 4

    def __str__(self) -> str:
        return self.name.lower()

    @property
    def voids_a_score(self) -> bool:
        """Whether a score at this level says nothing about images that the model does not know."""
        return self >= LeakLevel.DUPLICATE

    @staticmethod
    def named(word: str) -> "LeakLevel":
        """Return the level of a name such as ``"trained_on"``.

        Raises:
            InputError: no such level.
        """
        for level in LeakLevel:
            if str(level) == word:
                return level
        raise InputError(f"{word!r} is no leak level; levels: {', '.join(map(str, LeakLevel))}")

    @staticmethod
    def worst(levels: Iterable["LeakLevel"]) -> "LeakLevel":
        """Return the highest of some levels; ``NONE`` for no level."""
        return max(levels, default=LeakLevel.NONE)
