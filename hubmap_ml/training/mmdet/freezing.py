"""Parts of a network that do not learn, and batch norms that keep their statistics: a member's ``freeze``.

``freeze = dict(modules=["backbone.patch_embed", "backbone.blocks.0"], batch_norms=True)`` is for any network; mmdet's
``frozen_stages`` and ``norm_eval`` are options of some backbones.
"""

from collections.abc import Sequence
from typing import Any

from mmcv.runner import Hook
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hubmap_ml.spec import InputError


class Freezing(Hook):
    """Keeps modules from learning; to be made before the optimiser.

    Args:
        model: the detector.
        modules: names of those whose parameters have no gradient and which stay in evaluation mode: neither running
            statistics nor dropout change them.
        batch_norms: whether all batch norms of the network keep their running statistics and normalise with them; their
            scale and shift go on learning.

    Raises:
        InputError: a name of no module, or nothing is left that learns.
    """

    def __init__(self, model: nn.Module, modules: Sequence[str] = (), *, batch_norms: bool = False) -> None:
        named = dict(model.named_modules())
        for name in modules:
            if name not in named or not name:
                raise InputError(
                    f"freeze.modules: the network has no {name!r}; at its top it has {_children(model)}"
                )
            named[name].requires_grad_(False)
        if not any(value.requires_grad for value in model.parameters()):
            raise InputError("freeze.modules leaves nothing that learns")
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self._still = [named[name] for name in modules] + (norms if batch_norms else [])

    def before_train_epoch(self, _: Any) -> None:
        """Bring back to evaluation mode what the runner has just set to training."""
        for module in self._still:
            module.eval()


def _children(model: nn.Module) -> str:
    return ", ".join(name for name, _ in model.named_children())
