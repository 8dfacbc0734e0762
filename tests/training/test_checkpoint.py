"""A checkpoint gives back the bits that were saved, or says why not."""

import json
import logging as std_logging
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gen_models.training import checkpoint

ROOT = pathlib.Path(__file__).parents[2]
IDENTITY = {'experiment': 'rbm', 'seed': 0,
            'hyperparameters': {'learning_rate': 0.1, 'sizes': (3, 4)}}
CPU = {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)}


class State(NamedTuple):
  step: Any
  key: Any
  params: Any
  opt_state: Any
  memory: Any
  extra: Any = ()


def make_state(seed=0):
  key, params_key = jax.random.split(jax.random.key(seed))
  params = {'w': jax.random.normal(params_key, (20, 30)), 'b/c': jnp.zeros(30)}
  opt_state = optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(params)
  extra = {
    'bool': jnp.array([True, False]),
    'uint8': jnp.arange(7, dtype=jnp.uint8),
    'bfloat16': jnp.full((2, 3), jnp.nan, jnp.bfloat16),
    'signed zero': -jnp.zeros(5),
    'no rows': jnp.zeros((0, 3)),
    'rbg': jax.random.split(jax.random.key(seed, impl='rbg'), (2, 2)),
    'numpy': np.arange(3) / 7,
    'none': None,
  }
  return State(jnp.int32(seed), jax.random.split(key, 3), params, opt_state, (), extra)


def bits(tree):
  """Everything that has to survive, in a form that == compares."""
  def leaf(x):
    impl = None
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      impl, x = jax.random.key_impl(x), jax.random.key_data(x)
    return impl, str(x.dtype), x.shape, np.asarray(x).tobytes()
  return jax.tree.structure(tree), [leaf(x) for x in jax.tree.leaves(tree)]


def open_in(directory, **kwargs):
  return checkpoint.Checkpoints(directory, **{'identity': IDENTITY} | kwargs)


def save_steps(directory, *steps, **kwargs):
  with open_in(directory, **kwargs) as checkpoints:
    for step in steps:
      checkpoints.save(step, make_state(step))


@pytest.fixture
def warnings():
  """Warnings logged through absl, as text."""
  seen = []
  handler = std_logging.Handler()
  handler.emit = lambda record: seen.append(record.getMessage())
  logger = std_logging.getLogger('absl')
  logger.addHandler(handler)
  yield seen
  logger.removeHandler(handler)


def run(script, *args, env=None, **kwargs):
  return subprocess.run([sys.executable, '-c', script, *map(str, args)], text=True, timeout=120,
                        check=False, env=os.environ | CPU | (env or {}), **kwargs)


# Round trip


def test_round_trip_preserves_structure_dtypes_bits_and_key_implementation(tmp_path):
  state = make_state(1)
  save_steps(tmp_path, 1)
  restored, step = open_in(tmp_path).restore(make_state(0))
  assert step == 1
  assert bits(restored) == bits(state)
  assert isinstance(restored.extra['numpy'], np.ndarray)
  assert jax.random.bits(restored.key[2]) == jax.random.bits(state.key[2])


def test_abstract_example_and_function_of_the_step(tmp_path):
  save_steps(tmp_path, 1)
  abstract = jax.eval_shape(lambda: make_state()._replace(extra=()))
  with pytest.raises(checkpoint.ForeignCheckpoint, match='absent'):
    open_in(tmp_path).restore(abstract)
  extra = make_state().extra
  asked = []
  restored, _ = open_in(tmp_path).restore(
    lambda step: asked.append(step) or abstract._replace(extra=extra))
  assert asked == [1]
  assert bits(restored) == bits(make_state(1))


def test_buffers_may_be_donated_right_after_save(tmp_path):
  overwrite = jax.jit(lambda x: jax.tree.map(lambda a: a + 1, x), donate_argnums=0)
  state = {'w': jnp.arange(1_000_000.0), 'step': jnp.int32(0)}
  expected = bits(state)
  checkpoints = open_in(tmp_path)
  donated = state
  checkpoints.save(0, state)
  for _ in range(5):
    state = overwrite(state)
  assert donated['w'].is_deleted()
  assert bits(checkpoints.restore(state)[0]) == expected


def test_empty_directory_gives_none_and_a_reader_creates_nothing(tmp_path):
  assert open_in(tmp_path / 'a').restore(make_state()) is None
  reader = open_in(tmp_path / 'b', read_only=True)
  assert reader.restore(make_state()) is None
  assert reader.best_step() is None
  assert not (tmp_path / 'b').exists()


def test_reader_saves_nothing_and_leaves_a_save_in_progress_alone(tmp_path):
  save_steps(tmp_path, 1)
  unfinished = tmp_path / '2.orbax-checkpoint-tmp'
  shutil.copytree(tmp_path / '1', unfinished)
  reader = open_in(tmp_path, read_only=True)
  reader.save(3, make_state(3))
  assert reader.restore(make_state())[1] == 1
  reader.close()
  assert unfinished.exists()
  assert not (tmp_path / '3').exists()


