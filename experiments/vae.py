"""Variational and importance-weighted autoencoders on MNIST (Burda, Grosse & Salakhutdinov, 2016).

  python -m launch.train --experiment=vae --variant=iwae5 --workdir=runs/iwae5
  python -m launch.evaluate --workdir=runs/iwae5

Encoder 784-200-200-50 tanh, decoder mirrored; with two stochastic layers 784-200-200-(100)-100-100-
(50). Batch 20, data dynamically binarised, Adam with epsilon 5e-6: the authors' 1e-4 belongs to
gradients summed over the batch, ours are means (digits_paper_code: with beta1 .99 and second
moments that start at one, as the authors' code has it). Stage i = 0, 1, .. lasts 3^i epochs at
learning rate 1e-4 round(10^(1 - i/7), 1): the paper has 8 stages, 3280 epochs; the variants on
MNIST have 6, 364 epochs, the default is 5, 121 epochs. Trained on 50,000 images, the published on
60,000.

Score: the importance-weighted bound in test nats of all 10,000 test images, binarised once, with
5000 samples an image, mean +- standard deviation over seeds; beside it the active units of each
layer (Burda et al., 2016) and the ELBO of the test images. `launch.evaluate --thorough` adds
annealed importance sampling of 100 test images, both sides on data drawn from the model, and the
gaps of the encoder. The other rows of the table are --set=samples=5, --set=bound=iwae with its
samples, and --set=bound=dreg. At full length the seeds of a row are one program, and rows of one
layer are one command:

  python -m launch.sweep --experiment=vae --set=stages=8 --set=bound=iwae,dreg --set=samples=5,50 \\
      --seeds=3 --workdir=runs/burda

The comparisons below are on 8x8 digits, where they take a minute. Published for 3280 epochs:

                        paper                      an independent rerun
  VAE k = 1, 5, 50      -86.76, -86.47, -86.35     -86.35, -86.10, -86.06
  IWAE k = 5, 50        -85.54, -84.78             -85.18, -84.59
  DReG k = 5, 50                                   -84.90, -84.32
  two layers, VAE k = 1, IWAE k = 5
                        -85.33, -83.89             -84.83, -83.48

  vae               -88.42, one seed; one layer, k = 1 (121 epochs: -90.16)
  iwae5             -87.36, one seed (121 epochs: -88.97)
  two_layers        -87.13, one seed; latents 100 and 50, k = 1; active units 20, 6
  two_layers_iwae5  -85.93, one seed; the same, k = 5; active units 46, 7
  static            -92.84, one seed; the static images (binarized_mnist), 300-300-40, batch 100,
                    60 epochs, the bound of 1000 samples
  static_vamp       -89.16, one seed; the same with a VampPrior of 500 pseudo-inputs
  static_ladder     -88.67, one seed; five layers 64-32-16-8-4 between networks of 512 to 32, q from
                    the top, KL warmed up over 6000 updates; active units 64, 5, 0, 8, 0
  digits            -17.42 +- 0.08, 5 seeds; 64-64-16 on 8x8 digits, threshold binarisation
  digits_bfloat16   -17.44 +- 0.10, 3 seeds; networks in bfloat16, densities in float32, so nothing
                    is lost; on a CPU it takes 1.4 times as long
  digits_conditional  -14.61 +- 0.03, 3 seeds, of log p(x | class), so -16.92 of x and class; 94.3 %
                    of draws are of their class for a classifier that is right about 95.0 % of test
                    images
  digits_beta_binomial  -83.52 +- 0.07, 3 seeds; 17 grey levels, 1.883 bits per dimension
                    (independent pixels -107.85), beta-binomial
  digits_logistic   -86.04 +- 0.48, 3 seeds; the same, 1.940 bits per dimension, mixtures of 5
                    discretised logistics; 9000 updates, about where the validation bound of longer
                    runs is best: they end at -91.0 +- 1.1
  digits_continuous_bernoulli  152.35 +- 0.29, 3 seeds; grey as reals in [0, 1]: densities, not
                    comparable, of pixels that are mostly 0 without a limit
  digits_vae5       -17.15 +- 0.09, 3 seeds; the mean of 5 samples
  digits_iwae5      -17.01 +- 0.08, 3 seeds; the importance-weighted bound of 5 samples
  digits_iwae50     -16.77 +- 0.04, 3 seeds; of 50 samples
  digits_dreg5      -16.96 +- 0.04, 3 seeds; of 5, its gradient doubly reparametrised
  digits_stl        -17.43 +- 0.06, 3 seeds; the ELBO without its score
  digits_analytic_kl -17.48 +- 0.05, 3 seeds; the ELBO with the KL in closed form
  digits_beta4      -24.67 +- 0.07, 3 seeds; the KL weighted by 4
  digits_paper_code -17.24 +- 0.03, 3 seeds; iwae5 with the authors' Adam
  digits_conv       -17.24 +- 0.07, 3 seeds; convolutional nets 32-64, batch 100, 5000 updates
  digits_gaussian   40.75 +- 0.56, 3 seeds; p(x | z) Gaussian on real pixels: densities, not
                    comparable
  digits_mixture    -16.95 +- 0.06, 3 seeds; the prior a mixture of 50 Gaussians
  digits_vamp       -17.06 +- 0.01, 3 seeds; a VampPrior of 50 pseudo-inputs
  digits_flow       -17.05 +- 0.06, 3 seeds; the prior a flow of 4 couplings
  digits_iaf        -17.34 +- 0.06, 3 seeds; the posterior an inverse autoregressive flow, 2 steps
  digits_coupling   -17.39 +- 0.00, 3 seeds; the posterior a flow of 4 couplings
  digits_posterior_mixture  -17.51 +- 0.06, 3 seeds; the posterior a mixture of 4 Gaussians
  digits_two_layers -17.30 +- 0.04, 3 seeds; latents 16-8, hidden layers 64-64 and 32-32
  digits_ladder     -16.86 +- 0.08, 3 seeds; the same, q from the top, KL warmed up over 6000
                    updates, as its authors do
  digits_residual   -16.44 +- 0.04, 3 seeds; digits_ladder with residual nets

Any variant takes another prior, posterior or direction of inference
(experiments/_common/latent_parts.py): --set=prior=vamp --set=posterior=iaf, or
--set=inference=ladder with several stochastic layers.

Likelihoods of other data, --set=likelihood= with --set=binarisation=
(experiments/_common/likelihoods.py): poisson or negative_binomial of counts (npz:cells.npz),
categorical of letters and words (fasta:, csv:), discretised_logistic or beta_binomial of the levels
of pictures, whose scores are probabilities, in bits per dimension too, and continuous_bernoulli of
reals in [0, 1], a density. In colour discretised_logistic lets green depend on red and blue on both
(--set=likelihood_channels=independent does not).

Cost of an update on one core: 1.6 ms with k = 1, 2.7 with k = 5, so 24 and 41 minutes for 364
epochs, with two layers 38 and 78 beside other work; the bound of 10,000 images 240 seconds. Of
static 5 ms, of static_vamp 17, of static_ladder 15.
"""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import optax

