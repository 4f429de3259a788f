"""Is a dataset what it says it is, and does it resemble D4RL's?

Any Minari dataset is checked against its own schema, and a sample of its transitions is replayed.
In a maze, the agent's paths are measured too, and compared with D4RL's if the dataset was made by
D4RL's procedure. Episodes are read one at a time, so that memory does not depend on their number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iqlft.datasets.antmaze.published import ContentHash, is_published
from iqlft.datasets.antmaze.tasks import generated
from iqlft.datasets.audit.findings import Finding, known
from iqlft.datasets.audit.measures import MazeMeasures
from iqlft.datasets.audit.replay_check import replay_check
from iqlft.datasets.audit.schema import SchemaCheck
from iqlft.datasets.errors import DatasetError
from iqlft.datasets.goal_maze import recorded_maze
from iqlft.datasets.reading import read_episodes, recorded_actions_refusal
from iqlft.datasets.recorded import open_dataset
from iqlft_workers.errors import UserError

if TYPE_CHECKING:
    import minari


def check(dataset_id: str, *, trust: bool = False) -> list[Finding]:
    """Audits a dataset.

    Args:
        dataset_id: Minari id of a local dataset.
        trust: whether its environment may be run even if no installed package registers it.

    Returns:
        The findings, in reading order.

    Raises:
        DatasetError: the dataset is absent or cannot be opened, or its actions are not an array.
        EnvironmentMismatchError: none of its observations can be learned from.
    """
    dataset = open_dataset(dataset_id)
    if dataset.action_space.shape is None:
        raise DatasetError(f"{dataset_id} has {recorded_actions_refusal(dataset)}")
    schema = SchemaCheck(dataset)
    measures, reason = _measures(dataset, trust)
    content = ContentHash() if dataset_id in generated() else None
    unreadable, sound = "", True
    try:
        for episode in read_episodes(dataset, schema.keys, sound=False):
            sound = schema.add(episode) and sound
            if measures is not None and sound:
                measures.add(episode)
            if content is not None:
                content.add(episode)
    except DatasetError as error:
        unreadable = f"the next one cannot be read: {error}"
    findings = schema.findings(unreadable)
    if unreadable or not sound or not schema.num_transitions:
        return findings
    measured = [] if measures is None else measures.findings()
    others = [replay_check(dataset, trust=trust)]
    if content is not None:
        published = is_published(dataset_id, content.digest)
        others.append(_identity(published, content.digest))
        if published:
            findings, measured = known(findings), known(measured)
    if reason:
        others.append(Finding("ways through the maze", None, note=reason))
    return [*findings, *others, *measured]


def _identity(published: bool | None, digest: str) -> Finding:
    """Whether a dataset is the published one of its id; for information, without a verdict."""
    answers = {True: "is it", False: "another one", None: "none is published under this id"}
    answer = answers[published]
    return Finding("the published dataset", None, note=f"{answer} (hash of its content {digest})")


def _measures(dataset: minari.MinariDataset, trust: bool) -> tuple[MazeMeasures | None, str]:
    """The measures of paths through the dataset's maze, or why there are none."""
    try:
        maze = recorded_maze(dataset, trust=trust)
    except UserError as error:
        return None, f"not measured: {error}"
    if maze is None:
        return None, ""
    return MazeMeasures(dataset, maze, _episode_steps(dataset)), ""


def _episode_steps(dataset: minari.MinariDataset) -> int | None:
    """The length of every episode by D4RL's procedure; None for datasets made otherwise."""
    if dataset.id not in generated() or dataset.env_spec is None:
        return None
    steps: int | None = dataset.env_spec.max_episode_steps
    return steps
