"""Profile of an update: a trace, its operations, and the fraction of the device's peak.

  fraction of peak = FLOPs of the matrix products of an update / seconds an update / peak

The products are counted in the program before compilation, each loop as often as it runs: the
compiler's own count takes the body of a loop once. Peak is what one large float32 product reaches
on this device in this process. It is not the figure of a data sheet, and it includes the effect of
other work on the machine.
"""

import collections
import gzip
import json
import math
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Operation(NamedTuple):
  """Time of one operation of the compiled program in the trace, without what it calls."""

  name: str
  seconds: float
  share: float
  count: int


class Profile(NamedTuple):
  """The measurements of a profile.

  Attributes:
    seconds_per_step: median over dispatches, outside of the trace.
    compile_seconds: of the program of a dispatch; small where the cache had it.
    product_flops: of the matrix products and convolutions of an update.
    unknown_loops: loops of unknown length in it, counted once.
    flops_per_second, peak_flops_per_second, fraction_of_peak: as above.
    argument_bytes, temporary_bytes: of the compiled program; None where the device does not say.
    operations: the most expensive first.
    trace: the file, for Perfetto or TensorBoard.
  """

  seconds_per_step: float
  compile_seconds: float
  product_flops: float
  unknown_loops: int
  flops_per_second: float
  peak_flops_per_second: float
  fraction_of_peak: float
  argument_bytes: int | None
  temporary_bytes: int | None
  operations: list[Operation]
  trace: str


def profile(experiment, train, key, out: pathlib.Path, *, phase: int = 0,
            num_steps: int | None = None,
            repeats: int = 5) -> Profile:
  """Profiles one phase of an experiment from its start.

  Args:
    experiment: bound or not, see training.hyper.
    train: Arrays it trains on.
    key: of the run.
    out: directory of the trace.
    phase: which.
    num_steps: updates a dispatch; default the experiment's own.
    repeats: dispatches that are timed, after one that is not.
  """
  from gen_models.training import keys, parallel, step as step_lib
  previous, state, one = None, None, experiment.phases[phase]
  for index, one in enumerate(experiment.phases[:phase + 1]):
    hyper = {k: jnp.float32(v) for k, v in experiment.hyper.items()} or ()
    state = parallel.init_states(one, keys.phase(key, index), train, previous, hyper)
    previous = step_lib.final_params(state)
  num_steps = num_steps or min(experiment.steps_per_dispatch, one.num_steps)
  flops, unknown = product_flops(
    lambda state, arrays: step_lib.train_step(one, state, arrays)[0], state, train)
  runner = parallel.runner(one)
  state, arrays = runner.place(state), runner.place_arrays(train)
  began = time.perf_counter()
  dispatch: Any = runner.dispatch  # jitted
  memory = dispatch.lower(state, arrays, num_steps).compile().memory_analysis()
  compile_seconds = time.perf_counter() - began
  seconds = []
  for _ in range(repeats + 1):
    began = time.perf_counter()
    state, metrics = jax.block_until_ready(runner.dispatch(state, arrays, num_steps))
    seconds.append((time.perf_counter() - began) / num_steps)
  out.mkdir(parents=True, exist_ok=True)
  with jax.profiler.trace(str(out)):
    state, metrics = jax.block_until_ready(runner.dispatch(state, arrays, num_steps))
  trace = max(out.rglob('*.trace.json.gz'), key=lambda p: p.stat().st_mtime)
  per_step, peak = statistics.median(seconds[1:]), peak_flops_per_second()
  return Profile(
    per_step, compile_seconds, flops, unknown, flops / per_step, peak, flops / per_step / peak,
    getattr(memory, 'argument_size_in_bytes', None), getattr(memory, 'temp_size_in_bytes', None),
    operations(trace), str(trace))


def product_flops(fn: Callable, *args) -> tuple[float, int]:
  """(FLOPs of the products and convolutions of fn, loops whose length is not known)."""
  return _count(jax.make_jaxpr(fn)(*args).jaxpr)


