"""What a stage is called with: the experiment, and the settings that must not change a result."""

import copy
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hubmap_ml
from hubmap_ml.postprocess import SoftNms, check_classes, parse_steps
from hubmap_ml.spec import (
    Experiment,
    InputError,
    Processes,
    apply_overrides,
    check_member_config,
    experiment_from_data,
    load_config_file,
    load_experiment,
    parse_overrides,
)
from hubmap_ml.tuning import parse_space, require_per_class, with_setting

FILE = "experiment.yaml"
TRAINED = ("pretrain", "finetune")


@dataclasses.dataclass(frozen=True)
class Session:
    """One call of a stage.

    Attributes:
        experiment: the resolved experiment.
        overrides: changes to members' configurations (``-P set=…``), by dotted key.
        workers: processes that load or convert data; part of no identity.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; part of no identity.
        with_upstream: run a missing training stage instead of stopping with the command to type.
        parent: MLflow run to nest in; empty for a run of its own.
        fresh: do the work again though a finished run with the same key exists.
        words: the experiment, raw folder and changes as they were given, for commands that a message names.
        configs: members' configurations as data, by ``MEMBER.STAGE``, overrides applied; None reads them from the
            experiment's files.
        recorded: runs that stand for an upstream stage whatever its key is today, by `place_of`.
        reproduces: run that this call repeats; its own run is then never found in place of that one.
        processes: how many processes train one network: ``nproc``, ``nodes`` and where they meet, ``rdzv``; part of no
            identity.
        imports: folders that stand for those which external members name, by member.
    """

    experiment: Experiment
    overrides: Mapping[str, Any]
    workers: int
    device: str
    with_upstream: bool = False
    parent: str = ""
    fresh: bool = False
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] | None = None
    recorded: Mapping[str, str] = dataclasses.field(default_factory=dict)
    reproduces: str = ""
    processes: Processes = dataclasses.field(default_factory=Processes)
    imports: Mapping[str, Path] = dataclasses.field(default_factory=dict)

    def import_folder(self, member: str) -> Path:
        """Return the folder that an external member names, from the experiment's own."""
        declared = self.experiment.members[member]
        named = declared.predictions or declared.checkpoints
        assert named is not None
        return self.imports.get(member, self.experiment.folder / named)

    def nested_in(self, run_id: str) -> "Session":
        """Return the same session with its runs nested in another run."""
        return dataclasses.replace(self, parent=run_id)

    def member_config(self, member: str, stage: str) -> dict[str, Any] | None:
        """Return the checked mmdet configuration of a member's stage, overrides applied; None without such a stage.

        Raises:
            InputError: the file cannot be read, sets what belongs to the platform, or lacks an overridden key.
        """
        part = getattr(self.experiment.members[member], stage)
        if part is None or self.experiment.members[member].is_predictions:
            return None
        if self.configs is not None:
            return self._recorded_config(member, stage)
        path = self.experiment.folder / part.config
        config = load_config_file(path)
        check_member_config(config, str(path))
        changed = apply_overrides(config, self._changes_for(member, stage))
        check_member_config(changed, f"{path} with set=…")
        return changed

    def check_members(self) -> None:
        """Read every member's configurations and the steps that are tuned, so that a mistake shows before any work.

        Raises:
            InputError: as `member_config`, or post-processing that does not fit its space, the classes, or what members
                keep of their candidates.
        """
        steps = parse_steps(self.experiment.postprocess)
        check_classes(steps, self.experiment.data.types)
        if any(isinstance(step, SoftNms) for step in steps):
            for name, member in self.experiment.members.items():
                if member.predict.dedupe_iou < 1 and not member.is_predictions:
                    raise InputError(
                        f"members.{name}.predict.dedupe_iou is {member.predict.dedupe_iou:g}, so near duplicates are "
                        "not among the candidates whose scores soft_nms is to lower; set it to 1 or use nms"
                    )
        space = parse_space(self.experiment.tune.space, steps)
        check_classes(with_setting(steps, space.corners[0]), self.experiment.data.types)
        if self.experiment.tune.per_class:
            require_per_class(steps, space.names, self.experiment.data.types[0])
        for member_name in self.experiment.members:
            for stage in TRAINED:
                self.member_config(member_name, stage)

    def _recorded_config(self, member: str, stage: str) -> dict[str, Any]:
        name = f"{member}.{stage}"
        assert self.configs is not None
        if name not in self.configs:
            raise InputError(
                f"the record holds no configuration of {name}: it cannot be run from the record alone"
            )
        config = copy.deepcopy(dict(self.configs[name]))
        check_member_config(config, f"recorded configuration of {name}")
        return config

    def _changes_for(self, member: str, stage: str) -> dict[str, Any]:
        """Return the overrides meant for a member's stage: those without a prefix, or prefixed with its names.

        What changes a recipe changes its refit too.
        """
        chosen = {}
        for path, value in self.overrides.items():
            plus, keys = ("+", path[1:].split(".")) if path.startswith("+") else ("", path.split("."))
            recipe = self.experiment.recipe_of(member)
            if keys[0] in self.experiment.members and keys.pop(0) not in (member, recipe):
                continue
            if keys and keys[0] in TRAINED and keys.pop(0) != stage:
                continue
            chosen[plus + ".".join(keys)] = value
        return chosen


