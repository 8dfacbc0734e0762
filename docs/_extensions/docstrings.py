"""Docstrings of this project as reStructuredText, their plain-text equations typeset.

  W_ij <- W_ij + rate * (E[v_i h_j | data] - E[v_i h_j | model])

is how an equation stands in a docstring: a line that reads well in an editor. Here it gets its
subscripts, Greek letters and signs. Everything else in a docstring is text, in which nothing but
`backticks` is markup, so no docstring has to know reStructuredText.
"""

import inspect
import re

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import stringify_signature

SECTIONS = {'Args': 'Arguments', 'Attributes': 'Attributes', 'Returns': 'Returns',
            'Raises': 'Raises', 'Yields': 'Yields'}
_GREEK = dict(re.findall(r'(\w+) (\w)', '''
  alpha α  beta β  gamma γ  delta δ  epsilon ε  eps ε  zeta ζ  eta η  theta θ  kappa κ  lambda λ
  mu μ  nu ν  xi ξ  pi π  rho ρ  sigma σ  tau τ  phi φ  chi χ  psi ψ  omega ω
  Gamma Γ  Delta Δ  Theta Θ  Lambda Λ  Xi Ξ  Pi Π  Sigma Σ  Phi Φ  Psi Ψ  Omega Ω'''))
_SIGNS = {'<->': '↔', '<-': '←', '->': '→', '<=': '≤', '>=': '≥', '!=': '≠', '-+': '∓', '+-': '±',
          '...': '…', '~': '∼', ' * ': ' · ', ' - ': ' − '}
_KINDS = {'expectation': '𝔼', 'minus': '−', 'dot': '·'}
_NAMES = {'sum': '∑', 'prod': '∏', 'sqrt': '√', 'inf': '∞', 'grad': '∇', 'integral': '∫'}
_ATOM = '|'.join([*_NAMES, *_GREEK, 'max', 'min', 'log', 'mean', 'Var', 'Cov', '[A-Za-z]'])
_TOKENS = re.compile(rf'''
    `(?P<literal>[^`]+)`
  | (?P<dot>(?<=[A-Za-z0-9)\]}}])\.(?=\(|[A-Za-z](?![A-Za-z])))
  | (?P<base>(?<![A-Za-z0-9_])(?:{_ATOM})|[\])])
    _(?P<sub>\{{[^}}]*\}}|[A-Za-z0-9]{{1,4}})(?![A-Za-z0-9_(])
  | (?:\^|\*\*)(?P<sup>\{{[^}}]*\}}|\([^)]*\)|-?\w+)
  | (?P<expectation>(?<![A-Za-z0-9_])E(?=\[))
  | (?P<minus>(?<![^\s(\[,=])-(?=[A-Za-z0-9(∑|]))
  | (?P<word>(?<![A-Za-z0-9_.\'])(?:{'|'.join([*_NAMES, *_GREEK])})(?![A-Za-z0-9_]))
  | (?P<sign>{'|'.join(re.escape(s) for s in _SIGNS)})
  | (?P<variable>(?<![A-Za-z0-9_\'])(?:[b-zB-Z]|a(?=\())(?![A-Za-z0-9_\']))
''', re.VERBOSE)


def typeset(text: str) -> list[nodes.Node]:
  """The inline nodes of a plain-text equation or of a sentence that holds one."""
  found, end = [], 0
  for match in _TOKENS.finditer(text):
    found.append(nodes.Text(text[end:match.start()]))
    end = match.end()
    kind, value = next((k, v) for k, v in match.groupdict().items() if v is not None)
    if kind == 'literal':
      found.append(nodes.literal(text=value))
    elif kind == 'base':
      found += [_atom(value), nodes.subscript(text=_inner(match['sub']))]
    elif kind == 'sup':
      found.append(nodes.superscript(text=_inner(value)))
    elif kind == 'word':
      found.append(nodes.Text(_NAMES.get(value) or _GREEK[value]))
    elif kind == 'variable':
      found.append(nodes.emphasis(text=value))
    else:
      found.append(nodes.Text(_KINDS.get(kind) or _SIGNS[value]))
  found.append(nodes.Text(text[end:]))
  return [node for node in found if node.astext()]


def _atom(name: str) -> nodes.Node:
  known = _NAMES.get(name) or _GREEK.get(name)
  if known or not name.isalpha() or len(name) > 1:
    return nodes.Text(known or name)
  return nodes.emphasis(text=name)


def _inner(script: str) -> str:
  """The content of a sub- or superscript, without its brackets."""
  script = script[1:-1] if script[0] in '{(' else script
  return re.sub(r'[A-Za-z]+', lambda m: _GREEK.get(m[0], m[0]), script).replace('-', '−')


