"""Records that a conversion leaves out: listed one by one, and too many of them stop it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hubmap_ml.spec import InputError

_LONGEST = 300  # characters of a cell of the list


@dataclass(frozen=True)
class Rejected:
    """One record that was left out.

    Attributes:
        file: relative to the raw folder.
        record: where in the file.
        reason: what is wrong with it.
        lost: how many annotations went with it; 0 for an image without, and for what is left out of training only.
    """

    file: str
    record: str
    reason: str
    lost: int = 1

    def __post_init__(self) -> None:
        for name in ("file", "record", "reason"):  # what a broken file says may have lines, and many
            text = " ".join(getattr(self, name).split())
            object.__setattr__(self, name, text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")


def require_few(
    rejected: Sequence[Rejected], total: int, *, what: str, max_share: float, lost: int | None = None
) -> None:
    """Stop when more than a share of all records had to be left out.

    Args:
        total: number of records, the rejected ones included.
        what: what the records are, in the plural.
        max_share: the largest share, in [0, 1], that may be missing.
        lost: how many were rejected; by default the annotations that went with ``rejected``.

    Raises:
        InputError: too many; the message shows the first.
    """
    missing = sum(record.lost for record in rejected) if lost is None else lost
    if missing > max_share * total:
        first = next((record for record in rejected if record.lost), rejected[0])
        raise InputError(
            f"{missing} of {total} {what} cannot be used ({missing / max(total, 1):.1%}, max_rejected allows "
            f"{max_share:.1%}); the first is {first.file}, {first.record}: {first.reason}. "
            f"Repair the file or raise max_rejected"
        )


def write_rejected(path: Path, rejected: Sequence[Rejected]) -> None:
    """Write the list as csv: file, record, reason, and the number of annotations lost."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("file", "record", "reason", "annotations"))
        writer.writerows((record.file, record.record, record.reason, record.lost) for record in rejected)
