"""TPU VMs: what gcloud is told, and whole runs on workers that are directories of this machine."""

import json
import os
import pathlib
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from launch import backends, errors
from launch.backends import gcloud_schema, shell, tpu, tpu_slices
from launch.cli import environment

ROOT = pathlib.Path(__file__).parents[3]
TRAIN = ['python', '-m', 'launch.train', '--experiment=rbm_digits', '--workdir=runs/a']
NEEDED = dict(type='v6e-8', zone='us-east5-b')
# A TPU is a directory, a worker a home directory in it. What ssh runs is run there by bash.
GCLOUD = f'''#!{sys.executable}
import os, pathlib, shutil, subprocess, sys
words = sys.argv[1:]
clouds, hosts = pathlib.Path(os.environ['CLOUD']), int(os.environ.get('HOSTS', 1))
with open(clouds / 'calls', 'a') as file:
  print(*words[2:5], file=file)
group, verb, *rest = words[2:]
flags = dict(w[2:].partition('=')[::2] for w in rest if w.startswith('--'))
names = [w for w in rest if not w.startswith('--')]
if os.environ.get('BROKEN') == verb:
  sys.exit('ERROR: quota exceeded')
def homes(name):
  worker = flags['worker']
  return [clouds / name / w for w in (map(str, range(hosts)) if worker == 'all' else [worker])]
if verb == 'create':
  for worker in range(hosts):
    (clouds / names[0] / str(worker)).mkdir(parents=True)
elif verb == 'describe':
  if not (clouds / names[0]).exists():
    sys.exit('ERROR: (gcloud) NOT_FOUND: not there')
  waited = clouds / names[0] / 'waited'
  print('ACTIVE' if waited.exists() else 'WAITING_FOR_RESOURCES')
  waited.touch()
elif verb == 'delete':
  shutil.rmtree(clouds / names[0])
elif verb == 'scp':
  source, target = names
  if ':' in target:
    for home in homes(target.split(':')[0]):
      shutil.copy(source, home / target.split(':')[1])
  else:
    name, path = source.split(':')
    shutil.copy(homes(name)[0] / path, target)
elif verb == 'ssh':
  done = [subprocess.run(['bash', '-c', flags['command']], cwd=home,
                         env={{**os.environ, 'HOME': str(home)}}) for home in homes(names[0])]
  sys.exit(max(d.returncode for d in done))
'''
# A program in the place of training: counts its starts in WORKDIR.
PROGRAM = '''
import os, pathlib, sys, time
directory = pathlib.Path(sys.argv[1])
directory.mkdir(parents=True, exist_ok=True)
count = directory / 'count'
count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))
print('start', count.read_text(), sys.argv[2:], os.environ.get('GEN_MODELS_DISTRIBUTED'),
      flush=True)
print('settings', os.environ['LIBTPU_INIT_ARGS'].split()[-1], os.environ['OWN'], flush=True)
if len(sys.argv) > 2 and sys.argv[2] == 'slow':
  time.sleep(600)
print('no line break at the end', end='')
sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2].isdigit() else 0)
'''


def plan(command=TRAIN, workdir='runs/a', env=None, **options):
  return tpu.plan(command, workdir, tpu.Options(**{**NEEDED, **options}), env=env)


def commands(made):
  return [made.describe, made.create, *([made.state] if made.state else []), made.send, made.alive,
          made.install, made.start, made.watch, *made.fetch, made.delete]


def split(words):
  """(group and verb, names, flags) of a gcloud command."""
  assert words[:3] == ['gcloud', 'compute', 'tpus']
  return (tuple(words[3:5]), [w for w in words[5:] if not w.startswith('--')],
          dict(w[2:].partition('=')[::2] for w in words[5:] if w.startswith('--')))


@pytest.mark.parametrize('queued', [False, True])
def test_the_command_line_of_gcloud(queued):
  made = plan(queued=queued, spot=True, project='my-project', workdir='/mnt/runs/a b')
  kind, names, given = split(made.create)
  assert kind == ('queued-resources' if queued else 'tpu-vm', 'create') and names == ['a-b']
  assert given['accelerator-type'] == 'v6e-8' and 'spot' in given
  assert given['runtime-version' if queued else 'version'] == 'v2-alpha-tpuv6e'
  assert (given.get('node-id') == 'a-b') == queued
  assert split(made.delete)[0] == (kind[0], 'delete')
  for words in commands(made):
    assert gcloud_schema.command(*words[3:]) == words
    assert split(words)[2]['zone'] == 'us-east5-b'
    assert split(words)[2]['project'] == 'my-project' and 'quiet' in split(words)[2]
  for words in (made.send, made.install, made.start):
    assert split(words)[2]['worker'] == 'all'


