"""Offline datasets: made by D4RL's procedure, read from Minari, listed and checked.

Modules load on demand, because the processes that generate data need neither Minari nor torch.
"""
