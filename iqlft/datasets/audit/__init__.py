"""The audit of a dataset: its form, a replay, and measurements against bands."""
