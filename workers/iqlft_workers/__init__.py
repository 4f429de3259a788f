"""Rollout workers: environments, transitions, the NumPy actor and the wire. Never imports torch."""

__version__ = "0.1.0"

from iqlft_workers.registration import register

register()
