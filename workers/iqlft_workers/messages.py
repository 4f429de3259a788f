"""IQLP/2: what learner and workers say to each other, as plain records; `wire` knows their bytes.

A worker says HELLO, is welcomed, builds its environment and says READY. From then on it sends
numbered BATCHes, which are acknowledged with credit: the number of environment steps that it may
take in this session in all. Array fields state their dtype and number of dimensions.
"""

# Annotations are read at run time by `wire`, so they are not postponed in this module.
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iqlft_workers.episode import EpisodeResult
from iqlft_workers.transition import Transitions

_BYTES = {"dtype": np.dtype("|u1"), "ndim": 1}
"""Dtype and dimensions of an array of bytes."""
_MATRIX = {"dtype": np.dtype("<f4"), "ndim": 2}
"""Those of an array with one row of numbers per transition."""
_VECTOR = {"dtype": np.dtype("<f4"), "ndim": 1}
"""Those of an array with one number per transition."""
_FLAGS = {"dtype": np.dtype("|b1"), "ndim": 1}
"""Those of an array with one flag per transition."""
_COUNTS = {"dtype": np.dtype("<u4"), "ndim": 1}
"""Those of an array with one count per transition."""


class RejectCode(StrEnum):
    """Why a learner rejects a worker."""

    VERSION = "VERSION"
    """Another version of the protocol or the package."""
    ENVIRONMENT = "ENVIRONMENT"
    """The worker's environment has other dimensions."""
    DUPLICATE = "DUPLICATE"
    """The id is another worker's, which is at work."""
    FULL = "FULL"
    """There is no place, or no such id."""
    RESERVED = "RESERVED"
    """The id is one of the learner's own workers'."""
    UNAUTHORISED = "UNAUTHORISED"
    """The key is another worker's, or too many messages were bad."""
    BATCH = "BATCH"
    """A batch cannot be learned from."""
    EVALUATION = "EVALUATION"
    """No episode can have come to an evaluation's result."""
    STUCK = "STUCK"
    """The worker's environment hangs; it is to be started again."""
    LATER = "LATER"
    """The learner leaves, and is expected back."""


MAY_PASS = frozenset(RejectCode) - {RejectCode.VERSION, RejectCode.ENVIRONMENT}
"""Codes after which a later try may be welcome."""


@dataclass(frozen=True)
class Hello:
    """Worker: let me in.

    Attributes:
        worker_id: the wanted id; None for any free one.
        session: a uuid, new for each start of a worker.
        package: version of the installed package.
    """

    worker_id: int | None
    session: str
    package: str


@dataclass(frozen=True, eq=False)
class Welcome:
    """Learner: come in, and build this environment.

    Attributes:
        run_id: of the run that is served.
        worker_id: the id to work under.
        last_sequence: the last batch of this session that was accepted, 0 before the first.
        environment: an `EnvironmentSpec` as a dictionary.
        seed: of the run.
        episode: index of the first episode.
        lockstep: send every transition at once; weights come with the credit, not by subscription.
        weights_port: where weights are published.
        actions: `(k, A)` executed actions of that episode, to be stepped again first.
        one_environment: evaluate in the environment of training, between its episodes, instead of
            in a second one.
    """

    run_id: str
    worker_id: int
    last_sequence: int
    environment: dict[str, Any]
    seed: int
    episode: int
    lockstep: bool
    weights_port: int
    actions: NDArray[np.float32] = field(metadata=_MATRIX)
    one_environment: bool = False


@dataclass(frozen=True)
class Reject:
    """Learner: no; the worker shows the sentence and leaves, with an exit code for the reason.

    Only after `LATER` does it stay and go on saying HELLO.

    Attributes:
        code: a `RejectCode`, as text.
        sentence: what is wrong and what to do.
    """

    code: str
    sentence: str


@dataclass(frozen=True)
class Ready:
    """Worker: the environment is built.

    Attributes:
        session: see `Hello`.
        observation_dim: width of its flat observations.
        action_dim: width of its actions.
        mujoco: version of the simulator installed here, or empty.
        gymnasium: version installed here.
    """

    session: str
    observation_dim: int
    action_dim: int
    mujoco: str
    gymnasium: str


