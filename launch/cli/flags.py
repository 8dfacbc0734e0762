"""Flags that several commands share, each defined once.

A command calls these functions in the order in which its --help lists the flags:

  _WORKDIR = shared.workdir('Run directory made by launch.train.')
  _CHECKPOINT = shared.checkpoint()

Seeds are 0 to 2^32 - 1: jax.random.key counts modulo 2^32, and two seeds must not be one run.
"""

from absl import flags

MAX_SEED = 2**32 - 1
MAX_SEEDS = 2**16  # in one command; what memory holds is checked where the model is known

# The flags belong to the command that calls, which lists them in its --help.
flags.disclaim_key_flags()


def workdir(text: str, required: bool = True) -> flags.FlagHolder:
  """--workdir, which is never an empty word: that would be the working directory."""
  holder = flags.DEFINE_string('workdir', None, text, required=required)
  flags.register_validator(
    'workdir', lambda value: value is None or bool(value.strip()),
    message='it is empty: name a directory, --workdir=runs/mine, or --workdir=. for this one')
  return holder


def experiment(required: bool = True, text: str | None = None) -> flags.FlagHolder:
  """--experiment, a name or a path."""
  return flags.DEFINE_string(
    'experiment', None, text or 'Name of a file in experiments/, or a path ending in .py. '
    'python -m launch.list shows them.', required=required)


def variant() -> flags.FlagHolder:
  """--variant of the experiment."""
  return flags.DEFINE_string('variant', None, "One of the experiment's VARIANTS.")


def estimator() -> flags.FlagHolder:
  """--estimator of a user's file that trains the experiment."""
  return flags.DEFINE_string(
    'estimator', None, "path.py:name of an estimator of yours that replaces the experiment's own; "
    'gen_models/estimators/custom.py lists the forms that it may have.')


def overrides(text: str = 'name=value: overrides a hyperparameter; repeatable.'):
  """--set, once for each hyperparameter."""
  return flags.DEFINE_multi_string('set', [], text)


def seed(text: str, name: str = 'seed') -> flags.FlagHolder:
  """--seed, or another flag that is one."""
  return flags.DEFINE_integer(name, 0, text, lower_bound=0, upper_bound=MAX_SEED)


def seeds(text: str) -> flags.FlagHolder:
  """--seeds, the number of seeds that begin with --seed; define it after `seed`."""
  holder = flags.DEFINE_integer('seeds', 1, text, lower_bound=1, upper_bound=MAX_SEEDS)
  flags.register_multi_flags_validator(
    ['seed', 'seeds'], lambda given: given['seed'] + given['seeds'] - 1 <= MAX_SEED,
    message=f'seeds are 0 to {MAX_SEED}, and these go beyond')
  return holder


def data_dir() -> flags.FlagHolder:
  """--data_dir of prepared data."""
  return flags.DEFINE_string('data_dir', None, 'Prepared tfds data; default $TFDS_DATA_DIR.')


def checkpoint() -> flags.FlagHolder:
  """--checkpoint to read."""
  return flags.DEFINE_enum('checkpoint', 'last', ['last', 'best'],
                           'The newest checkpoint, or the one with the best headline metric.')


def page() -> flags.FlagHolder:
  """--page of the run, which takes seconds to draw."""
  return flags.DEFINE_bool('page', True, 'Write the page of the run, report.html, at the end.')


def save_every_minutes() -> flags.FlagHolder:
  """--save_every_minutes of training."""
  return flags.DEFINE_float('save_every_minutes', 5.0, 'Time between checkpoints.',
                            lower_bound=0.0)


def accept_code() -> flags.FlagHolder:
  """--accept_code, see launch/runs/directory.py."""
  return flags.DEFINE_bool('accept_code', False, 'Resume although a file of yours has changed '
                           'since the run was last started; config.json records it.')
