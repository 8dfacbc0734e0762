"""Text is read and written as UTF-8 whatever the locale: the calls are read, not run."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PLACES = ('gen_models', 'experiments', 'launch', 'benchmarks')
# Position of the mode in functions that open files; those of os, tarfile and archives are always
# binary.
OPEN = {'open': 1, 'fdopen': 1, 'TemporaryFile': 0, 'NamedTemporaryFile': 0,
        'SpooledTemporaryFile': 1}
RUN = ('run', 'Popen', 'check_output', 'check_call', 'call')


def guesses_its_encoding(call: ast.Call) -> bool:
  """Whether a call reads or writes text in the encoding of the locale."""
  keywords = {k.arg: k.value for k in call.keywords}
  if 'encoding' in keywords:
    return False
  of = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ''
  name = call.func.attr if of else getattr(call.func, 'id', '')
  if of == 'files':  # gen_models.files, where text is UTF-8
    return False
  if name in ('read_text', 'write_text', 'TextIOWrapper'):
    return True
  if name in RUN and of in ('subprocess', ''):
    return any(name in keywords for name in ('text', 'universal_newlines'))
  if name not in OPEN or (name == 'open' and of in ('os', 'tarfile', 'archive', 'Image')):
    return False
  position = 0 if name == 'open' and of not in ('', 'io', 'gzip', 'bz2', 'lzma') else OPEN[name]
  mode = keywords.get('mode', call.args[position] if len(call.args) > position else None)
  if mode is None:  # text, but of compressed and temporary files
    return name in ('open', 'fdopen') and of not in ('gzip', 'bz2', 'lzma')
  return not (isinstance(mode, ast.Constant) and 'b' in mode.value)


def test_no_file_of_text_is_opened_in_the_encoding_of_the_locale():
  wrong = []
  paths = {path for place in PLACES for path in (ROOT / place).rglob('*.py')}
  for path in sorted(paths - {ROOT / 'gen_models' / 'files.py'}):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    wrong += [f'{path.relative_to(ROOT)}:{node.lineno}' for node in ast.walk(tree)
              if isinstance(node, ast.Call) and guesses_its_encoding(node)]
  assert not wrong, f'without encoding= at {", ".join(wrong)}'


@pytest.mark.parametrize('call, guesses', [
  ('open(p)', True), ("open(p, 'rb')", False), ("open(p, encoding='utf-8')", False),
  ("open(p, mode='w')", True), ("p.open('a')", True), ("p.open('ab')", False),
  ('(a / b).read_text()', True), ("p.read_text(encoding='utf-8')", False),
  ('files.write_text(p, text)', False), ("os.fdopen(n, 'wb')", False), ('os.fdopen(n)', True),
  ('os.open(p, os.O_RDONLY)', False),
  ('subprocess.run(words, text=True)', True), ('subprocess.run(words)', False),
  ("subprocess.run(words, encoding='utf-8')", False), ('gzip.open(p)', False),
  ("gzip.open(p, 'rt')", True), ("tarfile.open(p, 'w:gz')", False),
  ('tempfile.TemporaryFile()', False), ("tempfile.NamedTemporaryFile('w')", True)])
def test_what_guesses_is_seen(call, guesses):
  assert guesses_its_encoding(ast.parse(call, mode='eval').body) == guesses
