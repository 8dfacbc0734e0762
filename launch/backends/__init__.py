"""Where a command runs: here, on a Slurm cluster, on a TPU VM of Google Cloud, on Kubernetes.

A command first asks `elsewhere()`, then validates its own flags, then submits itself:

  elsewhere = backends.elsewhere()
  ...
  if elsewhere or backends.DRY_RUN.value:
    sys.exit(backends.submit(backends.command('launch.train'), workdir))

slurm.py, tpu.py and kubernetes.py each render the job, check it, submit it, follow it and end with
its status. The same command again follows a job that is still running; otherwise it submits the job
again, which resumes from the last checkpoint. launch/cli/environment.py holds the environment of
jobs.

Processes of a job find each other by the environment:
GEN_MODELS_DISTRIBUTED=auto where JAX finds the others itself (Slurm's srun, TPU slices), else
GEN_MODELS_COORDINATOR, GEN_MODELS_PROCESSES and GEN_MODELS_PROCESS. A single process gets none.
"""

import shlex
import sys
from collections.abc import Sequence

from absl import flags

from launch import errors
from launch.backends import kubernetes, slurm, tpu
from launch.cli import environment

WHERE = flags.DEFINE_enum('where', 'local', ['local', 'slurm', 'tpu', 'k8s'],
                          'Where the command runs: this machine, a Slurm cluster, a TPU VM of '
                          'Google Cloud, Kubernetes (a JobSet). --helpfull lists the flags of each '
                          'place: --slurm_..., --tpu_..., --k8s_...')
DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Show what would be written and run, and leave.')
_FOLLOW = flags.DEFINE_bool('follow', True, 'Elsewhere: show the log until the job has ended and '
                            'end with its status; --nofollow leaves when it is submitted.')
_ENV = flags.DEFINE_multi_string('where_env', [], 'Elsewhere: NAME=value for the environment of '
                                 'the job, above launch/cli/environment.py; repeatable.')
_PLACES = {'slurm': slurm, 'tpu': tpu, 'k8s': kubernetes}
_OURS = ('where', 'dry_run', 'follow', 'where_env')


def elsewhere() -> bool:
  """Whether the command is to run elsewhere than in this process.

  Raises:
    UsageError: a flag of another place than --where names was given.
  """
  for name in flags.FLAGS:
    place = name.split('_')[0]
    if place in _PLACES and place != WHERE.value and flags.FLAGS[name].present:
      raise errors.UsageError(f'--{name} is for --where={place}, not {WHERE.value}')
  if WHERE.value == 'local':
    if _ENV.value:
      raise errors.UsageError('--where_env is for jobs elsewhere; here set the variable itself')
    return False
  if 'processes' in flags.FLAGS and flags.FLAGS['processes'].present:
    more = {'slurm': '--slurm_nodes and --slurm_tasks', 'k8s': '--k8s_parallelism',
            'tpu': '--tpu_type'}[WHERE.value]
    raise errors.UsageError(f'--processes is for --where=local; here it is {more}')
  return True


def command(module: str, words: Sequence[str] | None = None) -> list[str]:
  """The command a job runs: `python -m module` with `words` less the flags of this package.

  Args:
    module: such as launch.train.
    words: what follows it on the command line; default: this process's own.
  """
  words = list(sys.argv[1:] if words is None else words)
  kept = []
  while words:
    word = words.pop(0)
    if word == '--':
      return ['python', '-m', module, *kept, word, *words]
    name, equals, _ = word.lstrip('-').partition('=')
    flag = _own(name) if word.startswith('-') else None
    if flag is None:
      kept.append(word)
      # The value of a flag that is not ours, which may look like one that is.
      other = flags.FLAGS[name] if word.startswith('-') and name in flags.FLAGS else None
      if other is not None and not equals and not other.boolean and words:
        kept.append(words.pop(0))
    elif not equals and not flag.boolean and words:
      words.pop(0)
  return ['python', '-m', module, *kept]


def _own(name: str) -> flags.Flag | None:
  if name.startswith('no') and name[2:] in flags.FLAGS and flags.FLAGS[name[2:]].boolean:
    name = name[2:]
  if name in flags.FLAGS and (name in _OURS or name.split('_')[0] in _PLACES and '_' in name):
    return flags.FLAGS[name]
  return None


def submit(command: Sequence[str], workdir, num_tasks: int = 1,
           task_flag: str | None = None) -> int:
  """Runs `command` where --where says, and follows it.

  Args:
    command: what a job runs, `python -m ...`, see `command()`.
    workdir: its run directory, as the command names it.
    num_tasks: of independent tasks.
    task_flag: task k runs the command with `task_flag=k` more; needed for several tasks.

  Returns:
    The exit status of the job, 0 for a dry run or with --nofollow.

  Raises:
    UsageError: flags that cannot work.
    OSError: the place's own command is not installed, or failed.
  """
  if WHERE.value == 'local':
    print(f'# {workdir} would be made or resumed here by\n{shlex.join(command)}')
    return 0
  if num_tasks > 1 and not task_flag:
    raise ValueError('several tasks need a task_flag')
  return _PLACES[WHERE.value].submit(
    list(command), str(workdir), num_tasks=num_tasks, task_flag=task_flag,
    env=environment.given(_ENV.value), dry_run=DRY_RUN.value, follow=_FOLLOW.value)
