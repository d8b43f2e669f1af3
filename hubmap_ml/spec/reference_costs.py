"""``reference.yaml`` beside an experiment: what the same trainings cost whoever published them."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hubmap_ml.spec.errors import InputError

FILE = "reference.yaml"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReferenceCost(_Part):
    """One training: ``epochs`` of ``epoch_length`` iterations of ``iteration_s`` seconds each, the highest memory of a
    GPU in MiB, and the wall time in seconds.
    """

    epochs: int = Field(ge=1)
    epoch_length: int = Field(ge=1)
    iteration_s: float = Field(gt=0)
    memory_mib: float = Field(gt=0)
    wall_s: float = Field(gt=0)


class ReferenceCosts(_Part):
    """All that is known: on which ``machine``, and of each member's stages (``pretrain``, ``finetune``)."""

    machine: str
    trainings: Mapping[str, Mapping[str, ReferenceCost]]

    def of(self, member: str, stage: str) -> ReferenceCost | None:
        """Return what a training cost there; None where that is not known."""
        return self.trainings.get(member, {}).get(stage)


def read_reference_costs(folder: Path) -> ReferenceCosts | None:
    """Read the file of an experiment's folder; None where there is none.

    Raises:
        InputError: it cannot be read, or says something else than it should.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return ReferenceCosts.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise InputError(f"{path}: {place}: {problem['msg']}, got {problem['input']!r}") from None
