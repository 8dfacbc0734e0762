"""How docstrings become pages: equations are typeset, text is never taken for markup."""

import pathlib
import re
import sys

import pytest

pytest.importorskip('sphinx', reason='the extra `docs` is not installed')
ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / 'docs' / '_extensions'))

import docstrings  # noqa: E402
import reference  # noqa: E402
from docutils import core, nodes  # noqa: E402


def html(text: str) -> str:
  """The inline HTML of an equation."""
  paragraph = nodes.paragraph('', '', *docstrings.typeset(text))
  document = core.publish_doctree('')
  document += paragraph
  return re.search(rb'<p>(.*?)</p>', core.publish_from_doctree(document, writer='html5'),
                   flags=re.S)[1].decode()


@pytest.mark.parametrize('text, expected', [
  ('v_BV', '<em>v</em><sub>BV</sub>'),
  ('W_ij ~ N(0, s^2)', '<em>W</em><sub>ij</sub> ∼ <em>N</em>(0, <em>s</em><sup>2</sup>)'),
  ('log Z = log sum_{v,h} exp(-E(v, h))',
   'log <em>Z</em> = log ∑<sub>v,h</sub> exp(−<em>E</em>(<em>v</em>, <em>h</em>))'),
  ('b.v <= sigma(c)', '<em>b</em>·<em>v</em> ≤ σ(<em>c</em>)'),
  ('x_{t-1}', '<em>x</em><sub>t−1</sub>'),
  ('raises as log_partition', 'raises as log_partition'),
  ('a score-matching loss', 'a score-matching loss'),
  ('`num_draws` of v', '<span class="docutils literal">num_draws</span> of <em>v</em>')])
def test_an_equation_is_typeset_and_words_are_left(text, expected):
  assert html(text).replace('<tt class="docutils literal">num_draws</tt>',
                            '<span class="docutils literal">num_draws</span>') == expected


def test_text_is_not_markup():
  text = r'|z| of *args, w_ and a**b in [0, 1] \ here'
  document = core.publish_doctree(docstrings.escape(text), settings_overrides={'report_level': 1})
  assert document.astext() == text


def test_sections_become_lists_of_definitions():
  lines = docstrings.convert(['Draws.', '', 'Args:', '  key: consumed.', '  a, b: two of',
                              '    them.', '', 'Raises:', '  ValueError: no such a.'])
  assert lines == ['Draws.', '', '.. rubric:: Arguments', '', '``key``', '  consumed.',
                   '``a``, ``b``', '  two of', '  them.', '', '.. rubric:: Raises', '',
                   '``ValueError``', '  no such a.', '']


def test_every_public_module_has_a_page():
  pages = reference.modules(ROOT / 'gen_models')
  assert {'gen_models.models.rbm', 'gen_models.experiment'} <= set(pages)
  packages = {p.name for p in (ROOT / 'gen_models').iterdir() if (p / '__init__.py').exists()}
  assert packages == set(reference.PACKAGES)
