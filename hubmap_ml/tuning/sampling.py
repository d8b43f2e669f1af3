"""What a study tries: Optuna's samplers as proposers of settings.

Every study begins with a list that was fixed beforehand, which no truth has steered. For ``random``, ``qmc`` and
``grid`` it is all there is; ``tpe`` and ``cmaes`` go on from it by what they are told. What is proposed as the n-th
follows from the seed, n and what was told before, so that a study that was broken off goes on as it would have.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from hubmap_ml.spec import InputError
from hubmap_ml.tuning.space import Parameter, Space
from hubmap_ml.tuning.step_values import Setting, Value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

SAMPLERS = ("tpe", "random", "qmc", "grid", "cmaes")
ADAPTIVE = ("tpe", "cmaes")
"""Samplers that look at values."""

OWN_TRIALS = 250
"""Most trials that an adaptive sampler adds to the fixed list. Its proposals cost about 8 ms each and are made for each
held-out fold; after a well spread list a few hundred find what there is to find."""


LEAST_FOR_WARM_START = 10
"""CMA-ES begins with the distribution of the best tenth of what is known; that must be one at least."""


def fixed_trials(sampler: str, trials: int) -> int:
    """Return how many of a study's trials are fixed beforehand: all, or half and all above twice ``OWN_TRIALS``."""
    return trials if sampler not in ADAPTIVE else trials - min(trials // 2, OWN_TRIALS)


def fixed_list(space: Space, sampler: str, count: int, seed: int) -> list[Setting]:
    """Return ``count`` settings without looking at any value.

    Adaptive samplers begin with quasi-random ones (Optuna's scrambled Sobol points). A grid has as many levels a value
    as fit into ``count``, in random order.

    Args:
        count: at most so many; a grid, and a space with few settings, may have fewer.
    """
    import optuna

    distributions = distributions_of(space)
    if not distributions:
        return [setting_from({}, space)] * min(count, 1)
    if sampler == "grid":
        return _grid(space, count, seed)
    with silent():
        own: BaseSampler = (
            optuna.samplers.RandomSampler(seed=seed)
            if sampler == "random"
            else optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
        )
        study = optuna.create_study(sampler=own)
        # Optuna's quasi-random sampler takes the space from a first trial.
        first = {p.name: p.end(first=True) for p in space.varied}
        study.add_trial(optuna.create_trial(params=first, distributions=distributions, value=0.0))
        return [setting_from(study.ask(distributions).params, space) for _ in range(count)]


class Proposer:
    """An adaptive sampler for one choice of folds: proposes settings, and is told what they are worth."""

    def __init__(self, space: Space, sampler: str, seed: int) -> None:
        """Begin without any trial.

        Args:
            sampler: ``tpe`` or ``cmaes``.

        Raises:
            InputError: CMA-ES over a space with a value that is no number, or over fewer than two values.
        """
        import optuna

        self._space, self._sampler, self._seed = space, sampler, seed
        self._distributions = distributions_of(space)
        if sampler == "cmaes" and (
            len(self._distributions) < 2 or any(parameter.choices for parameter in space.varied)
        ):
            raise InputError(
                "sampler cmaes searches at least two ranges of numbers and no choices; use tpe for this space"
            )
        self._told: list[optuna.trial.FrozenTrial] = []
        self._study: optuna.Study | None = None
        self._asked: tuple[optuna.Trial, Setting] | None = None

    def tell(self, setting: Setting, value: float) -> None:
        """Learn what a setting is worth; one outside of the space is not learnt, nor is one without a value."""
        import optuna

        if not self._distributions or not self._space.holds(setting) or math.isnan(value):
            return
        with silent():
            if self._study is not None and self._asked is not None and self._asked[1] == setting:
                self._study.tell(self._asked[0], value)
                self._asked = None
                return
            params = {name: setting[name] for name in self._distributions}
            trial = optuna.create_trial(params=params, distributions=self._distributions, value=value)
            if self._study is None:
                self._told.append(trial)
            else:
                self._study.add_trial(trial)

    def propose(self, number: int) -> Setting:
        """Return a setting for the trial of this number."""
        import optuna

        if not self._distributions:
            return setting_from({}, self._space)
        with silent():
            if self._study is None:
                self._study = optuna.create_study(direction="maximize", sampler=self._sampler_for(number))
                if self._sampler == "tpe":
                    self._study.add_trials(self._told)
            if self._sampler == "tpe":
                self._study.sampler = self._sampler_for(number)
            asked = self._study.ask(self._distributions)
        setting = setting_from(asked.params, self._space)
        self._asked = (asked, setting)
        return setting

    def _sampler_for(self, number: int) -> "BaseSampler":
        import optuna

        own: BaseSampler
        if self._sampler == "cmaes":  # begins where the best of what it was told so far lie
            own = optuna.samplers.CmaEsSampler(
                seed=self._seed,
                source_trials=self._told if len(self._told) >= LEAST_FOR_WARM_START else None,
                warn_independent_sampling=False,
            )
        else:
            seed = (self._seed * 1_000_003 + number) % 2**32
            own = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1, multivariate=True)
        return _of_known_space(own, self._distributions)


