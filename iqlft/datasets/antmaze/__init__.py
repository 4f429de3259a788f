"""AntMaze datasets by D4RL's procedure: tasks, gait, planner, generation."""
