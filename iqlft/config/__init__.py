"""Settings: one dataclass per command and algorithm, YAML, validation."""
