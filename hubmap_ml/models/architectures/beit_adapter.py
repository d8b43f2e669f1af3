"""ViT-Adapter around BEiT (Chen et al., arXiv 2205.08534): a plain transformer that gives maps of four scales."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.runner import BaseModule
from mmdet.models.builder import BACKBONES
from torch import Tensor, nn

from hubmap_ml.models.architectures.adapter import Geometry, Interaction
from hubmap_ml.models.architectures.beit import Block, PatchEmbedding, resized_positions
from hubmap_ml.models.architectures.deformable_attention import DeformableAttention
from hubmap_ml.models.architectures.initial_values import initialise
from hubmap_ml.models.architectures.normalisation import batch_norm
from hubmap_ml.models.architectures.spatial_prior import SpatialPrior
from hubmap_ml.models.architectures.tokens import to_map
from hubmap_ml.spec import InputError

PATCH = 16
EXTRA_EXTRACTORS = 2


@BACKBONES.register_module()
class BEiTAdapter(BaseModule):
    """Four maps with `embed_dim` channels at strides 4, 8, 16 and 32 of images whose sides are multiples of 32.

    Argument names and keys of the state are those of the published configurations and weights.

    Args:
        interaction_indexes: first and last block between each exchange with the pyramid.
        pretrain_size: image size that `pos_embed` belongs to, pixels.
        conv_inplane: channels of the pyramid's stem.
        n_points: sampled places of the deformable attention.
        deform_num_heads: its heads.
        deform_ratio: channels of its values by `embed_dim`.
        init_values: first value of the scales of blocks and injectors.
        with_cffn: with a perceptron in the extractors.
        cffn_ratio: its hidden channels by `embed_dim`.
        add_vit_feature: add the transformer's map to the outputs.
        version: ``new`` adds the last one to all outputs, ``old`` each interaction's own to one.
        with_cp: compute activations again in the backward pass.
        img_size: with `use_abs_pos_emb` the size that `pos_embed` has, pixels.
        patch_size: 16; no other is possible.
        in_chans: of the image; 3.
        embed_dim: channels.
        depth: number of blocks.
        num_heads: of each block's attention.
        mlp_ratio: hidden channels of each block's perceptron.
        qkv_bias: with biases of queries and values.
        qk_scale: of the attention's products.
        drop_rate: dropout of outputs.
        attn_drop_rate: dropout of attention weights.
        drop_path_rate: of the last block's branches, rising linearly from 0; of all extractors'.
        use_abs_pos_emb: add a learnt embedding of positions.
        use_rel_pos_bias, use_shared_rel_pos_bias: accepted for published configurations; each block has its own table.
        window_attn: for all blocks or for each: attention inside windows.
        window_size: for all or for each, in patches.
        pretrained: accepted for published configurations: None or False; the platform gives weights to start from.
        init_cfg: mmcv's.
    """

    def __init__(
        self,
        interaction_indexes: Sequence[Sequence[int]],
        pretrain_size: int = 224,
        conv_inplane: int = 64,
        n_points: int = 4,
        deform_num_heads: int = 6,
        init_values: float = 0.0,
        cffn_ratio: float = 0.25,
        deform_ratio: float = 1.0,
        with_cffn: bool = True,
        add_vit_feature: bool = True,
        version: str = "new",
        with_cp: bool = False,
        *,
        img_size: int = 512,
        patch_size: int = PATCH,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        use_abs_pos_emb: bool = False,
        use_rel_pos_bias: bool = True,
        use_shared_rel_pos_bias: bool = False,
        window_attn: bool | Sequence[bool] = False,
        window_size: int | Sequence[int] = 14,
        pretrained: str | bool | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        _check(patch_size, in_chans, use_shared_rel_pos_bias, pretrained, version, interaction_indexes, depth)
        windowed = _each(window_attn, depth, "window_attn")
        windows = _each(window_size, depth, "window_size")
        self.with_cp = with_cp
        self.add_vit_feature, self.version = add_vit_feature, version
        self.interaction_indexes = [(first, last) for first, last in interaction_indexes]
        self.pretrain_side = pretrain_size // patch_size
        self.patch_embed = PatchEmbedding(patch_size, in_chans, embed_dim)
        self.pos_embed = None
        if use_abs_pos_emb:
            self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // patch_size) ** 2, embed_dim))
        self.pos_drop = nn.Dropout(drop_rate)
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                windows[number],
                windowed=windowed[number],
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop_rate,
                attention_drop=attn_drop_rate,
                drop_path=drop_path_rate * number / max(1, depth - 1),
                init_values=init_values,
            )
            for number in range(depth)
        )
        self.level_embed = nn.Parameter(torch.zeros(3, embed_dim))
        self.spm = SpatialPrior(conv_inplane, embed_dim)
        self.interactions = nn.ModuleList(
            Interaction(
                embed_dim,
                {"heads": deform_num_heads, "points": n_points, "ratio": deform_ratio},
                init_values=init_values,
                ffn_ratio=cffn_ratio if with_cffn else None,
                drop=drop_rate,
                drop_path=drop_path_rate,
                extra=EXTRA_EXTRACTORS if number == len(self.interaction_indexes) - 1 else 0,
            )
            for number in range(len(self.interaction_indexes))
        )
        self.up = nn.ConvTranspose2d(embed_dim, embed_dim, 2, 2)
        self.norm1, self.norm2 = batch_norm(embed_dim), batch_norm(embed_dim)
        self.norm3, self.norm4 = batch_norm(embed_dim), batch_norm(embed_dim)

    def init_weights(self) -> None:
        """Fill all layers."""
        self.apply(initialise)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.init_weights()
        nn.init.normal_(self.level_embed)
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to maps (B, embed_dim, H / s, W / s) for s of 4, 8, 16, 32."""
        height, width = images.shape[-2:]
        if height % 32 or width % 32:
            raise InputError(
                f"ViT-Adapter takes images whose sides are multiples of 32, not {width} x {height}: add "
                "Pad(size_divisor=32) to the pipelines"
            )
        at = Geometry.of(height, width, images)
        c1, pyramid = self._pyramid(images)
        tokens = self.patch_embed(images)
        if self.pos_embed is not None:
            tokens = tokens + resized_positions(self.pos_embed, self.pretrain_side, *at.tokens)
        tokens = self.pos_drop(tokens)
        seen = []
        for (first, last), interaction in zip(self.interaction_indexes, self.interactions, strict=True):
            blocks = self.blocks[first : last + 1]
            recompute = self.with_cp and self.training
            tokens, pyramid = interaction(tokens, pyramid, blocks, at, recompute=recompute)
            seen.append(tokens)
        return self._outputs(c1, pyramid, seen, at)

    def _pyramid(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The map at stride 4, and the tokens of the others with the embedding of their levels."""
        c1, *others = self.spm(images)
        return c1, torch.cat(
            [level + embed for level, embed in zip(others, self.level_embed, strict=True)], 1
        )

    def _outputs(self, c1: Tensor, pyramid: Tensor, seen: list[Tensor], at: Geometry) -> list[Tensor]:
        parts = pyramid.split([height * width for height, width in at.levels], dim=1)
        c2, c3, c4 = (to_map(part, *size) for part, size in zip(parts, at.levels, strict=True))
        maps = [self.up(c2) + c1, c2, c3, c4]
        if self.add_vit_feature:
            added = seen if self.version == "old" else [seen[-1]] * 4
            for number, (tokens, scale) in enumerate(zip(added, (4.0, 2.0, 1.0, 0.5), strict=True)):
                seen_map = to_map(tokens, *at.tokens)
                if scale != 1.0:
                    seen_map = F.interpolate(
                        seen_map, scale_factor=scale, mode="bilinear", align_corners=False
                    )
                maps[number] = maps[number] + seen_map
        norms = (self.norm1, self.norm2, self.norm3, self.norm4)
        return [norm(one) for norm, one in zip(norms, maps, strict=True)]


def _each(value: Any, depth: int, name: str) -> list[Any]:
    values = list(value) if isinstance(value, Sequence) else [value] * depth
    if len(values) != depth:
        raise InputError(f"{name} has {len(values)} entries for {depth} blocks: name one for each")
    return values


def _check(patch_size, in_chans, shared, pretrained, version, interactions, depth) -> None:
    if patch_size != PATCH or in_chans != 3:
        raise InputError(
            f"patch_size {patch_size} and in_chans {in_chans}: the pyramid fits patch_size 16 and "
            "in_chans 3 only"
        )
    if shared:
        raise InputError(
            "use_shared_rel_pos_bias is not possible: each block has a table of its own (a shared "
            "one in a checkpoint is copied to all blocks)"
        )
    if pretrained:
        raise InputError(f"pretrained={pretrained!r}: the weights to start from are named in experiment.yaml")
    if version not in ("new", "old") or (version == "old" and len(interactions) != 4):
        raise InputError(
            f"version {version!r} with {len(interactions)} interactions; there are 'new', and 'old' with four"
        )
    blocks = [block for first, last in interactions for block in range(first, last + 1)]
    if blocks != list(range(depth)):
        raise InputError(
            f"interaction_indexes {[list(pair) for pair in interactions]} do not pass through blocks 0 to "
            f"{depth - 1} once each, in order"
        )
