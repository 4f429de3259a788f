"""Numbers from finished runs."""
