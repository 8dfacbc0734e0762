"""Slurm: an sbatch script in WORKDIR/slurm, submitted and followed.

The time limit, preemption and `scontrol requeue` reach training as SIGTERM; it saves and leaves
with status 143. At the time limit the script requeues its job, otherwise Slurm does; the same
command then resumes from the checkpoint. Several tasks become a job array, several processes run
under srun.

WORKDIR/slurm/  job.sbatch  the script             job.json  the job's number
                <job>.out, <job>_<task>.out  logs  *.status  the exit status of a task
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time
from typing import NamedTuple

from absl import flags

from gen_models import files
from launch import errors
from launch.backends import shell
from launch.cli import environment

_PARTITION = flags.DEFINE_string('slurm_partition', None, "Partition. Default: the cluster's.")
_ACCOUNT = flags.DEFINE_string('slurm_account', None, "Account charged. Default: the cluster's.")
_TIME = flags.DEFINE_string('slurm_time', None, 'Time limit of a job, such as 4:00:00 or 1-12; at '
                            'the limit the run is saved and queued again. Default: the '
                            "partition's.")
_NODES = flags.DEFINE_integer('slurm_nodes', 1, 'Nodes of a task.', lower_bound=1)
_TASKS = flags.DEFINE_integer('slurm_tasks', None, 'Processes on a node. Default: one, which uses '
                              'all GPUs; on several nodes one a GPU.', lower_bound=1)
_GPUS = flags.DEFINE_string('slurm_gpus', None, 'GPUs of a node: a number, or type:number.')
_CPUS = flags.DEFINE_integer('slurm_cpus', None, 'Cores of a process.', lower_bound=1)
_MEM = flags.DEFINE_string('slurm_mem', None, 'Memory of a node, such as 16G.')
_GRACE = flags.DEFINE_integer('slurm_grace', 120, 'Seconds before the time limit at which the run '
                              'receives a signal to save and leave.', lower_bound=1,
                              upper_bound=65535)
_RESTARTS = flags.DEFINE_integer('slurm_restarts', 100, 'How often a job queues itself again.',
                                 lower_bound=0)
_AT_ONCE = flags.DEFINE_integer('slurm_at_once', None, 'Tasks of an array that run at the same '
                                'time. Default: as many as fit.', lower_bound=1)
_SETUP = flags.DEFINE_multi_string('slurm_setup', [], 'Shell line that the job runs first, such as '
                                   "'module load cuda'; repeatable.")
_EXTRA = flags.DEFINE_multi_string('slurm_extra', [], 'One more option of sbatch, such as '
                                   '--constraint=a100; repeatable.')

# No shell reads an #SBATCH line, so nothing can be quoted there.
_PLAIN = re.compile(r'[A-Za-z0-9_.,:=@%+/\[\]()&|*-]+')
_OWNED = {'array': 'made from the tasks', 'chdir': 'this directory', 'error': 'in WORKDIR/slurm',
          'gpus-per-node': '--slurm_gpus', 'job-name': "WORKDIR's", 'nodes': '--slurm_nodes',
          'ntasks': '--slurm_tasks', 'ntasks-per-node': '--slurm_tasks', 'open-mode': 'append',
          'output': 'in WORKDIR/slurm', 'requeue': 'on', 'no-requeue': 'never',
          'signal': '--slurm_grace', 'time': '--slurm_time', 'wait': '--follow', 'wrap': 'a script'}
_FINAL = {'COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL', 'OUT_OF_MEMORY', 'BOOT_FAIL',
          'DEADLINE', 'PREEMPTED', 'REVOKED'}
_SURE = {'COMPLETED', 'FAILED', 'CANCELLED', ''}
_STOPPED = 143  # launch.train after SIGTERM: saved, resumes when it is started again


class Options(NamedTuple):
  """The values of the flags, whose help describes them."""

  partition: str | None = None
  account: str | None = None
  time: str | None = None
  nodes: int = 1
  tasks: int | None = None
  gpus: str | None = None
  cpus: int | None = None
  mem: str | None = None
  grace: int = 120
  restarts: int = 100
  at_once: int | None = None
  setup: tuple[str, ...] = ()
  extra: tuple[str, ...] = ()


def options() -> Options:
  """The options of this command line."""
  return Options(_PARTITION.value, _ACCOUNT.value, _TIME.value, _NODES.value, _TASKS.value,
                 _GPUS.value, _CPUS.value, _MEM.value, _GRACE.value, _RESTARTS.value,
                 _AT_ONCE.value, tuple(_SETUP.value), tuple(_EXTRA.value))


def submit(command, workdir: str, *, num_tasks: int, task_flag: str | None, env, dry_run: bool,
           follow: bool) -> int:
  """See launch.backends.submit."""
  script = render(command, workdir, options(), num_tasks=num_tasks, task_flag=task_flag, env=env)
  directory = pathlib.Path(os.path.abspath(workdir)) / 'slurm'
  words = _sbatch(directory, num_tasks, options().at_once)
  if dry_run:
    print(f'# {directory}/job.sbatch\n{script}\n# submitted by\n{shlex.join(words)}')
    return 0
  shell.need('sbatch', 'log in to a node of the cluster')
  record = _record(directory)
  if record and _alive(record['job']):
    job = record['job']
    if record['command'] != command or record['tasks'] != num_tasks:
      raise errors.UsageError(f'job {job} works in {workdir} with another command; '
                              f'end it with scancel {job}, or use another --workdir')
    shell.say(f'job {job} is queued already')
    return _follow(directory, job, num_tasks, tail=4000) if follow else 0
  directory.mkdir(parents=True, exist_ok=True)
  files.write_text(directory / 'job.sbatch', script)
  # Of a job that submits another, nothing but the cluster is passed on.
  job = shell.call(words, env={k: v for k, v in os.environ.items() if k == 'SLURM_CONF' or
                               not k.startswith('SLURM_')}).strip().split(';')[0]
  _write(directory, {'job': job, 'tasks': num_tasks, 'command': command})
  shell.say(f'job {job} is queued; scancel {job} ends it, logs are in {directory}')
  return _follow(directory, job, num_tasks) if follow else 0


def render(command, workdir: str, options: Options, *, num_tasks: int = 1,
           task_flag: str | None = None, env=None) -> str:
  """The batch script.

  Raises:
    UsageError: a value that Slurm would misread.
  """
  gpus = _gpus(options.gpus)
  tasks = options.tasks or (max(gpus, 1) if options.nodes > 1 else 1)
  processes = tasks * options.nodes
  if gpus and processes > 1 and tasks != gpus:
    raise errors.UsageError(f'--slurm_tasks={tasks}: where processes share a run each has one '
                            f'GPU, so write --slurm_tasks={gpus}, or none')
  if '\\' in os.path.abspath(workdir) or '\n' in os.path.abspath(workdir):
    raise errors.UsageError(f'--workdir={workdir!r}: Slurm writes no log below such a name')
  limit = _seconds(options.time) if options.time else None
  if limit is not None and limit <= options.grace + 60:
    raise errors.UsageError(f'--slurm_time={options.time} leaves no time to train: Slurm says '
                            f'stop {options.grace} s before (--slurm_grace), up to 60 s early')
  lines = ['#!/bin/bash', *(f'#SBATCH --{name}={_plain(flag, value)}' for flag, name, value in (
    ('workdir', 'job-name', shell.name_of(workdir)),
    ('slurm_partition', 'partition', options.partition),
    ('slurm_account', 'account', options.account), ('slurm_time', 'time', options.time),
    ('slurm_nodes', 'nodes', options.nodes), ('slurm_tasks', 'ntasks-per-node', tasks),
    ('slurm_gpus', 'gpus-per-node', options.gpus), ('slurm_cpus', 'cpus-per-task', options.cpus),
    ('slurm_mem', 'mem', options.mem), ('slurm_grace', 'signal', f'TERM@{options.grace}'),
    ('', 'open-mode', 'append')) if value is not None), '#SBATCH --requeue']
  lines += [f'#SBATCH {_extra(word)}' for word in options.extra]
  directory = pathlib.Path(os.path.abspath(workdir)) / 'slurm'
  words = [sys.executable if i == 0 and word == 'python' else word
           for i, word in enumerate(command)]
  lines += ['', '# The signal at the time limit goes only to the processes. What reaches this',
            '# script means that Slurm ends the job, and that it is not to be queued again here.',
            'ended=', "trap 'ended=yes' TERM", f'cd -- {shlex.quote(os.getcwd())} || exit 1',
            *options.setup,
            *environment.exports('gpu' if gpus else 'cpu', env or {}),
            *(['export GEN_MODELS_DISTRIBUTED=auto'] if processes > 1 else []),
            'task="$SLURM_JOB_ID"', f'command=({shlex.join(words)})']
  if num_tasks > 1 and task_flag:
    lines += ['task="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"',
              f'command+=({shlex.quote(task_flag)}="$SLURM_ARRAY_TASK_ID")']
  status = f'{shlex.quote(str(directory))}"/$task.status"'
  srun = 'srun --kill-on-bad-exit=1' + (f' --cpus-per-task={options.cpus}' if options.cpus else '')
  if processes > 1:
    # The first process that leaves takes the others with it, in the middle of their saving too.
    last = 'trap : TERM; "$@"; status=$?; [ "$status" != 143 ] || sleep 5; exit "$status"'
    srun += f' bash -c {shlex.quote(last)} process'
  lines += [f'rm -f -- {status}', 'echo "job $task on $SLURM_JOB_NODELIST, start '
            '$((${SLURM_RESTART_COUNT:-0} + 1)), $(date)"',
            f'{srun} "${{command[@]}}"', 'status=$?',
            f'if [ "$status" = {_STOPPED} ] && [ -z "$ended" ] && '
            f'[ "${{SLURM_RESTART_COUNT:-0}}" -lt {options.restarts} ]; then',
            '  echo "time is up: queued again"', '  scontrol requeue "$SLURM_JOB_ID" && exit 0',
            'fi', f'echo "$status" > {status}', 'exit "$status"', '']
  return '\n'.join(lines)


def _sbatch(directory: pathlib.Path, num_tasks: int, at_once: int | None) -> list[str]:
  # Names that may hold anything are words of a command line; % begins a placeholder of Slurm.
  place = str(directory).replace('%', '%%')
  words = ['sbatch', '--parsable', f'--output={place}/%{"A_%a" if num_tasks > 1 else "j"}.out']
  if num_tasks > 1:
    words.append(f'--array=0-{num_tasks - 1}' + (f'%{at_once}' if at_once else ''))
  return [*words, f'{directory}/job.sbatch']


def _plain(flag: str, value) -> str:
  if not _PLAIN.fullmatch(str(value)):
    raise errors.UsageError(f'--{flag}={value!r} has characters that an #SBATCH line cannot hold')
  return str(value)


def _extra(word: str) -> str:
  name = word.lstrip('-').partition('=')[0]
  if not word.startswith('-'):
    raise errors.UsageError(f'--slurm_extra={word}: write --slurm_extra=--option=value')
  if name in _OWNED:
    raise errors.UsageError(f'--slurm_extra={word}: --{name} is {_OWNED[name]}')
  return _plain('slurm_extra', word)


def _gpus(text: str | None) -> int:
  if text is None:
    return 0
  if not re.fullmatch(r'([A-Za-z][\w.-]*:)?[1-9]\d*', text):
    raise errors.UsageError(f'--slurm_gpus={text}: a number, or type:number, of a node')
  return int(text.split(':')[-1])


def _seconds(text: str) -> int:
  """Seconds of minutes, minutes:seconds, hours:minutes:seconds, days-hours[:minutes[:seconds]]."""
  days, dash, rest = text.rpartition('-')
  if not re.fullmatch(r'(\d+-\d+(:\d+){0,2})|\d+(:\d+){0,2}', text):
    raise errors.UsageError(f'--slurm_time={text}: minutes, hours:minutes:seconds or days-hours')
  parts = [int(x) for x in rest.split(':')]
  if dash:
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return int(days) * 86400 + hours * 3600 + minutes * 60 + seconds
  if len(parts) < 3:
    parts = [0, *parts, 0][:3]
  return parts[0] * 3600 + parts[1] * 60 + parts[2]


def _record(directory: pathlib.Path) -> dict | None:
  try:
    record = json.loads((directory / 'job.json').read_text(encoding='utf-8'))
    return record if {'job', 'tasks', 'command'} <= set(record) else None
  except (FileNotFoundError, ValueError, TypeError):
    return None


def _write(directory: pathlib.Path, record) -> None:
  files.write_json(directory / 'job.json', record)


def _states(job: str) -> list[tuple[int | None, str, int]] | None:
  """(task, state, exit status) as the controller knows them; None where it does not answer."""
  done = subprocess.run(['scontrol', 'show', 'job', '--oneliner', job], capture_output=True,
                        encoding='utf-8', errors='replace', stdin=subprocess.DEVNULL)
  if done.returncode:
    return [] if 'Invalid job id' in done.stderr + done.stdout else None
  found = []
  for line in done.stdout.splitlines():
    state = re.search(r'\bJobState=(\w+)', line)
    code = re.search(r'\bExitCode=(\d+):(\d+)', line)
    task = re.search(r'\bArrayTaskId=(\d+)(?:\s|$)', line)
    if state:
      status, number = map(int, code.groups()) if code else (1, 0)
      found.append((int(task[1]) if task else None, state[1],
                    128 + number if number else status))
  return found


def _alive(job: str) -> bool:
  states = _states(job)
  if states is None:
    raise shell.Failed(f'the Slurm controller does not say whether job {job} is still there; '
                       'try again when it answers')
  return any(state not in _FINAL for _, state, _ in states)


def _follow(directory: pathlib.Path, job: str, num_tasks: int, tail: int | None = None) -> int:
  """Shows the logs until the job has ended; returns the greatest exit status of its tasks."""
  tasks = range(num_tasks) if num_tasks > 1 else [None]
  names = {k: job if k is None else f'{job}_{k}' for k in tasks}
  logs = [shell.Log(directory / f'{name}.out', '' if k is None else f'{k}: ', tail)
          for k, name in names.items()]
  ended, shown, wait, sure = {}, None, 1.0, False
  try:
    while True:
      states = _states(job)
      found = states or []
      now = ', '.join(sorted({state for _, state, _ in found}))
      if found and now != shown:
        shell.say(f'job {job}: {now.lower()}')
        shown, wait = now, 1.0
      gone = states == [] and not found
      for k in tasks:
        final = [(state, status) for task, state, status in found
                 if (task == k or k is None) and state in _FINAL]
        if final:
          ended[k] = final[0]
        elif any(task == k or k is None for task, _, _ in found):
          ended.pop(k, None)  # queued again
          sure = False
        elif gone:
          # Forgotten by the controller some minutes after its end; the script wrote its status.
          ended.setdefault(k, ('', _status_file(directory / f'{names[k]}.status')))
      for log in logs:
        log.show()
      if len(ended) == len(names):
        # A job that its node or a better one threw out may be queued again in a moment.
        if sure or all(state in _SURE for state, _ in ended.values()):
          break
        sure, wait = True, 3.0
      until = time.monotonic() + wait
      while time.monotonic() < until:
        time.sleep(min(1.0, wait))
        for log in logs:
          log.show()
      wait = min(wait * 1.5, 15.0)
  except KeyboardInterrupt:
    shell.say(f'job {job} keeps running; scancel {job} ends it, the same command follows it again')
    return 130
  return _result(directory, job, ended, names)


def _result(directory: pathlib.Path, job: str, ended, names) -> int:
  worst = 0
  for k, (state, status) in ended.items():
    if state not in ('COMPLETED', ''):
      status = status or 1
    if status:
      shell.say(f'job {names[k]} ended with status {status}{", " if state else ""}{state.lower()}; '
                f'its log is {directory / names[k]}.out')
    worst = max(worst, status)
  if not worst:
    shell.say(f'job {job} is done')
  return worst


def _status_file(path: pathlib.Path) -> int:
  try:
    return int(path.read_text(encoding='utf-8'))
  except (FileNotFoundError, ValueError):
    return 1
