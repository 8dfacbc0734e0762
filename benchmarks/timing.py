"""Side by side: contenders timed in interleaved rounds of one process, on the same cores.

Rounds A B C A B C ... share whatever else the machine does; the median forgives one bad round, and
ratios are taken of medians. Nothing here is a test: times are printed, never asserted.
"""

import collections
import ctypes
import datetime
import functools
import importlib
import json
import os
import pathlib
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl
from jax import lax

from gen_models import files

INSTALL = 'pip install "gen_models[bench]"'


class Contender(NamedTuple):
  """Somebody doing the task.

  Attributes:
    name: shown in the table; names that start with 'floor' are the arithmetic alone.
    run: () -> None, does the task once and returns when it is done.
    note: what exactly is computed.
  """

  name: str
  run: Callable
  note: str = ''


class Task(NamedTuple):
  """Work that contenders do side by side.

  Attributes:
    title: of the table's row.
    contenders: ours, its floors, and its peers.
    per: units of work in one run of a contender; times are shown for one.
    check: () -> None; RuntimeError where a contender was timed doing nothing, or something else.
    most_rounds: of a task that takes long.
  """

  title: str
  contenders: list[Contender]
  per: float = 1
  check: Callable[[], None] = lambda: None
  most_rounds: int = 1000


@functools.cache
def peer(module: str):
  """The module, or None after a line that says how to install it."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    print(f'skipped: {module} ({error}); {INSTALL} brings it', flush=True)
    return None


@functools.cache
def torch_compile() -> Callable | None:
  """torch.compile, or None, after printing why, where it does not work."""
  if (torch := peer('torch')) is None:
    return None
  try:
    torch.compile(lambda x: (x * x).sum())(torch.zeros(2, requires_grad=True)).backward()
  except RuntimeError as error:
    print(f'skipped: torch.compile ({str(error).strip().splitlines()[0]})', flush=True)
    return None
  return torch.compile


def use_all_cores() -> int:
  """Gives every library in this process as many threads as there are cores; returns how many."""
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  threadpoolctl.threadpool_limits(cores)
  try:
    import torch
  except ImportError:
    return cores
  torch.set_num_threads(cores)
  return cores


def warn_if_busy(cores: int) -> float | None:
  """How many cores are in use before anything is timed; None where the system does not say.

  Says so if something else runs: libraries whose threads wait for each other by spinning then slow
  down tenfold and others do not, and ratios mean nothing. Not the load average, which still has in
  it what ended a minute ago.
  """
  busy = cores_in_use()
  if busy is not None and busy > 0.3 * cores:
    print(f'WARNING: {busy:.1f} of {cores} cores are in use: the machine is not quiet; '
          'quote neither times nor ratios of this run', flush=True)
  return busy


def cores_in_use(seconds: float = 1.0) -> float | None:
  """Cores that are not idle, on average over some seconds; None where the system does not say."""
  def ticks() -> tuple[int, int]:
    cpu, *counts = pathlib.Path('/proc/stat').read_text(encoding='utf-8').split('\n', 1)[0].split()
    assert cpu == 'cpu'
    numbers = [int(count) for count in counts[:8]]  # what guests use is in user's already
    return sum(numbers), sum(numbers[3:5])

  try:
    total, idle = ticks()
    time.sleep(seconds)
    later, idle_later = ticks()
  except (OSError, ValueError, AssertionError):
    return None
  return (os.cpu_count() or 1) * (1 - (idle_later - idle) / max(later - total, 1))


def interleaved(contenders: list[Contender], rounds: int,
                peaks: dict[str, int | None] | None = None) -> dict[str, list[float]]:
  """Seconds of each contender in each round; one round more comes first and is not counted.

  Args:
    contenders: take turns.
    rounds: that are timed.
    peaks: takes the `peak_memory` of each contender, in a further round that is not timed.
  """
  seconds = {c.name: [] for c in contenders}
  for timed in range(rounds + 1):
    for c in contenders:
      start = time.perf_counter()
      c.run()
      if timed:
        seconds[c.name].append(time.perf_counter() - start)
  if peaks is not None:
    peaks.update({c.name: peak_memory(c.run) for c in contenders})
  return seconds


def peak_memory(run: Callable[[], Any]) -> int | None:
  """Bytes by which resident memory rises above what it was while `run` runs; None if not known.

  Of this process, read from Linux, which is told to forget the peak so far (`man 5 proc`,
  clear_refs); memory that was freed and is kept by the allocator is given back first. What is
  resident before, data and parameters among it, does not count; compile before.
  """
  try:
    ctypes.CDLL('libc.so.6').malloc_trim(0)
    pathlib.Path('/proc/self/clear_refs').write_text('5', encoding='utf-8')
    before = _resident('VmRSS')
    run()
    return max(_resident('VmHWM') - before, 0)
  except (OSError, AttributeError, KeyError):
    return None


def _resident(field: str) -> int:
  lines = pathlib.Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
  return 1024 * int(dict(line.split(':', 1) for line in lines)[field].split()[0])


def summarise(seconds: dict[str, list[float]], per: float, ours: str,
              peaks: dict[str, int | None] | None = None) -> dict[str, dict]:
  """For each contender: median, min, max seconds for one of `per` units of work, the ratio to the
  fastest floor, how many times longer it takes than `ours` and, if given, its peak memory in bytes.
  """
  median = {name: statistics.median(s) / per for name, s in seconds.items()}
  floor = min((m for name, m in median.items() if name.startswith('floor')), default=None)
  return {name: {'median': median[name], 'min': min(s) / per, 'max': max(s) / per,
                 'to_floor': median[name] / floor if floor else None,
                 'to_ours': median[name] / median[ours], **({'peak': peaks[name]} if peaks else {})}
          for name, s in seconds.items()}


def measure(benchmark: str, tasks: Iterable[Task], *, rounds: int, protocol: str,
            packages: tuple[str, ...], path: str | None, ours: str = 'ours',
            memory: bool = True) -> dict[str, dict]:
  """Times tasks, prints their tables and writes them, anew after every task, as `write_json`.

  Args:
    benchmark: name of the module in benchmarks/.
    tasks: one after another; a generator frees the data of one before it makes the next.
    rounds: of each task, see `interleaved`.
    protocol: how the times were taken, in one line.
    packages: of which versions are recorded.
    path: of the JSON file; None for none.
    ours: the contender that ratios are to.
    memory: whether peaks of memory are measured: not of work in other processes.

  Returns:
    title -> contender -> of `summarise`.
  """
  busy, tables = warn_if_busy(use_all_cores()), {}
  for task in tasks:
    peaks: dict[str, int | None] = {}
    counted = min(rounds, task.most_rounds)
    seconds = interleaved(task.contenders, counted, peaks if memory else None)
    tables[task.title] = summarise(seconds, task.per, ours, peaks)
    print(f'\n{task.title}: median of {counted} rounds, ms')
    task.check()
    show(tables[task.title], task.contenders)
    if path:
      write_json(path, benchmark, protocol, environment(packages, busy), tables, ours)
  show_environment(environment(packages, busy))
  return tables


# Floors: matrix products alone.


def torch_device() -> str:
  """Where torch computes: on the accelerator if JAX does."""
  return 'cuda' if jax.default_backend() == 'gpu' else 'cpu'


def finish(torch) -> None:
  """Returns when torch has done what it was asked for."""
  if torch.cuda.is_available():
    torch.cuda.synchronize()


def floors(products: Callable, weights: Any, x_2RD: np.ndarray, times: int) -> list[Contender]:
  """`floor` in jax, NumPy's BLAS and torch; the fastest is the floor."""
  libraries = ('jax', 'numpy', 'torch') if peer('torch') else ('jax', 'numpy')
  return [floor(library, products, weights, x_2RD, times) for library in libraries]