def _of_known_space(sampler: "BaseSampler", distributions: "dict[str, BaseDistribution]") -> "BaseSampler":
    """Return a sampler that need not gather the space from all trials at each proposal."""
    import optuna

    class OfKnownSpace(optuna.samplers.BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return distributions

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return sampler.sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return sampler.sample_independent(study, trial, param_name, param_distribution)

        def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
            sampler.after_trial(study, trial, state, values)

    return OfKnownSpace()


def distributions_of(space: Space) -> "dict[str, BaseDistribution]":
    """Return what Optuna knows of each value that varies."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for p in space.varied:
        if p.choices:
            found[p.name] = CategoricalDistribution(p.choices)
        elif p.whole:
            found[p.name] = IntDistribution(int(p.low), int(p.high), log=p.log, step=int(p.step or 1))
        else:
            found[p.name] = FloatDistribution(p.low, p.high, log=p.log, step=p.step)
    return found


def setting_from(params: Setting, space: Space) -> dict[str, Value]:
    """Return a whole setting: what varies from ``params``, the rest fixed."""
    return {p.name: p.only if p.fixed else params[p.name] for p in space.parameters}


def _grid(space: Space, count: int, seed: int) -> list[Setting]:
    import optuna

    levels = {p.name: _levels(p, 1) for p in space.varied}
    finer = True
    while finer:  # one more level for each value in turn, as long as it fits
        finer = False
        for p in space.varied:
            more = _levels(p, len(levels[p.name]) + 1)
            size = math.prod(len(more if name == p.name else own) for name, own in levels.items())
            if len(more) > len(levels[p.name]) and size <= count:
                levels[p.name], finer = more, True
    distributions = distributions_of(space)
    sampler = optuna.samplers.GridSampler(levels, seed=seed)
    with silent():
        study = optuna.create_study(sampler=sampler)
        return [
            setting_from(study.ask(distributions).params, space)
            for _ in range(math.prod(map(len, levels.values())))
        ]


def _levels(parameter: Parameter, count: int) -> list[Value]:
    """Return ``count`` values over a range, ends included; fewer where it has fewer."""
    if parameter.choices:
        return list(parameter.choices)
    low, high, step = parameter.low, parameter.high, parameter.step
    if count == 1:
        values = [math.sqrt(low * high) if parameter.log else (low + high) / 2]
    else:
        values = (np.geomspace if parameter.log else np.linspace)(low, high, count).tolist()
    if step is not None:
        values = [low + round((value - low) / step) * step for value in values]
    levels = {min(max(value, low), high) for value in values}
    return sorted({round(value) for value in levels} if parameter.whole else levels)


@contextmanager
def silent() -> Iterator[None]:
    """Keep Optuna from writing a line a trial, and from warning of samplers that it calls experimental."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
