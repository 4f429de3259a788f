"""The audit of a dataset: what it must be like, and whether it is."""