def floor(library: str, products: Callable, weights: Any, x_2RD: np.ndarray,
          times: int) -> Contender:
  """products(weights, x, other x) `times` times, and nothing else.

  Args:
    library: 'jax', 'numpy' or 'torch'.
    products: of arrays of any library.
    weights: a tree of NumPy arrays.
    x_2RD: two inputs, which alternate, so that a compiler can lift nothing out of the loop.
    times: in one run.
  """
  if library == 'torch':
    import torch
    weights, x_2RD = jax.tree.map(lambda x: torch.tensor(np.array(x), device=torch_device()),
                                  (weights, x_2RD))

  def at(weights, x_2RD, t):
    return products(weights, x_2RD[t % 2], x_2RD[(t + 1) % 2])

  def loop():
    for t in range(times):
      at(weights, x_2RD, t)
    if library == 'torch':
      finish(torch)

  @jax.jit
  def scan(weights, x_2RD):
    out = jax.tree.map(lambda x: jnp.zeros(x.shape), jax.eval_shape(at, weights, x_2RD, 0))
    return lax.scan(lambda _, t: (at(weights, x_2RD, t), None), out, jnp.arange(times))[0]

  if library != 'jax':
    return Contender(f'floor: {library}', loop)
  weights, x_2RD = jax.device_put((weights, x_2RD))
  return Contender('floor: jax', lambda: jax.block_until_ready(scan(weights, x_2RD)))


