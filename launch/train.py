"""Trains an experiment. The same command again resumes it.

  python -m launch.train --experiment=rbm_digits --variant=pcd --workdir=runs/digits
  python -m launch.train --experiment=rbm_mnist --workdir=runs/mnist --set=num_hidden=250 --seeds=4

--from=OLD begins with the last checkpoint of another run of the same shapes and continues from its
step with the hyperparameters given here.
"""

import contextlib
import functools
import pathlib
import shlex
import signal
import sys

from absl import flags

from launch import backends, reports, runs
from launch.cli import app, console, flags as shared, hyperparameters, jax_setup, registry
from launch.processes import distributed, supervisor

_EXPERIMENT = shared.experiment()
_VARIANT = shared.variant()
_ESTIMATOR = shared.estimator()
_WORKDIR = shared.workdir('Run directory: created, or resumed if it exists.')
_FROM = flags.DEFINE_string('from', None, 'Run directory whose last checkpoint a new run begins '
                           'with, see launch/runs/warm_start.py.')
_SET = shared.overrides()
_SEED = shared.seed('Seed of the (first) run.')
_SEEDS = shared.seeds('Replicas with seeds seed, seed + 1, ... in one program.')
_PAGE = shared.page()
_PARALLEL = flags.DEFINE_enum('parallel', 'sharded', ['sharded', 'pmap'],
                              'How a step is distributed over devices, see training/parallel.py.')
_MODEL_DEVICES = flags.DEFINE_integer(
  'model_devices', 1, 'Of sharded: so many devices share the units of each layer, for layers too '
  'wide for one; the batch is split over as many groups of them as there are.', lower_bound=1)
_DATA_DIR = shared.data_dir()
_STREAM = flags.DEFINE_bool('stream', False, 'Read batches from disk through grain instead of '
                            'keeping the data on the device; the batches are the same.')
_SAVE_MINUTES = shared.save_every_minutes()
_ACCEPT_CODE = shared.accept_code()
flags.adopt_module_key_flags(backends)
flags.adopt_module_key_flags(supervisor)


def main(argv):
  app.no_arguments(argv)
  elsewhere = backends.elsewhere() or backends.DRY_RUN.value
  if supervisor.wanted() and not elsewhere:
    console.record(_WORKDIR.value)
    sys.exit(supervisor.run('launch.train', sys.argv[1:]))
  with jax_setup.importing():
    if not elsewhere:
      jax_setup.setup()
      distributed.join()
    runs.directory.remember_data(pathlib.Path(_WORKDIR.value))
    entry = registry.load(_EXPERIMENT.value, _ESTIMATOR.value)
  values = hyperparameters.resolve(entry, _VARIANT.value, _SET.value)
  entry.experiment(**values)  # raises where the values themselves are wrong
  workdir = pathlib.Path(_WORKDIR.value)
  config = runs.directory.configuration(entry, _VARIANT.value, values, _SEED.value, _SEEDS.value)
  if elsewhere:
    if (workdir / 'config.json').exists():
      if _FROM.value and (origin_there := runs.directory.read_config(workdir).get('from')):
        config['from'] = origin_there  # compared where the run is resumed
      # Another run is refused now, not in the queue.
      runs.directory.claim(workdir, config, _ACCEPT_CODE.value)
    elif _FROM.value and backends.WHERE.value == 'slurm':  # its jobs see the files of this machine
      runs.directory.read_config(pathlib.Path(_FROM.value))
    sys.exit(backends.submit(backends.command('launch.train'), workdir))
  # Errors of the command are reported before the directory is claimed for it.
  experiment, dataset = runs.training.prepare(
    entry, config, _DATA_DIR.value, limit=runs.training.HEAD if _STREAM.value else None)
  # Of several processes only the first writes files and prints.
  lock = (runs.directory.lock(workdir) if distributed.is_first()
          else contextlib.nullcontext(lambda: None))
  with lock as require:
    if _FROM.value:
      config['from'] = runs.warm_start.find(pathlib.Path(_FROM.value), workdir, config,
                                            experiment, dataset.train)
    begun = distributed.is_first() and runs.directory.claim(workdir, config, _ACCEPT_CODE.value)
    remark = runs.directory.other_devices(workdir) if begun else None
    if distributed.is_first():
      runs.directory.record_start(workdir)
      console.record(workdir)
      if not begun:
        for line in dataset.remarks:
          print(f'note: {line}', flush=True)
    distributed.wait_for_all('the run directory is ours')
    result = train(experiment, dataset, config, workdir, begun, remark, require)
  several = distributed.count() > 1
  distributed.disconnect()
  if not result.done:
    if distributed.is_first():
      print(f'stopped at step {result.step}, saved; the same command resumes from there')
    sys.exit(128 + signal.SIGTERM)
  if distributed.is_first():
    distributed.heartbeat(None)
    page = _PAGE.value and app.extra(
      'the page of the run', _page_separately if several else _page, workdir)
    print(f'trained {result.step} steps' + (f'; figures in {page}' if page else '') + '\n'
          f'python -m launch.evaluate {shlex.quote(f"--workdir={workdir}")} scores it')


def _page(workdir):
  return reports.report.of_run(workdir, _DATA_DIR.value)


def _page_separately(workdir):
  """The page of a run of several processes, written where there is one."""
  data_dir = [f'--data_dir={_DATA_DIR.value}'] if _DATA_DIR.value else []
  distributed.run_separately('launch.report', f'--workdir={workdir}', *data_dir)
  return workdir / 'report.html'


def train(experiment, dataset, config, workdir, begun, remark, require):
  """Runs the loop with everything that has effects attached to it."""
  from gen_models import data
  from gen_models.training import keys, loop, parallel
  from gen_models.training.hooks import Hooks
  from gen_models.training.record import Diverged

  stream = data.source(experiment.dataset, _DATA_DIR.value) if _STREAM.value else None
  key = keys.of_run(config['seed'], config['seeds'])
  checkpoints = runs.directory.open_checkpoints(
    workdir, config, experiment, save_interval_minutes=_SAVE_MINUTES.value, require=require)
  with checkpoints:
    start = runs.training.start(experiment, dataset.train, key, config, checkpoints)
    step = start[1] if start else 0
    if distributed.is_first() and (begun or start):
      print(f'resuming {workdir} at step {step}', flush=True)
      if remark and step:
        print(remark, flush=True)
    fit = functools.partial(
      loop.fit, experiment, dataset.train, dataset.valid, key, start=start,
      layout=parallel.Layout(_PARALLEL.value, model=_MODEL_DEVICES.value), stream=stream,
      checkpoints=checkpoints)
    stop = distributed.StopTogether() if distributed.count() > 1 else app.StopOnSignal()
    if not distributed.is_first():
      with stop as should_stop:
        return fit(hooks=Hooks(on_metrics=lambda step, values: distributed.heartbeat(step),
                               should_stop=should_stop))
    reporting = runs.training.reporting(experiment, config, workdir, step,
                                        on_step=distributed.heartbeat)
    with stop as should_stop, reporting as hooks:
      try:
        return fit(hooks=hooks._replace(should_stop=should_stop))
      except Diverged as e:
        checkpoints.wait()  # what it offers may be under way
        mine = flags.FLAGS.get_flags_for_module(sys.modules[__name__])
        raise Diverged(f'{e}:\n{runs.warm_start.offer(config, workdir, mine)}') from e


if __name__ == '__main__':
  app.run(main)
