"""Tables, curves, pictures and pages made from runs and results.

A command imports this package, and a module of it when it comes to that: --help and wrong flags are
answered without JAX.
"""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from launch.reports import (
    audit,
    collect,
    comparison,
    curves,
    documents,
    markup,
    report,
    run_page,
    side_by_side,
    swept,
    tables,
    tradeoff,
    words,
  )

__all__ = ['audit', 'collect', 'comparison', 'curves', 'documents', 'markup', 'report', 'run_page',
           'side_by_side', 'swept', 'tables', 'tradeoff', 'words']

__getattr__, __dir__ = _lazy.attach(__name__, __all__)
