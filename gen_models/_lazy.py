"""Packages whose public names are imported when they are first asked for (PEP 562).

`import gen_models` costs nothing that way, and `gen_models.models.rbm` needs no import of its own.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def attach(package: str, modules: Iterable[str],
           members: Mapping[str, str] | None = None) -> tuple[Callable[[str], Any],
                                                              Callable[[], list[str]]]:
  """(__getattr__, __dir__) of a package.

  Args:
    package: its __name__.
    modules: submodules that are public.
    members: name -> full name of the module that has it.
  """
  found = {name: f'{package}.{name}' for name in modules}
  members = members or {}

  def get(name: str) -> Any:
    if name in members:
      return getattr(_imported(members[name], f'{package}.{name}'), name)
    if name in found:
      return importlib.import_module(found[name])
    raise AttributeError(f'module {package!r} has no attribute {name!r}')

  return get, lambda: sorted([*found, *members])


def _imported(module: str, name: str) -> Any:
  """A module that has a public name; one of another package may not be the one that Python finds.

  Raises:
    ImportError: a file or folder of the user's has the name of the package.
  """
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as e:
    if not (e.name and f'{module}.'.startswith(f'{e.name}.')):
      raise
    root = module.partition('.')[0]
    there = getattr(sys.modules.get(root), '__file__', None)
    raise ImportError(f'{name} needs the package {root} that is installed with it, and Python '
                      + (f'finds {there}: rename that, or run elsewhere' if there else
                         'finds none')) from None