def test_a_chosen_step(tmp_path):
  save_steps(tmp_path, 1, 2)
  restored, step = open_in(tmp_path).restore(make_state(), step=1)
  assert (step, bits(restored)) == (1, bits(make_state(1)))
  with pytest.raises(FileNotFoundError, match=r'no checkpoint of step 7 .* only \[1, 2\]'):
    open_in(tmp_path).restore(make_state(), step=7)


def test_other_device_counts(tmp_path):
  """One device writes, four continue sharded, one continues again."""
  save = open_in(tmp_path)
  state = {'chains': jnp.arange(24.0).reshape(8, 3), 'keys': jax.random.split(jax.random.key(1), 4),
           'w': jnp.ones(5)}
  save.save(1, state)
  save.close()
  script = '''
import sys, json, jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from gen_models.training import checkpoint
mesh = jax.make_mesh((4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
split, whole = NamedSharding(mesh, P('data')), NamedSharding(mesh, P())
key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4))
example = {'chains': jax.ShapeDtypeStruct((8, 3), jnp.float32, sharding=split),
           'keys': jax.ShapeDtypeStruct((4,), key.dtype, sharding=split),
           'w': jax.ShapeDtypeStruct((5,), jnp.float32, sharding=whole)}
checkpoints = checkpoint.Checkpoints(sys.argv[1], identity=json.loads(sys.argv[2]))
state, step = checkpoints.restore(example)
assert step == 1
for name in example:
  assert state[name].sharding.is_equivalent_to(example[name].sharding, state[name].ndim), name
  assert len(state[name].addressable_shards) == 4
checkpoints.save(2, state)
checkpoints.close()
'''
  done = run(script, tmp_path, json.dumps(IDENTITY), capture_output=True,
             env={'XLA_FLAGS': '--xla_force_host_platform_device_count=4', 'PJRT_NPROC': '8'})
  assert done.returncode == 0, done.stderr
  restored, step = open_in(tmp_path).restore(state)
  assert (step, bits(restored)) == (2, bits(state))


# Damage


def files_of(step_dir):
  return sorted(p for p in step_dir.rglob('*') if p.is_file())


