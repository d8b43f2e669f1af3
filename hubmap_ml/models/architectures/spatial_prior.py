"""The convolutional pyramid beside ViT-Adapter's transformer (Chen et al., arXiv 2205.08534, section 3.2)."""

from torch import Tensor, nn

from hubmap_ml.models.architectures.normalisation import batch_norm
from hubmap_ml.models.architectures.tokens import to_tokens


class SpatialPrior(nn.Module):
    """Maps of an image at strides 4, 8, 16 and 32, all with the transformer's channels.

    Args:
        inner: channels of the stem; the later stages have twice, four times and four times as many.
        dim: channels of the outputs.
    """

    def __init__(self, inner: int, dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_layer(3, inner, stride=2),
            *_layer(inner, inner, stride=1),
            *_layer(inner, inner, stride=1),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.conv2 = nn.Sequential(*_layer(inner, 2 * inner, stride=2))
        self.conv3 = nn.Sequential(*_layer(2 * inner, 4 * inner, stride=2))
        self.conv4 = nn.Sequential(*_layer(4 * inner, 4 * inner, stride=2))
        self.fc1 = nn.Conv2d(inner, dim, 1)
        self.fc2 = nn.Conv2d(2 * inner, dim, 1)
        self.fc3 = nn.Conv2d(4 * inner, dim, 1)
        self.fc4 = nn.Conv2d(4 * inner, dim, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, H, W) to the map at stride 4, and tokens (B, N, dim) of strides 8, 16 and 32."""
        c1 = self.stem(images)
        c2 = self.conv2(c1)
        c3 = self.conv3(c2)
        c4 = self.conv4(c3)
        return self.fc1(c1), to_tokens(self.fc2(c2)), to_tokens(self.fc3(c3)), to_tokens(self.fc4(c4))


def _layer(channels: int, out_channels: int, *, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return [convolution, batch_norm(out_channels), nn.ReLU(inplace=True)]
