"""Commands: train, evaluate, report, list, prepare, results."""