def test_the_flags_are_those_of_gcloud():
  """Of the installed one, which lists its flags for completion."""
  found = shutil.which('gcloud')
  path = found and pathlib.Path(found).resolve().parents[1] / 'data/cli/gcloud_completions.py'
  if not path or not path.exists():
    pytest.skip('no gcloud installed')
  tree = runpy.run_path(str(path))['STATIC_COMPLETION_CLI_TREE']
  groups = tree['commands']['compute']['commands']['tpus']['commands']
  hidden = {'version'}  # is also one for all commands, so not listed
  for (group, verb), known in gcloud_schema.FLAGS.items():
    listed = {flag[2:] for flag in groups[group]['commands'][verb]['flags']}
    assert set(known) - listed <= hidden and listed <= set(known), (group, verb)
  assert {f'--{name}' for name in gcloud_schema._WIDE} <= set(tree['flags'])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('gcloud'), reason='no gcloud installed')
def test_gcloud_takes_every_command(tmp_path):
  """Its own check of commands, which asks nobody."""
  env = {**os.environ, 'CLOUDSDK_CONFIG': str(tmp_path), 'CLOUDSDK_CORE_DISABLE_PROMPTS': '1'}

  def said(words):
    done = subprocess.run(['gcloud', 'meta', 'lint-gcloud-commands', '--command-string',
                           shlex.join(words)], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)[0]

  extra = ('--network=mine', '--internal-ips', '--tags=a,b')
  made = plan(project='my-project', extra=extra)
  queued = plan(project='my-project', extra=extra, queued=True, spot=True, workdir='/mnt/a')
  for words in [*commands(made), queued.create, queued.state, queued.delete]:
    assert said(words)['success'], said(words)
  assert not said([*made.create, '--netwrok=mine'])['success']


@pytest.mark.parametrize('name, hosts', [
  ('v2-8', 1), ('v3-32', 4), ('v4-8', 1), ('v4-64', 8), ('v5litepod-1', 1), ('v5litepod-8', 1),
  ('v5litepod-16', 4), ('v5litepod-256', 64), ('v5p-8', 1), ('v5p-16', 2), ('v6e-8', 1),
  ('v6e-32', 8)])
def test_workers_of_a_type(name, hosts):
  assert tpu_slices.from_type(name)[2] == hosts
  made = plan(type=name, workdir='/mnt/a')
  assert ('GEN_MODELS_DISTRIBUTED=auto' in made.files['run.sh']) == (hosts > 1)


@pytest.mark.parametrize('options, said', [
  (dict(type=None), 'needs --tpu_type'), (dict(zone=None), 'needs --tpu_zone'),
  (dict(type='v6e'), 'is not an accelerator type'), (dict(type='v4-9'), 'no number of chips'),
  (dict(type='v9-4'), 'give --tpu_version'), (dict(type='v6e-0'), 'is not an accelerator type'),
  (dict(zone='us-central2'), 'a region and a letter'), (dict(zone='b; touch x'), 'is not a zone'),
  (dict(zone='us-east5-b\n'), 'is not a zone'),
  (dict(project='My Project'), 'the ID of a project'), (dict(name='a_b'), 'lower-case'),
  (dict(extra=('-n',)), 'is not a flag'),
  (dict(type='v6e-16'), 'has 4 workers'), (dict(spot=True), 'may be taken away'),
  (dict(workdir='../a'), 'below this one'), (dict(command=[*TRAIN, '--experiment=mine.py']),
                                             'put it into experiments/')])
def test_what_cannot_work_is_refused(options, said):
  with pytest.raises(errors.UsageError, match=re.escape(said)):
    plan(**options)


@pytest.mark.parametrize('options, said', [
  (dict(type='v6-8', version='v2'), "'v6' is not known here, it is passed on; did you mean v6e "),
  (dict(type='v6e-12'), 'no slice of that size'), (dict(type='v4-12'), 'no slice of that size'),
  (dict(type='v6e-512'), 'no slice of that size'),
  (dict(extra=('--netwrok=x',)), "'--netwrok' is not known here, it is passed on; did you mean "
                                 '--network ')])
def test_what_is_not_known_here_is_passed_on_with_a_warning(options, said, capsys):
  plan(workdir='/mnt/a', **options)
  error = capsys.readouterr().err
  assert said in error and error.count('warning: ') == 1


def test_the_tpu_of_next_year(capsys):
  made = plan(type='v9-64', version='v9-base', zone='mars-north1-a', workdir='/mnt/a')
  words = shlex.join(made.create)
  assert '--accelerator-type=v9-64' in words and '--version=v9-base' in words
  assert '--zone=mars-north1-a' in words
  assert 'GEN_MODELS_DISTRIBUTED=auto' in made.files['run.sh']
  assert "'v9' is not known here" in capsys.readouterr().err


