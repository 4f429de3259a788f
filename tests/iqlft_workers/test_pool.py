"""Local workers run this package's code, whatever lies in the folder where they are started."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iqlft_workers.actor import ActorWeights


@pytest.mark.parametrize("name", ["workers.py", "msgpack.py", "iqlft_workers.py"])
def test_files_of_the_current_folder_do_not_stand_in_for_modules_of_a_worker(
    name: str,
    serve: Callable[..., Any],
    make_weights: Callable[..., ActorWeights],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marker = tmp_path / "was imported"
    (tmp_path / name).write_text(f"open({str(marker)!r}, 'w').close()\nraise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    gateway, pool = serve()
    gateway.publish(make_weights(3, 1))
    gateway.allow(100)
    count = 0
    while count < 100:
        count += sum(part.num_transitions for part in gateway.receive(20.0))
        assert pool.watch() == []
    assert not marker.exists()
