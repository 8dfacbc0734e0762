"""Every family on the 8x8 digits, compared: `make story`.

  python -m launch.story --story=story_digits --workdir=runs/story

Writes runs/story/report.html and table.json; README's table is this with --seeds=5. Binary
images by threshold for the models of binary pixels; draws of all are compared with test images
under the same threshold.
"""

FAMILIES = {
  'independent pixels': ('mixture', 'digits_independent'),
  'gaussian': ('gaussian', 'shrunk'),
  'mixture': ('mixture', 'digits'),
  'rbm': ('rbm_digits', 'pcd'),
  'dbn': ('dbn', 'digits'),
  'vae': ('vae', 'digits'),
  'gan': ('gan', 'digits'),
}
SPACE = 'threshold'
