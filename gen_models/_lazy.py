"""Packages whose public names are imported when they are first asked for (PEP 562).

`import gen_models` costs nothing that way, and `gen_models.models.rbm` needs no import of its own.
"""

import importlib
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
      return getattr(importlib.import_module(members[name]), name)
    if name in found:
      return importlib.import_module(found[name])
    raise AttributeError(f'module {package!r} has no attribute {name!r}')

  return get, lambda: sorted([*found, *members])
