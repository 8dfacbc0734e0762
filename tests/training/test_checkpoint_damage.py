"""No damage restores silently, and a kill leaves nothing worse than the step before."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from gen_models.training import checkpoint
from tests.training.saving import (  # noqa: F401
  CPU,
  bits,
  files_of,
  make_state,
  open_in,
  run,
  save_steps,
  warnings_logged,
)

# Damage


def damage(path, how, rng):
  data = bytearray(path.read_bytes())
  if how == 'flip':
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  elif how == 'truncate':
    del data[len(data) // 2:]
  path.unlink()
  if how != 'remove':
    path.write_bytes(data)


@pytest.mark.slow
def test_damage_to_any_file_never_restores_other_bits(tmp_path, warnings):
  good = tmp_path / 'good'
  save_steps(good, 1, 2)
  expected = {step: bits(make_state(step)) for step in (1, 2)}
  rng, fell_back = random.Random(0), set()
  for path in files_of(good / '2'):
    name = path.relative_to(good)
    for number, how in enumerate(['flip'] * 4 + ['truncate', 'remove']):
      trial = tmp_path / 'trial'
      shutil.copytree(good, trial)
      damage(trial / name, how, rng)
      warnings.clear()
      checkpoints = open_in(trial)
      restored, step = checkpoints.restore(make_state())
      checkpoints.close()
      assert bits(restored) == expected[step], (name, number, how)
      if step == 1:
        fell_back.add(name.parts[1])
        assert len(warnings) == 1 and '\n' not in warnings[0], warnings
        assert warnings[0].startswith('Checkpoint 2 is damaged and skipped: '), warnings
      else:
        assert not warnings
      shutil.rmtree(trial)
  assert {'manifest', 'state'} <= fell_back


def test_a_flipped_bit_of_array_data_names_the_leaf(tmp_path, warnings):
  """Incompressible data, flipped in the middle: orbax alone restores this without a word."""
  state = {'w': jax.random.normal(jax.random.key(0), (100, 1000))}
  checkpoints = open_in(tmp_path)
  checkpoints.save(1, state)
  checkpoints.save(2, state)
  checkpoints.close()
  largest = max(files_of(tmp_path / '2'), key=lambda p: p.stat().st_size)
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 1
  largest.write_bytes(data)
  assert open_in(tmp_path).restore(state)[1] == 1
  assert warnings == [
    "Checkpoint 2 is damaged and skipped: leaf ['w']: its bytes are not those saved"]


def test_an_edited_manifest_is_damage_not_another_run(tmp_path, warnings):
  save_steps(tmp_path, 1, 2)
  path = tmp_path / '2' / 'manifest' / 'metadata'
  manifest = json.loads(path.read_text())
  manifest['identity']['seed'] = 5
  path.write_text(json.dumps(manifest))
  assert open_in(tmp_path).restore(make_state())[1] == 1
  assert 'sha256' in warnings[0]


def test_a_damaged_step_is_moved_away_and_saved_again(tmp_path):
  save_steps(tmp_path, 1, 2)
  shutil.rmtree(tmp_path / '2' / 'state')
  checkpoints = open_in(tmp_path)
  assert checkpoints.restore(make_state())[1] == 1
  assert checkpoints.all_steps() == [1]
  assert (tmp_path / 'damaged-2' / 'manifest').exists()
  checkpoints.save(2, make_state(2))
  restored, step = checkpoints.restore(make_state())
  assert (step, bits(restored)) == (2, bits(make_state(2)))


def test_no_good_step(tmp_path, warnings):
  save_steps(tmp_path, 1, 2)
  for step in '12':
    (tmp_path / step / 'manifest' / 'metadata').unlink()
  with pytest.raises(checkpoint.DamagedCheckpoint) as caught:
    open_in(tmp_path).restore(make_state())
  message = str(caught.value)
  assert '\n' not in message and 'step 2: manifest' in message and 'step 1: manifest' in message
  assert '--workdir' in message
  assert len(warnings) == 2
  assert open_in(tmp_path).all_steps() == [1, 2]


def test_a_chosen_damaged_step_has_no_fallback(tmp_path):
  save_steps(tmp_path, 1, 2)
  (tmp_path / '2' / 'manifest' / 'metadata').unlink()
  with pytest.raises(checkpoint.DamagedCheckpoint, match='step 2'):
    open_in(tmp_path).restore(make_state(), step=2)


def test_quiet_even_where_the_program_logs_info(tmp_path):
  """Saving and restoring print nothing, a damaged step one line."""
  save_steps(tmp_path, 1, 2)
  (tmp_path / '2' / 'state' / 'manifest.ocdbt').write_bytes(b'broken')
  script = '''
import sys, gc, time, jax, jax.numpy as jnp
from absl import flags, logging
flags.FLAGS(sys.argv[:1])
logging.use_absl_handler()
logging.set_verbosity(logging.INFO)
logging.set_stderrthreshold(logging.INFO)
from gen_models.training import checkpoint
from tests.training.test_checkpoint import make_state, open_in
checkpoints = open_in(sys.argv[1])
state, step = checkpoints.restore(make_state())
checkpoints.save(3, state)
checkpoints.close()
logging.info('restored %d', step)
gc.collect()
time.sleep(0.3)
'''
  done = run(script, tmp_path, capture_output=True)
  lines = done.stderr.splitlines()
  assert done.returncode == 0 and done.stdout == '', done.stderr
  assert len(lines) == 2, done.stderr
  assert 'Checkpoint 2 is damaged and skipped: state: ' in lines[0]
  assert 'restored 1' in lines[1]


# Kills


def test_left_over_temporary_directories_are_removed(tmp_path):
  save_steps(tmp_path, 1)
  shutil.copytree(tmp_path / '1', tmp_path / '2.orbax-checkpoint-tmp')
  checkpoints = open_in(tmp_path)
  assert checkpoints.restore(make_state())[1] == 1
  checkpoints.save(2, make_state(2))
  checkpoints.close()
  assert sorted(p.name for p in tmp_path.iterdir()) == ['1', '2']


KILLED = '''
import sys, jax, jax.numpy as jnp
from gen_models.training import checkpoint
def make(step):
  return {'w': jax.random.normal(jax.random.key(step), (500_000,)), 'step': jnp.int32(step)}
checkpoints = checkpoint.Checkpoints(sys.argv[1], identity={})
state, step = checkpoints.restore(make(0)) or (make(0), 0)
expected = make(step)
assert all((state[name] == expected[name]).all() for name in state)
while True:
  step += 1
  checkpoints.save(step, make(step))
  print(step, flush=True)
'''


def test_kills_while_saving_leave_no_bad_restore(tmp_path, warnings):
  rng, last = random.Random(0), 0
  for i in range(6):
    child = subprocess.Popen([sys.executable, '-c', KILLED, str(tmp_path)], text=True,
                             env=os.environ | CPU, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.readline()  # restored, verified, and the first save has begun
    if i == 0:
      child.stdout.readline()  # and has ended, however busy the machine is: the second has begun
    time.sleep(rng.uniform(0, 0.3))
    child.send_signal(signal.SIGKILL)
    _, stderr = child.communicate()
    assert (child.returncode, stderr) == (-signal.SIGKILL, '')
  checkpoints = checkpoint.Checkpoints(tmp_path, identity={})
  example = {'w': jnp.zeros(500_000), 'step': jnp.int32(0)}
  state, last = checkpoints.restore(example)
  assert last >= 1 and not warnings
  assert bits(state['w']) == bits(jax.random.normal(jax.random.key(last), (500_000,)))
  checkpoints.save(last + 1, state)
  checkpoints.close()
  assert not list(tmp_path.glob('*tmp*'))


def forge(directory, step, change):
  """Changes a manifest and makes its sha256 fit again."""
  path = directory / str(step) / 'manifest' / 'metadata'
  manifest = json.loads(path.read_text())
  del manifest['sha256']
  change(manifest)
  manifest['sha256'] = checkpoint._sha256(manifest)
  path.write_text(json.dumps(manifest))


LEAF = ".params['w']"
FORGERIES = {
  **{f'no {name}': lambda m, name=name: m.pop(name)
     for name in ('step', 'identity', 'metrics', 'leaves')},
  **{f'{name} is {value!r}': lambda m, name=name, value=value: m.update({name: value})
     for name in ('identity', 'metrics', 'leaves') for value in (None, 3, [], 'x')},
  'a metric is a word': lambda m: m.update(metrics={'score': 'best'}),
  'a metric is ragged': lambda m: m.update(metrics={'score': [[1, 2], 3]}),
  'a metric is an object': lambda m: m.update(metrics={'score': {}}),
  'a leaf is null': lambda m: m['leaves'].update({LEAF: None}),
  'a leaf lacks its sha256': lambda m: m['leaves'][LEAF].pop('sha256'),
  'a leaf lacks its kind': lambda m: m['leaves'][LEAF].pop('kind'),
  'a kind is a number': lambda m: m['leaves'][LEAF].update(kind=3),
  'an array is a key': lambda m: m['leaves'][LEAF].update(key='fry'),
  'a key is of no kind': lambda m: m['leaves']['.key'].update(key='skeleton'),
  'a key is an array': lambda m: m['leaves']['.key'].update(key=None),
}


@pytest.mark.parametrize('change', FORGERIES.values(), ids=FORGERIES)
def test_a_forged_manifest_is_a_damaged_checkpoint(tmp_path, change):
  """Its sha256 fits, but not its fields: the step before is taken, and nothing else is raised."""
  save_steps(tmp_path, 1, 2)
  assert LEAF in json.loads((tmp_path / '2' / 'manifest' / 'metadata').read_text())['leaves']
  forge(tmp_path, 2, change)
  checkpoints = open_in(tmp_path, best_metric='score')
  restored, step = checkpoints.restore(make_state(0))
  assert step == 1 and bits(restored) == bits(make_state(1))


def test_a_manifest_without_a_format_is_of_another_version(tmp_path):
  save_steps(tmp_path, 1)
  forge(tmp_path, 1, lambda m: m.pop('format'))
  with pytest.raises(checkpoint.ForeignCheckpoint, match='format None'):
    open_in(tmp_path).restore(make_state(0))
