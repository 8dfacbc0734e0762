"""RESULTS.md, and the marked tables of other documents, from the committed results.

RESULTS.md is experiments/results/about.md with the tables of every section put into it.
"""

import shlex
from collections.abc import Sequence

from gen_models import files
from launch.reports import markup, swept, tables
from launch.runs.result import Result

ABOUT = tables.RESULTS / 'about.md'
_BEGIN, _END = '<!-- {}: python -m launch.results -->', '<!-- end -->'

# The columns of a brief table of families.
_BRIEF = ('family', 'test nats', 'kind', 'binarisation', 'parameters', 'Fréchet', 'coverage')


def results() -> str:
  """The whole of RESULTS.md."""
  first, *sections = files.read_text(ABOUT).split('\n## ')
  words = dict(section.split('\n', 1) for section in sections)
  lines, stories, sweeps = tables.load(), tables.stories(), swept.load()
  names = dict.fromkeys([*words, *stories, *(line.result.experiment for line in lines), *sweeps])
  parts = [first.strip()]
  for name in names:
    mine = tables.of_experiment(name, lines)
    body = (_of_story(stories[name]) if name in stories else
            of_sweep(sweeps[name]) if name in sweeps else _of_experiment(mine) if mine else '')
    if body:
      parts.append('\n\n'.join(part for part in (
        f'## {name}', words.get(name, '').strip(), body) if part))
  return '\n\n'.join(parts) + '\n'


def _of_story(story: tables.Story) -> str:
  return '\n\n'.join([tables.story_notes(story.lines),
                      markup.markdown(tables.story_cells(story.lines)),
                      _folded([f'{story.command}\n'])])


def _of_experiment(mine: Sequence[tables.Line]) -> str:
  return '\n\n'.join([tables.head(mine), markup.markdown(tables.cells(mine)),
                      _folded([f'# {line.name}\n{commands(line.result)}' for line in mine])])


def of_sweep(sweep: swept.Sweep) -> str:
  """The body of the section of a sweep."""
  if len(sweep.axes) == 1:
    shown = [markup.markdown(swept.scores_cells(sweep))]
  else:
    shown = [f'{title}:\n\n{markup.markdown(swept.cells(sweep, score))}'
             for score, title in swept.titles(sweep).items()]
  return '\n\n'.join([swept.head(sweep), *shown,
                      _folded([f'{command}\n' for command in sweep.commands])])


def _folded(blocks: Sequence[str]) -> str:
  return ('<details><summary>The commands that make it again</summary>\n\n```sh\n'
          + '\n'.join(blocks) + '```\n\n</details>')


def is_thorough(result: Result) -> bool:
  """Whether a result was scored by Experiment.thorough."""
  details = result.score.details
  # Records from before `thorough` was a field of its own have only what such a score found.
  return bool(details.get('thorough') or details.get('searches', {}).get('thorough')
              or 'decoder' in details)


def commands(result: Result) -> str:
  """The shell commands that train and score a result again, a line each."""
  workdir = f'runs/{result.experiment}/{result.variant or "defaults"}'
  options = [*(['--checkpoint=best'] if result.checkpoint == 'best' else []),
             *([] if result.samples else ['--sample_space=none']),
             *(['--thorough'] if is_thorough(result) else [])]
  train = f'python -m launch.train {" ".join(map(shlex.quote, tables.configuration(result)))}'
  score = ' '.join(['python -m launch.evaluate', *options])
  seeds = result.seeds
  if result.runs == 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
    return (f'{train} --seed={seeds[0]} --seeds={len(seeds)} --workdir={workdir}\n'
            f'{score} --workdir={workdir}\n')
  each = f'{workdir}/seed$seed'
  return (f'for seed in {" ".join(map(str, seeds))}; do\n  {train} --seed=$seed --workdir={each}\n'
          f'  {score} --workdir={each}\ndone\n')


def _marked() -> dict[str, str]:
  """Name of an experiment or a story -> its table in Markdown, and what the numbers are of."""
  lines = tables.load()
  found = {}
  for name in dict.fromkeys(line.result.experiment for line in lines):
    mine = tables.of_experiment(name, lines)
    found[name] = (f'{markup.markdown(tables.cells(mine))}\n\n{tables.notes(mine)}, on machines '
                   'shared with other work.')
  for name, story in tables.stories().items():
    table, notes = tables.story_cells(story.lines), tables.story_notes(story.lines)
    found[name] = f'{markup.markdown(table)}\n\n{notes}'
    brief = tables.columns(table, _BRIEF)
    found[f'{name}, brief'] = f'{markup.markdown(brief)}\n\n{notes}'
  return found


def insert(document: str) -> str:
  """The document with every marked table made anew."""
  for name, text in _marked().items():
    begin = _BEGIN.format(name)
    if begin in document:
      before, rest = document.split(begin, 1)
      after = rest.split(_END, 1)[1]
      document = f'{before}{begin}\n{text}\n{_END}{after}'
  return document
