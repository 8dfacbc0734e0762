"""Downloads an official data set once, as array_record files that need no TensorFlow to read.

  python -m launch.prepare mnist [--data_dir=DIR] [--cache_dir=DIR]

Writing the files does need TensorFlow: pip install 'gen_models[prepare]'. A set that is already
there is only decoded into the cache. Exits with 1 and one line when it cannot be done.
"""

import argparse
import importlib.util
import sys

from absl import app
from absl.flags import argparse_flags

import gen_models as gm  # its data, and with them JAX, when they are asked for


def main(args: argparse.Namespace) -> int:
  try:
    print(_prepare(args.name, args.data_dir, args.cache_dir))
  except (ValueError, RuntimeError, gm.data.MissingData) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  return 0


def _prepare(name, data_dir, cache_dir):
  """One line that says what stands; ValueError, RuntimeError or MissingData say why not."""
  gm.data.sources.check_name(name, gm.data.names())
  try:
    return _summary(gm.data.load(name, data_dir, cache_dir), 'is ready')
  except gm.data.MissingData:
    folder, kept = gm.data.sources.find_data_dir(data_dir), gm.data.sources.made_of(name)
    if gm.data.sources.PREPARED[kept].path(kept, folder).exists():
      raise  # prepared, but not in a form to read: the message says what to do
  lacking = [module for module in ('tensorflow', 'importlib_resources')
             if importlib.util.find_spec(module) is None]
  if lacking:
    raise RuntimeError(f'downloading {kept} needs {" and ".join(lacking)}; '
                       "pip install 'gen_models[prepare]', or set TFDS_DATA_DIR to prepared data")
  try:
    _download(kept, folder)
  except Exception as error:
    raise RuntimeError(f'cannot download {kept}: {" ".join(str(error).split())[:300]}') from error
  return _summary(gm.data.load(name, data_dir, cache_dir), f'was prepared in {folder}')


def _download(name, folder):
  import tensorflow_datasets as tfds  # slow to import; here because most calls find the data ready
  builder = tfds.builder(f'{name}:{gm.data.sources.PREPARED[name].version}', data_dir=folder,
                         file_format='array_record')
  builder.download_and_prepare(file_format='array_record')


def _summary(dataset, what):
  rows = ' / '.join(str(len(split.images)) for split in dataset[1:4])
  return f'{dataset.name} {what}: {rows} train / valid / test images'


def _parse(argv):
  parser = argparse_flags.ArgumentParser(prog='python -m launch.prepare', description=__doc__,
                                         formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('name', help='mnist, fashion_mnist, binarized_mnist; or one made of '
                      'them, such as mnist_60000 or stacked_mnist')
  parser.add_argument('--data_dir', help='default $TFDS_DATA_DIR, else ~/tensorflow_datasets')
  parser.add_argument('--cache_dir', help='default $XDG_CACHE_HOME/gen_models')
  return parser.parse_args(argv[1:])


if __name__ == '__main__':
  app.run(main, flags_parser=_parse)