def place_of(stage: str, member: str | None = None, fold: int | None = None) -> str:
    """Name a stage's place in the chain, as in ``Session.recorded``: stage, member, fold."""
    return "/".join((stage, member or "", "" if fold is None else str(fold)))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a stage reports back.

    Attributes:
        headline: the stage's score, where it has one.
        seconds: wall time.
        details: figures for the final table.
        reused: the run is an earlier one, found by its key; nothing was computed.
    """

    stage: str
    name: str
    run_id: str
    key: str
    verdict: str
    seconds: float
    peak_mib: float
    headline: float | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reused: bool = False


def open_session(
    *,
    experiment: str = "demo",
    raw: str = "",
    set: str = "",
    workers: int = -1,
    device: str = "auto",
    with_upstream: bool = False,
    parent: str = "",
    fresh: bool = False,
    nproc: int = 1,
    nodes: int = 1,
    rdzv: str = "",
) -> Session:
    """Read the experiment that a stage was called with.

    Args:
        experiment: a file, a folder with an experiment.yaml, or the name of a folder in ``experiments/``.
        raw: folder of raw files in place of the experiment's own.
        set: changes to members' configurations, ``key.key=value;...``; ``finetune.key=…``, ``MEMBER.key=…`` and
            ``MEMBER.finetune.key=…`` change one stage, one member, or one stage of one member.
        workers: processes for loading; -1 chooses by the number of cores.
        fresh: do the work again though a finished run with the same key exists.
        nproc: processes that train one network on this machine; on GPUs one each.
        nodes: machines that do so together, with the same work folder.
        rdzv: where they meet, HOST:PORT on the first of them.
    """
    processes = Processes(nproc, nodes, rdzv)
    processes.check()
    checked_device(device)
    loaded = load_experiment(find_experiment(experiment), raw=raw or None)
    words = {"experiment": experiment, "raw": raw, "set": set}
    workers = chosen_workers(workers)
    return Session(
        loaded,
        parse_overrides(set),
        workers,
        device,
        with_upstream,
        parent,
        fresh,
        words,
        processes=processes,
    )


def recorded_session(
    document: Mapping[str, Any],
    configs: Mapping[str, Mapping[str, Any]],
    *,
    reproduces: str,
    recorded: Mapping[str, str],
    imports: Mapping[str, Path] | None = None,
    overrides: Mapping[str, Any] | None = None,
    raw: str = "",
    workers: int = -1,
    device: str = "auto",
) -> Session:
    """Build the session of a run from what the run recorded, without the experiment's files.

    Args:
        document: the resolved experiment, as kept in ``experiment.json``.
        configs: see `Session`.
        reproduces: the run's id.
        recorded, imports: see `Session`.
        overrides: changes that are in ``configs`` already, to be recorded again.
        raw: folder of raw files in place of the recorded one.

    Raises:
        InputError: the document is no experiment of this version.
    """
    where = f"experiment.json of run {reproduces}"
    experiment = experiment_from_data(document, where, raw=raw or None)
    return Session(
        experiment,
        dict(overrides or {}),
        chosen_workers(workers),
        checked_device(device),
        words={"experiment": experiment.name, "raw": raw},
        configs=configs,
        recorded=recorded,
        reproduces=reproduces,
        imports=imports or {},
    )


def checked_device(device: str) -> str:
    """Return a device's name, if it is one."""
    if device not in ("auto", "cpu") and not device.startswith("cuda"):
        raise InputError(f"device {device!r} is none of auto, cpu, cuda, cuda:N")
    return device


def chosen_workers(workers: int) -> int:
    """Return the number of loading processes; -1 chooses by the number of cores."""
    return workers if workers >= 0 else max(0, min(4, (os.cpu_count() or 1) - 1))


def find_experiment(experiment: str) -> Path:
    """Return the experiment file that a name, folder or path means."""
    given = Path(experiment)
    project = Path(hubmap_ml.__file__).resolve().parent
    places = [
        given,
        given / FILE,
        Path("experiments") / given / FILE,
        project.parent / "experiments" / given / FILE,
        project / "experiments" / given / FILE,
    ]
    for place in places:
        if place.is_file():
            return place
    known = sorted(
        {
            path.parent.name
            for folder in (Path("experiments"), project.parent / "experiments")
            for path in folder.glob(f"*/{FILE}")
        }
    )
    raise InputError(
        f"experiment {experiment!r}: no such file, folder or name; names here: {', '.join(known) or 'none'}"
    )
