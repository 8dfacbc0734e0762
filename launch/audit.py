"""Bias, variance and cost of gradient estimators, against the enumerated gradient of a small model.

  python -m launch.audit --estimator=cd1                       # with the others of its model
  python -m launch.audit --estimator=mine.py:cd1               # one in your own file
  python -m launch.audit --estimator=mine.py:score --problem=belief_net
  python -m launch.audit --estimator=mine.py:score --problem=mine.py:PROBLEM
  python -m launch.audit --problem=vae                         # all of one problem
  python -m launch.audit --all

An estimator in a file is an Estimator, a function of no arguments that returns one, a function
grad(key, params, memory, batch) -> (grads, memory, metrics), or a function
loss(key, params, batch) -> (scalar, metrics). A bare function counts as declared unbiased. Exit
status 1 if an estimator that was asked for is found biased and declared unbiased, or the other way
round.
"""

import pathlib
import sys

from absl import flags

from launch import errors
from launch.cli import app, flags as shared, jax_setup

_ESTIMATOR = flags.DEFINE_multi_string(
  'estimator', [], 'Name, names with commas between, or path.py:name; repeatable.')
_PROBLEM = flags.DEFINE_string(
  'problem', None, 'Small model and loss to audit on: of an estimator from a file (default rbm), a '
  'name or path.py:name of a gen_models.problems.entry.Problem; without --estimator, all its '
  'estimators.')
flags.DEFINE_alias('model', 'problem')
_ALL = flags.DEFINE_bool('all', False, 'Every estimator of the catalogue, each on its problem.')
_COMPARE = flags.DEFINE_bool('compare', None, "Show the catalogue's estimators of the same model "
                             'too; default yes, with --json no. They never decide the status.')
_DRAWS = flags.DEFINE_integer('draws', 2**14, 'Gradients of each estimator.', lower_bound=2)
_BURN_IN = flags.DEFINE_integer('burn_in', None, 'Calls before the one that counts, for the memory '
                                'of an estimator from a file to forget its start; default: enough '
                                'for persistent chains on that model.', lower_bound=0)
_SEED = shared.seed('Of all draws.')
_JSON = flags.DEFINE_bool('json', False, 'One JSON object a line, one an estimator, and no table.')
_COORDINATES = flags.DEFINE_bool('coordinates', False, 'Every coordinate in the JSON objects.')
_CSV = flags.DEFINE_string('csv', None, 'File for every coordinate of what was asked for.')
_OUT = flags.DEFINE_string('out', None, 'Picture, a .png; default runs/audit.png, with --json '
                           'none.')


def main(argv):
  app.no_arguments(argv)
  out = pathlib.Path(_OUT.value or 'runs/audit.png')
  if out.suffix != '.png':
    raise errors.UsageError(f'--out={out}: name a .png')
  jax_setup.setup()
  from launch.measure import audit
  from launch.reports import audit as report
  compare = _COMPARE.value if _COMPARE.value is not None else not _JSON.value
  references = [name for value in _ESTIMATOR.value for name in value.split(',') if name]
  cases = audit.cases(references, _PROBLEM.value, _ALL.value, compare, _BURN_IN.value)
  rows = audit.measure(cases, _DRAWS.value, _SEED.value,
                       lambda line: print(line, file=sys.stderr, flush=True))
  asked = [row for row in rows if row.case.asked]
  if _JSON.value:
    for row in rows:
      print(audit.as_json(row, _COORDINATES.value))
  else:
    print(report.table(rows))
    if len(asked) == 1:
      print('\n' + report.worst(asked[0]))
  if _CSV.value:
    report.write_csv(rows, pathlib.Path(_CSV.value))
  if _OUT.value or not _JSON.value:
    report.picture(rows, out)
  if not _JSON.value:
    print(f'\n{out}', flush=True)
  wrong = audit.disagreements(rows)
  for line in wrong:
    print(line, file=sys.stderr)
  if wrong:
    sys.exit(1)


if __name__ == '__main__':
  app.run(main)