def _count(jaxpr) -> tuple[float, int]:
  flops, unknown = 0.0, 0
  for eqn in jaxpr.eqns:
    name, params = eqn.primitive.name, eqn.params
    if name == 'dot_general':
      (contracted, _), _ = params['dimension_numbers']
      inner = math.prod(eqn.invars[0].aval.shape[i] for i in contracted)
      flops += 2.0 * math.prod(eqn.outvars[0].aval.shape) * inner
    elif name == 'conv_general_dilated':
      kernel = eqn.invars[1].aval.shape
      out_channels = kernel[params['dimension_numbers'].rhs_spec[0]]
      flops += 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel) / out_channels
    inner = [_count(j) for j in _subprograms(params)]
    if not inner:
      continue
    if name == 'cond':
      more = max(inner)
    else:
      more = (sum(f for f, _ in inner), sum(u for _, u in inner))
    times = params['length'] if name == 'scan' else 1
    flops += times * more[0]
    # A loop without products, as in a random number, costs none however often it runs.
    unknown += more[1] + (name == 'while' and more[0] > 0)
  return flops, unknown


def _subprograms(params) -> list[Any]:
  found = []
  for value in params.values():
    for x in value if isinstance(value, tuple | list) else [value]:
      x = getattr(x, 'jaxpr', x)
      if hasattr(x, 'eqns'):
        found.append(x)
  return found


def peak_flops_per_second(size: int = 2048, repeats: int = 5) -> float:
  """Of one float32 product of two square matrices, the best of a few."""
  x = jnp.ones((size, size), jnp.float32)
  product = jax.jit(jnp.matmul)
  jax.block_until_ready(product(x, x))
  best = math.inf
  for _ in range(repeats):
    began = time.perf_counter()
    jax.block_until_ready(product(x, x))
    best = min(best, time.perf_counter() - began)
  return 2.0 * size**3 / best


def operations(trace: pathlib.Path) -> list[Operation]:
  """Operations of compiled programs in a trace, by the time that each spends itself."""
  with gzip.open(trace, 'rt', encoding='utf-8') as file:
    events = json.load(file)['traceEvents']
  lanes = collections.defaultdict(list)
  for event in events:
    if event.get('ph') == 'X' and 'hlo_op' in (event.get('args') or {}):
      lanes[event.get('pid'), event.get('tid')].append(
        (event['ts'], event['ts'] + event.get('dur', 0.0), event['args']['hlo_op']))
  own, count = collections.Counter(), collections.Counter()
  for lane in lanes.values():
    open_events: list[tuple[float, str]] = []
    for begin, end, name in sorted(lane, key=lambda e: (e[0], -e[1])):
      while open_events and open_events[-1][0] <= begin:
        open_events.pop()
      if open_events:  # what encloses it does not spend this time itself
        own[open_events[-1][1]] -= min(end, open_events[-1][0]) - begin
      own[name] += end - begin
      count[name] += 1
      open_events.append((end, name))
  total = sum(own.values()) or 1.0
  return [Operation(name, 1e-6 * us, us / total, count[name]) for name, us in own.most_common()]


def table(found: Profile, num_operations: int = 12) -> str:
  """For people."""
  device = jax.devices()[0]
  lines = [
    f'{1e3 * found.seconds_per_step:.3f} ms an update on {device.device_kind}; compiled in '
    f'{found.compile_seconds:.1f} s',
    f'{found.product_flops / 1e6:.4g} MFLOP of matrix products an update: '
    f'{found.flops_per_second / 1e9:.4g} GFLOP/s, {100 * found.fraction_of_peak:.1f} % of '
    f'{found.peak_flops_per_second / 1e9:.4g} (one float32 product of 2048 x 2048 here and now)']
  if found.unknown_loops:
    lines.append(f'{found.unknown_loops} loops of unknown length are counted once')
  if found.argument_bytes is not None and found.temporary_bytes is not None:
    lines.append(f'memory: {found.argument_bytes / 1e6:.4g} MB of arguments, '
                 f'{found.temporary_bytes / 1e6:.4g} MB of temporaries')
  width = max((len(x.name) for x in found.operations[:num_operations]), default=0)
  lines += ['operations of the compiled program, by the time they spend themselves:']
  lines += [f'  {x.name:{width}}  {100 * x.share:5.1f} %  {1e3 * x.seconds:9.3f} ms  '
            f'{x.count:7,} times' for x in found.operations[:num_operations]]
  return '\n'.join([*lines, f'trace for Perfetto or TensorBoard: {found.trace}'])