from experiments._common import (
  custom,
  decoders,
  given_class,
  latent_parts,
  latent_pictures,
  likelihoods,
)
from experiments._common.binary import baseline_scores, seen
from experiments._common.latent import initialiser, reconstructions
from gen_models import data, estimators
from gen_models.domains import (
  DatasetName,
  Decay,
  Interval,
  LayerGroups,
  Layers,
  NonNegative,
  NumUpdates,
  Positive,
  PositiveInt,
  sizes_of,
)
from gen_models.evaluation import importance, posteriors
from gen_models.experiment import Experiment, Phase, Published, unlabelled
from gen_models.inference import latent as latent_questions
from gen_models.models import convolutions, counts, networks, vae

DIGITS = dict(dataset='digits', binarisation='threshold', hidden='64-64', latents='16',
              num_steps=30_000)
DIGITS_TWO = DIGITS | dict(latents='16-8', hidden='64-64,32-32')
DIGITS_LADDER = DIGITS_TWO | dict(inference='ladder', warm_up=6000)
_TWO = dict(latents='100-50', hidden='200-200,100-100', stages=6)
STATIC = dict(dataset='binarized_mnist', binarisation='static', hidden='300-300', latents='40',
              batch_size=100, num_steps=30_000, importance_samples=1000)
SCORING = ('importance_samples', 'annealed_images', 'annealed_temperatures')  # of the score
VARIANTS = {
  'vae': dict(stages=6),
  'iwae5': dict(bound='iwae', samples=5, stages=6),
  'two_layers': _TWO,
  'two_layers_iwae5': _TWO | dict(bound='iwae', samples=5),
  'static': STATIC,
  'static_vamp': STATIC | dict(prior='vamp', prior_components=500),
  'static_ladder': STATIC | dict(hidden='512-512,256-256,128-128,64-64,32-32',
                                 latents='64-32-16-8-4', inference='ladder', warm_up=6000),
  'digits': DIGITS,
  'digits_logistic': DIGITS | dict(binarisation='levels', likelihood='discretised_logistic',
                                   num_steps=9000),
  'digits_beta_binomial': DIGITS | dict(binarisation='levels', likelihood='beta_binomial'),
  'digits_continuous_bernoulli': DIGITS | dict(binarisation='real',
                                               likelihood='continuous_bernoulli'),
  'digits_bfloat16': DIGITS | dict(precision='bfloat16'),
  'digits_conditional': DIGITS | dict(conditional=True),
  'digits_vae5': DIGITS | dict(samples=5),
  'digits_iwae5': DIGITS | dict(bound='iwae', samples=5),
  'digits_iwae50': DIGITS | dict(bound='iwae', samples=50),
  'digits_dreg5': DIGITS | dict(bound='dreg', samples=5),
  'digits_stl': DIGITS | dict(bound='stl'),
  'digits_analytic_kl': DIGITS | dict(bound='analytic'),
  'digits_beta4': DIGITS | dict(beta=4.0),
  'digits_paper_code': DIGITS | dict(bound='iwae', samples=5, beta1=0.99, second_moment_start=1.0),
  'digits_conv': dict(dataset='digits', binarisation='threshold', latents='16', nets='conv',
                      batch_size=100, num_steps=5000),
  'digits_gaussian': DIGITS | dict(binarisation='real', likelihood='gaussian'),
  'digits_mixture': DIGITS | dict(prior='mixture'),
  'digits_vamp': DIGITS | dict(prior='vamp'),
  'digits_flow': DIGITS | dict(prior='flow', flow_steps=4),
  'digits_iaf': DIGITS | dict(posterior='iaf'),
  'digits_coupling': DIGITS | dict(posterior='coupling', flow_steps=4),
  'digits_posterior_mixture': DIGITS | dict(posterior='mixture'),
  'digits_two_layers': DIGITS_TWO,
  'digits_ladder': DIGITS_LADDER,
  'digits_residual': DIGITS_LADDER | dict(nets='residual'),
}
_BURDA = 'Burda et al., 2016'
PUBLISHED = {
  'vae': Published('−86.76 after 3280 epochs', _BURDA, 'an independent rerun that quotes it'),
  'iwae5': Published('−85.54 after 3280 epochs', _BURDA, 'an independent rerun that quotes it'),
  'two_layers': Published('−85.33 after 3280 epochs', _BURDA,
                          'an independent rerun that quotes it'),
  'two_layers_iwae5': Published('−83.89 after 3280 epochs', _BURDA,
                                'an independent rerun that quotes it'),
  'static_vamp': Published('−85.57', 'Tomczak & Welling, 2018', 'a second source that quotes it'),
}


