"""Sphinx with MyST and myst-nb: `make docs`."""

import logging
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE / '_extensions'), str(HERE.parent)]
# The pages are executed while they are built: on the CPU, wherever that is.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['PATH'] = os.pathsep.join([os.path.dirname(sys.executable), os.environ['PATH']])
os.environ['PYTHONPATH'] = os.pathsep.join([str(HERE.parent), os.environ.get('PYTHONPATH', '')])

# Their kernels start without a word, and without what the user's own configuration would add.
profile = HERE / '_build' / 'ipython' / 'profile_default'
profile.mkdir(parents=True, exist_ok=True)
(profile / 'ipython_kernel_config.py').write_text('c.IPKernelApp.log_level = 40\n')
os.environ['IPYTHONDIR'] = str(profile.parent)
logging.getLogger('traitlets').setLevel(logging.WARNING)

project = 'gen_models'
author = 'The gen_models authors'
copyright = author
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx_copybutton', 'docstrings', 'mathml',
              'reference']
exclude_patterns = ['_build', '_extensions']

# Text.
myst_enable_extensions = ['dollarmath', 'deflist', 'colon_fence', 'attrs_inline']
myst_heading_anchors = 3
nb_execution_mode = 'force'
nb_execution_timeout = 240
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True

# Reference.
autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
add_module_names = False
html_math_renderer = 'mathml'

# Pages.
html_theme = 'furo'
html_title = 'gen_models'
html_static_path = ['_static']
html_css_files = ['style.css']
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
copybutton_exclude = '.linenos, .gp, .go'
