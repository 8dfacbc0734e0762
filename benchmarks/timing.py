"""Side by side: contenders timed in interleaved rounds of one process, on the same cores.

Rounds A B C A B C ... share whatever else the machine does; the median forgives one bad round, and
ratios are taken of medians. Nothing here is a test: times are printed, never asserted.
"""

import collections
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
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

import jax
import threadpoolctl

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


@functools.cache
def peer(module: str):
  """The module, or None after a line that says how to install it."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    print(f'skipped: {module} ({error}); {INSTALL} brings it', flush=True)
    return None


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


def warn_if_busy(cores: int) -> None:
  """Says so if something else runs: libraries whose threads wait for each other by spinning then
  slow down tenfold and others do not, and ratios mean nothing.
  """
  load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else 0.0
  if load > 0.3 * cores:
    print(f'WARNING: load average {load:.1f} on {cores} cores: the machine is not quiet; '
          'quote neither times nor ratios of this run', flush=True)


def interleaved(contenders: list[Contender], rounds: int) -> dict[str, list[float]]:
  """Seconds of each contender in each round; one round more comes first and is not counted."""
  seconds = {c.name: [] for c in contenders}
  for timed in range(rounds + 1):
    for c in contenders:
      start = time.perf_counter()
      c.run()
      if timed:
        seconds[c.name].append(time.perf_counter() - start)
  return seconds


def summarise(seconds: dict[str, list[float]], per: int, ours: str) -> dict[str, dict]:
  """For each contender: median, min, max seconds for one of `per` units of work, the ratio to the
  fastest floor and how many times longer it takes than `ours`.
  """
  median = {name: statistics.median(s) / per for name, s in seconds.items()}
  floor = min((m for name, m in median.items() if name.startswith('floor')), default=None)
  return {name: {'median': median[name], 'min': min(s) / per, 'max': max(s) / per,
                 'to_floor': median[name] / floor if floor else None,
                 'to_ours': median[name] / median[ours]} for name, s in seconds.items()}


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


def environment(packages: tuple[str, ...]) -> dict:
  """The conditions of the times: processor, cores, threads of each library, versions."""
  threads = {f'{pool["internal_api"]} ({pathlib.Path(pool["filepath"]).name})': pool['num_threads']
             for pool in threadpoolctl.threadpool_info()}
  return {'cpu': _cpu(), 'cores': use_all_cores(), 'device': str(jax.devices()[0]),
          'python': platform.python_version(),
          'threads': {**_xla_threads(), **threads},
          'versions': {name: v for name in packages if (v := _version(name))}}


def show_environment(env: dict) -> None:
  print(f'{env["cpu"]}; {env["cores"]} cores; jax on {env["device"]}; python {env["python"]}')
  for title in ('versions', 'threads'):
    print(f'{title}: ' + ', '.join(f'{name} {value}' for name, value in env[title].items()))


def write_json(path: str, benchmark: str, protocol: str, env: dict, tables: dict,
               ours: str = 'ours') -> None:
  """Writes a measurement as benchmarks.tables reads it.

  Args:
    path: of the file.
    benchmark: name of the module in benchmarks/.
    protocol: how the times were taken, in one line.
    env: of `environment`.
    tables: task -> contender -> of `summarise`, seconds.
    ours: the contender that ratios are to.
  """
  command = shlex.join(['python', '-m', f'benchmarks.{benchmark}', *sys.argv[1:]])
  files.write_text(path, json.dumps({
    'benchmark': benchmark, 'command': command, 'protocol': protocol,
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'environment': env, 'ours': ours, 'tables': tables}, indent=1) + '\n')


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
