"""Architectures that mmdet lacks; importing this registers them."""

from hubmap_ml.models.architectures.beit_adapter import BEiTAdapter
from hubmap_ml.models.architectures.cb_fpn import CBFPN
from hubmap_ml.models.architectures.cb_swin import CBSwinTransformer
from hubmap_ml.models.architectures.efficientnet import TimmEfficientNet
from hubmap_ml.models.architectures.extra_attention import ExtraAttention
from hubmap_ml.models.architectures.two_pyramids import (
    TwoPyramidCascadeRCNN,
    TwoPyramidHybridTaskCascade,
    TwoPyramidMaskRCNN,
)

__all__ = [
    "CBFPN",
    "BEiTAdapter",
    "CBSwinTransformer",
    "ExtraAttention",
    "TimmEfficientNet",
    "TwoPyramidCascadeRCNN",
    "TwoPyramidHybridTaskCascade",
    "TwoPyramidMaskRCNN",
]
