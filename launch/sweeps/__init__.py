"""Sweeps of hyperparameters: their points, the programs that train them, and searches over them.

A command imports this package, and a module of it when it comes to that: --help and wrong flags are
answered without JAX.
"""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from launch.sweeps import plan, runner, search

__all__ = ['plan', 'runner', 'search']

__getattr__, __dir__ = _lazy.attach(__name__, __all__)
