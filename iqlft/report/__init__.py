"""The self-contained HTML page about runs."""
