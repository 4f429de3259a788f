"""The run folder: what a run writes, and what reads it again."""
