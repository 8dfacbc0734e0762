"""Writes the pages of the API reference: one for every module, found, not listed.

docs/reference/ is made anew at every build, so a module that moves takes its page along.
"""

import ast
import importlib
import inspect
import os
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
# Package of gen_models -> what it holds, in the order of the reference.
PACKAGES = {
  'models': 'Models: what a distribution is',
  'estimators': 'Estimators: how a gradient is estimated',
  'samplers': 'Samplers',
  'evaluation': 'Evaluation',
  'inference': 'Inference: questions to a trained model',
  'problems': 'Problems: gradients that can be enumerated',
  'training': 'Training',
  'data': 'Data',
}


def modules(folder: pathlib.Path) -> list[str]:
  """Dotted names of the public modules of a package."""
  return [str(path.relative_to(ROOT).with_suffix('')).replace('/', '.')
          for path in sorted(folder.rglob('*.py')) if path.name[0] != '_']


def docstring(path: pathlib.Path) -> str:
  """A module's docstring, read and not run: importing a command defines its flags."""
  return ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''


def _heading(text: str, line: str = '=') -> list[str]:
  return [text, line * len(text), '']


def _module_page(name: str) -> str:
  return '\n'.join([*_heading(name.split('.')[-1]), f'.. automodule:: {name}', '   :members:', ''])


def _toc(names) -> list[str]:
  return ['.. toctree::', '   :maxdepth: 1', '', *(f'   {name}' for name in names), '']


def _package_page(package: str, title: str, names: list[str]) -> str:
  """The package's docstring, and a line for each of its modules: the first of its docstring."""
  from docstrings import convert, escape
  lines = [*convert(docstring(ROOT / 'gen_models' / package / '__init__.py').splitlines()), '',
           *_short_paths(package), '']
  entries = []
  for name in names:
    first = docstring(ROOT / f'{name.replace(".", "/")}.py').partition('\n')[0]
    entries += [f':doc:`{name}`', f'  {escape(first)}']
  return '\n'.join([*_heading(title), *lines, '', *entries, '', '.. toctree::', '   :hidden:', '',
                    *(f'   {name}' for name in names), ''])


def _short_paths(package: str) -> list[str]:
  """The functions and classes that `import gen_models as gm` reaches in a package, as links."""
  package = importlib.import_module(f'gen_models.{package}')
  links = []
  for name in package.__all__:
    thing = getattr(package, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
      links.append(f':py:obj:`{name} <{thing.__module__}.{thing.__qualname__}>`')
  head = f'In ``gm.{package}``, with ``import gen_models as gm``: '
  return [head + ', '.join(links) + '.'] if links else []


def _packages() -> dict[str, str]:
  """Page name -> text, of every package and of the modules that lie in none."""
  pages = {package: _package_page(package, title, modules(ROOT / 'gen_models' / package))
           for package, title in PACKAGES.items()}
  alone = [name for name in modules(ROOT / 'gen_models') if name.count('.') == 1]
  pages['index'] = '\n'.join([
    *_heading('API reference'),
    'Made from the docstrings. Equations come first; array names carry their axes as a suffix of '
    'capitals, such as ``v_BV``: a batch of visible vectors.', '', *_toc([*pages, *alone])])
  return pages


def _from_docstrings(title: str, intro: str, entries) -> str:
  from docstrings import convert
  out = [*_heading(title), intro, '']
  for name, doc in entries:
    out += [*_heading(name, '-'), *convert(doc.splitlines()), '']
  return '\n'.join(out)


def _commands() -> str:
  entries = [(f'python -m launch.{path.stem}', docstring(path))
             for path in sorted((ROOT / 'launch').glob('*.py'))
             if re.search(r"__name__ == '__main__'", path.read_text(encoding='utf-8'))]
  return _from_docstrings('Commands', 'Each prints its flags with ``--help``.', entries)


def _experiments() -> str:
  entries = [(path.stem, docstring(path)) for path in sorted((ROOT / 'experiments').glob('*.py'))
             if path.name[0] != '_']
  return _from_docstrings(
    'Experiments', 'One file for each published table. ``python -m launch.list`` shows them with '
    'their hyperparameters.', entries)


# Document of the root -> its page; links between them stay links.
DOCUMENTS = {'CONTRIBUTING.md': 'contributing', 'RESULTS.md': 'results',
             'CHANGELOG.md': 'changelog', 'WORKSPACE.md': 'map', 'benchmarks/README.md': 'speed'}


def _document(name: str) -> str:
  """A Markdown document of the project with its links as seen from docs/project/."""
  def link(match):
    target = (ROOT / name).parent.joinpath(match[1]).resolve().relative_to(ROOT).as_posix()
    if target in DOCUMENTS and (ROOT / target).exists():
      return f']({DOCUMENTS[target]}.md{match[2]})'
    if target == 'README.md':
      return f'](../index.md{match[2]})'
    return f'](../{os.path.relpath(target, "docs")}{match[2]})'
  text = (ROOT / name).read_text(encoding='utf-8')
  return re.sub(r'\]\((?![a-z]+:|#)([^)#\s]+)(#[^)]*)?\)', lambda m: link(
    (m[0], m[1], m[2] or '')), text)


def write(app):
  reference = _packages() | {'commands': _commands(), 'experiments': _experiments()}
  reference |= {name: _module_page(name) for name in modules(ROOT / 'gen_models')}
  _write(pathlib.Path(app.srcdir) / 'reference', '.rst', reference)
  _write(pathlib.Path(app.srcdir) / 'project', '.md', {
    page: _document(name) for name, page in DOCUMENTS.items() if (ROOT / name).exists()})


def _write(folder: pathlib.Path, suffix: str, pages: dict[str, str]) -> None:
  """Pages that did not change keep their time, so that a second build reads only what did."""
  folder.mkdir(exist_ok=True)
  for path in folder.glob(f'*{suffix}'):
    if path.stem not in pages:
      path.unlink()
  for name, text in pages.items():
    path = folder / f'{name}{suffix}'
    if not path.exists() or path.read_text(encoding='utf-8') != text:
      path.write_text(text, encoding='utf-8')


def setup(app):
  app.connect('builder-inited', write)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
