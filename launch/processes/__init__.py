"""Several processes of one run: joining, supervision and restarts."""
