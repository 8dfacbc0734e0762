"""Checkpoints that are either bit-identical to what was saved or refused.

A step is one orbax directory, made visible by one rename, with two items:

  state      {path of the leaf: array}; typed keys as their uint32 key data
  manifest   JSON: format, step, identity, metrics, {path: kind (dtype[shape]), key implementation,
             sha256 of the bytes}, and the sha256 of all this

Array files carry no checksum that is read back, so a flipped bit would restore silently. The
manifest is therefore read first, compared with the run (another run: `ForeignCheckpoint`), and the
bytes read are hashed before they become a state (damage: one warning, then the step before).
Leaves are read on the host and placed by the sharding of the example, so any number of devices
can continue what any other number began. Nothing in a checkpoint is executed when it is read.
"""

import contextlib
import functools
import hashlib
import json
import logging as std_logging
import math
import os
import pathlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

FORMAT = 1


class ForeignCheckpoint(ValueError):
  """The checkpoint is whole but belongs to another run: nothing was restored or deleted."""


class DamagedCheckpoint(RuntimeError):
  """No step that could be restored has the bytes that were saved."""


class SaveFailed(OSError):
  """A checkpoint could not be written; those before it are as they were."""


class Checkpoints(contextlib.AbstractContextManager):
  """Saves and restores the state of one run in one directory.

  Args:
    directory: holds one sub-directory a step; made when the first step is saved.
    identity: JSON-able mapping of all that makes the run what it is; a checkpoint with another
      identity is refused.
    save_interval_minutes: wall time after which `due()` asks for the next save.
    keep_last: so many newest steps are kept, and besides them
    keep_best: so many steps with the best `best_metric` (of replicas: the mean).
    best_metric: name of the ranking entry of `metrics`; None ranks nothing.
    best_mode: 'max' or 'min'.
    ranked_after: only steps after this one are ranked: those of the last phase, say, since earlier
      ones train another model.
    read_only: neither save nor tidy, for a reader beside a running training.
    require: called before every save; raises where the directory is no longer this run's.

  Raises:
    ValueError: best_mode is neither, or keep_last < 1.
  """

  def __init__(self, directory, *, identity: Mapping[str, Any],
               save_interval_minutes: float = 10.0, keep_last: int = 2, keep_best: int = 1,
               best_metric: str | None = None, best_mode: str = 'max', ranked_after: int = 0,
               read_only: bool = False, require: Callable[[], None] = lambda: None):
    if best_mode not in ('max', 'min'):
      raise ValueError(f"best_mode must be 'max' or 'min', not {best_mode!r}")
    if keep_last < 1:
      raise ValueError(f'keep_last must be at least 1, not {keep_last}')
    _quiet_orbax()
    self.directory = pathlib.Path(directory).absolute()
    self._identity = json.loads(json.dumps(identity))
    self._interval = 60 * save_interval_minutes
    self._keep_last, self._keep_best = keep_last, keep_best
    self._best_metric, self._sign = best_metric, 1 if best_mode == 'max' else -1
    self._ranked_after, self._read_only, self._require = ranked_after, read_only, require
    self._saved_at = time.monotonic()
    self._scores = {}
    for step in self.all_steps():
      try:
        self._score(step, self._manifest(step)['metrics'])
      except (_Damage, ForeignCheckpoint):  # reported if this step is ever restored
        continue

  @functools.cached_property
  def _manager(self):
    """Orbax's, made when there is a checkpoint to read or to write.

    To import orbax takes a quarter of a second, and the first metrics of a new run need none of it.
    """
    ocp = _orbax()
    return ocp.CheckpointManager(
      self.directory,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=self, read_only=self._read_only, cleanup_tmp_directories=True,
        save_root_metadata=False, lightweight_initialize=True))  # orbax keeps no metrics here

  @property
  def _is_unused(self) -> bool:
    """Whether nothing was read or written so far."""
    return '_manager' not in vars(self)

  def due(self) -> bool:
    """Whether the save interval has passed; process 0's clock decides for all."""
    due = time.monotonic() - self._saved_at >= self._interval
    if jax.process_count() > 1:
      due = bool(multihost_utils.broadcast_one_to_all(np.asarray(due)))
    return due

  def save(self, step: int, state, metrics: Mapping[str, Any] | None = None) -> None:
    """Starts saving and returns; the caller may donate the buffers of `state` right after.

    Args:
      step: a step already saved is left as it is.
      state: pytree of arrays and typed keys.
      metrics: name -> float or array of floats over replicas.

    Raises:
      SaveFailed: this save, or the previous one while it was written; and whatever `require` does.
    """
    self._saved_at = time.monotonic()
    step = int(step)
    if self._read_only or step in self.all_steps():
      return
    self._require()
    # The host view of a CPU array shares its buffer: only a copy outlives a donation.
    leaves = {path: jnp.copy(x) if isinstance(x, jax.Array) else np.array(x)
              for path, x in _leaves(state).items()}
    arrays = {p: jax.random.key_data(x) if _is_key(x) else x for p, x in leaves.items()}
    manifest = {
      'format': FORMAT,
      'step': step,
      'identity': self._identity,
      'metrics': {k: np.asarray(v, np.float64).tolist() for k, v in (metrics or {}).items()},
      'leaves': {path: {'kind': _kind(leaf),
                        'key': str(jax.random.key_impl(leaf)) if _is_key(leaf) else None,
                        'sha256': _sha256(_host(arrays[path]))}
                 for path, leaf in leaves.items()},
    }
    manifest['sha256'] = _sha256(manifest)
    self._score(step, manifest['metrics'])
    # Orbax refuses arrays of size zero: their kind in the manifest is all there is to them.
    stored = {path: x for path, x in arrays.items() if x.size}
    ocp = _orbax()
    with self._saving():
      self._manager.save(step, force=True, args=ocp.args.Composite(
        state=ocp.args.PyTreeSave(stored), manifest=ocp.args.JsonSave(manifest)))

  def restore(self, example, step: int | None = None):
    """The newest good state and its step; None when there is no checkpoint.

    Args:
      example: the state, its tree of `ShapeDtypeStruct`s, or a function from step to either: gives
        structure, shapes, dtypes and, where it has shardings, placement of what is returned.
      step: this step and no other.

    Raises:
      ForeignCheckpoint: identity, leaves, shapes or dtypes are not those of this run.
      DamagedCheckpoint: none of the steps is good.
      FileNotFoundError: the given step does not exist.
    """
    self.wait()
    steps = self.all_steps()
    if step is not None and step not in steps:
      raise FileNotFoundError(f'no checkpoint of step {step} in {self.directory}, only {steps}')
    damages = {}
    for candidate in reversed(steps) if step is None else [step]:
      try:
        state = self._read(candidate, example)
      except _Damage as damage:
        logging.warning('Checkpoint %d is damaged and skipped: %s', candidate, damage)
        damages[candidate] = damage
        continue
      self._move_away(damages)
      if jax.process_count() > 1:
        multihost_utils.assert_equal(candidate, 'processes restored different steps')
      return state, candidate
    if damages:
      found = '; '.join(f'step {bad}: {damage}' for bad, damage in damages.items())
      raise DamagedCheckpoint(f'no good checkpoint in {self.directory} ({found}): move the '
                              'directory away to start again, or use another --workdir')
    return None

  def wait(self) -> None:
    """Blocks until what was saved is on disk; raises SaveFailed where that went wrong."""
    if self._is_unused:
      return
    with self._saving():
      self._manager.wait_until_finished()

  def __exit__(self, *exception) -> None:
    self.close()

  def close(self) -> None:
    """Waits and releases the threads; raises SaveFailed as `wait`."""
    if self._is_unused:
      return
    with self._saving():
      self._manager.close()

  @contextlib.contextmanager
  def _saving(self):
    """Whatever orbax makes of a disk that does not take what it is given, as SaveFailed."""
    try:
      yield
    except (OSError, ValueError, RuntimeError) as e:
      number = re.search(r"os_error_code='(\d+)'", str(e))
      number = int(number[1]) if number else getattr(e, 'errno', None)
      why = os.strerror(number) if number else ' '.join(str(e).split())[:160]
      what = (f'{why}: a checkpoint could not be written to {self.directory}, those before it '
              'are whole')
      raise SaveFailed(*([number] * bool(number)), what) from e

  def all_steps(self) -> list[int]:
    """Steps in the directory, ascending."""
    if self._is_unused and not self.directory.exists():
      return []
    return sorted(self._manager.all_steps())

  def fingerprint(self, step: int) -> str:
    """The sha256 of a step's manifest, which vouches for every bit of it.

    Raises:
      DamagedCheckpoint: the manifest is not good.
    """
    try:
      return _sha256(self._manifest(step))
    except _Damage as damage:
      raise DamagedCheckpoint(f'checkpoint {step} in {self.directory}: {damage}') from None

  def best_step(self) -> int | None:
    """The step with the best metric, the newest of equals; None if none was ranked."""
    return next(iter(self._ranked(self.all_steps())), None)

  def should_preserve(self, checkpoints, *, context) -> list[bool]:
    """The preservation policy orbax asks: the newest `keep_last` and the `keep_best`."""
    del context
    steps = [c.step for c in checkpoints]
    newest, best = sorted(steps)[-self._keep_last :], self._ranked(steps)[: self._keep_best]
    keep = {steps[-1], *newest, *best}  # steps[-1] is the one being saved
    return [step in keep for step in steps]

  def _ranked(self, steps) -> list[int]:
    scored = [s for s in steps if s in self._scores]
    return sorted(scored, key=lambda s: (self._scores[s], s), reverse=True)

  def _score(self, step, metrics) -> None:
    value = float(np.mean(metrics.get(self._best_metric, math.nan)))
    if step > self._ranked_after and not math.isnan(value):
      self._scores[step] = self._sign * value

  def _item(self, step, **args):
    try:
      return self._manager.restore(step, args=_orbax().args.Composite(**args))
    except Exception as e:  # whatever the reader of a broken file may stumble over
      text = ' '.join(str(e).split())
      raise _Damage(f'{next(iter(args))}: {type(e).__name__}: {text[:160]}') from e

  def _manifest(self, step) -> dict:
    """The manifest of a step, whole and of this format."""
    manifest = self._item(step, manifest=_orbax().args.JsonRestore())['manifest']
    if not isinstance(manifest, dict):
      raise _Damage('manifest: not a JSON object')
    if manifest.pop('sha256', None) != _sha256(manifest) or manifest.get('step') != step:
      raise _Damage('manifest: its sha256 or step is not the one saved')
    if manifest.get('format') != FORMAT:
      raise ForeignCheckpoint(
        f'checkpoint {step} in {self.directory} has format {manifest.get("format")}, this version '
        f'reads {FORMAT}: use the version that wrote it, or another --workdir')
    _require_fields(manifest)
    return manifest

  def _read(self, step, example):
    """The state of a step, verified before it is placed."""
    manifest = self._manifest(step)
    self._compare(step, _flat(manifest['identity']), _flat(self._identity), '')
    saved = manifest['leaves']
    example = example(step) if callable(example) else example
    leaves = _leaves(example)
    expected = {path: _kind(leaf) for path, leaf in leaves.items()}
    self._compare(step, {path: x['kind'] for path, x in saved.items()}, expected, 'leaf ')
    ocp = _orbax()
    raw = {path: jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
           for path, leaf in leaves.items()}
    stored = {p: ocp.RestoreArgs(restore_type=np.ndarray) for p, x in raw.items() if x.size}
    args = ocp.args.PyTreeRestore(item=dict.fromkeys(stored, 0), restore_args=stored)
    arrays = self._item(step, state=args)['state']
    restored = []
    for path, leaf in leaves.items():
      shape, dtype = raw[path].shape, raw[path].dtype
      host = arrays.get(path, np.zeros(shape, dtype))
      if (host.shape, host.dtype, _sha256(host)) != (shape, dtype, saved[path]['sha256']):
        raise _Damage(f'leaf {path}: its bytes are not those saved')
      if (saved[path]['key'] is not None) != _is_key(leaf):
        raise _Damage(f'leaf {path}: it is a key only in the manifest or only in the run')
      restored.append(_place(host, leaf, saved[path]['key']))
    return jax.tree.unflatten(jax.tree.structure(example), restored)

  def _compare(self, step, found, expected, what) -> None:
    """Raises ForeignCheckpoint naming the first difference of two flat dicts."""
    names = [n for n in {**expected, **found} if found.get(n) != expected.get(n)]
    if names:
      there, here = (side.get(names[0], 'absent') for side in (found, expected))
      more = f' (and {len(names) - 1} more differ)' if names[1:] else ''
      raise ForeignCheckpoint(
        f'checkpoint {step} in {self.directory} is of another run: {what}{names[0]} is {there} '
        f'there, expected {here}{more}: give the flags it was made with, or another --workdir')

  def _move_away(self, steps) -> None:
    """Renames damaged steps, so that this run can save them again and none counts as newest."""
    if self._read_only or not steps:
      return
    if jax.process_index() == 0:
      for step in steps:
        target = self.directory / f'damaged-{step}'
        shutil.rmtree(target, ignore_errors=True)
        (self.directory / str(step)).rename(target)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices('damaged checkpoints renamed')
    self._manager.reload()


