"""Bias and variance of the gradient along a training run, against Gibbs steps and chains.

  python -m launch.train --experiment=rbm_bias --workdir=runs/bias
  python -m launch.evaluate --workdir=runs/bias

A machine with 16 hidden units is trained on thresholded MNIST by PCD-1; ten times on the way its
exact gradient on 1,000 images is enumerated and, at the very same parameters, each estimator drawn
many times:

  bias      |E[g] - grad| / |grad|, less the part that is noise of the mean
  noise     sqrt(total variance of one draw) / |grad|

CD-k starts at the data, so its error is bias that never averages out. PCD-k starts at the run's own
chains: what is called its bias is the distance of E[g | chains] from the gradient, which includes
both the lag of the chains behind the parameters and the noise of their finite number; variants
differ in that number, and `floor_pcd` measures the same for as many chains in equilibrium.

Score: exact test nats; scores bias_*, noise_* are those at the end of training, metrics.jsonl has
them at every validation. Bengio & Delalleau (2009) and Fischer & Igel (2011) bound the bias of
CD-k; here it is measured.

Along the run with 100 chains, bias of CD-1, CD-10 and CD-25 (means of 3 seeds): 0.90, 0.68 and 0.47
after 2,500 updates, 0.95, 0.90 and 0.85 after 12,500, 0.99, 0.97 and 0.94 after 25,000: as weights
grow, k steps from the data reach ever less of the model. From the run's own chains PCD-1 is as far
off at any one step (0.9 to 1.2, whatever their number): its errors average out over the updates of
moving chains, not within one draw. At the end, 3 seeds:

  chains                    10                100               1000
  test nats, exact          -156.11 +- 3.65   -148.03 +- 1.72   -145.04 +- 0.48
  bias  CD-1                0.95 +- 0.04      0.99 +- 0.01      0.99 +- 0.10
        CD-25               0.82 +- 0.13      0.94 +- 0.05      0.95 +- 0.11
        PCD, rested chains  0.54 +- 0.18      0.20 +- 0.17      0.18 +- 0.11
  noise CD-25               0.05 +- 0.01      0.06 +- 0.02      0.15 +- 0.02
        PCD, rested chains  0.50 +- 0.08      0.19 +- 0.06      0.14 +- 0.02

The noise of CD is relative to a gradient whose norm decreases with more chains. Rested chains,
which had 5,000 more Gibbs steps, show the error that remains because their number is finite.

The picture in the documentation: python -m launch.report runs/bias_10 runs/bias_100 runs/bias_1000
--metrics=bias_cd1,bias_cd25,bias_pcd1,noise_cd1,noise_cd25,noise_pcd1

Cost for three seeds on one core: about 400 seconds, 1,050 with 1,000 chains. Scores are means +-
standard deviations over seeds, nats exact.
"""

from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from experiments._common.binary import seen
from gen_models import data, inference
from gen_models.domains import LARGEST, Interval, NonNegative, NumUpdates, PositiveInt, Width
from gen_models.estimators import base
from gen_models.estimators.contrastive import Shared, contrastive
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.evaluation import figures, likelihood
from gen_models.experiment import EXACT, Experiment, Phase, unlabelled
from gen_models.models import gibbs, rbm

VARIANTS = {f'chains_{n}': dict(chains=n) for n in (10, 100, 1000)}
GIBBS_STEPS = (1, 3, 10, 25)
LEVELS = data.levels('mnist')


def pixels(arrays):
  """Thresholded images, [N, V]."""
  return data.fixed(arrays, 'threshold', LEVELS)


def validate(key, params, arrays):
  """Experiment.validate: exact nats."""
  del key
  return {'valid_nats': jnp.mean(rbm.log_likelihood(params, pixels(arrays)))}


