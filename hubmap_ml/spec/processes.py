"""How many processes train one network."""

import re
from dataclasses import dataclass

from hubmap_ml.spec.errors import InputError


@dataclass(frozen=True)
class Processes:
    """How many processes train one network; no part of what they learn from.

    Attributes:
        nproc: on each machine; on GPUs, one each.
        nodes: machines, which share the work folder.
        rdzv: ``HOST:PORT`` on the first machine where they meet; a free port here for one machine.
    """

    nproc: int = 1
    nodes: int = 1
    rdzv: str = ""

    @property
    def world(self) -> int:
        """Processes altogether."""
        return self.nproc * self.nodes

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            InputError: a number under 1, or several machines without a place to meet.
        """
        if self.nproc < 1 or self.nodes < 1:
            raise InputError(f"nproc is {self.nproc} and nodes {self.nodes}: both are at least 1")
        if self.nodes > 1 and not re.fullmatch(r"[^:\s]+:\d+", self.rdzv):
            raise InputError(
                f"{self.nodes} nodes need rdzv=HOST:PORT on the first of them; it is {self.rdzv!r}"
            )

    def check_batch(self, batch: int) -> None:
        """Refuse a batch that cannot be shared evenly.

        Raises:
            InputError: it cannot.
        """
        if batch % self.world:
            raise InputError(
                f"a batch of {batch} cannot be shared by {self.world} processes: choose batch.global or nproc so "
                "that it can"
            )
