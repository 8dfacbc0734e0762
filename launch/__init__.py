"""The commands, and packages of what several of them share."""

import importlib.util
import pathlib
import sys


def _require_siblings() -> None:
  """Refuses packages of other people that Python would import in the place of ours.

  `python -m` looks in the working directory first, and a folder there may be called experiments.
  """
  root = pathlib.Path(__file__).resolve().parents[1]
  for name in ('gen_models', 'experiments'):
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
      found = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    else:
      found = spec.origin
    if found is None or root not in pathlib.Path(found).resolve().parents:
      message = (f'the package {name} would be {found}, not {root / name}, which the commands '
                 'need: run them from another directory, or rename that one')
      if '-m' in sys.orig_argv:
        sys.exit(f'error: {message}')
      raise ImportError(message)


_require_siblings()
