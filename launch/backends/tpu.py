"""A TPU VM of Google Cloud: made with gcloud, given the code, trained on, and deleted.

The code of this checkout is copied to every worker, installed there, and run in a process that a
lost connection does not end; its log is followed, and the command ends with its status. When the
run is done the VM is deleted. After an error or Ctrl-C it is kept, and the command that deletes it
is printed. The same command again follows a run that is still going, and starts one that has
stopped.

A relative WORKDIR is copied to a new VM's disk, and back when the run has ended. Several workers of
one run, and a spot VM, which loses its disk when it is taken away, need an absolute WORKDIR on a
share that --tpu_setup mounts. All programs of a sweep run on the one TPU, one after another.
"""

import io
import os
import pathlib
import posixpath
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from typing import Any, NamedTuple

from absl import flags

from gen_models import files
from launch import errors
from launch.backends import gcloud_schema, shell, tpu_slices
from launch.cli import environment

_NAME = flags.DEFINE_string('tpu_name', None, 'Name of the TPU VM. Default: the last part of '
                            'WORKDIR.')
_TYPE = flags.DEFINE_string('tpu_type', None, 'Accelerator type, such as v6e-8.')
_ZONE = flags.DEFINE_string('tpu_zone', None, 'Such as us-central2-b.')
_PROJECT = flags.DEFINE_string('tpu_project', None, "Default: gcloud's.")
_VERSION = flags.DEFINE_string('tpu_version', None, "Software of the VM. Default: JAX's for the "
                               'type.')
_SPOT = flags.DEFINE_bool('tpu_spot', False, 'A spot VM: cheaper, and preemptible.')
_QUEUED = flags.DEFINE_bool('tpu_queued', False, 'Wait in the queue of Google Cloud until there '
                            'is one (a queued resource).')
_KEEP = flags.DEFINE_bool('tpu_keep', False, 'Do not delete the VM when the run is done.')
_SETUP = flags.DEFINE_multi_string('tpu_setup', [], 'Shell line that every worker runs first, such '
                                   'as the mounting of a share; repeatable.')
_INSTALL = flags.DEFINE_string('tpu_install', None, 'Shell line that makes .venv/bin/python with '
                               'the project in it. Default: with uv and Python 3.12.')
_EXTRA = flags.DEFINE_multi_string('tpu_extra', [], 'One more flag of gcloud create, such as '
                                   '--network=mine; repeatable.')

# The images have Python 3.10; uv brings its own.
INSTALL = ("python3 -m pip install --quiet --user uv && "
           "python3 -m uv venv --quiet --allow-existing --python 3.12 .venv && "
           "python3 -m uv pip install --quiet --python .venv/bin/python --editable '.[tpu]'")
_CODE = ('gen_models', 'experiments', 'launch', 'benchmarks', 'setup.cfg', 'pyproject.toml',
         'README.md', 'LICENSE')
_MARK = b'\036gen_models status '  # an ASCII separator, which no log has
_STATUS = re.compile(_MARK + rb'(\w+)\n$')
POLL_SECONDS = 30.0
# What runs on a worker, in the home directory. All that a user may have written is in the files
# install.sh and run.sh of the code, so that nothing has to be quoted twice.
_ALIVE = ('grep -qa run.sh "/proc/$(cat gen_models/run.pid)/cmdline" 2>/dev/null && echo running '
          '|| echo idle')
_UNPACK = 'mkdir -p gen_models && tar -xzf code.tar.gz -C gen_models && bash gen_models/install.sh'
_START = ('cd gen_models && rm -f run.status run.log && (nohup setsid bash run.sh > run.log 2>&1 '
          '< /dev/null & echo $! > run.pid)')
_WATCH = ('cd gen_models && tail -c +{} --pid="$(cat run.pid)" -F run.log 2>/dev/null; '
          r'printf "\036gen_models status %s\n" "$(cat run.status 2>/dev/null || echo lost)"')
_PACK = 'bash gen_models/pack.sh'


