"""Every family on MNIST at the sizes of the literature, side by side.

  python -m launch.story --story=story_mnist --workdir=runs/story_mnist

Writes report.html and table.json. Dynamic binarisation; draws of all families are compared with
test images under it, real-valued ones after a Bernoulli draw of each pixel, as the images are.
"""

FAMILIES = {
  'independent pixels': ('mixture', 'independent'),
  'gaussian': ('gaussian', 'mnist'),
  'mixture': ('mixture', 'em_100'),
  'rbm': ('rbm_mnist', 'centred'),
  'dbn': ('dbn', 'mnist_500_2000'),
  'vae': ('vae', 'iwae5'),
  'gan': ('gan', 'rpgan_r1_r2'),
}
SPACE = 'dynamic'
