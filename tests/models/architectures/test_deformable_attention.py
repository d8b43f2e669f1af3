"""Deformable attention gathers by hand what it gathers by machine."""

import math

import pytest
import torch

from hubmap_ml.models import cuda_ops_version
from hubmap_ml.models.architectures.deformable_attention import DeformableAttention, grid_places


def bilinear(plane: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """A map (H, W, C) at a place in pixels, a pixel's centre at its whole number, zeros outside."""
    total = torch.zeros(plane.shape[-1])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                total = total + (1 - abs(y - row)) * (1 - abs(x - column)) * plane[row, column]
    return total


@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_each_head_gathers_weighted_values_around_its_place(ratio: float) -> None:
    torch.manual_seed(5)
    dim, heads, points, sizes = 8, 2, 3, [(4, 6), (2, 3)]
    attention = DeformableAttention(dim, levels=2, heads=heads, points=points, ratio=ratio)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_()
    places = grid_places([(2, 2)], torch.zeros(1))
    queries, values = torch.randn(2, 4, dim), torch.randn(2, 4 * 6 + 2 * 3, dim)
    found = attention(queries, places, values, sizes)
    state, inner = attention.state_dict(), int(dim * ratio)
    for b in range(2):
        projected = (values[b] @ state["value_proj.weight"].T + state["value_proj.bias"]).view(
            -1, heads, inner // heads
        )
        levels = [projected[:24].view(4, 6, heads, -1), projected[24:].view(2, 3, heads, -1)]
        for q in range(4):
            offsets = (
                state["sampling_offsets.weight"] @ queries[b, q] + state["sampling_offsets.bias"]
            ).view(heads, 2, points, 2)
            logits = state["attention_weights.weight"] @ queries[b, q] + state["attention_weights.bias"]
            weights = logits.view(heads, -1).softmax(1).view(heads, 2, points)
            gathered = []
            for h in range(heads):
                total = torch.zeros(inner // heads)
                for level, (height, width) in enumerate(sizes):
                    for p in range(points):
                        x = float(places[q, 0]) * width + float(offsets[h, level, p, 0]) - 0.5
                        y = float(places[q, 1]) * height + float(offsets[h, level, p, 1]) - 0.5
                        total = total + weights[h, level, p] * bilinear(levels[level][:, :, h], x, y)
                gathered.append(total)
            wanted = state["output_proj.weight"] @ torch.cat(gathered) + state["output_proj.bias"]
            torch.testing.assert_close(found[b, q], wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(
    not torch.cuda.is_available() or cuda_ops_version() is None,
    reason="needs a GPU and an mmcv-full with CUDA ops",
)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_compiled_op_equals_the_exact_core(batch: int) -> None:
    torch.manual_seed(5)
    sizes = [(8, 12), (4, 6), (2, 3)]
    attention = DeformableAttention(32, levels=3, heads=4, points=4, ratio=0.5)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.normal_(std=0.5)
    places = grid_places([(4, 6)], torch.zeros(1))
    queries = torch.randn(batch, 24, 32)
    values = torch.randn(batch, sum(height * width for height, width in sizes), 32)
    found = []
    for device in ("cpu", "cuda"):
        attention.to(device).zero_grad(set_to_none=True)
        outputs = attention(queries.to(device), places.to(device), values.to(device), sizes)
        outputs.square().sum().backward()
        gradients = {name: value.grad.cpu() for name, value in attention.named_parameters()}
        found.append({"outputs": outputs.detach().cpu(), **gradients})
    for name, wanted in found[0].items():
        torch.testing.assert_close(found[1][name], wanted, atol=1e-3, rtol=1e-3, msg=name)


def test_at_the_start_each_head_looks_its_own_way() -> None:
    attention = DeformableAttention(8, levels=2, heads=4, points=3, ratio=1.0)
    offsets = attention.sampling_offsets.bias.view(4, 2, 3, 2)
    ways = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    for point in range(3):
        for level in range(2):
            torch.testing.assert_close(offsets[:, level, point], (point + 1) * ways, atol=1e-6, rtol=0)
    assert (
        attention.sampling_offsets.weight.abs().sum() == attention.attention_weights.weight.abs().sum() == 0
    )


def test_places_are_the_centres_of_pixels_row_by_row() -> None:
    places = grid_places([(2, 4), (1, 1)], torch.zeros(1))
    torch.testing.assert_close(places[:5, 0], torch.tensor([0.125, 0.375, 0.625, 0.875, 0.125]))
    torch.testing.assert_close(places[:5, 1], torch.tensor([0.25, 0.25, 0.25, 0.25, 0.75]))
    torch.testing.assert_close(places[8], torch.tensor([0.5, 0.5]))
