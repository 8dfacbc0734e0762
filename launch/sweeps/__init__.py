"""Sweeps of hyperparameters: their points, the programs that train them, and searches over them."""
