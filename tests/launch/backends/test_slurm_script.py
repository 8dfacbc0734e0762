"""The batch script, run by bash with programs that stand in for Slurm's."""

import json
import os
import re
import shlex
import subprocess
import sys
import time

import pytest

from launch import backends, errors
from launch.backends import shell, slurm
from launch.cli import environment
from tests.launch.commands import refused, run

NASTY = ["a b", "it's", 'say "hi"', '$(touch x)', '`touch x`', '; touch x', 'a\nb', '--set=$HOME',
         '*', '\\', '', '%j', '$1 && touch x']
# Prints the words it was given, one a line, and ends as it is told.
SRUN = f'''#!{sys.executable}
import json, os, sys
print(json.dumps([sys.argv[1:], dict(os.environ)]))
sys.exit(int(os.environ.get('ENDS', 0)))
'''
SCONTROL = '#!/bin/sh\necho "scontrol $*" >> "$CALLS"\n'


@pytest.fixture
def execute(program, tmp_path, monkeypatch):
  """Runs a script in an empty directory; (status, words of srun, its environment, lines)."""
  program('srun', SRUN)
  program('scontrol', SCONTROL)
  monkeypatch.setenv('CALLS', str(tmp_path / 'calls'))
  monkeypatch.chdir(tmp_path)

  def run(script, **env):
    (tmp_path / 'job.sbatch').write_text(script)
    before = set(os.listdir(tmp_path))
    done = subprocess.run(['bash', 'job.sbatch'], capture_output=True, text=True, env={
      **os.environ, 'SLURM_JOB_ID': '7', 'SLURM_JOB_NODELIST': 'n[1-2]', **env})
    assert set(os.listdir(tmp_path)) - before <= {'calls'}, 'a value was run'
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith('job ')
    words, variables = json.loads(second)
    return done.returncode, words, variables, done.stdout.splitlines()[2:]

  return run


def render(command=('python', '-m', 'launch.train'), workdir='runs/a', num_tasks=1, env=None,
           **options):
  return slurm.render(list(command), workdir, slurm.Options(**options), num_tasks=num_tasks,
                      task_flag='--programs', env=env)


def directives(script):
  """#SBATCH lines as name -> value."""
  found = re.findall(r'^#SBATCH --(\S+?)(?:=(.*))?$', script, flags=re.M)
  assert len(found) == script.count('#SBATCH')
  return dict(found)


def test_words_reach_the_program_as_they_are(execute, tmp_path):
  workdir = tmp_path / 'a b$(touch y)'
  (workdir / 'slurm').mkdir(parents=True)
  command = ['python', '-m', 'launch.train', f'--workdir={workdir}', *NASTY]
  status, words, variables, _ = execute(render(command, str(workdir), env={
    f'V{i}': value for i, value in enumerate(NASTY)}))
  assert status == 0
  assert words == ['--kill-on-bad-exit=1', sys.executable, *command[1:]]
  assert [variables[f'V{i}'] for i in range(len(NASTY))] == NASTY
  assert (workdir / 'slurm' / '7.status').read_text() == '0\n'
  assert 'GEN_MODELS_DISTRIBUTED' not in variables
  assert variables['PWD'] == str(tmp_path)


def test_a_task_of_an_array_knows_its_number(execute, tmp_path):
  (tmp_path / 'runs/a/slurm').mkdir(parents=True)
  script = render(num_tasks=3)
  status, words, _, _ = execute(script, SLURM_ARRAY_JOB_ID='6', SLURM_ARRAY_TASK_ID='2', ENDS='5')
  assert status == 5 and words[-1] == '--programs=2'
  assert (tmp_path / 'runs/a/slurm/6_2.status').read_text() == '5\n'


def test_processes_find_each_other_and_leave_together(execute):
  script = render(nodes=2, gpus='a100:4', cpus=3)
  assert directives(script) | {'nodes': '2', 'ntasks-per-node': '4', 'gpus-per-node': 'a100:4',
                               'cpus-per-task': '3'} == directives(script)
  _, words, variables, _ = execute(script)
  assert variables['GEN_MODELS_DISTRIBUTED'] == 'auto'
  assert words[:2] == ['--kill-on-bad-exit=1', '--cpus-per-task=3']
  assert set(environment.defaults('gpu')) <= set(variables)
  own = words[words.index(sys.executable):]
  assert own == [sys.executable, '-m', 'launch.train']


@pytest.mark.parametrize('ends, least', [(3, 0), pytest.param(143, 4.5, marks=pytest.mark.slow)])
def test_a_process_that_has_saved_waits_for_the_others(execute, ends, least):
  """The step ends with the first that leaves; its own status is passed on."""
  _, words, _, _ = execute(render(tasks=2))
  inner = words[1:words.index(sys.executable)]
  began = time.monotonic()
  done = subprocess.run([*inner, 'bash', '-c', f'exit {ends}'])
  assert done.returncode == ends and time.monotonic() - began >= least


def test_one_process_uses_all_gpus_of_a_node():
  assert directives(render(gpus='4'))['ntasks-per-node'] == '1'
  assert 'GEN_MODELS_DISTRIBUTED' not in render(gpus='4')


@pytest.mark.parametrize('env, queued', [
  ({'ENDS': '143'}, True), ({'ENDS': '1'}, False), ({'ENDS': '0'}, False),
  ({'ENDS': '143', 'SLURM_RESTART_COUNT': '2'}, False)])
