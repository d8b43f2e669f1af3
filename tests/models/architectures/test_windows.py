"""Windows are cut and put back; attention inside them is the textbook's."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hubmap_ml.models.architectures.windows import (
    WindowAttention,
    from_windows,
    pad_to_multiple,
    relative_position_index,
    to_windows,
)


@settings(deadline=None, max_examples=30)
@given(batch=st.integers(1, 3), height=st.integers(1, 11), width=st.integers(1, 11), window=st.integers(1, 5))
def test_windows_are_put_back_where_they_were(batch: int, height: int, width: int, window: int) -> None:
    maps = torch.arange(batch * height * width * 2.0).view(batch, height, width, 2)
    padded = pad_to_multiple(maps, window)
    assert padded.shape[1] % window == padded.shape[2] % window == 0
    assert padded[:, height:].abs().sum() == padded[:, :, width:].abs().sum() == 0
    windows = to_windows(padded, window)
    torch.testing.assert_close(windows[0].view(window, window, 2), padded[0, :window, :window])
    back = from_windows(windows, window, padded.shape[1], padded.shape[2])
    assert torch.equal(back[:, :height, :width], maps)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_pair_of_tokens_has_the_row_of_its_relative_position(window: int) -> None:
    index = relative_position_index(window)
    for p in range(window**2):
        for q in range(window**2):
            down, right = p // window - q // window, p % window - q % window
            assert index[p, q] == (down + window - 1) * (2 * window - 1) + right + window - 1
    assert index.min() == 0
    assert index.max() == (2 * window - 1) ** 2 - 1


@pytest.mark.parametrize("bias", ["all", "none", "no_key"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_textbooks(bias: str, masked: bool) -> None:
    torch.manual_seed(3)
    dim, window, heads, images, n_windows = 6, 3, 2, 2, 4
    attention = WindowAttention(dim, window, heads, bias=bias, scale=0.7)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_()
    n = window**2
    tokens = torch.randn(images * n_windows, n, dim)
    mask = torch.where(torch.rand(n_windows, n, n) < 0.3, -100.0, 0.0) if masked else None
    found = attention(tokens, mask)
    state = attention.state_dict()
    offset = torch.zeros(3 * dim)
    if bias == "all":
        offset = state["qkv.bias"]
    elif bias == "no_key":
        offset = torch.cat([state["q_bias"], torch.zeros(dim), state["v_bias"]])
    for w in range(len(tokens)):
        q, k, v = (tokens[w] @ state["qkv.weight"].T + offset).split(dim, dim=1)
        heads_out = []
        for h in range(heads):
            part = slice(h * dim // heads, (h + 1) * dim // heads)
            logits = 0.7 * q[:, part] @ k[:, part].T
            logits = logits + state["relative_position_bias_table"][state["relative_position_index"], h]
            if mask is not None:
                logits = logits + mask[w % n_windows]
            heads_out.append(logits.softmax(1) @ v[:, part])
        wanted = torch.cat(heads_out, 1) @ state["proj.weight"].T + state["proj.bias"]
        torch.testing.assert_close(found[w], wanted, atol=1e-4, rtol=1e-4)


def test_the_usual_scale_and_dropout_in_training_only() -> None:
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, 2, attention_drop=0.5)
    assert attention.scale == pytest.approx(1 / math.sqrt(4))
    tokens = torch.randn(1, 4, 8)
    assert not torch.equal(attention.train()(tokens), attention(tokens))
    assert torch.equal(attention.eval()(tokens), attention(tokens))