def experiment(*, dataset: DatasetName = 'mnist',
               binarisation: Literal['dynamic', 'threshold', 'static', 'real', 'levels', 'counts',
                                     'categorical'] = 'dynamic',
               nets: Literal['dense', 'residual', 'conv', 'conv_residual'] = 'dense',
               hidden: LayerGroups = '200-200',
               latents: Layers = '50',
               likelihood: likelihoods.Name = 'bernoulli', scale: Positive = 0.1,
               likelihood_components: PositiveInt | None = None,
               likelihood_channels: likelihoods.Channels | None = None,
               bound: (Literal['elbo', 'analytic', 'iwae', 'stl', 'dreg', 'gdreg']
                       | custom.Rule) = 'elbo',
               encoder: custom.Network | None = None, decoder: custom.Network | None = None,
               estimator: custom.Estimator | None = None,
               samples: PositiveInt = 1, beta: NonNegative = 1.0,
               warm_up: PositiveInt | None = None, free_nats: Positive | None = None,
               prior: latent_parts.Prior | None = None,
               prior_components: PositiveInt | None = None,
               posterior: latent_parts.Posterior | None = None,
               posterior_components: PositiveInt | None = None,
               flow_steps: PositiveInt | None = None, flow_width: PositiveInt | None = None,
               inference: latent_parts.Inference | None = None,
               precision: Literal['bfloat16'] | None = None, conditional: bool | None = None,
               learning_rate: NonNegative = 1e-3,
               stages: Annotated[int, Interval(1, 12)] = 5, beta1: Decay = 0.9,
               epsilon: Positive = 5e-6, second_moment_start: NonNegative = 0.0,
               batch_size: PositiveInt = 20, num_steps: NumUpdates | None = None,
               importance_samples: PositiveInt = 5000,
               annealed_images: PositiveInt | None = None,
               annealed_temperatures: PositiveInt | None = None) -> Experiment:
  """hidden: widths between x and z_1, a comma, those between z_1 and z_2, ..

  Of nets conv and conv_residual, convolutions stand in the place of the first of these groups.
  scale is the standard deviation of gaussian_fixed, and the least that gaussian learns;
  likelihood_components are those of discretised_logistic, None for 5, and likelihood_channels says
  whether its colours are coupled, None if they are. beta rises from 0 over
  warm_up updates; a latent may be worth free_nats for nothing (bound 'analytic'). prior to
  inference: see _common/latent_parts.py. precision is that of the networks; samples and densities
  are float32. conditional: encoder and decoder see the class too. num_steps None is the whole of
  all stages; given, it shortens each in proportion. The last two are read by a thorough score, see
  _common/decoders.py.
  Longer than 45 lines because the nets, the likelihood, the bound and the parts may each be others.
  """
  spec = data.spec(dataset)
  shape = spec.seen_shape
  likelihoods.require(spec, binarisation, likelihood)
  parts = latent_parts.by_name(prior, prior_components, posterior, posterior_components,
                               flow_steps, flow_width, inference)
  family = likelihoods.by_name(spec, likelihood, scale, likelihood_components,
                               likelihood_channels)
  num_classes = data.classes_of(spec) if conditional else 0
  model = build(spec, nets, hidden, latents, family, encoder, decoder, parts, num_classes)
  if binarisation == 'counts' and encoder is None:
    model = model._replace(encoders=(counts.OfCounts(model.encoders[0]), *model.encoders[1:]))
  if precision is not None:
    model = model._replace(dtype=jnp.bfloat16)
  if num_steps is None:
    num_steps = (3**stages - 1) // 2 * spec.rows['train'] // batch_size

  def fixed(arrays, split):
    return (given_class.fixed(arrays, binarisation, spec, split) if conditional else
            data.fixed(arrays, binarisation, spec, split=split))

  def sample(key, params, num):
    key_z, key_x = jax.random.split(key)
    z_1 = model.sample_prior(key_z, params, num)[0]
    draws, means = model.sample_visible(key_x, params, z_1), model.visible_mean(params, z_1)
    return data.clipped(draws, spec), data.clipped(means, spec)

  def evaluate(key, params, dataset, report):
    key_bound, key_units, key_elbo = jax.random.split(key, 3)
    test_NV = fixed(dataset.test, 'test')
    active = posteriors.active_units(key_units, model, params, fixed(dataset.train, 'train')[:500])
    score = importance.bound(
      key_bound, model, params, test_NV, binarisation=binarisation,
      num_samples=importance_samples, report=report, weights_N=dataset.test.weights,
      scores={**{f'active_units_{i + 1}': float(jnp.sum(v_Z > posteriors.ACTIVE))
                 for i, v_Z in enumerate(active)},
              **posteriors.scores(key_elbo, model, params, test_NV, dataset.test.weights)})
    score = {**likelihoods.with_bits(score, spec, binarisation), 'split': 'test'}
    if conditional:
      return given_class.judged_score(jax.random.fold_in(key, 1), score, model, params, dataset,
                                      report)
    return {**score, 'baselines': baseline_scores(dataset, binarisation)}

  def validate(key, params, arrays):
    log_p_N, *_ = importance.log_likelihoods(key, model.log_weights, params,
                                             fixed(arrays, 'valid'), 10)
    return {'valid_bound_10': data.mean(log_p_N, arrays.weights)}

  def pictures(key, params, dataset):
    if conditional:
      return given_class.pictures(key, model, params, dataset)
    key_back, key_latents = jax.random.split(key)
    return {**reconstructions(key_back, model, params, dataset, binarisation),
            **latent_pictures.pictures(key_latents, model, params, dataset, binarisation)}

  return Experiment(
    dataset=dataset, binarisation=binarisation,
    phases=(Phase(
      'vae', initialiser(model, spec, binarisation),
      custom.chosen(estimator, by_bound(model, bound, samples, beta, warm_up, free_nats)),
      adam(staged(learning_rate, stages, num_steps), beta1, epsilon, second_moment_start),
      (given_class if conditional else data).batches(batch_size, binarisation, spec), num_steps,
      batch_size),),
    evaluate=evaluate, thorough=given_class.UNSCORED if conditional else decoders.with_decoder(
      evaluate, model, binarisation, annealed_images, annealed_temperatures),
    validate=validate, headline='valid_bound_10', pictures=pictures,
    sample=(given_class.sampler(model, spec) if conditional else unlabelled(sample, shape)),
    steps_per_dispatch=500,
    questions=(latent_questions.class_conditional if conditional else latent_questions.vae)(
      model, see=seen(binarisation, spec.levels), groups=likelihoods.together(spec, likelihood)),
    model=model,
    protocol=f'importance-weighted bound{" of log p(x | class)" if conditional else ""}, '
             f'{importance_samples} samples an image')


