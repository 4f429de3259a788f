"""Launchers: what starts workers, watches them and stops them, on one machine or on many."""
