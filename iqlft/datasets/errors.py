"""Errors of datasets and of the policies that generate them."""

from iqlft_workers.errors import UserError


class DatasetError(UserError):
    """A dataset is missing, exists already, or is not what a command needs."""


class PolicyFileError(UserError):
    """A file is missing, or is not a goal-reaching ant policy."""
