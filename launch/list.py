"""Shows experiments, their variants and their hyperparameters.

  python -m launch.list
  python -m launch.list --experiment=rbm_mnist
"""

from absl import flags

from launch.cli import app, hyperparameters, registry, stories

_EXPERIMENT = flags.DEFINE_string('experiment', None, 'Only this one, with its whole docstring.')


def main(argv):
  app.no_arguments(argv)
  names = [_EXPERIMENT.value] if _EXPERIMENT.value else registry.names()
  print('\n\n'.join(describe(registry.load(name), bool(_EXPERIMENT.value)) for name in names))
  if not _EXPERIMENT.value:
    print('\nstories (python -m launch.story --story=name)')
    for name in registry.stories():
      families = stories.load(name).families
      print(f'  {name}  ' + ', '.join(f'{family}: {" ".join(filter(None, made))}'
                                      for family, made in families.items()))


def describe(entry: registry.Entry, whole: bool = False) -> str:
  """Name, first line or whole docstring, hyperparameters and variants, as text."""
  doc = entry.doc.strip()
  lines = [entry.name, *('  ' + line if line else '' for line in
                         (doc if whole else doc.split('\n')[0]).split('\n'))]
  parameters = hyperparameters.of(entry)
  width = max(map(len, parameters), default=0)
  lines.append('  hyperparameters (--set=name=value)')
  lines += [f'    {name:{width}}  {hyperparameters.describe(p.annotation)} = {p.default}'
            + ', of the score only' * (name in entry.scoring) for name, p in parameters.items()]
  width = max(map(len, entry.variants), default=0)
  lines.append('  variants (--variant=name)')
  lines += [f'    {name:{width}}  ' + ', '.join(f'{k}={v}' for k, v in changes.items())
            for name, changes in entry.variants.items()]
  return '\n'.join(lines)


if __name__ == '__main__':
  app.run(main)
