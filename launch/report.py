"""Writes one self-contained page of runs: published beside ours, curves, samples, filters, audits.

  python -m launch.report runs/rates --out=runs/rates.html
  python -m launch.report experiments/results --out=runs/results.html
  python -m launch.report runs/bias --metrics='bias_*,noise_*' --out=runs/bias.html
  python -m launch.report runs/beta --against=rate,distortion --out=runs/beta.html
  python -m launch.report --workdir=runs/digits

Every DIR is a run directory, or holds some at any depth, as that of a sweep does; runs that differ
only in their seeds are one row. Committed results (experiments/results) and what
`launch.audit --json` printed into a .json file below DIR are shown too. A run that cannot be read
is a remark on the page. PNG files of every figure, CSV and Markdown files of every table lie in a
folder beside the page. --workdir writes DIR/report.html of one run, as launch.train does.
"""

import pathlib

from absl import flags

from launch import errors, reports
from launch.cli import app, flags as shared

_WORKDIR = shared.workdir('One run directory: writes its report.html.', required=False)
_OUT = flags.DEFINE_string('out', 'report.html', 'The page; its files lie beside it in '
                           '<name>_files.')
_PICTURES = flags.DEFINE_integer('pictures', 12, 'Configurations of each experiment whose samples '
                                 'and filters are drawn.', lower_bound=0)
_METRICS = flags.DEFINE_list('metrics', [], 'Metrics whose curves are shown at once, * for any '
                             'characters; default the headline of each experiment.')
_AGAINST = flags.DEFINE_list('against', [], 'Two scores X,Y that are drawn against one another, '
                             'runs that differ in one number joined in its order; default rate '
                             'and distortion of a sweep that has them.')
_DATA_DIR = shared.data_dir()


def main(argv):
  directories = [pathlib.Path(word) for word in argv[1:]]
  if bool(directories) == bool(_WORKDIR.value):
    raise errors.UsageError('name either directories or --workdir: python -m launch.report DIR '
                            '[DIR ...] --out=report.html, or --workdir=DIR')
  if _WORKDIR.value:
    print(reports.report.of_run(pathlib.Path(_WORKDIR.value), _DATA_DIR.value))
    return
  out = pathlib.Path(_OUT.value)
  if out.suffix != '.html':
    raise errors.UsageError(f'--out={out}: name a .html')
  print(reports.report.of_directories(directories, out, _DATA_DIR.value, _PICTURES.value,
                                      _METRICS.value, _AGAINST.value))


if __name__ == '__main__':
  app.run(main)
