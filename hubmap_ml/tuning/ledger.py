"""Who does which trial of a study, and what came out: in memory, or in an Optuna storage that several workers share.

A trial is known by its number; which setting it tries is asked for when it is taken.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from hubmap_ml.spec import InputError, without_credentials
from hubmap_ml.tuning.sampling import distributions_of, setting_from, silent
from hubmap_ml.tuning.space import Space
from hubmap_ml.tuning.step_values import Setting

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STALE_S = 120.0
"""After so long without a score a trial of another host counts as abandoned; one takes milliseconds to seconds."""

_WORKER, _SCORES = "worker", "fold_scores"

Propose = Callable[[int], Setting]
"""Returns the setting for a trial's number."""


@dataclass(frozen=True)
class Trial:
    """A setting and its score on each fold."""

    number: int
    setting: Setting
    scores: tuple[float, ...]


class Ledger(Protocol):
    """The trials of one study, numbered from 0."""

    def take(self) -> tuple[int, Setting] | None:
        """Take the next trial; None when all are done, by whomever."""

    def finish(self, number: int, setting: Setting, scores: Sequence[float], value: float) -> None:
        """Write down what came out of a trial that was taken."""

    def news(self) -> list[Trial]:
        """Return the trials finished since the last call, by number."""


class InMemory:
    """The trials of this process."""

    def __init__(self, total: int, propose: Propose) -> None:
        self._total, self._propose = total, propose
        self._taken = 0
        self._new: list[Trial] = []

    def take(self) -> tuple[int, Setting] | None:
        if self._taken == self._total:
            return None
        self._taken += 1
        return self._taken - 1, self._propose(self._taken - 1)

    def finish(self, number: int, setting: Setting, scores: Sequence[float], value: float) -> None:
        self._new.append(Trial(number, setting, tuple(scores)))

    def news(self) -> list[Trial]:
        found, self._new = self._new, []
        return found


class Shared:
    """The trials of every worker that opens the same study of an Optuna storage; goes on with what is there.

    A trial whose worker died is done again by whoever meets it at the end: at once where the worker was a process of
    this host, else after ``STALE_S``.
    """

    def __init__(self, url: str, name: str, space: Space, total: int, propose: Propose) -> None:
        """Open or begin a study.

        Args:
            url: as Optuna takes it: ``sqlite:///file``, ``postgresql+psycopg://…``, ``redis://…``.
            name: the study's; two studies of different space, seed, data or steps must have different names.

        Raises:
            InputError: the storage cannot be opened.
        """
        import optuna

        self._space, self._total, self._propose = space, total, propose
        self._distributions = distributions_of(space)
        self._worker = f"{socket.gethostname()}/{os.getpid()}"
        self._seen: set[int] = set()
        self._live: dict[int, optuna.Trial] = {}
        self._looked = False
        try:
            with silent():
                self._study = optuna.create_study(
                    study_name=name, storage=url, direction="maximize", load_if_exists=True,
                    sampler=_numbered(self._of_number),
                )  # fmt: skip
        except Exception as error:
            reason = without_credentials(
                str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            )
            raise InputError(
                f"tune.storage {without_credentials(url)}: the study cannot be opened ({reason}); check the address, "
                "the account and that the database exists"
            ) from None

    def take(self) -> tuple[int, Setting] | None:
        with silent():
            left = None if self._looked else self._left_behind(wait=False)
            self._looked = True
            if left is not None:  # first, as if nothing had happened
                self._looked = False
                return left
            if len(self._trials()) < self._total:
                asked = self._study.ask(self._distributions)
                if asked.number < self._total:
                    asked.set_user_attr(_WORKER, self._worker)
                    self._live[asked.number] = asked
                    return asked.number, setting_from(asked.params, self._space)
                self._study.tell(asked, state=_fail())  # another worker was faster
            return self._left_behind(wait=True)

    def finish(self, number: int, setting: Setting, scores: Sequence[float], value: float) -> None:
        with silent():
            live = self._live.pop(number, None)
            if live is not None:
                live.set_user_attr(_SCORES, list(scores))
                self._study.tell(live, value)
                return
            # Another process began it: only the study itself can be written to.
            self._study.set_user_attr(_key(number), {"setting": dict(setting), _SCORES: list(scores)})
            self._study.tell(number, value)

    def news(self) -> list[Trial]:
        found = []
        for trial in self._trials()[: self._total]:
            if trial.number not in self._seen and _is_done(trial):
                kept = trial.user_attrs
                setting: Setting = setting_from(trial.params, self._space) if _SCORES in kept else {}
                if not setting:
                    kept = self._study.user_attrs[_key(trial.number)]
                    setting = {name: kept["setting"][name] for name in self._space.names}
                found.append(Trial(trial.number, setting, tuple(kept[_SCORES])))
        self._seen |= {trial.number for trial in found}
        return found

    def _of_number(self, number: int) -> Setting:
        return self._propose(number) if number < self._total else self._propose(0)

    def _trials(self) -> "list[FrozenTrial]":
        with silent():
            return self._study.get_trials(deepcopy=False)

    def _left_behind(self, *, wait: bool) -> tuple[int, Setting] | None:
        """Take over a trial that nobody is at any more; wait for those that others are at."""
        while True:
            trials = self._trials()
            open_ = [trial for trial in trials[: self._total] if not _is_done(trial)]
            if not open_:
                return None
            for trial in open_:
                if self._is_abandoned(trial):
                    params = trial.params if trial.params.keys() >= self._distributions.keys() else None
                    chosen = (
                        self._propose(trial.number) if params is None else setting_from(params, self._space)
                    )
                    return trial.number, chosen
            if not wait:
                return None
            time.sleep(0.2)

    def _is_abandoned(self, trial: "FrozenTrial") -> bool:
        host, _, process = str(trial.user_attrs.get(_WORKER, "")).partition("/")
        if host == socket.gethostname() and process.isdigit():
            if int(process) == os.getpid():  # an earlier study of this process
                return trial.number not in self._live
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                return True
            except PermissionError:
                pass
            return False
        begun = trial.datetime_start
        return begun is None or time.time() - begun.timestamp() > STALE_S


def _key(number: int) -> str:
    return f"trial {number}"


def _is_done(trial: "FrozenTrial") -> bool:
    from optuna.trial import TrialState

    return trial.state == TrialState.COMPLETE


def _fail() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL


def _numbered(propose: Propose) -> Any:
    """Return an Optuna sampler that proposes by the trial's number, which the storage gives out only once."""
    import optuna

    class Numbered(optuna.samplers.BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            if getattr(self, "_of", None) != trial.number:
                self._of, self._setting = trial.number, propose(trial.number)
            return self._setting[param_name]

    return Numbered()
