"""The first release's Swin transformer, against mmdet's through mmdet's own conversion of published weights."""

import pytest
import torch
from mmdet.models.backbones.swin import SwinTransformer, swin_converter

from hubmap_ml.models.architectures.swin import Swin, SwinShape, shift_mask

SHAPE = SwinShape(embed_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), window_size=3, drop_path_rate=0.0)


def filled(model: torch.nn.Module) -> torch.nn.Module:
    draws = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) * 0.3)
    return model.eval()


@pytest.mark.parametrize("size", [(32, 48), (37, 50), (96, 96)])
def test_maps_equal_mmdets_with_converted_weights(size: tuple[int, int]) -> None:
    own = filled(Swin(SHAPE, range(4)))
    other = SwinTransformer(
        embed_dims=8,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 2, 4),
        window_size=3,
        mlp_ratio=4,
        drop_path_rate=0.0,
    )
    other.eval()  # mmdet's gives nothing back
    state = {
        key.removeprefix("backbone."): value
        for key, value in swin_converter(own.state_dict()).items()
        if "relative_position_index" not in key
    }
    left = other.load_state_dict({**other.state_dict(), **state})
    assert not left.missing_keys
    assert state.keys() <= other.state_dict().keys()
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for found, wanted in zip(own(own.embed(image)), other(image), strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_only_neighbours_of_a_rolled_map_see_each_other() -> None:
    height, width, window = 5, 7, 3
    mask = shift_mask(height, width, window, like=torch.zeros(1))
    assert mask.shape == (6, 9, 9)
    shift = window // 2
    rolled = (
        torch.arange(6 * 9).view(6, 9).roll((-shift, -shift), (0, 1))
    )  # the padded map's places, as they lie
    cut = rolled.view(2, 3, 3, 3).permute(0, 2, 1, 3).reshape(6, 9)
    for number, places in enumerate(cut):
        rows, columns = places // 9, places % 9
        together = ((rows[:, None] - rows).abs() < window) & ((columns[:, None] - columns).abs() < window)
        assert torch.equal(mask[number] == 0, together)
        assert set(mask[number].unique().tolist()) <= {0.0, -100.0}


def test_blocks_computed_again_give_the_same_gradients() -> None:
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = []
    for again in (False, True):
        shape = SwinShape(
            8, (2, 2), (1, 2), window_size=3, drop_path_rate=0.3, use_checkpoint=again, ape=True
        )
        model = filled(Swin(shape, range(2))).train()
        torch.manual_seed(0)
        sum(one.sum() for one in model(model.embed(image))).backward()
        found.append({name: value.grad for name, value in model.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], msg=name)