@dataclass(frozen=True, eq=False)
class Batch:
    """Worker: transitions of one episode, in order.

    Attributes:
        session: see `Hello`.
        sequence: number of the batch in the session, from 1.
        episode: index of the episode that all transitions belong to.
        finished: what the episode came to, if the last transition ended it.
        stepping_seconds: time that the worker spent on these steps, without waiting for anything.
    """

    session: str
    sequence: int
    episode: int
    finished: EpisodeResult | None
    stepping_seconds: float
    observations: NDArray[np.float32] = field(metadata=_MATRIX)
    actions: NDArray[np.float32] = field(metadata=_MATRIX)
    rewards: NDArray[np.float32] = field(metadata=_VECTOR)
    next_observations: NDArray[np.float32] = field(metadata=_MATRIX)
    terminated: NDArray[np.bool_] = field(metadata=_FLAGS)
    truncated: NDArray[np.bool_] = field(metadata=_FLAGS)
    versions: NDArray[np.uint32] = field(metadata=_COUNTS)

    @property
    def transitions(self) -> Transitions:
        """The arrays as `Transitions`."""
        return Transitions(
            self.observations,
            self.actions,
            self.rewards,
            self.next_observations,
            self.terminated,
            self.truncated,
            self.versions,
        )


@dataclass(frozen=True)
class Ack:
    """Learner: all batches up to this one are in; go on until the credit is used.

    Attributes:
        sequence: the last batch of the session that was accepted.
        credit: environment steps that the worker may take in this session in all.
        version: of the newest weights, -1 before there are any.
    """

    sequence: int
    credit: int
    version: int


@dataclass(frozen=True)
class Rehello:
    """Learner: I do not know you, or a batch is missing: say HELLO and send again from there."""


@dataclass(frozen=True)
class GetWeights:
    """Worker: the subscription lags; send the newest weights here."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Learner: the newest weights, packed by `wire.pack_weights`."""

    packed: NDArray[np.uint8] = field(metadata=_BYTES)


@dataclass(frozen=True, eq=False)
class Evaluate:
    """Learner: run these evaluation episodes with these weights.

    Attributes:
        evaluation: number of the evaluation.
        indices: places of the episodes in the evaluation.
        seeds: of the episodes.
        packed: the weights, packed by `wire.pack_weights`.
    """

    evaluation: int
    indices: tuple[int, ...]
    seeds: tuple[int, ...]
    packed: NDArray[np.uint8] = field(metadata=_BYTES)


@dataclass(frozen=True)
class Evaluation:
    """Worker: one evaluation episode is done.

    Attributes:
        evaluation: number of the evaluation.
        index: place of the episode in the evaluation.
        result: what the episode came to.
    """

    evaluation: int
    index: int
    result: EpisodeResult


@dataclass(frozen=True)
class Discarded:
    """Worker: an episode ended at a value that is not finite.

    Attributes:
        evaluation: number of the evaluation; 0: it was an episode of training.
        index: place of the episode in the evaluation, or index of the training episode.
        dropped: transitions of the episode that are not sent, including the last one.
        result: what the episode had come to before.
        sentence: which value it was.
        sequence: number of the last batch before this message.
    """

    evaluation: int
    index: int
    dropped: int
    result: EpisodeResult
    sentence: str
    sequence: int


@dataclass(frozen=True)
class Ping:
    """Learner: are you there?

    Attributes:
        number: to be repeated in the answer.
    """

    number: int


@dataclass(frozen=True)
class Pong:
    """Worker: yes.

    Attributes:
        number: of the PING.
        steps: finished calls of environments in this session: steps of training and evaluation,
            resets and constructions; they tell a stuck worker from a working one.
    """

    number: int
    steps: int


@dataclass(frozen=True)
class Failed:
    """Worker: I cannot do this work, and leave.

    Attributes:
        sentence: why.
    """

    sentence: str


@dataclass(frozen=True)
class Drain:
    """Learner: step no more, send what you have, and leave when all of it is acknowledged.

    Attributes:
        over: whether the run is over; if not, a worker of another machine waits for its return.
    """

    over: bool


@dataclass(frozen=True)
class Stop:
    """Learner: the work is over, leave at once."""


@dataclass(frozen=True)
class Bye:
    """Worker: I leave."""


@dataclass(frozen=True)
class ByeOk:
    """Learner: I know that you leave."""


Message = (
    Hello | Welcome | Reject | Ready | Batch | Ack | Rehello | GetWeights | Weights
    | Evaluate | Evaluation | Discarded | Ping | Pong | Failed | Drain | Stop | Bye | ByeOk
)  # fmt: skip
"""Everything that travels between learner and workers."""

NAMES: dict[str, type[Message]] = {
    "HELLO": Hello,
    "WELCOME": Welcome,
    "REJECT": Reject,
    "READY": Ready,
    "BATCH": Batch,
    "ACK": Ack,
    "REHELLO": Rehello,
    "GET_WEIGHTS": GetWeights,
    "WEIGHTS": Weights,
    "EVALUATE": Evaluate,
    "EVALUATION": Evaluation,
    "DISCARDED": Discarded,
    "PING": Ping,
    "PONG": Pong,
    "ERROR": Failed,
    "DRAIN": Drain,
    "STOP": Stop,
    "BYE": Bye,
    "BYE_OK": ByeOk,
}
"""Each message by its name on the wire."""