def _orbax() -> Any:
  """The module orbax.checkpoint, imported when it is first needed."""
  import orbax.checkpoint
  return orbax.checkpoint


class _Damage(Exception):
  """Why one step is not good, in one line."""


def _require_fields(manifest: dict) -> None:
  """Raises _Damage unless the manifest has the fields that `save` writes, of their types.

  Its sha256 fits: it was written so, by another program or to mislead.
  """
  for name in ('identity', 'metrics', 'leaves'):
    if not isinstance(manifest.get(name), dict):
      raise _Damage(f'manifest: {name} is {type(manifest.get(name)).__name__}, not an object')
  for name, value in manifest['metrics'].items():
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
      raise _Damage(f'manifest: metric {name} is not a number or a list of them')
  for path, leaf in manifest['leaves'].items():
    kinds = {'kind': str, 'key': (str, type(None)), 'sha256': str}
    if not isinstance(leaf, dict) or not all(
        field in leaf and isinstance(leaf[field], kind) for field, kind in kinds.items()):
      raise _Damage(f'manifest: leaf {path} lacks its kind, key or sha256')


def _leaves(tree) -> dict:
  """{path: leaf}, every leaf with shape and dtype."""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {jax.tree_util.keystr(path): leaf if hasattr(leaf, 'dtype') else np.asarray(leaf)
          for path, leaf in flat}


