"""The root of the errors that a user can cause and mend.

    UserError
    |-- EnvironmentMismatchError   (iqlft_workers.environment)
    |-- KeyFileError               (iqlft_workers.keys)
    |-- KeyRefusedError            (iqlft_workers.client)
    |-- PolicyFileError            (iqlft_workers.policy)
    |-- DatasetError               (iqlft.datasets)
    |-- ConfigError                (iqlft.config.settings)
    |-- RunError                   (iqlft.runs.folder)
    |-- CheckpointError            (iqlft.runs.checkpoint)
    |-- GatewayError               (iqlft.gateway.sockets)
    `-- WorkerError                (iqlft_workers.pool)

The command line prints the sentence of a `UserError` and exits with 2, or with 1 where there was a
report to give first; anything else is a fault of the program and keeps its traceback.
"""


class UserError(Exception):
    """What went wrong, why, and what to do, in one sentence.

    Attributes:
        report: what a command that ran to its end has to say all the same; empty for the others.
    """

    report: str = ""