class Equation(SphinxDirective):
  """Lines of a displayed equation; deeper indentation and wide gaps are kept."""

  has_content = True

  def run(self):
    block = nodes.line_block(classes=['equation'])
    indents = [len(line) - len(line.lstrip()) for line in self.content]
    for line, indent in zip(self.content, indents):
      indent = '\u2003' * ((indent - min(indents)) // 2)
      text = re.sub(r'(?<=\S) {2,}', '\u2003', line.strip())
      block += nodes.line('', '', nodes.Text(indent), *typeset(text))
    return [block]


class Typeset(SphinxDirective):
  """A paragraph that opens with an equation."""

  has_content = True

  def run(self):
    return [nodes.paragraph('', '', *typeset(' '.join(self.content)), classes=['typeset'])]


def convert(lines: list[str]) -> list[str]:
  """A docstring's lines as reStructuredText."""
  found, section = [], None
  for number, block in enumerate(_blocks(lines)):
    if block[0].rstrip(':') in SECTIONS and block[0].endswith(':'):
      section = block[0][:-1]
      found += [f'.. rubric:: {SECTIONS[section]}', '']
      block = block[1:]
      if not block:
        continue
    if section and block[0].startswith(' '):
      found += _entries(block) if section != 'Returns' else _text(block)
    elif block[0].startswith(' '):
      found += _display(block)
      section = None
    else:
      section = None
      found += _paragraph(block, first=number == 0)
    found.append('')
  return found


def _blocks(lines):
  """Runs of lines between blank lines; a change from text to deeper indentation starts one too."""
  block = []
  for line in [*lines, '']:
    header = block and block[0].rstrip(':') in SECTIONS
    turned = block and not header and line.strip() and line[0] == ' ' and block[-1][0] != ' '
    if (not line.strip() or turned) and block:
      yield block
      block = []
    if line.strip():
      block.append(line.rstrip())


def _paragraph(block, first):
  if first and is_equation(block[0]) or len(block) == 1 and re.match(r'\S+ = ', block[0]):
    return ['.. typeset::', '', *(f'  {line}' for line in block)]
  if all(re.match(r'([-*]|\d+\.) |  ', line) for line in block):
    return [re.match(r'([-*]|\d+\.) |  ', line)[0] + escape(line[2:]) for line in block]
  return [escape(line) for line in block]


def _text(block):
  return [escape(line.strip()) for line in block]


def _display(block):
  """An indented block: an equation, a command or program, or a table in columns."""
  least = min(len(line) - len(line.lstrip()) for line in block)
  body = [f'  {line[least:]}' for line in block]
  columns = sum(bool(re.search(r'\S {2,}\S', line)) for line in body) > len(body) / 2
  if re.match(r' *(python|make|pip|import|from) ', body[0]) or re.search(r'\w\(\w+=', body[0]):
    return ['.. code-block:: none', '', *body]
  if any(is_equation(line) for line in body) and not (columns and ' = ' not in body[0]):
    return ['.. equation::', '', *body]
  return ['.. code-block:: none', '', *body]


def is_equation(line: str) -> bool:
  return bool(re.search(r' (=|~|<-|<=|prop) |^ *-?(log|sum|E|F|p)[\[(_ ]', line))


def _entries(block):
  """`name: text` entries of a section as a definition list."""
  least = min(len(line) - len(line.lstrip()) for line in block)
  found = []
  for line in block:
    text = line[least:]
    head = re.match(r"([\w., *']+?|`[^`]+`): (.*)", text)
    if not text.startswith(' ') and head:
      found += [', '.join(f'``{n.strip("`")}``' for n in head[1].split(', ')),
                f'  {escape(head[2])}']
    elif text.startswith(' '):
      found.append(f'  {escape(text.strip())}')
    else:
      found += [escape(text)]
  return found


def escape(text: str) -> str:
  """Text in which only `backticks` mean something, and names of ours are links."""
  parts = re.split(r'`([^`]+)`', text)
  for i, part in enumerate(parts):
    if i % 2:
      parts[i] = f'\\ ``{part}``\\ '
      continue
    part = re.sub(r'([\\*|_`])', r'\\\1', part)
    parts[i] = re.sub(r'(?<![\w/])(gen(?:\\_)models(?:\.(?:\\_|\w)+)+)(?![\w/])',
                      lambda m: f'\\ :py:obj:`{m[1].replace(chr(92), "")}`\\ ', part)
  return ''.join(parts)


def _is_callback(obj) -> bool:
  """Whether it is a protocol of a call, the type of a function."""
  return getattr(obj, '_is_protocol', False) and '__call__' in vars(obj)


def _on_docstring(app, what, name, obj, options, lines):
  lines[:] = convert(lines)
  if _is_callback(obj):
    lines += convert((inspect.getdoc(obj.__call__) or '').splitlines())


def _skip(app, what, name, obj, skip, options):
  """Leaves out fields, which their class describes, and defaults that other libraries document."""
  foreign = not (getattr(obj, '__module__', None) or 'gen_models').startswith('gen_models')
  return True if type(obj).__name__ == '_tuplegetter' or foreign else None


def _on_signature(app, what, name, obj, options, signature, returns):
  """A protocol of one method is shown with the arguments of a call of it."""
  if not _is_callback(obj):
    return None
  call = inspect.signature(obj.__call__)
  call = call.replace(parameters=list(call.parameters.values())[1:])
  signature, _, returns = stringify_signature(call, unqualified_typehints=True).partition(' -> ')
  return signature, returns


def setup(app):
  app.add_directive('equation', Equation)
  app.add_directive('typeset', Typeset)
  app.connect('autodoc-process-docstring', _on_docstring)
  app.connect('autodoc-process-signature', _on_signature)
  app.connect('autodoc-skip-member', _skip)
  return {'parallel_read_safe': True, 'parallel_write_safe': True}
