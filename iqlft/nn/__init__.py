"""Stacked networks, their layers and their optimiser."""
