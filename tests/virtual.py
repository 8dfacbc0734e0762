"""Virtual devices for processes that tests start."""

import os


def devices(count: int) -> dict[str, str]:
  """The environment of a process with so many CPU devices, which compiles as this one does."""
  flags = os.environ.get('XLA_FLAGS', '')
  return {'XLA_FLAGS': f'{flags} --xla_force_host_platform_device_count={count}'.strip()}
