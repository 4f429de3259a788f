"""Comparison of a run's `config.yaml` with the copy in its checkpoint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from iqlft.runs import checkpoint
from iqlft.runs.checkpoint import CheckpointError
from iqlft.runs.errors import RunError, command, no_room

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from iqlft.runs.folder import Run

_SHOWN = 8
"""Largest number of differences that are shown."""


def plain(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The sections of a `config.yaml` as they are after a round trip through JSON."""
    data: dict[str, Any] = json.loads(json.dumps(configuration, default=str))
    return data


def differences(recorded: Mapping[str, Any], found: Mapping[str, Any], at: str = "") -> list[str]:
    """In which keys two configurations differ, as `finetune.env_steps is 341, was 340`.

    Args:
        recorded: by a checkpoint.
        found: in the file.
        at: prefix of the keys, such as `finetune.`.
    """
    said = []
    for key in dict.fromkeys((*recorded, *found)):
        was, now, name = recorded.get(key), found.get(key), f"{at}{key}"
        if isinstance(was, dict) and isinstance(now, dict):
            said += differences(was, now, f"{name}.")
        elif key not in found:
            said.append(f"{name} is missing" + f", was {was!r}" * (not isinstance(was, dict)))
        elif key not in recorded:
            said.append(f"{name} is {now!r}, was not there")
        elif was != now:
            said.append(f"{name} is {now!r}, was {was!r}")
    return said


def require_recorded(run: Run, name: str, state: Mapping[str, Any], advice: str) -> None:
    """Refuses to go on from a checkpoint that was written with another `config.yaml`.

    Args:
        run: the run whose `config.yaml` is compared.
        name: name of the checkpoint.
        state: state of the checkpoint.
        advice: what to do if they differ.

    Raises:
        RunError: they differ; the message shows in what.
    """
    if said := _differences(run, state):
        raise RunError(
            f"{run.folder}/config.yaml is not the one that the checkpoint {name} was written "
            f"with: {'; '.join(said)}. {advice}"
        )


def _differences(run: Run, state: Mapping[str, Any]) -> list[str]:
    recorded = state.get("config")
    if recorded is None:
        return []  # Version 0.1 did not record it.
    found = plain(run.configuration(whole=False))
    if state["phase"] == "offline":
        found.pop("finetune", None)  # Of the fine-tuning that begins with this checkpoint.
        recorded = {key: each for key, each in recorded.items() if key != "finetune"}
    said = differences(recorded, found)
    more = len(said) - _SHOWN
    return [*said[:_SHOWN], f"and {more} more"] if more > 0 else said


def settle(run: Run, say: Callable[[str], None], *, edited: bool = False) -> None:
    """Settles which checkpoint a run goes on from and with which settings, before it is resumed.

    If the file `last` is lost, the newest whole checkpoint is taken; a `config.yaml` that is
    missing is written anew.

    Args:
        run: a run in which no process trains.
        say: called with a sentence about what was mended.
        edited: whether `config.yaml` is to be taken as it is.

    Raises:
        CheckpointError: there is no whole checkpoint.
        RunError: `config.yaml` is not the one that the checkpoint was written with.
    """
    run.claim()
    try:
        name = _settle_last(run, say)
        state = checkpoint.read_state(run.folder / "checkpoints", name)
        if not (run.folder / "config.yaml").exists():
            _restore(run, name, state, say)
        elif edited:
            said = "; ".join(_differences(run, state)) or "no difference"
            run.write_configuration(run.configuration(whole=False))
            say(f"Going on with config.yaml as it was edited: {said}.")
        advice = (
            f"Restore it, or remove it and let {command('resume', run.folder)} write it anew; to "
            "change a setting on purpose, give it as a flag of `iqlft resume`, such as "
            "--workers, or say --edited."
        )
        require_recorded(run, name, {} if edited else state, advice)
        run.configuration()
    except OSError as error:
        raise RunError(no_room(error, run.folder)) from error
    finally:
        run.close()


def _settle_last(run: Run, say: Callable[[str], None]) -> str:
    folder = run.folder / "checkpoints"
    try:
        return checkpoint.last(folder)
    except CheckpointError:
        if not checkpoint.names(folder):
            raise
    name = checkpoint.newest_whole(folder)
    checkpoint.make_last(folder, name)
    say(f"{folder / checkpoint.LAST} is lost: going on from {name}, the newest whole checkpoint.")
    return name


def _restore(run: Run, name: str, state: Mapping[str, Any], say: Callable[[str], None]) -> None:
    recorded = state.get("config")
    if recorded is None or (state["phase"] == "offline" and "finetune" in run.meta):
        raise RunError(
            f"{run.folder}/config.yaml is missing, and the checkpoint {name} does not hold all of "
            "it; restore it from a copy."
        )
    run.write_configuration(recorded)
    say(f"config.yaml was missing: it is written anew, as the checkpoint {name} holds it.")
