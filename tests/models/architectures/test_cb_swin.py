"""Assistant and lead."""

from typing import Any

import pytest
import torch

from hubmap_ml.models.architectures import CBFPN, CBSwinTransformer
from hubmap_ml.spec import InputError

SMALL: dict[str, Any] = {
    "embed_dim": 8,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 3,
    "drop_path_rate": 0.0,
}
IMAGE = torch.randn(1, 3, 50, 70, generator=torch.Generator().manual_seed(1))


def small(**changes: Any) -> CBSwinTransformer:
    torch.manual_seed(0)
    model = CBSwinTransformer(**{**SMALL, **changes})
    model.init_weights()
    return model


def test_a_new_lead_has_the_help_of_its_own_scale_alone() -> None:
    model = small().eval()
    helping, led = model(IMAGE)
    assert [one.shape for one in helping] == [one.shape for one in led]
    assert {name for name, value in model.named_parameters() if "cb_linears" in name and value.any()} == set()
    lead = model.cb_modules[1]
    alone = lead(model.cb_modules[0].embed(IMAGE), list(helping))
    for found, wanted in zip(led, alone, strict=True):
        torch.testing.assert_close(found, wanted)
    other = small(cb_zero_init=False).eval()
    assert not torch.allclose(other(IMAGE)[1][0], led[0])


def test_only_the_assistant_has_a_patch_embedding() -> None:
    keys = small().state_dict().keys()
    assert any(key.startswith("cb_modules.0.patch_embed.") for key in keys)
    assert not any(key.startswith("cb_modules.1.patch_embed.") for key in keys)
    assert {key for key in keys if key.startswith("cb_linears.")} == {
        f"cb_linears.{target}.{distance}.{part}"
        for target in range(4)
        for distance in range(1, 4 - target)
        for part in ("weight", "bias")
    }


def test_frozen_stages_stay_as_they_are() -> None:
    model = small(frozen_stages=2).train()
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen == {
        name for name, _ in model.named_parameters() if ".patch_embed." in name or ".layers.0." in name
    }
    assert not model.cb_modules[1].layers[0].training
    assert model.cb_modules[1].layers[1].training
    assert not model.eval().training


def test_the_neck_gives_both_pyramids_in_training_and_the_leads_otherwise() -> None:
    maps = small().eval()(IMAGE)
    neck = CBFPN(in_channels=[8, 16, 32, 64], out_channels=4, num_outs=5)
    both = neck.train()(maps)
    assert len(both) == 2
    assert [len(one) for one in both] == [5, 5]
    for found, wanted in zip(neck.eval()(maps), both[1], strict=True):
        torch.testing.assert_close(found, wanted)
    for found, wanted in zip(neck.train()(list(maps[0])), both[0], strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_indices": [2, 3]}, r"out_indices \[2, 3\]"),
        ({"cb_del_stages": 2}, "cb_del_stages 2"),
        ({"pretrained": "swin.pth"}, "experiment.yaml"),
    ],
)
def test_what_cannot_be_built_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        small(**changes)