class Options(NamedTuple):
  """The values of the flags, whose help describes them."""

  type: str | None = None
  zone: str | None = None
  name: str | None = None
  project: str | None = None
  version: str | None = None
  spot: bool = False
  queued: bool = False
  keep: bool = False
  setup: tuple[str, ...] = ()
  install: str | None = None
  extra: tuple[str, ...] = ()


class Plan(NamedTuple):
  """Every command and file of a run on a TPU VM."""

  name: str
  describe: list[str]
  create: list[str]
  state: list[str] | None  # of the queued resource
  send: list[str]
  alive: list[str]
  install: list[str]
  start: list[str]
  watch: list[str]  # with {} for the first byte
  fetch: list[list[str]]  # empty where WORKDIR outlives the VM
  delete: list[str]
  files: dict[str, str]  # written beside the code
  archive: pathlib.Path


def options() -> Options:
  """The options of this command line."""
  return Options(_TYPE.value, _ZONE.value, _NAME.value, _PROJECT.value, _VERSION.value,
                 _SPOT.value, _QUEUED.value, _KEEP.value, tuple(_SETUP.value), _INSTALL.value,
                 tuple(_EXTRA.value))


def submit(command, workdir: str, *, num_tasks: int, task_flag: str | None, env, dry_run: bool,
           follow: bool) -> int:
  """See launch.backends.submit; tasks are left to the command, which runs all of them."""
  del num_tasks, task_flag
  chosen = options()
  made = plan(command, workdir, chosen, env=env)
  if dry_run:
    print(describe(made, chosen))
    return 0
  shell.need('gcloud', 'install the Google Cloud SDK and choose a project')
  delete = f'{shlex.join(made.delete)} deletes the TPU'
  try:
    status = _run(made, chosen, pathlib.Path(workdir), follow)
  except KeyboardInterrupt:
    shell.say(f'the TPU is kept, and the run on it continues; {delete}')
    return 130
  except BaseException:
    shell.say(f'the TPU may exist: {delete}')
    raise
  if status == 0 and follow and not chosen.keep:
    _live(made.delete)
  else:
    shell.say(f'the TPU is kept; {delete}')
  return status


def plan(command, workdir: str, options: Options, *, env=None) -> Plan:
  """All commands and files of a run with these options.

  Raises:
    UsageError: flags that cannot work.
  """
  if not options.type:
    raise errors.UsageError('--where=tpu needs --tpu_type')
  if not options.zone:
    raise errors.UsageError('--where=tpu needs --tpu_zone')
  generation, _, hosts = tpu_slices.from_type(options.type)
  name = shell.check_name('tpu_name', options.name or shell.name_of(workdir), 60)
  gcloud_schema.check_flags(options.zone, options.project)
  place = [f'--zone={options.zone}',
           *([f'--project={options.project}'] if options.project else [])]
  for word in command:
    path = word.removeprefix('--experiment=')
    if word != path and path.endswith('.py'):
      raise errors.UsageError(f'{word}: a file of this machine; put it into experiments/')
  shared = posixpath.isabs(workdir)
  if not shared and (hosts > 1 or options.spot):
    what = f'{options.type} has {hosts} workers' if hosts > 1 else 'a spot VM may be taken away'
    raise errors.UsageError(f'{what}: give an absolute --workdir on a share that --tpu_setup '
                            'mounts on every worker')
  if not shared and posixpath.normpath(workdir).startswith('..'):
    raise errors.UsageError(f'--workdir={workdir}: on a TPU VM, a directory below this one')
  version = options.version or generation.version
  if version is None:
    raise errors.UsageError(f'--tpu_type={options.type}: the software of its VM is not known here; '
                            'give --tpu_version')
  kind = 'queued-resources' if options.queued else 'tpu-vm'
  create = [f'--accelerator-type={options.type}', *place,
            *([f'--node-id={name}', f'--runtime-version={version}'] if options.queued
              else [f'--version={version}']),
            *(['--spot'] if options.spot else []), *options.extra]

  def on(kind, verb, *words):
    # Quiet: nobody is there to answer questions.
    return gcloud_schema.command(kind, verb, *words, '--quiet')

  def ssh(worker, text):
    return on('tpu-vm', 'ssh', name, *place, f'--worker={worker}', f'--command={text}')

  archive = files.cache_directory() / 'tpu' / name
  fetch = [] if shared else [ssh(0, _PACK), on('tpu-vm', 'scp', f'{name}:gen_models/run.tar.gz',
                                               str(archive / 'run.tar.gz'), *place, '--worker=0')]
  return Plan(
    name, on('tpu-vm', 'describe', name, *place, '--format=value(state)'),
    on(kind, 'create', name, *create),
    on(kind, 'describe', name, *place, '--format=value(state.state)') if options.queued else None,
    on('tpu-vm', 'scp', str(archive / 'code.tar.gz'), f'{name}:code.tar.gz', *place,
       '--worker=all'),
    ssh(0, _ALIVE), ssh('all', _UNPACK), ssh('all', _START), ssh(0, _WATCH), fetch,
    on(kind, 'delete', name, *place, *(['--force'] if options.queued else [])),
    _files(command, workdir, options, hosts, env or {}), archive / 'code.tar.gz')