def build(spec: data.Spec, nets: str, hidden: str, latents: str, family: vae.Family,
          encoder=None, decoder=None, parts: latent_parts.Parts = latent_parts.Parts(),
          num_classes: int = 0) -> vae.Model:
  """The model that `nets` names, its visible layer of `family`, with a user's networks if given.

  Raises:
    ValueError: convolutions of what are no pictures, or have a class; a network of a user's for
      several stochastic layers, or of other widths; parts that do not go together.
  """
  widths, groups = sizes_of(latents), tuple(sizes_of(part) for part in hidden.split(','))
  convolutional, residual = nets.startswith('conv'), nets.endswith('residual')
  if not convolutional:
    model = vae.model(spec.num_visible, widths, groups, likelihood=family, residual=residual,
                      num_classes=num_classes, **parts._asdict())
    return custom_nets(model, spec, encoder, decoder)
  if not spec.is_image:
    raise data.BadData(f'data set {spec.name}: convolutional nets are of pictures, and its rows '
                       f'are vectors of {spec.num_visible}: --set=nets=dense')
  if num_classes:
    raise ValueError('conditional: an encoder of pictures has no place for a class: '
                     '--set=nets=dense')
  if len(widths) == 1:
    groups = ((),)
  # All between x and z_1 is replaced.
  model = vae.model(spec.num_visible, widths, ((), *groups[1:]), likelihood=family,
                    residual=residual, **parts._asdict())
  *sides, channels = spec.shape
  out = None if parts.top_down else vae.num_outputs(vae.NORMAL, parts.posterior, widths[0])
  blocks = int(residual)  # at each size of the images
  up = networks.FromPixels(convolutions.Encoder((32, 64), out, blocks=blocks), spec.seen_shape)
  down = networks.ToPixels(convolutions.Decoder(
    (64, 32), tuple(sides), channels * family.num_outputs, blocks=blocks), channels)
  first = networks.Stacked(up, model.encoders[0]) if parts.top_down else up
  model = model._replace(encoders=(first, *model.encoders[1:]),
                         decoders=(down, *model.decoders[1:]))
  return custom_nets(model, spec, encoder, decoder)


