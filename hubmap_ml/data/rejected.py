"""Records that a conversion leaves out: listed one by one, and too many of them stop it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hubmap_ml.spec import InputError


@dataclass(frozen=True)
class Rejected:
    """One record that was left out.

    Attributes:
        file: relative to the raw folder.
        record: where in the file.
        reason: what is wrong with it.
        lost: how many annotations (or tiles) went with it.
    """

    file: str
    record: str
    reason: str
    lost: int = 1


def require_few(rejected: Sequence[Rejected], total: int, *, what: str, max_share: float) -> None:
    """Stop when more than a share of all records had to be left out.

    Args:
        total: number of records, the rejected ones included.
        what: what the records are, in the plural.
        max_share: the largest share, in [0, 1], that may be missing.

    Raises:
        InputError: too many; the message shows the first.
    """
    lost = sum(record.lost for record in rejected)
    if lost > max_share * total:
        first = rejected[0]
        raise InputError(
            f"{lost} of {total} {what} cannot be used ({lost / max(total, 1):.1%}, max_rejected allows "
            f"{max_share:.1%}); the first is {first.file}, {first.record}: {first.reason}. "
            f"Repair the file or raise max_rejected"
        )


def write_rejected(path: Path, rejected: Sequence[Rejected]) -> None:
    """Write the list as csv: file, record, reason."""
    with path.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("file", "record", "reason"))
        writer.writerows((record.file, record.record, record.reason) for record in rejected)
