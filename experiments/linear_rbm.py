"""A Boltzmann machine with linear units finds the principal components, by sampling.

  python -m launch.train --experiment=linear_rbm --variant=pcd --workdir=runs/linear
  python -m launch.evaluate --workdir=runs/linear

Gaussian visible and hidden units, origin and unit of measurement learned: at the maximum of the
likelihood the machine is probabilistic PCA (Marks & Movellan, 2001; Tipping & Bishop, 1999), and
contrastive divergence has the same fixed point (Williams & Agakov, 2002). Images are dequantised as
in experiments/gaussian.py. Adam, the rate falling linearly to 0; the last parameters are averaged.

Score: exact test nats of the density on [0, 1]^V, mean +- standard deviation over seeds, beside
that of probabilistic PCA in closed form from the same images; `largest_angle` is the largest
principal angle between the columns of W and the leading principal components, in degrees.
Cost for 5 seeds in one program: pcd 80 seconds, cd1 138, on 2 CPU cores shared with other work.

  pcd   20.117 +- 0.003, 0.45 +- 0.06 degrees  5 seeds; probabilistic PCA 20.116
  cd1   20.106 +- 0.002, 0.47 +- 0.07 degrees  5 seeds
  exact 20.117, one seed; 0.07 degrees; the exact gradient, for comparison
"""

import functools
from typing import Literal

import jax.numpy as jnp
import numpy as np
import optax

from experiments._common import boltzmann, custom, dequantised
from gen_models import data, inference
from gen_models.domains import DatasetName, Decay, NonNegative, NumUpdates, PositiveInt, Width
from gen_models.estimators.contrastive import contrastive, measured
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.evaluation import figures
from gen_models.experiment import EXACT, Experiment, Phase, unlabelled
from gen_models.models import gaussian, linear_rbm, pca

VARIANTS = {
  'pcd': dict(negative='pcd'),
  'cd1': dict(negative='cd'),
  'exact': dict(negative='exact'),
}


def components_of(arrays, spec: data.Spec, num: int) -> pca.Params:
  """PCA over all dequantisations: the noise adds its variance in every direction."""
  if dequantised.is_continuous(spec):
    return pca.fit(dequantised.fixed(arrays, spec, 'train'), num, arrays.weights)
  levels = spec.levels
  x_NV = (arrays.rows.reshape(len(arrays.rows), -1) + np.float32(0.5)) / (levels + 1)
  found, noise = pca.fit(x_NV, num, arrays.weights), 1 / (12 * (levels + 1)**2)
  return found._replace(variance_R=found.variance_R + noise, noise=found.noise + noise)


def draw(spec: data.Spec, key, params, num: int):
  """(draws, means) of images in [0, 1], [num, V] each."""
  machine = linear_rbm.machine(params)
  v_NV = linear_rbm.sample(key, machine, num)
  mean_NV = linear_rbm.visible_mean(machine, linear_rbm.hidden_mean(machine, v_NV))
  return tuple(data.clipped(params.origin_V + jnp.exp(params.log_unit) * x_NV, spec)
               for x_NV in (v_NV, mean_NV))


def directions(params, components: pca.Params, shape) -> dict:
  """Leading directions of W above, those of the data below, signs made to agree."""
  columns = min(10, params.loadings_VH.shape[1])
  u_VH = jnp.linalg.svd(params.loadings_VH, full_matrices=False)[0][:, :columns]
  pca_VH = components.u_VR[:, :columns]
  u_VH *= jnp.sign(jnp.sum(u_VH * pca_VH, axis=0))
  both_2HV = jnp.stack([u_VH.T, pca_VH.T])
  shown_2HV = jnp.clip(0.5 + 0.5 * both_2HV / jnp.abs(both_2HV).max(), 0, 1)
  return {'directions: machine above, data below': figures.to_grid(
    shown_2HV.reshape(2 * columns, -1), shape, 2, columns)}


def experiment(*, dataset: DatasetName = 'digits',
               num_hidden: Width = 10,
               negative: Literal['cd', 'pcd', 'exact'] | custom.Negative = 'pcd',
               steps: PositiveInt = 1, chains: PositiveInt = 100,
               estimator: custom.Estimator | None = None,
               learning_rate: NonNegative = 0.003, batch_size: PositiveInt = 100,
               num_steps: NumUpdates = 20_000, average: Decay = 0.9995) -> Experiment:
  """steps: alternations of the negative phase; average: decay of the average that is scored."""
  spec = data.spec(dataset)
  shape = spec.seen_shape

  def init(key, arrays, previous_params):
    del previous_params
    return linear_rbm.init_measured(key, dequantised.fixed(arrays, spec, 'train'), num_hidden)

  ours = maximum_likelihood(linear_rbm.log_density)
  if negative != 'exact':
    phase = boltzmann.negative_phase(negative, chains=chains, steps=steps)
    ours = measured(contrastive(linear_rbm, phase), linear_rbm)
  optimizer = optax.adam(optax.linear_schedule(learning_rate, 0.0, num_steps))

  def validate(key, params, arrays):
    del key
    x_NV = dequantised.fixed(arrays, spec, 'valid')
    return {'valid_nats': data.mean(linear_rbm.log_density(params, x_NV), arrays.weights)}

  def evaluate(key, params, dataset, report):
    del key, report
    components = components_of(dataset.train, spec, num_hidden)
    closed = pca.probabilistic(components)
    machine_score, machine_nats = dequantised.nats(linear_rbm.log_density, params, dataset)
    closed_score, closed_nats = dequantised.nats(gaussian.log_likelihood, closed, dataset)
    angles_H = pca.principal_angles(components.u_VR, params.loadings_VH)
    return {
      **machine_score, 'split': 'test', 'train_nats': machine_nats,
      'scores': {'largest_angle': float(angles_H[-1]), 'mean_angle': float(angles_H.mean()),
                 'train_nats_below_probabilistic_pca': closed_nats - machine_nats,
                 'unit_over_noise': float(jnp.exp(params.log_unit - closed.log_noise_V[0]))},
      'baselines': {'probabilistic PCA': closed_score}}

  def pictures(key, params, dataset):
    del key
    return directions(params, components_of(dataset.train, spec, num_hidden), shape)

  return Experiment(
    dataset=dataset, binarisation='real',
    phases=(Phase('machine', init, custom.chosen(estimator, ours), optimizer,
                  dequantised.batches(batch_size, spec), num_steps, batch_size, average),),
    evaluate=evaluate, thorough=EXACT, validate=validate, headline='valid_nats', pictures=pictures,
    sample=unlabelled(functools.partial(draw, spec), shape), steps_per_dispatch=200,
    validate_every=1000, questions=inference.linear_rbm(see=dequantised.seen(spec)),
    model=linear_rbm, protocol=dequantised.PROTOCOL)
