"""The processes that train one network together, as each of them sees it: its number, and what they do in common.

Gradients are averaged by torch's DistributedDataParallel. Batches are on their device already, so mmcv's wrapper is
used without its scattering (whose GPU path fails with torch >= 2); its `train_step` is what a runner calls.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from mmcv.parallel import MMDistributedDataParallel
from torch import Tensor, nn

from hubmap_ml.spec import InputError

Item = TypeVar("Item")


class RankedDetector(MMDistributedDataParallel):
    """A detector whose gradients are the mean over the ranks'."""

    def _run_ddp_forward(self, *inputs: Any, **kwargs: Any) -> Any:
        # mmcv's asks for an attribute that torch >= 2 has not.
        return self.module(*inputs, **kwargs)


@dataclass(frozen=True)
class Ranks:
    """One of ``world`` processes; a training of its own is rank 0 of 1."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that records and saves."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Let the model's gradients be averaged; it starts everywhere with rank 0's weights."""
        if self.world == 1:
            return model
        # A batch without a positive leaves a mask head unused: such parameters must be looked for.
        return RankedDetector(model, broadcast_buffers=False, find_unused_parameters=True)

    def equalise(self, tensors: Iterable[Tensor]) -> None:
        """Give all ranks rank 0's values: running means of batch norms come from each rank's own images."""
        if self.world == 1:
            return
        for tensor in tensors:
            dist.broadcast(tensor, 0)

    def gathered(self, mine: Mapping[int, Item]) -> dict[int, Item]:
        """Return the union of what each rank holds."""
        if self.world == 1:
            return dict(mine)
        parts: list[Any] = [None] * self.world
        dist.all_gather_object(parts, dict(mine))
        return {key: value for part in parts for key, value in part.items()}

    def digests(self, model: nn.Module) -> list[str]:
        """Return the digest of each rank's weights, which must be one and the same."""
        digest = hashlib.sha256()
        for value in model.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return self.from_all(digest.hexdigest())

    def from_all(self, mine: Item) -> list[Item]:
        """Return what each rank brings, in their order."""
        found = self.gathered({self.rank: mine})
        return [found[rank] for rank in range(self.world)]

    def any(self, mine: bool) -> bool:
        """Return whether it is so on any rank; all get the same answer."""
        if self.world == 1:
            return mine
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        value = torch.tensor(int(mine), device=device)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value.item())

    def first_alone(self, work: Callable[[], Item]) -> Item:
        """Do something on the first rank, and when it is done on the others."""
        if not self.first:
            self.wait()
        done = work()
        if self.first:
            self.wait()
        return done

    def wait(self) -> None:
        """Return when all ranks have come here."""
        if self.world > 1:
            dist.barrier()


def current() -> Ranks:
    """This process among those of its training."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


def join(device: str, local_rank: int) -> str:
    """Join the other ranks, as torchrun's variables say, and return this rank's own device.

    Raises:
        InputError: there are fewer GPUs than ranks on this machine.
    """
    name = device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise InputError(f"nproc asks for more than the {torch.cuda.device_count()} GPUs of this machine")
        name = f"cuda:{local_rank}"
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if name.startswith("cuda") else "gloo")
    return name


def leave() -> None:
    """Part from the other ranks at the end of a training."""
    if dist.is_initialized():
        dist.destroy_process_group()