def test_a_dry_run_touches_nothing_and_is_a_script(parse, capsys, tmp_path, monkeypatch,
                                                   no_programs):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  parse('--where=tpu', '--dry_run', '--tpu_type=v5litepod-4', '--tpu_zone=us-west4-a',
        '--where_env=OWN=$(touch x)')
  assert backends.submit([*TRAIN, '--set=a=$(touch x)'], 'runs/a') == 0
  out = capsys.readouterr().out
  assert not list(tmp_path.iterdir())
  lines = [line for line in out.splitlines() if line and line[0] != '#']
  made = plan([*TRAIN, '--set=a=$(touch x)'], type='v5litepod-4', zone='us-west4-a')
  assert [shlex.split(line)[4] for line in lines] == [
    'describe', 'create', 'scp', 'ssh', 'ssh', 'ssh', 'ssh', 'scp', 'delete']
  assert shlex.split(lines[1]) == made.create and shlex.split(lines[-1]) == made.delete
  assert "'--set=a=$(touch x)'" in out and "export OWN='$(touch x)'" in out


def test_without_gcloud_one_line_says_so(parse, no_programs):
  parse('--where=tpu', '--tpu_type=v6e-8', '--tpu_zone=us-east5-b')
  with pytest.raises(shell.Failed, match='gcloud is not installed here'):
    backends.submit(TRAIN, 'runs/a')


@pytest.fixture
def cloud(program, tmp_path, monkeypatch):
  """A cloud in a directory; the processes that were left running there are ended."""
  program('gcloud', GCLOUD)
  (tmp_path / 'program.py').write_text(PROGRAM)
  home = tmp_path / 'cloud'
  home.mkdir()
  monkeypatch.setenv('CLOUD', str(home))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setattr(tpu, 'POLL_SECONDS', 0.05)
  monkeypatch.chdir(tmp_path)
  yield home
  for path in home.rglob('run.pid'):
    if b'run.sh' in pathlib.Path(f'/proc/{int(path.read_text())}/cmdline').read_bytes():
      os.killpg(int(path.read_text()), signal.SIGKILL)


def submit(parse, tmp_path, *words, workdir='runs/a b', flags=()):
  parse('--where=tpu', '--tpu_type=v6e-8', '--tpu_zone=us-east5-b', '--where_env=OWN=its own',
        '--where_env=LIBTPU_INIT_ARGS=--mine=1', '--tpu_install=mkdir -p .venv/bin; ln -sf '
        f'{sys.executable} .venv/bin/python', *flags)
  return backends.submit(['python', str(tmp_path / 'program.py'), workdir, *words], workdir)


def calls(cloud):
  return [line.split()[1] for line in (cloud / 'calls').read_text().splitlines()]


