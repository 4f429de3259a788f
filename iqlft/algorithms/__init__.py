"""Algorithms: one file each, losses as pure functions and `update(batch)` that reads like the paper."""
