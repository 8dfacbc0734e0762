"""The environment of a job, by the accelerator it runs on: the one place of such settings.

What the user has set, in the environment of the job or by --where_env, takes precedence: a
variable replaces the one below; where the value is a list of compiler flags, the user's come after
these, and of a flag given twice the compiler takes the last. The settings that decide about numbers
are set by every command (launch/cli/jax_setup.py): a run has the same bits from a terminal and as a
job.

Left out on purpose: --xla_tpu_spmd_rng_bit_generator_unsafe, after which draws depend on how arrays
are split, and --xla_gpu_autotune_level, which the deterministic setting below controls.
"""

import re
import shlex
from collections.abc import Mapping
from typing import NamedTuple

from launch import errors


class Setting(NamedTuple):
  """One environment variable, or one more compiler flag in it."""

  name: str
  value: str
  accelerators: tuple[str, ...]
  why: str
  decides_numbers: bool = False


# The GPU flags are those that jaxlib 0.10.2 parses, the TPU flags those of libtpu 0.0.42 and of
# JAX's list of XLA flags. A flag unknown to XLA_FLAGS ends the process, hence LIBTPU_INIT_ARGS.
SETTINGS = (
  Setting('XLA_FLAGS', '--xla_gpu_enable_latency_hiding_scheduler=true', ('gpu',),
          'the all-reduce of gradients runs while other layers compute; off by default'),
  Setting('XLA_FLAGS', '--xla_gpu_deterministic_ops=true', ('gpu',),
          'a resumed run is bitwise identical to an unbroken one: no atomic sums, no kernels '
          'chosen by timing', decides_numbers=True),
  Setting('XLA_PYTHON_CLIENT_PREALLOCATE', 'true', ('gpu',),
          'a job has its GPUs to itself: one block of memory, no fragments'),
  Setting('XLA_PYTHON_CLIENT_MEM_FRACTION', '0.9', ('gpu',),
          'how much of it; the default of 0.75 leaves room for other processes, of which there '
          'are none'),
  Setting('LIBTPU_INIT_ARGS', '--xla_tpu_enable_latency_hiding_scheduler=true', ('tpu',),
          'as on GPUs'),
  Setting('LIBTPU_INIT_ARGS', '--xla_tpu_enable_async_collective_fusion=true', ('tpu',),
          'collectives become asynchronous, so there is something to hide'),
  Setting('LIBTPU_INIT_ARGS', '--xla_tpu_overlap_compute_collective_tc=true', ('tpu',),
          'and run beside compute on the same core'),
  Setting('JAX_DEFAULT_MATMUL_PRECISION', 'float32', ('gpu', 'tpu'),
          'products of float32 arrays are float32, as in the committed numbers, and not bfloat16 '
          '(TPU) or TensorFloat-32 (GPU); --where_env=JAX_DEFAULT_MATMUL_PRECISION=default is '
          'faster and another number', decides_numbers=True),
)
# Where compiled programs are kept: ~/.cache/gen_models/jax (launch/cli/app.py), which is shared
# between Slurm nodes and lasts as long as a TPU VM. A container has no home that lasts, so there
# it is a directory of the volume.
CACHE = 'JAX_COMPILATION_CACHE_DIR'
_LISTS = ('XLA_FLAGS', 'LIBTPU_INIT_ARGS')


def defaults(accelerator: str) -> dict[str, str]:
  """Name -> value of what is set on 'cpu', 'gpu' or 'tpu'; flags of one variable are joined."""
  return _joined(setting for setting in SETTINGS if accelerator in setting.accelerators)


def of_numbers(given: Mapping[str, str]) -> dict[str, str]:
  """The settings that decide about numbers on any accelerator, below what the user has given.

  None of them changes a bit on a CPU. Given what was returned, it adds nothing.
  """
  values = _joined(setting for setting in SETTINGS if setting.decides_numbers
                   and setting.value not in given.get(setting.name, '').split())
  return _over(values, {name: value for name, value in given.items() if name in values})


def _joined(settings):
  values = {}
  for setting in settings:
    values[setting.name] = f'{values.get(setting.name, "")} {setting.value}'.lstrip()
  return values


def environment(accelerator: str, given: Mapping[str, str]) -> dict[str, str]:
  """The variables of a job that starts with none: the defaults below what the user has given."""
  return _over(defaults(accelerator), given)


def _over(values, given):
  for name, value in given.items():
    values[name] = f'{values[name]} {value}' if name in _LISTS and name in values else value
  return values


def exports(accelerator: str, given: Mapping[str, str]) -> list[str]:
  """Lines of shell that do the same in an environment that is known only when they run."""
  lines = []
  for name, value in defaults(accelerator).items():
    word = shlex.quote(value)
    # Quotes inside ${name-...} of a quoted string would be kept as characters, so not there.
    lines.append(f'export {name}={word}" ${{{name}-}}"' if name in _LISTS else
                 f'[ -n "${{{name}+set}}" ] || export {name}={word}')
  for name, value in given.items():
    word = shlex.quote(value)
    lines.append(f'export {name}="${{{name}-}} "{word}' if name in _LISTS else
                 f'export {name}={word}')
  return lines


def given(words) -> dict[str, str]:
  """Name -> value of `NAME=value` words.

  Raises:
    UsageError: one is not of that form.
  """
  values = {}
  for word in words:
    name, equals, value = word.partition('=')
    if not equals or not re.fullmatch('[A-Za-z_][A-Za-z0-9_]*', name):
      raise errors.UsageError(f'--where_env={word}: write --where_env=NAME=value')
    if '\0' in value:
      raise errors.UsageError(f'--where_env: the value of {name} has a NUL character')
    values[name] = value
  return values
