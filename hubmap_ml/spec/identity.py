"""Identity of a stage: what its result depends on, as one key.

``stage_key`` is a digest of the stage, the part of the experiment that it declares, its upstream keys, the data that it
looks at and ``STAGE_VERSION``. Workers, device and paths are no part of it: they must not change a result.

Whoever changes what a stage computes raises its number in ``STAGE_VERSION``; ``scripts/check_stages.py`` asks for it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hubmap_ml.spec.config_data import decode_config, encode_config

STAGE_VERSION: Mapping[str, int] = {
    "prepare": 2,
    "pseudo_label": 1,
    "pretrain": 3,
    "finetune": 3,
    "predict": 1,
    "tune": 2,
    "promote": 2,
    "ensemble": 3,
    "submit": 1,
    "report": 2,
    "main": 1,
}


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class StageInputs:
    """All that a stage may depend on, and all that it sees.

    Attributes:
        stage: entry point, as in MLproject.
        values: the declared part of the experiment, resolved: plain data (tuples allowed); a copy of what was given.
        upstream: stage keys of the runs it starts from, in a fixed order.
        data_digest: digest of the images and annotations that it looks at, or of the raw files.
    """

    stage: str
    values: Mapping[str, Any]
    upstream: tuple[str, ...] = ()
    data_digest: str = ""
    version: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "version", STAGE_VERSION[self.stage])
        own = decode_config(encode_config(dict(self.values), self.stage))
        object.__setattr__(self, "values", own)

    @property
    def key(self) -> str:
        """The stage key: 64 hexadecimal digits."""
        return digest_of(
            {
                "stage": self.stage,
                "version": self.version,
                "values": encode_config(dict(self.values), self.stage),
                "upstream": list(self.upstream),
                "data": self.data_digest,
            }
        )