def describe(made: Plan, options: Options) -> str:
  """The plan as a script with comments."""
  lines = [f'# {made.archive}: the code, with']
  for name, text in made.files.items():
    lines += [f'# {name}:', *(f'#   {line}' for line in text.splitlines())]
  steps = [('unless it exists', [made.state or made.describe]), ('make it', [made.create]),
           ('until it is ACTIVE', [made.state] if made.state else []),
           ('the code, to every worker', [made.send, made.install]), ('run', [made.start]),
           ('follow', [[w.replace('{}', '1') for w in made.watch]]),
           ('what it made', made.fetch),
           ('kept: this would delete it' if options.keep else 'when it is done', [made.delete])]
  for what, commands in steps:
    lines += [f'# {what}'] if commands else []
    lines += [('# ' if what.startswith('kept') else '') + shlex.join(c) for c in commands]
  return '\n'.join(lines)


def _files(command, workdir, options: Options, hosts: int, env) -> dict[str, str]:
  words = ['.venv/bin/python' if i == 0 and word == 'python' else word
           for i, word in enumerate(command)]
  directory = shlex.quote(workdir)
  pack = [f'mkdir -p -- {directory}', f'tar -czf run.tar.gz --directory={directory} .']
  head = ['#!/bin/bash', 'cd "$HOME/gen_models" || exit 1']
  install = [*head, 'set -e', *options.setup, options.install or INSTALL]
  if posixpath.isabs(workdir):
    install += [f'mkdir -p -- {directory}',
                f'if [ "$(stat -c %d -- {directory})" = "$(stat -c %d /)" ]; then',
                f'  echo {directory}" is on the disk of the VM, which is deleted with it; mount a '
                'share there with --tpu_setup" >&2', '  exit 1', 'fi']
  run = [*head, *environment.exports('tpu', env),
         *(['export GEN_MODELS_DISTRIBUTED=auto'] if hosts > 1 else []),
         shlex.join(words), 'echo $? > run.status']
  return {name: '\n'.join([*lines, '']) for name, lines in {
    'install.sh': install, 'run.sh': run,
    'pack.sh': [*head, *pack]}.items()}


def _run(made: Plan, options: Options, workdir: pathlib.Path, follow: bool) -> int:
  there = _exists(made)
  if not there:
    _live(made.create)
  if made.state:
    _wait(made.name, made.state)
  if not there or shell.call(made.alive).strip().splitlines()[-1:] != ['running']:
    made.archive.parent.mkdir(parents=True, exist_ok=True)
    pack(made, workdir if not there and made.fetch else None)
    _live(made.send)
    _live(made.install)
    _live(made.start)
  else:
    shell.say('the run is in progress already')
  if not follow:
    return 0
  status = _watch(made)
  if made.fetch:
    for words in made.fetch:
      _live(words)
    unpack(made.archive.with_name('run.tar.gz'), workdir)
    shell.say(f'the run is in {workdir}')
  shutil.rmtree(made.archive.parent, ignore_errors=True)
  return status