def relative_error(key, estimator, params, memory, batch, exact, num_draws: int):
  """(bias, noise) of an estimator at fixed params and memory, both over |exact|."""
  def draw(key):
    return ravel_pytree(estimator.grad(key, params, memory, batch)[0])[0]

  def body(sums, key):
    g_D = draw(key) - exact
    return (sums[0] + g_D, sums[1] + jnp.sum(g_D**2)), None

  zero = (jnp.zeros_like(exact), jnp.zeros(()))
  (sum_D, square), _ = jax.lax.scan(body, zero, jax.random.split(key, num_draws))
  mean_D = sum_D / num_draws
  variance = (square - num_draws * jnp.sum(mean_D**2)) / (num_draws - 1)
  # |mean|^2 is the squared bias and, in expectation, variance / draws of noise.
  bias = jnp.sqrt(jnp.maximum(jnp.sum(mean_D**2) - variance / num_draws, 0.0))
  norm = jnp.linalg.norm(exact)
  return bias / norm, jnp.sqrt(variance) / norm


def measure(key, params, memory, v_BV, steps, chains: int, num_draws: int) -> dict:
  """bias_* and noise_* of PCD from `memory`, of CD where that is None, by Gibbs steps."""
  def loss(params):
    return -jnp.mean(rbm.log_likelihood(params, v_BV))

  exact, _ = ravel_pytree(jax.grad(loss)(params))
  name, metrics = 'cd' if memory is None else 'pcd', {}
  for key_k, k in zip(jax.random.split(key, len(steps)), steps):
    estimator = contrastive(rbm, reconstruction(k) if memory is None else persistent(chains, k))
    start = base.Memory((), Shared((), ())) if memory is None else memory
    metrics[f'bias_{name}{k}'], metrics[f'noise_{name}{k}'] = relative_error(
      key_k, estimator, params, start, v_BV, exact, num_draws)
  return metrics


def experiment(*, num_hidden: Width = 16, chains: PositiveInt = 100,
               learning_rate: NonNegative = 0.01, batch_size: PositiveInt = 100,
               num_steps: NumUpdates = 25_000, num_images: PositiveInt = 1000,
               num_draws: Annotated[int, Interval(2, LARGEST)] = 100) -> Experiment:
  """The learning rate is constant. num_images and num_draws are those of the measurement."""
  trained = contrastive(rbm, persistent(chains))

  def init(key, arrays, previous_params):
    del previous_params
    mean_V = pixels(arrays).mean(0)
    return rbm.init(key, len(mean_V), num_hidden, mean_V)

  def measured(key, params, memory, train, steps=GIBBS_STEPS):
    v_BV = pixels(jax.tree.map(lambda x: x[:num_images], train))
    return measure(key, params, memory, v_BV, steps, chains, num_draws)

  def monitor(key, params, memory, train, valid):
    del valid
    key_cd, key_pcd = jax.random.split(key)
    return {**measured(key_cd, params, None, train), **measured(key_pcd, params, memory, train)}

  def evaluate(key, params, dataset, report):
    del report

    @jax.jit
    def at_rest(key, params, train):
      key_cd, key_pcd, key_start, key_rest = jax.random.split(key, 4)
      memory = trained.init(key_start, params)
      memory = memory._replace(chains=gibbs.run(key_rest, rbm, params, memory.chains, 5000))
      rested = measured(key_pcd, params, memory, train, (1,))
      return {**measured(key_cd, params, None, train),
              'floor_pcd': rested['bias_pcd1'], 'noise_pcd': rested['noise_pcd1']}

    scores = at_rest(key, params, dataset.train)
    names = [f'{what}_cd{k}' for what in ('bias', 'noise') for k in GIBBS_STEPS]
    return {**likelihood.exact(params, pixels(dataset.test), binarisation='threshold'),
            'split': 'test',
            'scores': {k: float(scores[k]) for k in (*names, 'floor_pcd', 'noise_pcd')}}

  return Experiment(
    dataset='mnist', binarisation='threshold',
    phases=(Phase('rbm', init, trained, optax.sgd(learning_rate),
                  data.batches(batch_size, 'threshold', LEVELS), num_steps, batch_size,
                  monitor=monitor),),
    evaluate=evaluate, thorough=EXACT, validate=validate, headline='valid_nats',
    pictures=figures.rbm_filters((28, 28)), sample=unlabelled(gibbs.sampler(rbm), (28, 28)),
    steps_per_dispatch=500,
    questions=inference.boltzmann(rbm, see=seen('threshold')),
    model=rbm,
    protocol='exact log-likelihood; bias and noise of gradients over the length of the exact one')
