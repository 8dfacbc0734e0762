"""Measurements of estimators (bias, noise, cost) and of programs (time, operations).

A command imports this package, and a module of it when it comes to that: --help and wrong flags are
answered without JAX.
"""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from launch.measure import along, audit, profile

__all__ = ['along', 'audit', 'profile']

__getattr__, __dir__ = _lazy.attach(__name__, __all__)