def unpack(archive: pathlib.Path, directory: pathlib.Path) -> None:
  """Extracts the archive below `directory`, without links and paths that lead elsewhere."""
  # Python has it from 3.11.4 on.
  safe: dict[str, Any] = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}
  with tarfile.open(archive) as file:
    for member in file:
      if (member.isfile() or member.isdir()) and not member.name.startswith('/') \
          and '..' not in member.name.split('/'):
        file.extract(member, directory, **safe)


def pack(made: Plan, run: pathlib.Path | None) -> None:
  """Writes the code of this checkout, the plan's files and the run directory to the archive."""
  root = pathlib.Path(__file__).parents[2]
  if not (root / 'setup.cfg').exists():
    raise shell.Failed(f'{root} is no checkout: --where=tpu sends the code of one')
  with tarfile.open(made.archive, 'w:gz') as file:
    for name in _CODE:
      if (root / name).exists():
        file.add(root / name, name, filter=lambda i: None if '__pycache__' in i.name else i)
    if run is not None and run.exists():
      file.add(run, posixpath.normpath(str(run)))
    for name, text in made.files.items():
      info = tarfile.TarInfo(name)
      info.size, info.mode, info.mtime = len(text.encode()), 0o644, int(time.time())
      file.addfile(info, io.BytesIO(text.encode()))


def _exists(made: Plan) -> bool:
  # A queued resource is there before its VM is.
  words = made.state or made.describe
  done = subprocess.run(words, capture_output=True, encoding='utf-8', errors='replace',
                        stdin=subprocess.DEVNULL)
  if done.returncode and not re.search('NOT_FOUND|was not found', done.stderr):
    raise shell.Failed(f'{shell.shorten(shlex.join(words))}: {done.stderr.strip()}')
  return done.returncode == 0


def _wait(name: str, words: list[str]) -> None:
  shown = None
  while True:
    state = shell.call(words).strip()
    if state != shown:
      shell.say(f'queued resource {name}: {state.lower()}')
      shown = state
    if state == 'ACTIVE':
      return
    if state in ('FAILED', 'SUSPENDING', 'SUSPENDED', 'DELETING'):
      raise shell.Failed(f'the queued resource is {state.lower()}: delete it and start again; the '
                         'run resumes from its last checkpoint')
    time.sleep(POLL_SECONDS)


def _live(words: list[str]) -> None:
  shell.say(shell.shorten(shlex.join(words), 120))
  status = subprocess.run(words, stdin=subprocess.DEVNULL).returncode
  if status:
    raise shell.Failed(f'{shell.shorten(shlex.join(words))} ended with status {status}')


def _watch(made: Plan) -> int:
  """Shows the log of the first worker until its run has ended; returns its exit status."""
  position, lost = 1, 0
  while True:
    words = [w.replace('{}', str(position)) for w in made.watch]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
      assert process.stdout is not None  # a pipe
      held = b''  # what may be the beginning of the mark
      while chunk := os.read(process.stdout.fileno(), 65536):
        lost, held = 0, held + chunk
        cut = held.rfind(_MARK)
        if cut < 0:
          cut = len(held) - max(k for k in range(len(_MARK)) if held.endswith(_MARK[:k]))
        position += _show(held[:cut])
        held = held[cut:]
    end = _STATUS.search(held)
    position += _show(held[:end.start()] if end else held)
    if end:
      break
    lost += 1
    if lost > 10:
      raise shell.Failed('no connection to the TPU; the same command follows the run again')
    time.sleep(min(POLL_SECONDS, 2.0**lost))
  if end[1] == b'lost':
    shell.say('the run ended without a status; the same command resumes from its last checkpoint')
    return 1
  if int(end[1]):
    shell.say(f'the run ended with status {int(end[1])}')
  return int(end[1])


def _show(data: bytes) -> int:
  sys.stdout.buffer.write(data)
  sys.stdout.flush()
  return len(data)
