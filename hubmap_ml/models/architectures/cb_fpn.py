"""The feature pyramid of CBNetV2: mmdet's, with one set of weights for assistant and lead (arXiv 2107.00420)."""

from collections.abc import Sequence

import torch
from mmdet.models.builder import NECKS
from mmdet.models.necks import FPN
from torch import Tensor

Pyramid = tuple[Tensor, ...]


@NECKS.register_module()
class CBFPN(FPN):
    """`FPN` for the maps of a composite backbone; keys of the state are the same."""

    def forward(self, maps: Sequence[Tensor] | Sequence[Sequence[Tensor]]) -> Pyramid | list[Pyramid]:
        """Pyramids of assistant and lead in training, the lead's alone in evaluation.

        Args:
            maps: of each of the backbones, the lead last; or those of a single one.
        """
        if torch.is_tensor(maps[0]):
            return super().forward(maps)
        if self.training:
            return [super(CBFPN, self).forward(each) for each in maps]
        return super().forward(maps[-1])
