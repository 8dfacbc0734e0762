"""Mathematics as MathML: drawn by the browser itself, with no script and nothing to download."""

import latex2mathml.converter
from docutils import nodes


def setup(app):
  app.add_html_math_renderer('mathml', (_inline, None), (_block, None))
  return {'parallel_read_safe': True, 'parallel_write_safe': True}


def _inline(writer, node):
  writer.body.append(latex2mathml.converter.convert(node.astext()))
  raise nodes.SkipNode


def _block(writer, node):
  math = latex2mathml.converter.convert(node.astext(), display='block')
  writer.body.append(f'<div class="math-block">{math}</div>')
  raise nodes.SkipNode
