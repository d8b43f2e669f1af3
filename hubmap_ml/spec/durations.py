"""Times as a person says them."""

from itertools import pairwise

UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """Say a time in its two largest units, rounded down.

    >>> duration(11_580), duration(59.9)
    ('3 h 13 min', '59 s')
    """
    left = int(seconds)
    for (unit, size), (smaller, part) in pairwise(UNITS):
        if left >= size:
            rest = left % size // part
            return f"{left // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{left} s"
