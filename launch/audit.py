"""Bias, variance and cost of gradient estimators, against the enumerated gradient of a small model.

  python -m launch.audit --estimator=cd1                       # with the others of its model
  python -m launch.audit --estimator=mine.py:cd1               # one in your own file
  python -m launch.audit --estimator=mine.py:score --problem=belief_net
  python -m launch.audit --estimator=mine.py:score --problem=mine.py:PROBLEM
  python -m launch.audit --problem=vae                         # all of one problem
  python -m launch.audit --all --keep                          # and the page of all of them
  python -m launch.audit --along=runs/sbn --estimator=digits,digits_disarm

With --along estimators are variants of the run's experiment, or settings such as
`gradient=relax;samples=1`, measured at each checkpoint that the run keeps. Without it, an estimator
in a file is an Estimator, a function of no arguments that returns one, a function
grad(key, params, memory, batch) -> (grads, memory, metrics), or a function
loss(key, params, batch) -> (scalar, metrics). A bare function counts as declared unbiased. Exit
status 1 if an estimator that was asked for is found biased and declared unbiased, or the other way
round.
"""

import pathlib
import sys

from absl import flags

from launch import errors, measure, reports, runs
from launch.cli import app, flags as shared, jax_setup, registry

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
_DRAWS = flags.DEFINE_integer('draws', None, 'Gradients of each estimator; default 16384, with '
                              '--along 256.', lower_bound=2)
_BURN_IN = flags.DEFINE_integer('burn_in', None, 'Calls before the one that counts, for the memory '
                                'of an estimator from a file to forget its start; default: enough '
                                'for persistent chains on that model.', lower_bound=0)
_ALONG = flags.DEFINE_string(
  'along', None, 'Run directory: measure estimators at its checkpoints, against the mean of many '
  'gradients of the first one that is declared unbiased.')
_SEED = shared.seed('Of all draws.')
_JSON = flags.DEFINE_bool('json', False, 'One JSON object a line, one an estimator, and no table.')
_COORDINATES = flags.DEFINE_bool('coordinates', False, 'Every coordinate in the JSON objects.')
_CSV = flags.DEFINE_string('csv', None, 'File for every coordinate of what was asked for.')
_KEEP = flags.DEFINE_bool('keep', False, 'Put what was found of catalogued estimators into '
                          'docs/audit.json, and make the page of all of them.')
_OUT = flags.DEFINE_string('out', None, 'Picture, a .png; default runs/audit.png, with --json '
                           'none.')


def main(argv):
  app.no_arguments(argv)
  out = pathlib.Path(_OUT.value or 'runs/audit.png')
  if out.suffix != '.png':
    raise errors.UsageError(f'--out={out}: name a .png')
  if _CSV.value and not pathlib.Path(_CSV.value).absolute().parent.is_dir():
    raise errors.UsageError(f'--csv={_CSV.value}: there is no such directory; make it, or name '
                            'another file')
  jax_setup.setup()
  if _ALONG.value:
    along(pathlib.Path(_ALONG.value), out)
    return
  audit, report = measure.audit, reports.audit
  compare = _COMPARE.value if _COMPARE.value is not None else not _JSON.value
  references = [name for value in _ESTIMATOR.value for name in value.split(',') if name]
  cases = audit.cases(references, _PROBLEM.value, _ALL.value, compare, _BURN_IN.value)
  rows = audit.measure(cases, _DRAWS.value or 2**14, _SEED.value,
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
  if _KEEP.value:
    for path in reports.side_by_side.write(reports.side_by_side.record(
        audit.as_dict(row) for row in rows if row.case.name in audit.problems.ENTRIES)):
      print(path, file=sys.stderr)
  wrong = audit.disagreements(rows)
  for line in wrong:
    print(line, file=sys.stderr)
  if wrong:
    sys.exit(1)


def along(workdir: pathlib.Path, out: pathlib.Path):
  """Measures estimators at the checkpoints of a run: one table, one picture."""
  import jax
  import jax.numpy as jnp

  from gen_models.training import keys
  if _PROBLEM.value or _ALL.value or _CSV.value:
    raise errors.UsageError('--along takes --estimator, --draws, --burn_in, --seed, --json, --out')
  names = [name for value in _ESTIMATOR.value for name in value.split(',') if name]
  if not names:
    raise errors.UsageError("--along wants estimators: variants of the run's experiment, or "
                            'settings, --estimator=digits,gradient=disarm')
  found = [runs.load.load(workdir, step) for step in runs.load.steps(workdir)]
  if len(found[0].experiment.phases) != 1 or len(found[0].seeds) != 1:
    raise errors.UsageError(f'{workdir}: --along is for runs of one training phase and one seed')
  entry = registry.load_recorded(found[0].config['experiment'], workdir / 'config.json')
  phase, arrays = found[0].experiment.phases[0], found[0].dataset.train
  key = jax.random.key(_SEED.value)
  points = [measure.along.Point(run.step, run.state.params,
                                phase.batch_at(keys.data(key), arrays, jnp.int32(run.step)))
            for run in found]
  named = measure.along.estimators(entry, found[0].config['hyperparameters'], names,
                                   points[0].params)
  rows = measure.along.measure(named, points, _DRAWS.value or 256, _BURN_IN.value or 0, _SEED.value,
                               lambda line: print(line, file=sys.stderr, flush=True))
  if _JSON.value:
    for row in rows:
      print(reports.audit.along_json(row))
  else:
    print(reports.audit.along_table(rows))
  if _OUT.value or not _JSON.value:
    reports.audit.along_picture(rows, out)
    print(f'\n{out}', file=sys.stderr, flush=True)


if __name__ == '__main__':
  app.run(main)
