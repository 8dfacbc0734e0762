"""What every command shares: set-up of jax, signals, and errors that say how to go on."""

import errno
import os
import signal
import sys
import traceback

from absl import app

from launch.cli import help as help_lib
from launch.processes import distributed


def run(main) -> None:
  """app.run, with expected errors as one line on stderr and exit status 1.

  An error that the user can do something about needs no traceback; any other keeps its own. One of
  several processes, or of a supervisor, leaves at once, with the status that says which it was.
  """
  def guarded(argv):
    signal.signal(signal.SIGTERM, _leave)
    try:
      return main(argv)
    except KeyboardInterrupt:
      distributed.leave(130)
    except app.UsageError:
      raise
    except Exception as e:  # sorted below
      lost = distributed.lost_peer(e)
      if not lost and not _expected(e):
        if not distributed.in_company():
          raise
        traceback.print_exc()
        distributed.leave(distributed.CRASHED)
      if os.environ.get('GEN_MODELS_TRACEBACK'):
        traceback.print_exc()
      else:
        print(f'error: {lost or _explain(e)}\n(GEN_MODELS_TRACEBACK=1 shows where)',
              file=sys.stderr)
      distributed.leave(distributed.LOST if lost else 1)

  distributed.follow_parent()
  if help_lib.asked(sys.argv):
    print(help_lib.text(sys.modules['__main__']))
    sys.exit(0)
  app.run(guarded)


def _leave(number, frame):
  """SIGTERM where nothing has to be saved: files are written whole or not at all."""
  del frame
  print('stopped by SIGTERM; what was saved before is as it was', file=sys.stderr)
  sys.exit(128 + number)


def _expected(error: Exception) -> bool:
  # By module and not by class: naming the classes would import all their rooms.
  return type(error).__module__.split('.')[0] in ('gen_models', 'launch', 'experiments') or \
    isinstance(error, (ValueError, OSError, FloatingPointError))


def _explain(error: Exception) -> str:
  """What happened, and for trouble with the disk what to do about it."""
  if not isinstance(error, OSError) or error.errno is None:
    return str(error)
  where = f': {error.filename}' if error.filename else ''
  advice = {
    errno.ENOSPC: 'make room, and the same command goes on from the last checkpoint',
    errno.EDQUOT: 'make room, and the same command goes on from the last checkpoint',
    errno.EROFS: 'use a directory that can be written to',
    errno.EACCES: 'use a directory that you may write to',
    errno.EEXIST: 'it is a file; use another name for the directory',
    errno.ENOTDIR: 'a part of it is a file; use another name for the directory',
  }.get(error.errno)
  return f'{error.strerror}{where}' + (f'; {advice}' if advice else '')


def no_arguments(argv) -> None:
  """Refuses positional arguments, which are mostly flags whose dashes were forgotten."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}: every option is a --flag=value')


class StopOnSignal:
  """Context in which SIGTERM and SIGINT ask the loop to save and leave; a second SIGINT insists."""

  def __enter__(self):
    self._asked = False
    self._previous = {s: signal.signal(s, self._ask) for s in (signal.SIGTERM, signal.SIGINT)}
    return lambda: self._asked

  def __exit__(self, *exception):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _ask(self, number, frame):
    del frame
    if self._asked and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._asked = True
