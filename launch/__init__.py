"""Commands: train, sweep, evaluate, sample, report, audit, profile, list, prepare, results, story."""
