"""A command that is run as a child, and that saves its work when this one is ended."""

import signal
import subprocess
import sys
from collections.abc import Sequence


def run(module: str, words: Sequence[str]) -> int:
  """Runs `python -m module words`; returns its exit status.

  Where a signal ends this process meanwhile, the child receives a signal to save and leave. It may
  need longer for that than this process, and then continues by itself until it has saved.
  """
  with subprocess.Popen([sys.executable, '-m', module, *words]) as process:
    try:
      return process.wait()
    except BaseException:
      process.send_signal(signal.SIGTERM)
      raise