# What is said of a measurement.


def show(rows: dict[str, dict], contenders: list[Contender]) -> None:
  """Prints one task's table, in milliseconds, and the notes under it."""
  print(f'{"":20}{"median":>10}{"min":>10}{"max":>10}{"x floor":>9}{"x ours":>8}')
  for name, row in rows.items():
    to_floor = f'{row["to_floor"]:.2f}' if row['to_floor'] else '-'
    print(f'{name:20}{1e3 * row["median"]:10.3f}{1e3 * row["min"]:10.3f}{1e3 * row["max"]:10.3f}'
          f'{to_floor:>9}{row["to_ours"]:8.2f}')
  for c in contenders:
    if c.note:
      print(f'  {c.name}: {c.note}')


def environment(packages: tuple[str, ...], busy: float | None = None) -> dict:
  """The conditions of the times: processor, cores and those in use before, threads, versions."""
  threads = {f'{pool["internal_api"]} ({pathlib.Path(pool["filepath"]).name})': pool['num_threads']
             for pool in threadpoolctl.threadpool_info()}
  return {'cpu': _cpu(), 'cores': use_all_cores(), 'device': str(jax.devices()[0]),
          'python': platform.python_version(), 'busy': busy,
          'threads': {**_xla_threads(), **threads},
          'versions': {name: v for name in packages if (v := _version(name))}}


def show_environment(env: dict) -> None:
  print(f'{env["cpu"]}; {env["cores"]} cores; jax on {env["device"]}; python {env["python"]}')
  for title in ('versions', 'threads'):
    print(f'{title}: ' + ', '.join(f'{name} {value}' for name, value in env[title].items()))


def write_json(path: str, benchmark: str, protocol: str, env: dict, tables: dict,
               ours: str = 'ours') -> None:
  """Writes tables of times: task -> contender -> of `summarise`; ratios are to `ours`."""
  write(path, benchmark, protocol, env, ours=ours, tables=tables)


def write(path: str, benchmark: str, protocol: str, env: dict, **measured) -> None:
  """Writes a measurement as benchmarks.tables reads it.

  Args:
    path: of the file.
    benchmark: name of the module in benchmarks/.
    protocol: how it was measured, in one line.
    env: of `environment`.
    **measured: `tables` of times, `memory` or whatever else benchmarks.tables shows.
  """
  command = shlex.join(['python', '-m', f'benchmarks.{benchmark}', *(
    word for word in sys.argv[1:] if not word.startswith('--json'))])
  files.write_text(path, json.dumps({
    'benchmark': benchmark, 'command': command, 'protocol': protocol,
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'environment': env, **measured}, indent=1) + '\n')


def _version(package):
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


def _cpu():
  cpuinfo = pathlib.Path('/proc/cpuinfo')
  names = [line.split(':', 1)[1].strip() for line in
           (cpuinfo.read_text(encoding='utf-8').splitlines() if cpuinfo.exists() else ())
           if line.startswith('model name')]
  return names[0] if names else platform.processor() or platform.machine()


def _xla_threads():
  """Threads of XLA's pools on Linux, by name; it takes one for each core and has no setter."""
  names = collections.Counter(
    task.joinpath('comm').read_text(encoding='utf-8').strip().split('/')[0]
    for task in pathlib.Path('/proc/self/task').glob('*'))
  return {name: n for name, n in names.items() if 'XLA' in name or 'Eigen' in name}
