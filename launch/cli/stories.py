"""Stories: families of models side by side, files of experiments/ or of a user."""

from typing import NamedTuple

from launch.cli import hyperparameters, registry
from launch.errors import UsageError


class Story(NamedTuple):
  """Families side by side: name -> (experiment, variant or None), and how draws are compared."""

  name: str
  families: dict[str, tuple[str, str | None]]
  space: str
  doc: str = ''


def load(name: str) -> Story:
  """The story `name`, a file of experiments/ or a path ending in .py.

  Raises:
    UsageError: no such story, or one of an experiment or variant that does not exist.
  """
  module = registry.find_module(name, registry.stories(), 'story')
  if not getattr(module, 'FAMILIES', None) or not getattr(module, 'SPACE', None):
    raise UsageError(f'{name} is no story: it lacks FAMILIES or SPACE')
  for experiment, variant in module.FAMILIES.values():
    hyperparameters.resolve(registry.load(experiment), variant)
  return Story(name, module.FAMILIES, module.SPACE, module.__doc__ or '')
