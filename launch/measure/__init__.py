"""Measurements of estimators (bias, noise, cost) and of programs (time, operations)."""