@pytest.mark.parametrize('queued', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_is_made_followed_brought_home_and_deleted(parse, cloud, tmp_path, capfdbinary,
                                                         queued):
  flags = ['--tpu_queued'] if queued else []
  assert submit(parse, tmp_path, "it's $(touch x)", flags=flags) == 0
  out, err = map(bytes.decode, capfdbinary.readouterr())
  assert "start 1 [\"it's $(touch x)\"] None\nsettings --mine=1 its own\n" in out
  assert out.endswith('no line break at the end')
  assert (tmp_path / 'runs/a b/count').read_text() == '1'
  assert not (cloud / 'a-b').exists() and calls(cloud)[-1] == 'delete'
  assert ('waiting_for_resources' in err) == queued
  assert not list(tmp_path.glob('**/x')) and not list((tmp_path / 'cache').glob('**/*.gz'))
  # Once more: a new TPU is given what there is.
  assert submit(parse, tmp_path, flags=flags) == 0
  assert 'start 2' in capfdbinary.readouterr().out.decode()
  assert (tmp_path / 'runs/a b/count').read_text() == '2'


def test_a_run_that_fails_keeps_its_tpu_and_its_files(parse, cloud, tmp_path, capfd):
  assert submit(parse, tmp_path, '3') == 3
  err = capfd.readouterr().err
  assert 'status 3' in err and 'tpu-vm delete a-b --zone=us-east5-b --quiet deletes the TPU' in err
  assert (cloud / 'a-b').exists() and (tmp_path / 'runs/a b/count').exists()
  assert submit(parse, tmp_path) == 0  # on the same one, from where it was
  assert 'start 2' in capfd.readouterr().out and calls(cloud).count('create') == 1


def test_a_command_that_fails_stops_it(parse, cloud, tmp_path, monkeypatch, capfd):
  monkeypatch.setenv('BROKEN', 'create')
  with pytest.raises(shell.Failed, match='create a-b .* ended with status 1'):
    submit(parse, tmp_path)
  err = capfd.readouterr().err
  assert 'quota exceeded' in err and 'tpu-vm delete a-b' in err
  assert calls(cloud) == ['describe', 'create']


def test_workers_share_a_directory_that_outlives_them(parse, cloud, tmp_path, monkeypatch, capfd):
  monkeypatch.setenv('HOSTS', '4')
  four = ['--tpu_type=v6e-16']
  # Here /tmp is on the disk of the machine, as the VM's is on its own.
  if os.stat(tmp_path).st_dev == os.stat('/').st_dev:
    with pytest.raises(shell.Failed):
      submit(parse, tmp_path, workdir=str(tmp_path / 'own disk'), flags=four)
    assert 'is on the disk of the VM' in capfd.readouterr().err
  share = pathlib.Path('/dev/shm') / f'share-{os.getpid()}-{tmp_path.name}'
  if not share.parent.is_dir() or os.stat('/dev/shm').st_dev == os.stat('/').st_dev:
    pytest.skip('no second file system here')
  try:
    assert submit(parse, tmp_path, workdir=str(share), flags=[*four, '--tpu_name=four']) == 0
    assert (share / 'count').exists()
    assert ' auto\n' in capfd.readouterr().out  # every process is told to look for the others
  finally:
    shutil.rmtree(share, ignore_errors=True)


def test_a_run_continues_without_its_follower(parse, cloud, tmp_path, capfd):
  assert submit(parse, tmp_path, 'slow', flags=['--nofollow']) == 0
  count = cloud / 'a-b/0/gen_models/runs/a b/count'
  until = time.monotonic() + 20
  while not count.exists() and time.monotonic() < until:
    time.sleep(0.05)
  pid = int((cloud / 'a-b/0/gen_models/run.pid').read_text())
  # Tests that a shell began in the background ignore SIGINT, and so would the follower.
  code = (f'import os, signal, sys; sys.path.insert(0, {str(ROOT)!r}); from absl import app; '
          'signal.signal(signal.SIGINT, signal.default_int_handler); '
          'from launch import backends; app.run(lambda argv: sys.exit(backends.submit('
          '["python", "program.py", "runs/a b", "slow"], "runs/a b")))')
  follower = subprocess.Popen(
    [sys.executable, '-c', code, '--where=tpu', '--tpu_type=v6e-8', '--tpu_zone=us-east5-b'],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  try:
    for line in follower.stdout:
      if line.startswith('settings'):
        break
    follower.send_signal(signal.SIGINT)
    err = follower.communicate(timeout=20)[1]
  finally:
    follower.kill()
    follower.wait()
  assert follower.returncode == 130 and 'in progress already' in err and 'tpu-vm delete a-b' in err
  assert calls(cloud).count('create') == 1 and count.read_text() == '1'
  os.killpg(pid, signal.SIGKILL)  # as the end of the machine would
  assert submit(parse, tmp_path, flags=['--follow']) == 0
  assert 'start 2' in capfd.readouterr().out


def test_settings_reach_the_program():
  """run.sh of a TPU sets what the table says."""
  text = plan().files['run.sh']
  done = subprocess.run(['bash', '-c', text.replace('cd "$HOME/gen_models" || exit 1', '').replace(
    shlex.join(['.venv/bin/python', *TRAIN[1:]]), 'env -0; exit')], capture_output=True, text=True,
    env={'PATH': os.environ['PATH']})
  found = dict(v.split('=', 1) for v in done.stdout.split('\0') if v)
  assert {k: found[k].strip() for k in environment.defaults('tpu')} == environment.defaults('tpu')


def test_an_archive_writes_nowhere_else(tmp_path):
  import io
  import tarfile
  with tarfile.open(tmp_path / 'a.tar.gz', 'w:gz') as file:
    for name, kind in (('ok', None), ('../up', None), ('/tmp/absolute', None), ('link', 'up')):
      info = tarfile.TarInfo(name)
      info.type, info.linkname = (tarfile.SYMTYPE, '/etc/passwd') if kind else (tarfile.REGTYPE, '')
      info.size = 0 if kind else 1
      file.addfile(info, io.BytesIO(b'x'))
  (tmp_path / 'in').mkdir()
  tpu.unpack(tmp_path / 'a.tar.gz', tmp_path / 'in')
  assert [p.name for p in (tmp_path / 'in').iterdir()] == ['ok']
  assert not (tmp_path / 'up').exists()
