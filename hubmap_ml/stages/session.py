"""What a stage is called with: the experiment, and the settings that must not change a result."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hubmap_ml
from hubmap_ml.spec import (
    Experiment,
    InputError,
    apply_overrides,
    check_member_config,
    load_config_file,
    load_experiment,
    parse_overrides,
)

FILE = "experiment.yaml"


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
    """

    experiment: Experiment
    overrides: Mapping[str, Any]
    workers: int
    device: str
    with_upstream: bool = False
    parent: str = ""

    def nested_in(self, run_id: str) -> "Session":
        """Return the same session with its runs nested in another run."""
        return dataclasses.replace(self, parent=run_id)

    def member_config(self, member: str, stage: str) -> dict[str, Any] | None:
        """Return the checked mmdet configuration of a member's stage, overrides applied; None without such a stage.

        Raises:
            InputError: the file cannot be read, sets what belongs to the platform, or lacks an overridden key.
        """
        part = getattr(self.experiment.members[member], stage)
        if part is None:
            return None
        path = self.experiment.folder / part.config
        config = load_config_file(path)
        check_member_config(config, str(path))
        changed = apply_overrides(config, dict(self.overrides))
        check_member_config(changed, f"{path} with set=…")
        return changed


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a stage reports back.

    Attributes:
        headline: the stage's score, where it has one.
        seconds: wall time.
        details: figures for the final table.
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


def open_session(
    *,
    experiment: str = "demo",
    raw: str = "",
    set: str = "",
    workers: int = -1,
    device: str = "auto",
    with_upstream: bool = False,
    parent: str = "",
) -> Session:
    """Read the experiment that a stage was called with.

    Args:
        experiment: a file, a folder with an experiment.yaml, or the name of a folder in ``experiments/``.
        raw: folder of raw files in place of the experiment's own.
        set: changes to members' configurations, ``key.key=value;...``.
        workers: processes for loading; -1 chooses by the number of cores.
    """
    if device not in ("auto", "cpu") and not device.startswith("cuda"):
        raise InputError(f"device {device!r} is none of auto, cpu, cuda, cuda:N")
    loaded = load_experiment(find_experiment(experiment), raw=raw or None)
    chosen = workers if workers >= 0 else max(0, min(4, (os.cpu_count() or 1) - 1))
    return Session(loaded, parse_overrides(set), chosen, device, with_upstream, parent)


def find_experiment(experiment: str) -> Path:
    """Return the experiment file that a name, folder or path means."""
    given = Path(experiment)
    project = Path(hubmap_ml.__file__).resolve().parent
    places = [given, given / FILE, Path("experiments") / given / FILE, project.parent / "experiments" / given / FILE,
              project / "experiments" / given / FILE]  # fmt: skip
    for place in places:
        if place.is_file():
            return place
    known = sorted({path.parent.name for folder in (Path("experiments"), project.parent / "experiments")
                    for path in folder.glob(f"*/{FILE}")})  # fmt: skip
    raise InputError(
        f"experiment {experiment!r}: no such file, folder or name; names here: {', '.join(known) or 'none'}"
    )
