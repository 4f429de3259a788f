"""The commands that `results/` gives for the table are ones that the program takes."""

import shlex
from pathlib import Path

import pytest
import yaml

from iqlft import cli
from iqlft.datasets.tasks import find_task
from iqlft.published import published_rows

LINES = (
    (Path(__file__).parents[1] / "results" / "table.sh").read_text(encoding="utf-8").splitlines()
)
COMMANDS = [shlex.split(line)[1:] for line in LINES if line.startswith("iqlft")]
CELLS = [command for command in COMMANDS if command[0] == "run"]


def test_every_task_of_the_published_table_has_its_data_and_its_cell() -> None:
    made = [command[2] for command in COMMANDS if command[:2] == ["data", "make"]]
    assert {find_task(name).name for name in made} == set(made)
    assert sorted(made) == sorted(command[2] for command in CELLS)
    assert set(made) >= {row.task for row in published_rows()}


@pytest.mark.parametrize("command", CELLS, ids=lambda command: command[2])
def test_a_cell_has_the_published_budget(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*command, "--print-config"]) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["num_updates"] == settings["env_steps"] == 1_000_000
    assert (settings["eval_every"], settings["eval_episodes"]) == (100_000, 100)
    assert settings["seeds"] == [0, 1, 2, 3, 4]
