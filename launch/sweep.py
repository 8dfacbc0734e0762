"""Trains and scores many points of an experiment in as few compiled programs as their shapes allow.

  python -m launch.sweep --experiment=rbm_digits --variants=pcd,centred --seeds=3 \\
      --set=learning_rate=0.03,0.1 --workdir=runs/rates
  python -m launch.sweep --experiment=rbm_digits --search=random --trials=8 \\
      --set=learning_rate=1e-3..0.3:log --workdir=runs/random

Points that differ in seeds and float hyperparameters are replicas of one program. Every replica is
a run in a directory of its own, WORKDIR/<point>/seed<k>, bitwise identical to that of launch.train
with its flags: evaluate, sample, report and train itself can read it. One that meets a number that
is not finite is frozen, with the reason in failed.txt, and the others continue. The same command
again resumes; what is finished is not run again, and more variants, values or seeds may be asked
for in the same WORKDIR.

With --where=slurm, tpu or k8s every program is a task of a job there.

Replicas are a vmap where that is found to be bitwise identical to single runs; else they are
trained sequentially in the program of a single run. --replicas=vmap insists on the vmap, which may
differ by rounding.
"""

import pathlib
import signal
import sys

from absl import flags

from gen_models import indices
from launch import backends, errors, sweeps
from launch.cli import app, console, flags as shared, hyperparameters, registry
from launch.processes import distributed

_EXPERIMENT = shared.experiment()
_ESTIMATOR = shared.estimator()
_VARIANTS = flags.DEFINE_list('variants', [], "Names in the experiment's VARIANTS, or all; "
                              "default: the experiment's own defaults.")
_WORKDIR = shared.workdir('Directory of the sweep: created, or resumed if it exists.')
_SET = shared.overrides(
  'name=value for all, name=a,b,c for a grid, name=low..high or low..high:log for '
  'random search and optuna; repeatable.')
_SEED = shared.seed('The first seed.')
_SEEDS = shared.seeds('Seeds of every point: seed, seed + 1, ...')
_SEARCH = flags.DEFINE_enum('search', 'grid', ['grid', 'random', 'optuna'],
                            'How the values of --set are combined.')
_TRIALS = flags.DEFINE_integer('trials', 16, 'Points of random search and optuna.', lower_bound=1)
_SEARCH_SEED = shared.seed('Seed of the search.', 'search_seed')
_BATCH = flags.DEFINE_integer('batch', 8, 'Points that optuna asks for at once, trained together.',
                              lower_bound=1)
_REPLICAS = flags.DEFINE_enum(
  'replicas', 'auto', ['auto', 'vmap', 'sequential'],
  'Replicas of a program by vmap or one after another; auto: by vmap where that is bitwise '
  'identical to single runs.')
_MAX_REPLICAS = flags.DEFINE_integer('max_replicas', None, 'Largest number of replicas of one '
                                     'program; default: as many as fit into the memory of the '
                                     'accelerator.', lower_bound=1)
_PROGRAMS = flags.DEFINE_list('programs', [], 'Numbers of the programs of the plan to run; so the '
                              'tasks of an array job share a sweep. Default: all.')
_EVALUATE = flags.DEFINE_bool('evaluate', True, 'Score every run when it is trained.')
_SAMPLE_SPACE = flags.DEFINE_enum('sample_space', 'none', ['none', 'own', 'real', 'dynamic',
                                                           'threshold'],
                                  '--sample_space of launch.evaluate; none: draws are not scored.')
_DATA_DIR = shared.data_dir()
_SAVE_MINUTES = shared.save_every_minutes()
_ACCEPT_CODE = shared.accept_code()
flags.adopt_module_key_flags(backends)


