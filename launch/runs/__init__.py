"""A run, from its directory to its score.

A command imports this package, and a module of it when it comes to that: --help and wrong flags are
answered without JAX.
"""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from launch.runs import (
    answers,
    directory,
    draws,
    fit,
    load,
    memory,
    numbers,
    pictures,
    result,
    rows,
    score,
    training,
    warm_start,
  )

__all__ = ['answers', 'directory', 'draws', 'fit', 'load', 'memory', 'numbers', 'pictures',
           'result', 'rows', 'score', 'training', 'warm_start']

__getattr__, __dir__ = _lazy.attach(__name__, __all__)
