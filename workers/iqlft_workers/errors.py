"""The root of the errors that a user can cause and mend.

    UserError
    |-- ClusterError               (iqlft_workers.launchers.local)
    |-- EndpointError              (iqlft_workers.discovery)
    |-- EnvironmentFailedError     (iqlft_workers.failures)
    |-- EnvironmentMismatchError   (iqlft_workers.observation)
    |-- KeyFileError               (iqlft_workers.keys)
    |-- KeyRefusedError            (iqlft_workers.client)
    |-- LearnerLostError           (iqlft_workers.discovery)
    |-- NotFiniteError             (iqlft_workers.episode)
    |-- RejectedError              (iqlft_workers.loop)
    |-- UntrustedError             (iqlft_workers.trust)
    |-- WorkerError                (iqlft_workers.launchers.local)
    |-- WrapperError               (iqlft_workers.wrapping)
    |-- CellFailedError            (iqlft.cli.cell)
    |-- CheckpointError            (iqlft.runs.checkpoint)
    |-- ConfigError                (iqlft.config.errors)
    |-- DatasetError               (iqlft.datasets.errors)
    |   `-- AuditFailedError       (iqlft.datasets.audit.findings)
    |-- DesertedError              (iqlft.training.oversight)
    |-- EpisodesNotFiniteError     (iqlft.training.evaluate)
    |-- ExportError                (iqlft.runs.tracing)
    |-- GatewayError               (iqlft.gateway.sockets)
    |   `-- PortInUseError         (iqlft.gateway.sockets)
    |-- JournalError               (iqlft.gateway.journal)
    |-- PolicyError                (iqlft.runs.policy)
    |-- PolicyFileError            (iqlft.datasets.errors)
    |-- RenderingError             (iqlft.video.opengl)
    |-- RunError                   (iqlft.runs.errors)
    |-- RunsFailedError            (iqlft.training.parallel)
    |-- SweepFailedError           (iqlft.cli.sweep)
    |-- TrainingDivergedError      (iqlft.training.session)
    `-- VideoError                 (iqlft.video.encode)

The command line prints the sentence of a `UserError` and exits with its `exit_code`; anything else
is a fault of the program and keeps its traceback. Beside the tree stands `Stopped`, which is not an
error: the user asked for it.
"""

UNFIT = 2
"""Exit code of a worker that cannot do the work, which no second try will change."""
REJECTED = 3
"""Exit code of a worker with `--parent` that the learner rejected for a reason that may pass."""
FAILED = 4
"""Exit code of a worker with `--parent` whose environment has failed, or gave what the learner
refuses, which may pass.
"""
HUNG = 5
"""Exit code of a worker that was told to leave because its environment hung."""
LOST = 6
"""Exit code of a worker whose learner was away for too long."""
SENTENCE = "iqlft worker: "
"""Prefix, in a worker's log, of the sentence with which the worker ends."""


class UserError(Exception):
    """What went wrong, why, and what to do, in one sentence.

    Attributes:
        exit_code: of the command that it ends.
        worker_exit_code: of the worker with `--parent` that it ends.
        report: the output of a command that ran to its end all the same; empty for the others.
    """

    exit_code: int = 2
    worker_exit_code: int = UNFIT
    report: str = ""


class Stopped(Exception):  # noqa: N818 -- not an error: the user asked for it
    """A command that was stopped by a signal; the sentence says how to go on.

    Attributes:
        exit_code: of the command.
    """

    exit_code: int = 130
