"""EfficientNet as timm has it, for its noisy-student weights (arXiv 1905.11946 and 1911.04252)."""

from collections.abc import Sequence
from typing import Any

from mmcv.runner import BaseModule
from mmdet.models.builder import BACKBONES
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from hubmap_ml.spec import InputError

ARCHITECTURES = tuple(f"b{number}" for number in range(8))


@BACKBONES.register_module()
class TimmEfficientNet(BaseModule):
    """Maps at strides 4, 8, 16, 32 after the blocks 1, 2, 4 and 6; ``channels`` says how many each has.

    Keys of the state are timm's below ``net``. (mmdet's own ``EfficientNet`` has other keys.)

    Args:
        arch: ``b0`` to ``b7``.
        out_indices: levels of timm's feature pyramid, 0 (stride 2) to 4 (stride 32).
        drop_path_rate: of the last block, rising linearly from 0.
        norm_eval: keep the statistics of all batch norms.
        init_cfg: mmcv's.
    """

    def __init__(
        self,
        arch: str,
        *,
        out_indices: Sequence[int] = (1, 2, 3, 4),
        drop_path_rate: float = 0.0,
        norm_eval: bool = False,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        if arch not in ARCHITECTURES:
            raise InputError(f"arch {arch!r} is none of {', '.join(ARCHITECTURES)}")
        try:
            from timm import create_model
        except ModuleNotFoundError:
            raise InputError(
                "TimmEfficientNet needs timm, which is not installed here: run make setup"
            ) from None
        self.norm_eval = norm_eval
        self.net = create_model(
            f"tf_efficientnet_{arch}",
            features_only=True,
            out_indices=tuple(out_indices),
            drop_path_rate=drop_path_rate,
            pretrained=False,
        )
        self.channels = tuple(self.net.feature_info.channels())

    def train(self, mode: bool = True) -> "TimmEfficientNet":
        """Set the mode; with `norm_eval` batch norms stay in evaluation."""
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) to one map (B, C, H / s, W / s) for each level."""
        return tuple(self.net(images))
