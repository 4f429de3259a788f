"""Checks that the recorded actions lead from each recorded state to the next.

A state is restored by setting qpos and qvel. MuJoCo's result also depends, through the constraint
solver's first guess, on the previous step: without it, about 2 of 1,000 steps of an ant with
contacts differ by up to 1e-8. So the transition before each sampled one is replayed first, which
restores the solver's guess; qpos and qvel are then set to the recorded values. 8,000 transitions
replayed in this way differed by 4e-15 at most.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import mujoco
import numpy as np

from iqlft.datasets.audit.findings import Band, Finding
from iqlft.datasets.goal_maze import is_goal_conditioned
from iqlft.datasets.recorded import environment_of
from iqlft_workers.environment import make
from iqlft_workers.errors import UserError
from iqlft_workers.wrapping import effective

if TYPE_CHECKING:
    from collections.abc import Iterator

    import minari
    from numpy.typing import NDArray

NAME = "replayed positions differ by"
"""The finding's name."""
TOLERANCE = Band(greatest=1e-9, strict=True)
"""Greatest difference in a value of qpos: metres, radians or a quaternion."""
SAMPLES, EPISODES = 200, 50
"""About how many transitions are replayed, and from how many episodes at most."""


class _Transition(NamedTuple):
    """A recorded step together with the one before it, if there is one.

    Attributes:
        qpos: `(3, nq)`, or `(2, nq)` at the start of an episode.
        qvel: `(3, nv)` or `(2, nv)`.
        actions: `(2, A)` or `(1, A)`.
    """

    qpos: NDArray[np.float64]
    qvel: NDArray[np.float64]
    actions: NDArray[Any]


def replay_check(dataset: minari.MinariDataset, *, trust: bool = False) -> Finding:
    """Replays sampled transitions of a dataset in the environment in which they were recorded.

    Args:
        dataset: a Minari dataset, with qpos and qvel in its infos, or of a maze whose observations
            contain them.
        trust: whether its environment may be run even if no installed package registers it.

    Returns:
        The largest difference in a value of qpos. Below 1e-9 it is `ok`; above, it is `outside` if
        the dataset was made with the MuJoCo version that runs here, and is not judged otherwise.
    """
    if dataset.env_spec is None:
        return Finding(NAME, None, note="not possible: no environment is recorded")
    try:
        spec = environment_of(dataset.env_spec, trust=trust)
        if changed_by := effective(spec.wrappers):
            note = f"not possible: recorded behind {', '.join(each.name for each in changed_by)}"
            return Finding(NAME, None, note=note)
        environment = make(spec)
    except UserError as error:
        return Finding(NAME, None, note=f"not possible: {error}")
    except Exception as error:  # noqa: BLE001  (what another version recorded fails in any way)
        return _impossible(dataset.env_spec.id, error)
    try:
        simulator = _simulator(environment.unwrapped)
        if simulator is None:
            return Finding(NAME, None, note="not possible: the environment is none of MuJoCo's")
        environment.reset(seed=0)
        differences = [
            _replay(environment.unwrapped, simulator, transition)
            for transition in _sample(dataset, simulator.model)
        ]
    except Exception as error:  # noqa: BLE001  (and so do states that are none)
        return _impossible(dataset.env_spec.id, error)
    finally:
        environment.close()
    if not differences:
        return Finding(NAME, None, note="not possible: qpos and qvel are not recorded")
    return _judge(dataset, max(differences), len(differences))


def _impossible(environment_id: str, error: Exception) -> Finding:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return Finding(NAME, None, note=f"not possible: {environment_id} raises {reason:.300}")


def _judge(dataset: minari.MinariDataset, difference: float, count: int) -> Finding:
    recorded, here = _recorded_version(dataset), mujoco.__version__
    note = f"{count} steps with MuJoCo {here}, " + (
        "as recorded" if recorded == here else f"recorded with {recorded or 'an unknown version'}"
    )
    if TOLERANCE.holds(difference):
        return Finding(NAME, difference, TOLERANCE, "ok", note)
    if recorded == here:
        return Finding(NAME, difference, TOLERANCE, "outside", note)
    return Finding(NAME, difference, note=note)


def _recorded_version(dataset: minari.MinariDataset) -> str | None:
    """The MuJoCo version that the description names, or else the requirements."""
    metadata = dataset.storage.metadata
    texts = [str(metadata.get("description", "")), *map(str, metadata.get("requirements") or ())]
    for text in texts:
        found = re.search(r"mujoco\s*(?:==)?\s*(\d+(?:\.\d+)+)", text, re.IGNORECASE)
        if found:
            return found[1]
    return None


def _simulator(raw: Any) -> Any | None:  # noqa: ANN401
    """The object with `set_state`: the environment itself or one of its attributes, or None."""
    candidates = (raw, *vars(raw).values())
    return next((each for each in candidates if hasattr(each, "set_state")), None)


def _sample(dataset: minari.MinariDataset, model: Any) -> Iterator[_Transition]:  # noqa: ANN401
    """Transitions from random episodes of the dataset, the same ones each time."""
    rng = np.random.default_rng(0)
    indices = np.asarray(dataset.episode_indices)
    chosen = np.sort(rng.choice(indices, min(len(indices), EPISODES), replace=False))
    for episode in dataset.iterate_episodes(chosen.tolist()):
        states = _states(dataset, episode, model)
        if states is None or len(states[0]) != len(episode.actions) + 1:
            continue
        number = min(len(episode.actions), -(-SAMPLES // len(chosen)))
        for step in rng.choice(len(episode.actions), number, replace=False):
            before = max(step - 1, 0)
            qpos, qvel = (each[before : step + 2] for each in states)
            transition = _Transition(qpos, qvel, episode.actions[before : step + 1])
            if all(np.isfinite(array).all() for array in transition):
                yield transition


def _states(
    dataset: minari.MinariDataset,
    episode: minari.EpisodeData,
    model: Any,  # noqa: ANN401
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The recorded qpos and qvel, or those in a maze's observations; None if there are none."""
    infos = episode.infos or {}
    if "qpos" in infos and "qvel" in infos:
        states = infos["qpos"], infos["qvel"]
    elif is_goal_conditioned(dataset.observation_space):
        # An ant's observation lacks x and y, which are the achieved goal; a point's includes them.
        state = episode.observations["observation"]
        if state.shape[-1] == model.nq + model.nv - 2:
            state = np.hstack((episode.observations["achieved_goal"], state))
        states = state[:, : model.nq], state[:, model.nq :]
    else:
        return None
    fits = all(s.shape[1:] == (n,) for s, n in zip(states, (model.nq, model.nv), strict=True))
    return states if fits else None


def _replay(raw: Any, simulator: Any, transition: _Transition) -> float:  # noqa: ANN401
    """The largest difference in a value of qpos after the transition."""
    data = simulator.data
    mujoco.mj_resetData(simulator.model, data)
    simulator.set_state(transition.qpos[0], transition.qvel[0])
    for qpos, qvel, action in zip(
        transition.qpos, transition.qvel, transition.actions, strict=False
    ):
        # Not `set_state`, which would compute a new first guess.
        data.qpos[:], data.qvel[:] = qpos, qvel
        raw.step(action)
    return float(np.abs(data.qpos - transition.qpos[-1]).max())
