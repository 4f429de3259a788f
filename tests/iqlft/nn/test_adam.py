"""Adam as PyTorch computes it, in one piece or in several."""

import pytest
import torch

from iqlft.nn import adam
from iqlft.nn.adam import Adam

LENGTHS = (3, 5000, 300_001)


@pytest.mark.parametrize("way", ["_whole", "_cut"])
def test_steps_are_those_of_pytorch(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a GPU it cuts; what it computes must not depend on that.
    monkeypatch.setattr(adam, "_whole", getattr(adam, way))
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(length, generator=generator) for length in LENGTHS]
    expected = [torch.nn.Parameter(each.clone()) for each in parameters]
    gradients = [torch.empty_like(each) for each in parameters]
    ours, theirs = Adam(parameters, gradients), torch.optim.Adam(expected, lr=1e-2, fused=True)
    for _ in range(3):
        for each, reference in zip(gradients, expected, strict=True):
            each.normal_(generator=generator)
            reference.grad = each.clone()
        ours.step(1e-2)
        theirs.step()
    for each, reference in zip(parameters, expected, strict=True):
        torch.testing.assert_close(each, reference.detach())
    assert ours.steps.tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("length", "sizes"),
    [
        (100, [100]),
        (4096 * 3 + 1, [4096, 4096, 4096, 1]),
        (10 * 73_729, [4096 * 6] * 30 + [10]),
        (4096 * 32 + 1, [8192] * 16 + [1]),
    ],
)
def test_a_tensor_is_cut_into_few_pieces(length: int, sizes: list[int]) -> None:
    assert [len(each) for each in adam._cut(torch.zeros(length))] == sizes
    assert len(sizes) <= 32
