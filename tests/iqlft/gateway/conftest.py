import pytest

from iqlft.gateway import evaluation_queue


@pytest.fixture(autouse=True)
def _numbered_from_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first evaluation has the number 1, and not one that nobody can guess."""
    monkeypatch.setattr(evaluation_queue, "randbits", lambda _: 0)
