"""Two Swin transformers, the first helping the second at each stage (Liang et al., CBNetV2, arXiv 2107.00420)."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmcv.runner import BaseModule
from mmdet.models.builder import BACKBONES
from torch import Tensor, nn

from hubmap_ml.models.architectures.initial_values import initialise
from hubmap_ml.models.architectures.swin import Swin, SwinShape
from hubmap_ml.spec import InputError


@BACKBONES.register_module()
class CBSwinTransformer(BaseModule):
    """Assistant and lead: before each stage the lead's tokens take in the assistant's maps of that scale and coarser.

    Argument names and keys of the state are those of the published configurations and weights.

    Args:
        embed_dim ... use_checkpoint: as in `SwinShape`.
        out_indices: all stages; the assistant's maps are needed from each.
        frozen_stages: the patch embedding (0) and so many stages - 1 of both are not trained; -1 freezes nothing.
        cb_zero_init: the lead begins without the assistant's help.
        cb_del_stages: 1; the lead has no patch embedding and starts from the assistant's tokens.
        pretrained: accepted for published configurations: None or False; the platform gives weights to start from.
        init_cfg: mmcv's.
    """

    def __init__(
        self,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        *,
        cb_zero_init: bool = True,
        cb_del_stages: int = 1,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        pretrained: str | bool | None = None,
        init_cfg: Any = None,
        **shape: Any,
    ) -> None:
        super().__init__(init_cfg)
        if cb_del_stages != 1 or tuple(out_indices) != tuple(range(len(depths))):
            raise InputError(
                f"cb_del_stages {cb_del_stages} and out_indices {list(out_indices)}: the two "
                "transformers can be joined only with cb_del_stages 1 and all stages as outputs"
            )
        if pretrained:
            raise InputError(
                f"pretrained={pretrained!r}: the weights to start from are named in experiment.yaml"
            )
        made_of = SwinShape(embed_dim, tuple(depths), tuple(num_heads), **shape)
        self.cb_zero_init, self.frozen_stages = cb_zero_init, frozen_stages
        self.cb_modules = nn.ModuleList(
            [Swin(made_of, out_indices), Swin(made_of, out_indices, with_patches=False)]
        )
        stages = range(len(depths))
        self.cb_linears = nn.ModuleList(
            nn.ModuleList(
                nn.Identity()
                if source == target
                else nn.Conv2d(made_of.channels(source), made_of.channels(target), 1)
                for source in stages[target:]
            )
            for target in stages
        )
        self._freeze()

    def init_weights(self) -> None:
        """Fill all layers."""
        self.apply(initialise)
        for module in self.cb_modules:
            for name, parameter in module.named_parameters():
                if name.endswith(("relative_position_bias_table", "absolute_pos_embed")):
                    nn.init.trunc_normal_(parameter, std=0.02)
        if self.cb_zero_init:
            for parameter in self.cb_linears.parameters():
                nn.init.zeros_(parameter)

    def train(self, mode: bool = True) -> "CBSwinTransformer":
        """Set the mode; frozen parts stay in evaluation."""
        super().train(mode)
        self._freeze()
        return self

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """(B, 3, H, W) to the maps (B, C, h, w) of all stages, those of the assistant and those of the lead."""
        assistant, lead = self.cb_modules
        start = assistant.embed(images)
        helping = assistant(start)
        led = lead(start, [self._help(stage, helping) for stage in range(len(helping))])
        return tuple(helping), tuple(led)

    def _help(self, stage: int, maps: Sequence[Tensor]) -> Tensor:
        """What the assistant's maps of one stage and all later ones give to the lead before that stage."""
        size = maps[stage].shape[-2:]
        given = [
            F.interpolate(linear(source), size, mode="nearest")
            for linear, source in zip(self.cb_linears[stage], maps[stage:], strict=True)
        ]
        return sum(given[1:], given[0])

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for module in self.cb_modules:
            frozen = [part for part in (module.patch_embed, module.pos_drop) if part is not None]
            frozen += module.layers[: max(0, self.frozen_stages - 1)]
            if module.absolute_pos_embed is not None:
                module.absolute_pos_embed.requires_grad_(False)
            for part in frozen:
                part.eval()
                part.requires_grad_(False)
