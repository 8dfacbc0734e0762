"""Parts that several experiments share; an experiment imports no other experiment."""