def test_it_queues_itself_again_when_the_run_has_saved(execute, tmp_path, env, queued):
  (tmp_path / 'runs/a/slurm').mkdir(parents=True)
  status, _, _, lines = execute(render(restarts=2), **env)
  calls = tmp_path / 'calls'
  assert calls.exists() == queued
  assert (tmp_path / 'runs/a/slurm/7.status').exists() != queued
  if queued:
    assert calls.read_text() == 'scontrol requeue 7\n' and 'queued again' in lines[0]
  else:
    assert status == int(env['ENDS'])


def test_the_head_of_the_script():
  found = directives(render(partition='long', time='2-12', mem='16G', account='me', grace=90,
                            extra=('--constraint=a100|h100', '--exclusive')))
  assert found == {
    'job-name': 'a', 'partition': 'long', 'account': 'me', 'time': '2-12', 'nodes': '1',
    'ntasks-per-node': '1', 'mem': '16G', 'signal': 'TERM@90', 'open-mode': 'append',
    'requeue': '', 'constraint': 'a100|h100', 'exclusive': ''}


@pytest.mark.parametrize('options, said', [
  (dict(partition='a\n#SBATCH --uid=0'), 'slurm_partition'), (dict(partition='a b'), 'a b'),
  (dict(mem='$(x)'), 'slurm_mem'), (dict(extra=('--comment="a"',)), 'cannot hold'),
  (dict(extra=('--output=x',)), 'in WORKDIR/slurm'), (dict(extra=('mem=3',)), '--option=value'),
  (dict(extra=('--time=3',)), '--slurm_time'), (dict(gpus='many'), 'type:number'),
  (dict(gpus='0'), 'type:number'), (dict(gpus='2', tasks=4), '--slurm_tasks=2'),
  (dict(gpus='4', tasks=1, nodes=2), '--slurm_tasks=4'),
  (dict(time='soon'), 'days-hours'), (dict(time='0:02:00'), 'no time to train')])
def test_what_slurm_would_misread_is_refused(options, said):
  with pytest.raises(errors.UsageError, match=re.escape(said)):
    render(**options)


@pytest.mark.parametrize('text, seconds', [
  ('5', 300), ('5:30', 330), ('1:00:00', 3600), ('1-12', 129600), ('1-1:30', 91800),
  ('1-0:0:1', 86401)])
def test_limits_are_read_as_slurm_does(text, seconds):
  assert slurm._seconds(text) == seconds


def test_a_dry_run_touches_nothing(parse, tmp_path, monkeypatch, capsys, no_programs):
  monkeypatch.chdir(tmp_path)
  parse('--where=slurm', '--dry_run', '--slurm_at_once=2')
  assert backends.submit(['python', '-m', 'launch.sweep'], 'runs/50%', 3, '--programs') == 0
  out = capsys.readouterr().out
  assert not list(tmp_path.iterdir())
  words = shlex.split(out.strip().splitlines()[-1])
  assert words == ['sbatch', '--parsable', f'--output={tmp_path}/runs/50%%/slurm/%A_%a.out',
                   '--array=0-2%2', f'{tmp_path}/runs/50%/slurm/job.sbatch']
  script = out[out.index('#!'):out.index('# submitted')]
  assert subprocess.run(['/bin/bash', '-n'], input=script, text=True).returncode == 0


def test_a_run_to_begin_from_that_is_not_there_is_refused_before_the_queue(tmp_path):
  args = ['--experiment=rbm_digits', f'--workdir={tmp_path / "new"}', '--where=slurm', '--dry_run']
  assert 'is not a run directory' in refused('train', *args, f'--from={tmp_path / "old"}')
  (tmp_path / 'old').mkdir()
  (tmp_path / 'old' / 'config.json').write_text(json.dumps({
    'experiment': 'rbm_digits', 'variant': None, 'hyperparameters': {}, 'seed': 0, 'seeds': 1}))
  assert f'--from={tmp_path / "old"}' in run('train', *args, f'--from={tmp_path / "old"}').stdout


def test_without_slurm_one_line_says_so(parse, tmp_path, no_programs):
  parse('--where=slurm')
  with pytest.raises(shell.Failed, match='sbatch is not installed here: log in'):
    backends.submit(['python'], str(tmp_path / 'a'))
  assert not (tmp_path / 'a').exists()


def test_what_sbatch_says_is_passed_on(parse, tmp_path, program):
  program('sbatch', '#!/bin/sh\necho "sbatch: error: invalid partition" >&2\nexit 1\n')
  parse('--where=slurm')
  with pytest.raises(shell.Failed, match='invalid partition'):
    backends.submit(['python'], str(tmp_path / 'a'))


def test_a_job_that_the_controller_forgot_has_its_status(parse, tmp_path, program, capfd):
  """After some minutes scontrol knows no more; the script has written how its tasks ended."""
  directory = tmp_path / 'a/slurm'
  program('sbatch', f'#!/bin/sh\ncd {directory}\necho one > 9_0.out; echo 0 > 9_0.status\n'
          'echo two > 9_1.out; echo 7 > 9_1.status\necho "9;here"\n')
  program('scontrol', '#!/bin/sh\necho "Invalid job id specified" >&2\nexit 1\n')
  parse('--where=slurm')
  assert backends.submit(['python'], str(tmp_path / 'a'), 2, '--programs') == 7
  out, err = capfd.readouterr()
  assert '0: one\n' in out and '1: two\n' in out and '9_1 ended with status 7' in err
