"""The entry of every command: console, signals, and errors that name the remedy."""

import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TypeVar

from absl import app, flags

from launch.cli import console, help as help_lib
from launch.processes import distributed

_PATIENCE = 2.0  # seconds
T = TypeVar('T')


def run(main) -> None:
  """app.run, with expected errors as one line on stderr and exit status 1.

  An error that the user can mend is shown without a traceback; any other keeps its own. A process
  that ends with an error waits for nothing: neither for threads of libraries nor, where it is one
  of several processes or has a supervisor, for the others.
  """
  def guarded(argv):
    for number in distributed.stop_signals():
      if number != signal.SIGINT or signal.getsignal(number) is signal.default_int_handler:
        signal.signal(number, _Interrupt())
    if given := dict(flags.FLAGS.flag_values_dict()).get('data_dir'):
      os.environ['TFDS_DATA_DIR'] = given  # for names of data that an experiment resolves itself
    try:
      return main(argv)
    except KeyboardInterrupt:
      distributed.leave(130)
    except SystemExit as e:
      # To take the interpreter down under threads of libraries may crash it, with another status.
      if _Interrupt.received and isinstance(e.code, int):
        distributed.leave(e.code)
      raise
    except app.UsageError:
      raise
    except Exception as e:  # sorted below
      lost = distributed.lost_peer(e)
      if not lost and not _expected(e) and (why := _no_device() or _no_home(e)):
        print(f'error: {why}', file=sys.stderr)
        distributed.leave(1)
      if not lost and not _expected(e):
        if not distributed.is_awaited():
          raise
        traceback.print_exc()
        distributed.leave(distributed.CRASHED)
      if os.environ.get('GEN_MODELS_TRACEBACK'):
        traceback.print_exc()
      else:
        print(f'error: {lost or _explain(e)}\n(GEN_MODELS_TRACEBACK=1 shows where)',
              file=sys.stderr)
      distributed.leave(distributed.LOST if lost else 1)

  console.install()
  distributed.end_with_supervisor()
  if help_lib.asked(sys.argv):
    print(help_lib.text(sys.modules['__main__']))
    sys.exit(0)
  app.run(guarded)


class _Interrupt:
  """Handler of a signal where nothing has to be saved: files are written whole or not at all.

  It raises an exception, so that what is half written is removed. An exception that a handler
  raises is lost where Python happens to run a finaliser or a callback of a library, so a process
  that is still there after a moment is ended, and so is one that receives a second signal.
  """

  received = False

  def __call__(self, number, frame):
    del frame
    status = 128 + number
    if _Interrupt.received:
      os._exit(status)
    _Interrupt.received = True
    # Not through sys.stderr: its buffer may be in use by the code that was interrupted.
    name = signal.Signals(number).name
    with contextlib.suppress(OSError):
      os.write(2, f'stopped by {name}; what was saved before is as it was\n'.encode())
    timer = threading.Timer(_PATIENCE, os._exit, [status])
    timer.daemon = True
    timer.start()
    if number == signal.SIGINT:
      raise KeyboardInterrupt
    sys.exit(status)


def _expected(error: Exception) -> bool:
  # By module and not by class: naming the classes would import all their packages.
  return type(error).__module__.split('.')[0] in ('gen_models', 'launch', 'experiments') or \
    isinstance(error, (ValueError, OSError, FloatingPointError))


def _no_device() -> str | None:
  """Why JAX has no device of the kind that the user asked for; None where it has one.

  JAX raises errors of many kinds there, an AssertionError among them.
  """
  platforms = os.environ.get('JAX_PLATFORMS')
  if not platforms or 'jax' not in sys.modules:
    return None
  try:
    sys.modules['jax'].devices()
  except Exception as e:
    why = next(iter(str(e).splitlines()), '')
    return (f'JAX_PLATFORMS={platforms}: there is no such device here{": " * bool(why)}{why}; '
            'unset it, or set JAX_PLATFORMS=cpu')
  return None


def _no_home(error: Exception) -> str | None:
  """The error message where pathlib finds no home directory."""
  if isinstance(error, RuntimeError) and 'home directory' in str(error):
    return 'there is no home directory: set HOME, or the directory itself by its flag or variable'
  return None


def _explain(error: Exception) -> str:
  """The error in one line, with the remedy where it is a full or read-only disk."""
  if not isinstance(error, OSError) or error.errno is None:
    return str(error)
  where = f': {error.filename}' if error.filename else ''
  advice = {
    errno.ENOSPC: 'make room, and the same command resumes from the last checkpoint',
    errno.EDQUOT: 'make room, and the same command resumes from the last checkpoint',
    errno.EROFS: 'use a directory that can be written to',
    errno.EACCES: 'use a directory that you may write to',
    errno.EEXIST: 'it is a file; use another name for the directory',
    errno.ENOTDIR: 'a part of it is a file; use another name for the directory',
  }.get(error.errno)
  return f'{error.strerror}{where}' + (f'; {advice}' if advice else '')


def extra(what: str, make: Callable[..., T], *args) -> T | None:
  """make(*args) for something that the command can do without.

  Returns:
    Its value; None where it failed, which is reported in one line on stderr.
  """
  try:
    return make(*args)
  except Exception as e:  # whatever it is, the work that came before is done and kept
    if os.environ.get('GEN_MODELS_TRACEBACK'):
      traceback.print_exc()
    why = ' '.join(_explain(e).split()) or type(e).__name__
    print(f'warning: {what} could not be made ({why}); everything else is done and kept',
          file=sys.stderr, flush=True)
    return None


def no_arguments(argv) -> None:
  """Refuses positional arguments, which are mostly flags whose dashes were forgotten."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}: every option is a --flag=value')


class StopOnSignal:
  """Context in which signals ask the loop to save and leave; a second SIGINT insists.

  The signals are SIGTERM, SIGINT, and SIGHUP of a terminal that is closed.
  """

  def __enter__(self):
    self._asked = False
    self._previous = {s: signal.signal(s, self._ask) for s in distributed.stop_signals()}
    return lambda: self._asked

  def __exit__(self, *exception):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _ask(self, number, frame):
    del frame
    if self._asked and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._asked = True
