"""timm's EfficientNet as a backbone."""

import pytest
import torch
from mmdet.models import BACKBONES
from torch.nn.modules.batchnorm import _BatchNorm

from hubmap_ml.models.architectures import TimmEfficientNet
from hubmap_ml.models.stems import set_stem_stride
from hubmap_ml.spec import InputError


def test_maps_have_the_strides_and_channels_of_a_pyramid() -> None:
    import timm

    backbone = BACKBONES.build({"type": "TimmEfficientNet", "arch": "b0"}).eval()
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    maps = backbone(image)
    assert [tuple(one.shape[1:]) for one in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]
    whole = timm.create_model("tf_efficientnet_b0", pretrained=False).eval()
    whole.load_state_dict(backbone.net.state_dict(), strict=False)
    blocks = whole.blocks(whole.bn1(whole.conv_stem(image)))
    torch.testing.assert_close(maps[-1], blocks)  # after the last block, before timm's head
    set_stem_stride(backbone, 1)
    assert backbone(image)[0].shape[-2:] == (32, 48)


@pytest.mark.parametrize("arch", ["b4", "b5", "b6"])
def test_the_sizes_of_the_reference_systems_build(arch: str) -> None:
    with torch.device("meta"):
        assert len(TimmEfficientNet(arch).channels) == 4


def test_statistics_can_be_kept() -> None:
    backbone = TimmEfficientNet("b0", norm_eval=True).train()
    assert backbone.training
    assert not any(module.training for module in backbone.modules() if isinstance(module, _BatchNorm))


def test_an_unknown_size_is_one_line() -> None:
    with pytest.raises(InputError, match="'b9' is none of b0"):
        TimmEfficientNet("b9")
