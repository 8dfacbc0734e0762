"""Trains every family on one data set and compares them: one page, one table.

  python -m launch.story --workdir=runs/story
  python -m launch.story --story=story_mnist --workdir=runs/story_mnist

A story is a file of experiments/ (or a path ending in .py) with FAMILIES, a dict from a family to
its (experiment, variant), and SPACE, the binarisation under which the draws of all are compared
with test images. Each family is an ordinary run in a directory of its own under --workdir; the same
command again resumes it. Writes

  table.json   a list, one object a family
  report.html  the table, and for each family samples, nearest training images and latents
  story.png    test images and samples of all families
"""

import pathlib
import sys

from absl import flags

from gen_models import files
from launch import errors, reports, runs
from launch.cli import app, flags as shared, stories
from launch.processes import child

_WORKDIR = shared.workdir('Directory of the story: created, or resumed if it exists.')
_STORY = flags.DEFINE_string('story', 'story_digits', 'Name of a file in experiments/, or a path.')
_ONLY = flags.DEFINE_list('only', [], 'Families to train; default all. The table holds those that '
                          'have been scored.')
_SET = shared.overrides('name=value: overrides a hyperparameter of all; repeatable.')
_SEED = shared.seed('Seed of the (first) run.')
_SEEDS = shared.seeds('Replicas of each family.')
_DATA_DIR = shared.data_dir()


def main(argv):
  app.no_arguments(argv)
  workdir = pathlib.Path(_WORKDIR.value)
  story = stories.load(_STORY.value)
  for family in _ONLY.value:
    if family not in story.families:
      raise errors.UsageError(f'{story.name} has no family {family!r}'
                              + errors.near(family, list(story.families)))
  for family in _ONLY.value or story.families:
    launch(story, family, workdir / family)
  lines = [reports.tables.Line(family, runs.result.read(workdir / family / 'result.json'))
           for family in story.families if (workdir / family / 'result.json').exists()]
  files.write_json(workdir / 'table.json', [reports.comparison.row(*line) for line in lines])
  picture = app.extra('the picture of the families', reports.comparison.picture, workdir,
                      [line.name for line in lines], workdir / 'story.png')
  page = app.extra('the page of the story', reports.comparison.write, workdir, story.name, lines,
                   story.doc)
  print(runs.numbers.plain(reports.tables.text(reports.tables.story_cells(lines, every=True))))
  print('\n'.join(str(path) for path in (workdir / 'table.json', page, picture) if path))


def launch(story: stories.Story, family: str, workdir: pathlib.Path) -> None:
  """Trains and scores one family; a process each, so that none slows or breaks another."""
  data_dir = [f'--data_dir={_DATA_DIR.value}'] if _DATA_DIR.value else []
  experiment, variant = story.families[family]
  commands = [
    ['launch.train', f'--experiment={experiment}', *([f'--variant={variant}'] if variant else []),
     f'--seed={_SEED.value}', f'--seeds={_SEEDS.value}', *(f'--set={s}' for s in _SET.value)],
    ['launch.evaluate', f'--sample_space={story.space}']]
  for module, *options in commands:
    print(f'{family}: {module.removeprefix("launch.")}', flush=True)
    status = child.run(module, [f'--workdir={workdir}', *options, *data_dir])
    if status:
      sys.exit(status)


if __name__ == '__main__':
  app.run(main)
