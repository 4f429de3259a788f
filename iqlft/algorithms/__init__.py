"""Algorithms, one file each: losses as pure functions, an update that reads like the paper."""
