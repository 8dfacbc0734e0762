"""The commands, and in packages what several of them share."""
