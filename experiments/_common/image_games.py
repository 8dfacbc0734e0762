"""Adversarial games on real pixels: networks by name, batches, augmentations, the experiment."""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments._common import custom, decoders, judged
from experiments._common.games import critic_read, init
from gen_models import data, estimators, inference
from gen_models.data.builtin import STACKS
from gen_models.evaluation import figures, likelihood
from gen_models.experiment import Experiment, Phase, unlabelled
from gen_models.models import gan, label_rbm, residual
from gen_models.models.convolutions import Decoder, Encoder

Nets = Literal['dense', 'conv', 'dcgan', 'sn_resnet', 'biggan', 'r3gan']
Augment = Literal['diff_augment', 'adaptive']
NORMALISED = ('dcgan', 'sn_resnet', 'biggan')  # over their batch
RESIDUAL = ('sn_resnet', 'biggan', 'r3gan')


def composed(spec: data.Spec, model: gan.Model | gan.ClassConditional, ours, optimizer, *,
             batch_size: int, num_steps: int, average, spectral_norm: bool | None = None,
             density: str | Callable = decoders.NO_NOISE, normalised: bool = False) -> Experiment:
  """The experiment of two players on real pixels.

  Args:
    spec: of the data.
    model: of the two players; draws are of a class where it is ClassConditional.
    ours, optimizer: as of games.game.
    batch_size, num_steps, average: as of Phase.
    spectral_norm: as of games.game, for questions that read the critic.
    density: the thorough score, made of the plain one; or why there is none.
    normalised: whether the generator may normalise over its batch, which then needs all classes.
  """
  conditional, shape = isinstance(model, gan.ClassConditional), spec.seen_shape
  of_classes = judged.of_game(model, batch_size if normalised else None) if conditional else ()

  def draw(key, params, num):
    # Networks that normalise over a batch need one.
    return model.generate(key, params, max(num, batch_size))[:num, :spec.num_visible]

  def evaluate(key, params, dataset, report):
    scores = {}
    if conditional:
      scores = judged.class_scores(key, *of_classes, params, dataset, report)
    elif dataset.name in STACKS:
      scores = judged.stack_scores(key, jax.jit(draw, static_argnums=2), params, dataset, report)
    return likelihood.no_likelihood(
      'adversarial networks are drawn from, not evaluated', num_images=len(dataset.test.rows),
      binarisation='real', split='test', **({'scores': scores} if scores else {}))

  def pictures(key, params, dataset):
    del dataset
    return {'interpolations': interpolations(key, model, params, shape)}

  return Experiment(
    dataset=spec.name, binarisation='real',
    phases=(Phase('gan', init(model), ours, optimizer, batches(batch_size, spec, conditional),
                  num_steps, batch_size, average),),
    evaluate=evaluate, thorough=density if isinstance(density, str) else density(evaluate),
    pictures=pictures, steps_per_dispatch=500,
    sample=(judged.of_class(*of_classes, shape) if conditional
            else unlabelled(lambda *args: (draw(*args),) * 2, shape)),
    questions=inference.gan(getattr(model, 'model', model), critic_read(model, spectral_norm)),
    model=model, protocol=f'{num_steps} moves of either player, real pixels')


def spec_of(dataset: str) -> data.Spec:
  """The description of a data set whose pixels the networks can draw; raises BadData."""
  spec = data.spec(dataset)
  data.check_view('real', spec)
  if not spec.unit_interval:
    raise data.BadData(f'data set {dataset}: its values are seen outside [0, 1], where these '
                       'networks end: leave out scale= in its name')
  return spec


def players(model: gan.Model, spec: data.Spec, generator, critic, *, conditional: bool | None,
            packing: int | None, auxiliary=None) -> gan.Model | gan.ClassConditional:
  """The model with a user's networks, packing and classes, where they are asked for.

  auxiliary: as of estimators.adversarial; None: the class is projected.
  """
  if auxiliary is not None and not conditional:
    raise ValueError('an auxiliary classifier says the class that was asked for: '
                     '--set=conditional=true, or leave auxiliary out')
  num_classes = data.classes_of(spec) if conditional else 0
  if packing is not None and conditional:
    raise ValueError('a class-conditional critic reads one sample at once: leave packing out')
  num_latents = model.num_latents
  model = custom.players(model._replace(num_latents=num_latents + num_classes,
                                        packing=packing or 1), generator, critic, spec.seen_shape)
  model = model._replace(num_latents=num_latents)
  if not conditional:
    return model
  return gan.ClassConditional(model, num_classes,
                              'projection' if auxiliary is None else 'auxiliary')


