"""Initial weights are those of the sources."""

import torch

from iqlft.nn.initialization import orthogonal, uniform


def test_orthogonal_matrices_have_gain_sqrt_two_in_both_orientations() -> None:
    generator = torch.Generator().manual_seed(0)
    (wide, biases), (tall, _) = orthogonal(3, 8, generator), orthogonal(8, 3, generator)
    torch.testing.assert_close(wide @ wide.T, 2 * torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(tall.T @ tall, 2 * torch.eye(3, dtype=torch.float64))
    assert biases.tolist() == [[0] * 8]


def test_uniform_ones_are_distributed_as_in_pytorch_s_linear_layers() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(25, 4000)
    weights, biases = uniform(25, 4000, torch.Generator().manual_seed(0))
    for mine, theirs in ((weights.T, linear.weight), (biases[0], linear.bias)):
        assert mine.shape == theirs.shape
        for share in (0.0, 0.1, 0.5, 0.9, 1.0):
            # A standard error of a quantile of 4,000 numbers within 0.2 is at most 0.0032.
            assert abs(mine.quantile(share) - theirs.quantile(share)) < 0.015
