"""Shows experiments, their variants and their hyperparameters.

  python -m launch.list
  python -m launch.list --experiment=rbm_mnist
  python -m launch.list --experiment=vae --set=encoder=mine.py:Net   # with values as you give them
"""

from collections.abc import Sequence

from absl import flags

import experiments
import gen_models
import launch
from launch import errors
from launch.cli import app, flags as shared, hyperparameters, registry, stories, text_cache

_EXPERIMENT = flags.DEFINE_string('experiment', None, 'Only this one, with its whole docstring.')
_SET = shared.overrides('name=value: checked, and shown in the place of the default; with '
                        '--experiment; repeatable.')


def main(argv):
  app.no_arguments(argv)
  if _EXPERIMENT.value:
    print(describe(registry.load(_EXPERIMENT.value), whole=True, overrides=_SET.value))
  else:
    if _SET.value:
      raise errors.UsageError(f'--set={_SET.value[0]} is for one experiment: give --experiment')
    sources = [*experiments.__path__, *gen_models.__path__, *launch.__path__]
    print(text_cache.text('list', sources, everything))


def everything() -> str:
  """All experiments and stories that come with the project, as text."""
  parts = [describe(registry.load(name)) + '\n' for name in registry.names()]
  parts.append('stories (python -m launch.story --story=name)')
  for name in registry.stories():
    families = stories.load(name).families
    parts.append(f'  {name}  ' + ', '.join(f'{family}: {" ".join(filter(None, made))}'
                                           for family, made in families.items()))
  return '\n'.join(parts)


def describe(entry: registry.Entry, whole: bool = False, overrides: Sequence[str] = ()) -> str:
  """Name, first line or whole docstring, hyperparameters and variants, as text."""
  doc = entry.doc.strip()
  lines = [entry.name, *('  ' + line if line else '' for line in
                         (doc if whole else doc.split('\n')[0]).split('\n'))]
  parameters, values = hyperparameters.of(entry), hyperparameters.typed(entry, overrides)
  if overrides:
    entry.experiment(**hyperparameters.resolve(entry, None, overrides))
  width = max(map(len, parameters), default=0)
  lines.append('  hyperparameters (--set=name=value)')
  lines += [f'    {name:{width}}  {hyperparameters.describe(p.annotation)} = '
            + str(values.get(name, p.default)) + ', of the score only' * (name in entry.scoring)
            for name, p in parameters.items()]
  width = max(map(len, entry.variants), default=0)
  lines.append('  variants (--variant=name)')
  lines += [f'    {name:{width}}  ' + ', '.join(f'{k}={v}' for k, v in changes.items())
            for name, changes in entry.variants.items()]
  return '\n'.join(lines)


if __name__ == '__main__':
  app.run(main)
