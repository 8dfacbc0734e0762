"""Boltzmann machines of any two layers on rows of a file: what spikes and sequences share."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._common import boltzmann, custom
from experiments._common.holes import mean_whole, whole_rows
from gen_models import data
from gen_models.estimators.contrastive import contrastive, sparse_groups
from gen_models.estimators.directions import centred
from gen_models.estimators.missing import imputed
from gen_models.evaluation import likelihood, moments, monitors
from gen_models.experiment import Phase
from gen_models.models import gibbs, units
from gen_models.models.double_rectified import DoubleRectified
from gen_models.models.machine import Machine
from gen_models.samplers import annealing

HiddenName = Literal['bernoulli', 'gaussian', 'double_rectified']
HIDDEN = {'bernoulli': units.BERNOULLI, 'gaussian': units.LINEAR,
          'double_rectified': DoubleRectified(0.5, 2.0)}


def spec_of(dataset: str, kind: str, origin: str) -> data.Spec:
  """The Spec of a user's file.

  Raises:
    MissingData: there is no such file; the line ends with `origin`, where one is to be had.
    BadData: its rows are of another kind.
  """
  try:
    spec = data.spec(dataset)
  except FileNotFoundError as e:
    raise data.MissingData(f'{e}; {origin}') from None
  data.check_view('static' if kind == 'binary' else kind, spec, missing=True)
  return spec


def seen(arrays, spec: data.Spec) -> tuple[jax.Array, np.ndarray | None]:
  """(rows as the machine sees them [N, V], their weights [N] or None); of rows without holes.

  Raises:
    ValueError: values are missing from every row.
  """
  v_NV = data.fixed(arrays, view(spec), spec, missing=True)
  weights_N = None if arrays.weights is None else np.asarray(arrays.weights)
  return whole_rows(v_NV, weights_N, spec, 'a split')


def view(spec: data.Spec) -> str:
  """How a machine sees these rows: grey pictures are cut at one half; counts it does not take."""
  if spec.kind == 'categorical':
    return 'categorical'
  if spec.kind == 'binary':
    return 'static'
  return 'threshold' if spec.low is None else 'real'


def mean(arrays, spec: data.Spec) -> jax.Array:
  """Mean of the rows, weighted where they have weights, [V]; arrays may be traced."""
  v_NV = data.fixed(arrays, view(spec), spec, missing=True)
  if spec.missing:
    return data.mean_image(arrays, spec)
  return data.mean(v_NV, arrays.weights)


def in_zero_sum_gauge(machine: Machine) -> optax.GradientTransformation:
  """Updates after which params are in the zero-sum gauge: the same density as without it."""
  def update(updates, state, params):
    moved = machine.zero_sum(optax.apply_updates(params, updates))
    return jax.tree.map(jnp.subtract, moved, params), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def phase(machine: Machine, spec: data.Spec, *, num_hidden: int, negative, steps: int,
          chains: int, sparsity: float | None, optimizer, learning_rate: float, batch_size: int,
          num_steps: int, estimator=None) -> Phase:
  """Centred gradient, a rate that falls linearly to 0, the penalty on groups of W.

  estimator: of the user, in the place of the centred gradient and its penalty. What is missing is
  drawn before it sees the rows.

  optimizer: optax.adam, optax.sgd. Adam moves the weights of letters that are hardly ever seen as
  far as those of others, and with hidden units that are not bounded rows of such letters get more
  mass than the data, where no chain is: sequences need plain descent.
  """
  num_groups = spec.shape[0]
  ours = contrastive(
    machine, boltzmann.negative_phase(negative, chains=chains, steps=steps), direction=centred(),
    penalty=None if sparsity is None else sparse_groups(num_groups, sparsity))
  estimator = custom.chosen(estimator, ours)
  if spec.missing:
    estimator = imputed(estimator, machine)

  def init(key, arrays, previous_params):
    del previous_params
    return machine.init(key, spec.num_visible, num_hidden, mean(arrays, spec), scale=0.05)

  descent = optimizer(optax.linear_schedule(learning_rate, 0.0, num_steps))
  if machine.visible.group > 1:
    descent = optax.chain(descent, in_zero_sum_gauge(machine))
  return Phase(
    'machine', init, estimator, descent,
    data.batches(batch_size, view(spec), spec, missing=spec.missing), num_steps, batch_size,
    check=lambda params, v_BV: units.check_batch(
      machine.visible, len(params.w_VH), v_BV, missing=spec.missing),
    # Moments of data with holes are those of no rows.
    monitor=None if spec.missing else monitors.of_machine(machine, lambda params, arrays, split: (
      params, data.fixed(arrays, view(spec), spec, split=split)), num_steps=20),
    alarms=() if spec.missing else monitors.ALARMS)


def bracket(key, machine: Machine, params, dataset, *, chains: int, temperatures: int,
            report, thorough: bool = False, chains_NV=None) -> dict:
  """The bracket of held-out rows, annealed in reverse from training rows spread over the file.

  thorough and chains_NV are those of likelihood.bracket.
  """
  spec = dataset.about
  (train_NV, _), (test_NV, weights_N) = seen(dataset.train, spec), seen(dataset.test, spec)
  valid_NV = data.fixed(dataset.valid, view(spec), spec, missing=True)
  valid_NV = valid_NV[~np.isnan(np.asarray(valid_NV)).any(1)]  # none may be whole
  every = max(1, len(train_NV) // chains)
  return likelihood.bracket(
    key, params, test_NV, base_V=machine.visible.init(mean(dataset.train, spec)),
    start_CV=jnp.resize(train_NV[::every], (chains, train_NV.shape[1])), binarisation=view(spec),
    betas=annealing.linear(temperatures), burn_in=100, report=report, model=machine,
    weights_N=weights_N, seen=[train_NV, valid_NV], thorough=thorough, chains_NV=chains_NV,
    split='test')


def quick_nats(key, machine: Machine, params, arrays, spec: data.Spec) -> dict:
  """Validation nats by 50 chains and 200 temperatures: enough to rank checkpoints of one run.

  Weighted where rows are, as the final score is.
  """
  v_NV = data.fixed(arrays, view(spec), spec, split='valid', missing=True)
  mean_V = data.mean_image(arrays, spec) if spec.missing else data.mean(v_NV, arrays.weights)
  log_z = annealing.quick_log_partition(
    key, params, machine.visible.init(mean_V), num_chains=50, betas=annealing.linear(200),
    model=machine)
  if units.is_discrete(machine.visible) and not spec.missing:
    return {'valid_nats_quick': likelihood.quick(
      machine.free_energy(params, v_NV), log_z, arrays.weights)}
  return {'valid_nats_quick': -mean_free_energy(machine, params, v_NV, spec, arrays.weights)
                              - log_z}


def mean_free_energy(machine: Machine, params, v_NV, spec: data.Spec, weights_N=None) -> jax.Array:
  """Mean F(v) of rows, of those without holes, weighted where rows are; scalar nats, traceable."""
  return mean_whole(functools.partial(machine.free_energy, params), v_NV, spec, weights_N)


def sample(key, machine: Machine, params, num: int) -> tuple[jax.Array, jax.Array]:
  """(v, E[v | h]) [num, V] after 300 Gibbs steps from the visible layer's own distribution."""
  return gibbs.sample(key, machine, params, num, 300)


