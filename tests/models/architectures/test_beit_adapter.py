"""ViT-Adapter: what the numeric fixtures do not show."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hubmap_ml.models.architectures import BEiTAdapter
from hubmap_ml.spec import InputError

SMALL: dict[str, Any] = {
    "interaction_indexes": [[0, 0], [1, 1], [2, 2], [3, 3]],
    "conv_inplane": 4,
    "n_points": 2,
    "deform_num_heads": 2,
    "deform_ratio": 0.5,
    "init_values": 0.5,
    "embed_dim": 8,
    "depth": 4,
    "num_heads": 2,
    "qkv_bias": True,
    "window_attn": True,
    "window_size": [2, 2, 3, 4],
}


def small(**changes: Any) -> BEiTAdapter:
    torch.manual_seed(0)
    model = BEiTAdapter(**{**SMALL, **changes})
    model.init_weights()
    return model


def gradients(model: BEiTAdapter, images: Tensor) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    draws = torch.Generator().manual_seed(2)
    outputs = model(images)
    total = sum(
        ((output * torch.randn(output.shape[1:], generator=draws)).sum() for output in outputs),
        torch.zeros(()),
    )
    total.backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def test_maps_have_strides_4_to_32_for_any_multiple_of_32() -> None:
    maps = small().eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape) for one in maps] == [(1, 8, 64 // s, 96 // s) for s in (4, 8, 16, 32)]


def test_one_image_twice_has_twice_its_gradients() -> None:
    # torch's batch normalisation mistakes the memory layout of a single image's tokens: see `to_map`.
    model = small().eval()
    image = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    once, twice = gradients(model, image), gradients(model, image.repeat(2, 1, 1, 1))
    for name, gradient in once.items():
        torch.testing.assert_close(2 * gradient, twice[name], atol=1e-4, rtol=1e-3, msg=name)


def test_computing_activations_again_changes_no_gradient() -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plain = gradients(small(drop_path_rate=0.5).train(), images)
    again = gradients(small(drop_path_rate=0.5, with_cp=True).train(), images)
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(gradient, again[name], msg=name)


def test_branches_are_dropped_more_often_with_depth_and_in_training_only() -> None:
    model = small(drop_path_rate=0.3)
    assert [block.drop_path.drop_prob for block in model.blocks] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert {part.extractor.drop_path.drop_prob for part in model.interactions} == {0.3}
    images = torch.zeros(1, 3, 32, 32)
    assert torch.equal(model.eval()(images)[0], model(images)[0])


def test_versions_differ_in_which_map_of_the_transformer_is_added() -> None:
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    new, old = small().eval()(images), small(version="old").eval()(images)
    assert not torch.allclose(new[0], old[0])
    assert torch.equal(new[3], old[3])  # the last one is the same in both
    assert not torch.allclose(small(add_vit_feature=False).eval()(images)[3], new[3])


def test_learnt_positions_are_resized_to_the_map() -> None:
    model = small(use_abs_pos_emb=True, img_size=224).eval()
    assert model.pos_embed.shape == (1, 196, 8)
    assert model(torch.zeros(1, 3, 64, 96))[0].shape == (1, 8, 16, 24)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 14}, "patch_size 14"),
        ({"use_shared_rel_pos_bias": True}, "use_shared_rel_pos_bias is not possible"),
        ({"pretrained": "beit.pth"}, "experiment.yaml"),
        ({"version": "newer"}, "version 'newer'"),
        ({"interaction_indexes": [[0, 1], [3, 3]]}, r"\[\[0, 1\], \[3, 3\]\] do not pass through"),
        ({"window_size": [2, 2]}, "window_size has 2 entries for 4 blocks"),
    ],
)
def test_what_cannot_be_built_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**changes)


def test_images_that_do_not_fit_are_one_line() -> None:
    with pytest.raises(InputError, match=r"multiples of 32, not 48 x 64.*Pad"):
        small()(torch.zeros(1, 3, 64, 48))
    whole = small(window_attn=False, window_size=4)
    assert whole(torch.zeros(1, 3, 64, 64))[0].shape == (1, 8, 16, 16)
    with pytest.raises(InputError, match="built for 4 x 4 patches and the image has 4 x 6"):
        whole(torch.zeros(1, 3, 64, 96))