def main(argv):
  app.no_arguments(argv)
  elsewhere = backends.elsewhere()
  if not elsewhere and not distributed.is_single():
    raise errors.UsageError('a sweep runs in one process, on all of its devices: several '
                            'processes share it by --programs, not by GEN_MODELS_DISTRIBUTED')
  entry = registry.load(_EXPERIMENT.value, _ESTIMATOR.value)
  searched = _SEARCH.value != 'grid'
  axes = sweeps.plan.axes(entry, _SET.value, ranges=searched)
  variants = _variants(entry)
  seeds = range(_SEED.value, _SEED.value + _SEEDS.value)
  # What all points share is no part of their names.
  fixed = {k: v[0] for k, v in axes.items() if isinstance(v, list) and len(v) == 1}
  axes = {k: v for k, v in axes.items() if k not in fixed}
  if searched and not axes:
    raise errors.UsageError(f'--search={_SEARCH.value} needs --set=name=low..high, or =a,b,c')
  sweep = sweeps.runner.Sweep(
    entry, pathlib.Path(_WORKDIR.value), data_dir=_DATA_DIR.value,
    sequential={'auto': None, 'vmap': False, 'sequential': True}[_REPLICAS.value],
    max_replicas=_MAX_REPLICAS.value, save_minutes=_SAVE_MINUTES.value,
    sample_space=_SAMPLE_SPACE.value if _EVALUATE.value else None,
    accept_code=_ACCEPT_CODE.value)
  if _SEARCH.value == 'optuna':
    if elsewhere:
      # One search is one task: what it asks for next depends on what it has seen.
      sys.exit(backends.submit(backends.command('launch.sweep'), _WORKDIR.value))
    if not backends.DRY_RUN.value:
      console.record(_WORKDIR.value)
    done = sweeps.search.run(sweep, variants, axes, fixed, seeds, trials=_TRIALS.value,
                             batch=_BATCH.value, seed=_SEARCH_SEED.value,
                             dry_run=backends.DRY_RUN.value)
  else:
    choices = list(sweeps.plan.draws(axes, _TRIALS.value, _SEARCH_SEED.value) if searched
                   else sweeps.plan.grid(axes))
    points = sweeps.plan.points(entry, variants, choices, seeds, fixed)
    programs = sweep.programs(points)
    print(sweep.describe(programs), flush=True)
    if elsewhere:
      sys.exit(_submit(programs))
    if backends.DRY_RUN.value:
      return
    console.record(_WORKDIR.value)
    selected = _selected(programs)
    done = sweep.run(selected)
    if done:
      sweep.require_some([point for _, program in selected for point in program.points])
  if not done:
    print('stopped and saved; the same command resumes from there')
    sys.exit(128 + signal.SIGTERM)


def _variants(entry: registry.Entry) -> list[str | None]:
  if _VARIANTS.value == ['all']:
    return list(entry.variants)
  if repeated := [v for v in _VARIANTS.value if _VARIANTS.value.count(v) > 1]:
    raise errors.UsageError(f'--variants names {repeated[0]} twice')
  for variant in _VARIANTS.value:
    hyperparameters.resolve(entry, variant)
  return [*_VARIANTS.value] or [None]


def _submit(programs) -> int:
  """A task for each program that is asked for; returns the status of the job."""
  command = backends.command('launch.sweep')
  if _PROGRAMS.value:
    _selected(programs)
    return backends.submit(command, _WORKDIR.value)
  if not _MAX_REPLICAS.value:
    # The accelerator's memory would make another plan there, and other numbers of programs.
    command.append(f'--max_replicas={max(len(p.points) for p in programs)}')
  return backends.submit(command, _WORKDIR.value, num_tasks=len(programs), task_flag='--programs')


def _selected(programs):
  """(number, program) of those asked for."""
  numbered = dict(enumerate(programs))
  if not _PROGRAMS.value:
    return list(numbered.items())
  for number in _PROGRAMS.value:
    if not number.strip().lstrip('-').isdecimal():
      raise errors.UsageError(f'--programs={number}: write numbers of programs, 0,3')
    indices.check('--programs', int(number), len(programs), 'programs in the plan')
  return [(int(number), numbered[int(number)]) for number in _PROGRAMS.value]


if __name__ == '__main__':
  app.run(main)