def _is_key(leaf) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _kind(leaf) -> str:
  return f'{leaf.dtype}[{",".join(map(str, leaf.shape))}]'


def _host(array) -> np.ndarray:
  """The whole array on this host, gathered where other processes hold parts of it."""
  if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
    array = multihost_utils.process_allgather(array, tiled=True)
  return np.asarray(array)


def _place(host, leaf, key):
  """The host array as a leaf like the example's: NumPy, or a jax.Array with its sharding."""
  if isinstance(leaf, np.ndarray | np.generic):
    return host
  if sharding := getattr(leaf, 'sharding', None):
    array = jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
  else:
    array = jnp.asarray(host)
  try:
    return array if key is None else jax.random.wrap_key_data(array, impl=key)
  except (ValueError, TypeError) as e:
    raise _Damage(f'manifest: {key!r} is no kind of keys') from e


def _sha256(value) -> str:
  """Of the bytes of an array, or of the canonical JSON of a dict."""
  if isinstance(value, dict):
    data = json.dumps(value, sort_keys=True).encode()
  else:
    data = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
  return hashlib.sha256(data).hexdigest()


def _flat(identity) -> dict:
  """{'a': {'b': 1}} as {'a.b': '1'}."""
  flat, _ = jax.tree_util.tree_flatten_with_path(
    identity, is_leaf=lambda x: not (isinstance(x, dict) and x))
  return {jax.tree_util.keystr(p, simple=True, separator='.'): json.dumps(x) for p, x in flat}


@functools.cache
def _quiet_orbax() -> None:
  """Silences orbax for the process: what matters of its log is raised as an exception.

  Reads abandoned after the first failure in a damaged step come back to a closed event loop and
  say so through `sys.unraisablehook` and the log of asyncio.
  """
  passed_on = sys.unraisablehook
  sys.unraisablehook = lambda report: (
    None if str(report.exc_value) == 'Event loop is closed' else passed_on(report))
  for name in ('absl', 'asyncio'):
    std_logging.getLogger(name).addFilter(_not_orbax)


def _not_orbax(record) -> bool:
  from_orbax = 'orbax' in pathlib.Path(record.pathname).parts
  return not (from_orbax or 'OCDBT' in str(record.exc_info))
