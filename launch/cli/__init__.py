"""Shared by the commands: entry, help, flags, set-up of JAX, names of experiments."""