def damage(path, how, rng):
  data = bytearray(path.read_bytes())
  if how == 'flip':
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
  elif how == 'truncate':
    del data[len(data) // 2:]
  path.unlink()
  if how != 'remove':
    path.write_bytes(data)


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


def test_a_manifest_edited_by_hand_is_damage_not_another_run(tmp_path, warnings):
  save_steps(tmp_path, 1, 2)
  path = tmp_path / '2' / 'manifest' / 'metadata'
  manifest = json.loads(path.read_text())
  manifest['identity']['seed'] = 5
  path.write_text(json.dumps(manifest))
  assert open_in(tmp_path).restore(make_state())[1] == 1
  assert 'sha256' in warnings[0]


def test_a_damaged_step_is_set_aside_and_saved_again(tmp_path):
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


# Checkpoints of other runs


@pytest.mark.parametrize('change, words', [
  ({'seed': 1}, ['seed is 0 there', 'expected 1']),
  ({'hyperparameters': {'learning_rate': 0.2, 'sizes': (3, 4)}},
   ['hyperparameters.learning_rate is 0.1 there', 'expected 0.2']),
  ({'hyperparameters': {'learning_rate': 0.1, 'sizes': (3, 4), 'steps': 5}},
   ['hyperparameters.steps is absent there', 'expected 5']),
  ({'seed': 1, 'experiment': 'vae'}, ['experiment is "rbm" there', 'and 1 more differ']),
])
def test_another_identity_is_refused(tmp_path, change, words):
  save_steps(tmp_path, 1)
  with pytest.raises(checkpoint.ForeignCheckpoint) as caught:
    open_in(tmp_path, identity=IDENTITY | change).restore(make_state())
  for word in [*words, str(tmp_path), '--workdir', 'flags']:
    assert word in str(caught.value)
  assert '\n' not in str(caught.value)
  assert open_in(tmp_path).restore(make_state())[1] == 1


@pytest.mark.parametrize('change, words', [
  ({'memory': jnp.zeros(3)}, ['leaf .memory is absent there', 'expected float32[3]']),
  ({'params': {'w': jnp.zeros((20, 30))}}, ["leaf .params['b/c'] is float32[30] there", 'absent']),
  ({'params': {'w': jnp.zeros((20, 31)), 'b/c': jnp.zeros(30)}}, ['[20,30] there', '[20,31]']),
  ({'step': jnp.float32(0)}, ['leaf .step is int32[] there', 'float32[]']),
  ({'params': {'w': jnp.zeros((20, 30), jnp.bfloat16), 'b/c': jnp.zeros(30)}}, ['bfloat16']),
  ({'key': jax.random.split(jax.random.key(0, impl='rbg'), 3)}, ['key<fry>[3] there', 'key<rbg>']),
  ({'key': jnp.zeros((3, 2), jnp.uint32)}, ['key<fry>[3] there', 'uint32[3,2]']),
])
def test_another_tree_shape_or_dtype_is_refused(tmp_path, change, words):
  save_steps(tmp_path, 1, 2)
  with pytest.raises(checkpoint.ForeignCheckpoint) as caught:
    open_in(tmp_path).restore(make_state()._replace(**change))
  for word in words:
    assert word in str(caught.value)
  assert open_in(tmp_path).all_steps() == [1, 2]


def test_another_format_is_refused(tmp_path, monkeypatch):
  save_steps(tmp_path, 1)
  monkeypatch.setattr(checkpoint, 'FORMAT', 2)
  with pytest.raises(checkpoint.ForeignCheckpoint, match='has format 1, this version reads 2'):
    open_in(tmp_path).restore(make_state())


# What is kept, and when


def test_newest_and_best_are_kept(tmp_path):
  checkpoints = open_in(tmp_path, keep_last=2, keep_best=1, best_metric='score')
  scores = {1: 0.1, 2: [0.9, 0.7], 3: 0.3, 4: float('nan'), 5: 0.2, 6: None}
  for step, score in scores.items():
    checkpoints.save(step, make_state(step), {} if score is None else {'score': score})
  checkpoints.close()
  reopened = open_in(tmp_path, keep_last=2, keep_best=1, best_metric='score')
  assert reopened.all_steps() == [2, 5, 6] == checkpoints.all_steps()
  assert sorted(p.name for p in tmp_path.iterdir()) == ['2', '5', '6']
  assert reopened.best_step() == 2
  reopened.save(7, make_state(7), {'score': 0.95})
  reopened.wait()
  assert reopened.all_steps() == [6, 7]
  assert reopened.best_step() == 7
  assert bits(reopened.restore(make_state())[0]) == bits(make_state(7))


def test_best_may_be_the_least_and_none(tmp_path):
  least = open_in(tmp_path / 'a', keep_last=1, keep_best=2, best_metric='loss', best_mode='min')
  for step, loss in enumerate([3.0, 1.0, 2.0, 5.0, float('inf')]):
    least.save(step, make_state(), {'loss': loss})
  least.wait()
  assert least.all_steps() == [1, 2, 4]
  assert least.best_step() == 1
  unranked = open_in(tmp_path / 'b', keep_last=1)
  for step in range(3):
    unranked.save(step, make_state(), {'loss': 1.0})
  unranked.wait()
  assert unranked.all_steps() == [2]
  assert unranked.best_step() is None
  with pytest.raises(ValueError, match='best_mode'):
    open_in(tmp_path, best_mode='least')
  with pytest.raises(ValueError, match='keep_last'):
    open_in(tmp_path, keep_last=0)


def test_a_damaged_manifest_does_not_hinder_opening(tmp_path):
  checkpoints = open_in(tmp_path, best_metric='score')
  for step in (1, 2):
    checkpoints.save(step, make_state(step), {'score': step})
  checkpoints.close()
  (tmp_path / '2' / 'manifest' / 'metadata').write_bytes(b'\xff')
  assert open_in(tmp_path, best_metric='score').best_step() == 1


def test_saving_a_step_twice_changes_nothing(tmp_path):
  checkpoints = open_in(tmp_path)
  checkpoints.save(1, make_state(1))
  checkpoints.save(1, make_state(2))
  checkpoints.wait()
  before = {p: p.read_bytes() for p in files_of(tmp_path)}
  checkpoints.close()
  save_steps(tmp_path, 1)
  assert {p: p.read_bytes() for p in files_of(tmp_path)} == before
  assert bits(open_in(tmp_path).restore(make_state())[0]) == bits(make_state(1))


def test_an_earlier_step_is_kept_when_just_saved(tmp_path):
  save_steps(tmp_path, 5, 6, 2)
  assert open_in(tmp_path).all_steps() == [2, 5, 6]


def test_due_follows_the_clock(tmp_path, monkeypatch):
  now = 1000.0
  monkeypatch.setattr(checkpoint.time, 'monotonic', lambda: now)
  checkpoints = open_in(tmp_path, save_interval_minutes=2)
  assert not checkpoints.due()
  now += 119
  assert not checkpoints.due()
  now += 1
  assert checkpoints.due()
  checkpoints.save(1, make_state())
  assert not checkpoints.due()
  checkpoints.wait()


def test_nothing_executable_in_a_checkpoint(tmp_path):
  save_steps(tmp_path, 1)
  for path in files_of(tmp_path):
    assert path.suffix in {'', '.txt', '.ocdbt'}, path
    assert not os.access(path, os.X_OK), path
    # A pickle of protocol 2 or later begins with \x80 and its number, and ends with a dot.
    data = path.read_bytes()
    assert not (data[:1] == b'\x80' and data[-1:] == b'.'), path


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
  for _ in range(6):
    child = subprocess.Popen([sys.executable, '-c', KILLED, str(tmp_path)], text=True,
                             env=os.environ | CPU, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.readline()  # restored, verified, and the first save has begun
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
