"""A checkpoint gives back the bits that were saved, or says why not."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models.training import checkpoint
from tests import virtual
from tests.training.saving import (  # noqa: F401
  IDENTITY,
  bits,
  files_of,
  make_state,
  open_in,
  run,
  save_steps,
  warnings_logged,
)

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


def test_reader_saves_nothing_and_does_not_disturb_a_save_in_progress(tmp_path):
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
             env={**virtual.devices(4), 'PJRT_NPROC': '8'})
  assert done.returncode == 0, done.stderr
  restored, step = open_in(tmp_path).restore(state)
  assert (step, bits(restored)) == (2, bits(state))


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
