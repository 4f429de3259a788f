"""What the learner's settings come to on a machine."""

import pytest
import torch

from iqlft.config.settings import Precision
from iqlft.training.build import flushed_denormals, hidden_dtype


@pytest.mark.parametrize(
    ("precision", "device", "processor", "expected"),
    [
        ("auto", "cpu", True, torch.bfloat16),
        ("auto", "cpu", False, torch.float32),
        ("auto", "cuda", True, torch.float32),
        ("bf16", "cpu", False, torch.bfloat16),
        ("float32", "cpu", True, torch.float32),
    ],
)
def test_auto_is_bf16_on_a_processor_that_has_it(
    precision: Precision,
    device: str,
    processor: bool,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("iqlft.training.build.processor_has_bf16", lambda: processor)
    assert hidden_dtype(precision, torch.device(device)) == expected


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_flushed_inside_and_as_the_caller_had_them_afterwards(before: bool) -> None:
    torch.set_flush_denormal(before)
    try:
        with flushed_denormals():
            assert flushes()
        assert flushes() == before
    finally:
        torch.set_flush_denormal(False)


def flushes() -> bool:
    return bool(torch.tensor([1.5e-38]) * 0.5 == 0)
