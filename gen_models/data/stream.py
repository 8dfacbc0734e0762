"""Data that does not fit on the device: the rows of the next steps, fetched by grain.

  window(start, stop)[t, b] = source[row((start + t) B + b)],   start + t < stop

`row` is the order of pipeline.batches under the same key, so a stream and a resident copy of the
same rows give the same batches bit for bit, and resuming is asking for a later window. Grain's
threads read records ahead; the next window is fetched while the caller computes on this one.
Axes: T steps, B batch (the part of this process).
"""

import concurrent.futures
from typing import Any, Protocol

import grain
import jax
import jax.numpy as jnp
import numpy as np

from gen_models.data.pipeline import rows_of_step
from gen_models.data.sources import Window
from gen_models.data.weights import alias_table


class ReadFailed(RuntimeError):
  """The source did not give a record; what was trained is as the last checkpoint has it."""


class Source(Protocol):
  """Random access to records {'image': stored row [...], 'label': int}, the label optional.

  Where it has an attribute `weights`, [N], rows are read in proportion to them.
  """

  def __len__(self) -> int: ...

  def __getitem__(self, row: int) -> dict[str, Any]: ...


class Stream:
  """Windows of a random-access source. Not thread safe; a window is asked for by one caller."""

  def __init__(self, key: jax.Array, source: Source, batch_size: int, *,
               process_index: int = 0, process_count: int = 1,
               num_threads: int = 8, horizon: int | None = None):
    """Reads nothing yet.

    Args:
      key: the run's data key, as batch_at gets it.
      source: any random-access source; called from several threads.
      batch_size: B of the whole batch, over all processes.
      process_index: this process reads rows [index, index + 1) * B / count of every batch.
      process_count: processes sharing a batch; must divide B.
      num_threads: records read at once.
      horizon: number of steps of the run; no window is fetched ahead beyond it. None: no end.

    Raises:
      ValueError: process_count does not divide batch_size, or process_index is not below it.
    """
    if batch_size % process_count or not 0 <= process_index < process_count:
      raise ValueError(f'cannot give process {process_index} of {process_count} its part of '
                       f'batches of {batch_size}')
    local = batch_size // process_count
    self._slice = slice(process_index * local, (process_index + 1) * local)
    self._source, self._local, self._horizon = source, local, horizon
    self._options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=4 * num_threads)
    self._device = _host_device()
    self._key = jax.device_put(key, self._device)
    weights = getattr(source, 'weights', None)
    alias = None if weights is None else jax.device_put(alias_table(weights), self._device)
    self._rows = jax.jit(jax.vmap(
        lambda key, step: rows_of_step(key, step, batch_size, len(source), alias),
        in_axes=(None, 0)))
    self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix='stream')
    self._ahead: dict[tuple[int, int], concurrent.futures.Future] = {}

  def window(self, start: int, stop: int) -> Window:
    """This process's rows of steps start .. stop - 1; the window after them starts loading.

    Returns:
      Window of rows [T, B, ...], labels int32 [T, B] or None, first = start.

    Raises:
      ValueError: an empty range.
      TypeError: rows that are not uint8, int32 or float32.
      ReadFailed: the source raised something.
    """
    if not 0 <= start < stop:
      raise ValueError(f'no steps from {start} to {stop}')
    ahead, self._ahead = self._ahead, {}
    fetched = ahead.pop((start, stop), None)
    for abandoned in ahead.values():
      abandoned.cancel()
    window = fetched.result() if fetched else self._fetch(start, stop)
    end = 2 * stop - start if self._horizon is None else min(2 * stop - start, self._horizon)
    if stop < end:
      self._ahead[stop, end] = self._pool.submit(self._fetch, stop, end)
    return window

  def close(self) -> None:
    """Stops loading ahead."""
    self._pool.shutdown(cancel_futures=True)

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.close()

  def _fetch(self, start, stop):
    with jax.default_device(self._device):
      rows_TB = np.asarray(self._rows(self._key, jnp.arange(start, stop, dtype=jnp.uint32)))
    rows: Any = rows_TB[:, self._slice].reshape(-1)  # a sequence, though not of that type
    batches = (grain.MapDataset.source(rows).map(self._read).map(_record)
               .batch(self._local).to_iter_dataset(self._options))
    batches = list(batches)
    labels = np.stack([b['label'] for b in batches]) if 'label' in batches[0] else None
    return Window(np.stack([b['image'] for b in batches]), labels, np.int32(start))

  def _read(self, row):
    try:
      return self._source[int(row)]
    except Exception as e:  # of files that are gone, of a server that is down
      raise ReadFailed(f'record {row} of the data cannot be read: {type(e).__name__}: '
                       f'{" ".join(str(e).split())[:160]}. Once it can, the same command resumes '
                       'from the last checkpoint') from e


def _record(record):
  """The two fields a batch is made of, in the types of Arrays."""
  image = np.asarray(record['image'])
  if image.dtype not in (np.uint8, np.int32, np.float32):
    raise TypeError(f'images must be uint8, int32 or float32, the source gives {image.dtype}')
  return {'image': image} | ({'label': np.int32(record['label'])} if 'label' in record else {})


def _host_device():
  """The CPU, where index arithmetic does not queue behind training steps, if jax has it."""
  try:
    return jax.local_devices(backend='cpu')[0]
  except RuntimeError:  # JAX_PLATFORMS names accelerators only
    return jax.local_devices()[0]
