"""A submission and what is known of its scores: one entry of the score log.

Facts (scores, metrics, fold scheme, model, digest) are completed, never quietly replaced: a contradiction is an error
until it is said to be a correction. Words (name, note, date) are replaced by later ones.
"""

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

from hubmap_ml.spec.errors import InputError

SCORES = ("public", "private", "cv")
WORDS = ("name", "note", "date")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LoggedSubmission:
    """A submission; texts are empty and scores None where nothing is known. Higher scores are better.

    Attributes:
        name: what people call it.
        digest: SHA-256 of the file that was handed in.
        model: what predicted it, ``models:/NAME/N`` for one of ours.
        public, private: leaderboard scores.
        cv: score of cross-validation.
        cv_metric: what ``cv`` is measured by (``ap60``, ``coco_segm``, …).
        folds: how the folds of ``cv`` were made.
        leaderboard_metric: what the leaderboard measures.
        date: when it was handed in, as it was given.
        note: anything.
    """

    name: str
    digest: str = ""
    model: str = ""
    public: float | None = None
    private: float | None = None
    cv: float | None = None
    cv_metric: str = ""
    folds: str = ""
    leaderboard_metric: str = ""
    date: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("a submission has neither a file nor a name; give one of them")
        if self.digest and not SHA256.fullmatch(self.digest):
            raise InputError(
                f"{self.name}: digest {self.digest!r} is no SHA-256; give its 64 digits (sha256sum FILE)"
            )
        for field in SCORES:
            value = getattr(self, field)
            if value is not None and not math.isfinite(value):
                raise InputError(f"{self.name}: {field} is {value}; a score is a finite number")

    def is_same_as(self, other: "LoggedSubmission") -> bool:
        """Whether both are one submission: the same file, or the same name where one of them knows no file."""
        if self.digest and other.digest:
            return self.digest == other.digest
        return self.name == other.name and (not self.date or not other.date or self.date == other.date)

    def completed_by(self, other: "LoggedSubmission", *, correct: bool = False) -> "LoggedSubmission":
        """Return this entry with what another knows of the same submission.

        Args:
            other: later words of the same submission.
            correct: let its facts replace other ones.

        Raises:
            InputError: it contradicts a fact.
        """
        changes: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            before, after = getattr(self, field.name), getattr(other, field.name)
            if after in (None, "") or after == before:
                continue
            if before not in (None, "") and field.name not in WORDS and not correct:
                raise InputError(
                    f"{self.name}: {field.name} is {before!r} in the log and {after!r} now; --correct replaces it"
                )
            changes[field.name] = after
        return dataclasses.replace(self, **changes)

    def in_words(self) -> str:
        """Return the scores as a phrase."""
        said = [f"{name} {value:.4f}" for name in SCORES[:2] if (value := getattr(self, name)) is not None]
        if self.cv is not None:
            how = ", ".join(filter(None, (self.cv_metric, self.folds)))
            said.append(f"CV {self.cv:.4f}" + (f" ({how})" if how else ""))
        return "; ".join(said) or "no score yet"
