"""The two-layer perceptron of transformer blocks."""

from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """``fc1``, the exact GELU, ``fc2``.

    Args:
        dim: channels in and out.
        hidden: channels between.
        drop: dropout after ``fc2``.
        hidden_drop: dropout after the GELU.
    """

    def __init__(self, dim: int, hidden: int, *, drop: float = 0.0, hidden_drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.hidden_drop = nn.Dropout(hidden_drop)
        self.drop = nn.Dropout(drop)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to the same."""
        return self.drop(self.fc2(self.hidden_drop(F.gelu(self.fc1(tokens)))))
