"""Import of D4RL's own HDF5 files."""