def custom_nets(model: vae.Model, spec: data.Spec, encoder, decoder) -> vae.Model:
  """The model with the networks that are given in the place of its own; raises as `build`."""
  if (encoder is not None or decoder is not None) and len(model.widths) != 1:
    raise ValueError('a network of your own is for one stochastic layer, not '
                     f'{len(model.widths)}')
  width, shape = model.widths[0], spec.seen_shape
  if encoder is not None:
    model = model._replace(encoders=(networks.custom(
      encoder, spec.num_visible + model.num_classes,
      vae.num_outputs(model.latent, model.posterior, width),
      shape=shape),))
  if decoder is not None:
    model = model._replace(decoders=(networks.custom(
      decoder, width + model.num_classes, model.likelihood.num_outputs * spec.num_visible,
      shape=shape),))
  return model


def by_bound(model: vae.Model, bound, samples: int, beta: float, warm_up: int | None = None,
             free_nats: float | None = None):
  """The gradient that `bound` names, or that a rule of a user's makes.

  Raises:
    ValueError: a beta, warm-up or free nats for a bound that has none.
  """
  if free_nats is not None:
    if bound != 'analytic' or warm_up is not None or (isinstance(beta, float) and beta != 1):
      raise ValueError("free_nats are of the bound 'analytic', without beta and warm_up")
    return estimators.free_bits(model, free_nats, samples)
  if warm_up is not None:
    if bound not in ('elbo', 'analytic'):
      raise ValueError(f"warm_up weighs the KL of 'elbo' and 'analytic', not of {bound!r}")
    return estimators.warm_up(lambda rise: by_bound(model, bound, samples, beta * rise), warm_up)
  if bound not in ('elbo', 'analytic') and isinstance(beta, float) and beta != 1:
    named = repr(bound) if isinstance(bound, str) else 'a rule of your own'
    raise ValueError(f"beta {beta} weighs the KL of 'elbo' and 'analytic', not of {named}")
  if bound == 'gdreg':
    return estimators.generalised_dreg(model, samples)
  if not isinstance(bound, str):
    return estimators.variational(model, estimators.as_rule(bound))
  if bound == 'analytic':
    return estimators.analytic_elbo(model, samples, beta)
  if bound == 'elbo':
    return estimators.variational(model, estimators.elbo(samples, beta))
  rule = {'iwae': estimators.iwae, 'stl': estimators.stl, 'dreg': estimators.dreg}[bound]
  return estimators.variational(model, rule(samples))


def staged(learning_rate, stages: int, num_steps: int) -> optax.Schedule:
  """learning_rate round(10^(1 - i/7), 1) / 10 in stage i, which has 3^i parts of num_steps."""
  rates_I = learning_rate * jnp.array([round(10**(1 - i / 7), 1) / 10 for i in range(stages)])
  ends_I = num_steps * (3.0**jnp.arange(1, stages + 1) - 1) / (3**stages - 1)
  return lambda step: rates_I[jnp.minimum(jnp.sum(step >= ends_I), stages - 1)]


def adam(learning_rate, beta1, epsilon, second_moment_start) -> optax.GradientTransformation:
  """Adam whose second moments start where one says, corrected as if they had started at 0."""
  scale = optax.scale_by_adam(b1=beta1, eps=epsilon)

  def init(params):
    state = scale.init(params)
    return state._replace(nu=jax.tree.map(lambda v: v + second_moment_start, state.nu))

  return optax.chain(optax.GradientTransformation(init, scale.update),
                     optax.scale_by_learning_rate(learning_rate))