def batches(batch_size: int, spec: data.Spec, conditional: bool | None):
  """Batches of rows, with their one-of-Q class behind them where the game is of each class."""
  if not conditional:
    return data.batches(batch_size, 'real', spec)
  with_labels, num_classes = (data.batches(batch_size, 'real', spec, with_labels=True),
                              data.classes_of(spec))
  return lambda key, arrays, step: label_rbm.attach(*with_labels(key, arrays, step), num_classes)


def augmentation(name: str | None, spec: data.Spec, conditional: bool | None):
  """The augmentation of images that is named.

  Raises:
    BadData: the rows are not images.
    ValueError: rows have classes behind them.
  """
  if name is None:
    return None
  if not spec.is_image:
    raise data.BadData(f'data set {spec.name}: augment={name} is of pictures, and its rows are '
                       'vectors: leave augment out')
  if conditional:
    raise ValueError(f'augment={name} changes pictures, and a class-conditional critic reads rows '
                     'with a class behind them: leave one of the two out')
  shape = spec.seen_shape
  if name == 'diff_augment':
    return estimators.diff_augment(shape)
  return estimators.adaptive([estimators.translation(shape), estimators.colour(shape),
                              estimators.cutout(shape)])


def build(nets: str, spec: data.Spec, width: int, num_latents: int, form: str,
          precision: str | None = None, conditional: bool | None = None) -> gan.Model:
  """The generator and critic that `nets` names.

  Raises:
    BadData: they are of pictures, and the rows are none.
    ValueError: the pictures have sides that they are not of, or another precision was asked for
      than they have.
  """
  num_visible = spec.num_visible
  if precision and nets not in RESIDUAL:
    raise ValueError(f'precision={precision} is of nets {", ".join(RESIDUAL)}: leave it out')
  if nets == 'dense':
    return gan.Model(gan.DenseGenerator(num_visible, (width, width)),
                     gan.DenseCritic((width, width)), num_latents, num_visible)
  if not spec.is_image:
    raise data.BadData(f'data set {spec.name}: convolutional nets are of pictures, and its rows '
                       f'are vectors of {num_visible}: --set=nets=dense')
  if nets in RESIDUAL:
    num_classes = data.classes_of(spec) if conditional else 0
    return gan.Model(*residual_players(nets, spec.seen_shape, width, num_classes, precision),
                     num_latents, num_visible)
  *sides, channels = spec.shape
  options: dict[str, Any] = dict(form=form, batch_norm=nets == 'dcgan',
                                 stddev=0.02 if nets == 'dcgan' else None)
  return gan.Model(
    gan.ConvGenerator(Decoder((2 * width, width), tuple(sides), channels, **options)),
    gan.ConvCritic(Encoder((width, 2 * width), **options), spec.seen_shape), num_latents,
    num_visible)


def residual_players(nets: str, shape, width: int, num_classes: int, precision: str | None):
  """(generator, critic) of images of that shape; errors as of residual.num_stages.

  The published widths are 128 of sn_resnet, whose generator has twice as many channels, 64 of
  biggan (4 times as many in both), 768 of r3gan.
  """
  residual.num_stages(shape, 8)
  dtype = jnp.dtype(precision or 'float32')
  if nets == 'r3gan':
    groups = max(1, width // 8)
    return (residual.GroupedGenerator(shape, width, groups, dtype=dtype),
            residual.GroupedCritic(shape, width, groups, dtype=dtype))
  if nets == 'biggan':
    return (residual.ResidualGenerator(shape, 4 * width, num_classes, True, dtype),
            residual.ResidualCritic(shape, 4 * width, dtype))
  return (residual.ResidualGenerator(shape, 2 * width, num_classes, dtype=dtype),
          residual.ResidualCritic(shape, width, dtype))


def interpolations(key, model: gan.Model | gan.ClassConditional, params, shape, rows: int = 8,
                   columns: int = 9) -> np.ndarray:
  """g(cos(t) z + sin(t) z'), t from 0 to pi / 2: every latent on the way is a draw from N(0, I).

  Each row of the picture is of one class where there are classes.
  """
  if isinstance(model, gan.ClassConditional):
    y_NQ = jax.nn.one_hot(jnp.repeat(jnp.arange(rows) % model.num_classes, columns),
                          model.num_classes)
    num_latents, decode = model.model.num_latents, lambda params, z_NZ: model.decode(
      params, z_NZ, y_NQ)
  else:
    num_latents, decode = model.num_latents, model.decode
  ends_ERZ = jax.random.normal(key, (2, rows, num_latents))
  t_C = jnp.linspace(0, math.pi / 2, columns)[:, None]
  z_RCZ = jnp.cos(t_C) * ends_ERZ[0][:, None] + jnp.sin(t_C) * ends_ERZ[1][:, None]
  x_NV = jax.jit(decode)(params, z_RCZ.reshape(-1, num_latents))
  return figures.to_grid(x_NV, shape, rows, columns)
