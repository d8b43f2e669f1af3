"""Self-attention inside windows with a learnt bias for each relative position, as BEiT and Swin share it.

Liu et al., Swin Transformer (arXiv 2103.14030); Bao et al., BEiT (arXiv 2106.08254). Maps are (B, H, W, C), tokens
(B, N, C) in row-major order.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def relative_position_index(window: int) -> Tensor:
    """Row of the bias table for each pair of a window's tokens.

    Returns:
        (window^2, window^2) int64: with tokens at (r1, c1) and (r2, c2)
        ``(r1 - r2 + window - 1) * (2 * window - 1) + (c1 - c2 + window - 1)``.
    """
    rows, columns = torch.arange(window).repeat_interleave(window), torch.arange(window).repeat(window)
    down = rows[:, None] - rows[None] + window - 1
    right = columns[:, None] - columns[None] + window - 1
    return down * (2 * window - 1) + right


def pad_to_multiple(maps: Tensor, size: int) -> Tensor:
    """Pad a map with zeros on the right and at the bottom until `size` divides both sides."""
    return F.pad(maps, (0, 0, 0, -maps.shape[2] % size, 0, -maps.shape[1] % size))


def to_windows(maps: Tensor, window: int) -> Tensor:
    """Cut a map whose sides `window` divides into windows: (B * rows * columns, window^2, C), row-major."""
    batch, height, width, channels = maps.shape
    cut = maps.view(batch, height // window, window, width // window, window, channels)
    return cut.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, channels)


def from_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Undo `to_windows`; (B, height, width, C)."""
    rows, columns = height // window, width // window
    cut = windows.view(-1, rows, columns, window, window, windows.shape[-1])
    return cut.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])


class WindowAttention(nn.Module):
    """Multi-head self-attention among the tokens of each window.

    Keys of its state: ``qkv``, ``proj``, ``relative_position_bias_table`` ((2 window - 1)^2, heads),
    ``relative_position_index`` (a buffer), and with ``bias="no_key"`` ``q_bias`` and ``v_bias``.

    Args:
        dim: channels of a token.
        window: its side in tokens.
        heads: `dim` is a multiple of it.
        bias: of queries, keys and values: ``"all"``, ``"none"``, or ``"no_key"`` as BEiT has it.
        scale: of the products; the default is (dim / heads)^-1/2.
        attention_drop: dropout of the attention's weights.
        drop: dropout of the output.
    """

    def __init__(
        self,
        dim: int,
        window: int,
        heads: int,
        *,
        bias: str = "all",
        scale: float | None = None,
        attention_drop: float = 0.0,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.scale = scale or (dim // heads) ** -0.5
        self.attention_drop = attention_drop
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias == "all")
        self.q_bias = nn.Parameter(torch.zeros(dim)) if bias == "no_key" else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if bias == "no_key" else None
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(drop)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            tokens: (B * windows, N, C) with N = window^2.
            mask: (windows, N, N) added to the logits of each window.
        """
        n_windows, n, dim = tokens.shape
        qkv = F.linear(tokens, self.qkv.weight, self._bias())
        query, key, value = qkv.view(n_windows, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(n_windows // len(mask), 1, 1, 1)
        found = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias.to(query.dtype),
            dropout_p=self.attention_drop if self.training else 0.0,
            scale=self.scale,
        )
        return self.proj_drop(self.proj(found.transpose(1, 2).reshape(n_windows, n, dim)))

    def _bias(self) -> Tensor | None:
        if self.q_bias is None or self.v_bias is None:
            return self.qkv.bias
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