def draw(key, machine: Machine, params, num: int) -> jax.Array:
  """v [num, V] of `sample`, compiled."""
  return jax.jit(sample, static_argnums=(1, 3))(key, machine, params, num)[0]


def scored(key, machine: Machine, params, dataset, *, chains: int, temperatures: int,
           num_draws: int, report, **options) -> tuple[dict, jax.Array, dict[str, float]]:
  """(`bracket`, draws [M, V], `moment_scores` of the draws) of held-out rows.

  The options are those of `bracket`.
  """
  key_z, key_draw = jax.random.split(key)
  score = bracket(key_z, machine, params, dataset, chains=chains, temperatures=temperatures,
                  report=report, **options)
  draws_MV = draw(key_draw, machine, params, num_draws)
  return score, draws_MV, moment_scores(draws_MV, dataset, machine.visible.group)[0]


def moment_scores(draws_MV, dataset, group: int = 1) -> tuple[dict[str, float], dict]:
  """(correlations of the moments of draws, and of training rows, with those of test rows; panels).

  The second are how well moments of so few test rows can be met; panels are for charts.scatter.
  """
  spec = dataset.about
  train, test = (moments.moments(*seen(arrays, spec), group=group)
                 for arrays in (dataset.train, dataset.test))
  drawn = moments.moments(draws_MV, group=group)
  real = moments.agreement(train, test)
  scores = moments.agreement(drawn, test) | {f'{name}_of_training': x for name, x in real.items()}
  panels = {f'{order} moments': (getattr(train, order), getattr(drawn, order))
            for order in moments.ORDERS}
  return scores, panels
