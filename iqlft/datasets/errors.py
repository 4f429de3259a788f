"""What can go wrong with datasets and with the policies that make them."""

from iqlft_workers.errors import UserError


class DatasetError(UserError):
    """A dataset is missing, exists already, or is not what a command needs."""


class PolicyFileError(UserError):
    """A file holds no goal-reaching ant policy."""
