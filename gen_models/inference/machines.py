"""Questions to Boltzmann machines: of two layers, with a label, and stacked as deep belief nets.

  features         E[h | v] of a layer
  log_likelihood   -F(v), from which log Z is still to be subtracted
  reconstruction   E[v | h] at h = E[h | v]: one Gibbs step by means
  imputation       Gibbs steps with what was seen held (models.gibbs.conditional); of a deep belief
                   net Metropolis-within-Gibbs over all layers (samplers.conditional)
  classes          p(y | v), exact
  mutations        of letters: log-likelihood ratios of every single mutant, exact

Axis suffixes: B rows, C chains, K draws of each row, D values of a row, V visible, H hidden, F
features without the label, Q labels. Nats.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gen_models.evaluation import mutations as mutations_lib
from gen_models.experiment import NO_LETTERS, Questions
from gen_models.models import dbn as dbn_lib, gibbs, joined, label_rbm, rbm, units
from gen_models.models.gibbs import Chains
from gen_models.samplers import conditional

NO_CLASSES = 'it has no label units'


class Reading(NamedTuple):
  """How a machine reads the rows of its experiment.

  Attributes:
    machine: params of the experiment -> params of the machine.
    read: (params, x) -> v.
    write: (params, v) -> x.
    log_det: params -> log |dv/dx|, scalar.
  """

  machine: Callable[[Any], Any] = lambda params: params
  read: Callable[[Any, jax.Array], jax.Array] = lambda params, x: x
  write: Callable[[Any, jax.Array], jax.Array] = lambda params, v: v
  log_det: Callable[[Any], jax.Array | float] = lambda params: 0.0


NORMALISED = Reading(
  machine=lambda params: params.machine, read=lambda params, x: params.see(x),
  write=lambda params, v: params.mean_V + params.scale_V * v,
  log_det=lambda params: -jnp.sum(jnp.log(params.scale_V)))


def boltzmann(model: Any, reading: Reading = Reading(), **options) -> Questions:
  """The questions of a machine of two layers, of any units.

  Args:
    model: models.rbm, or a models.Machine.
    reading: how it reads rows; NORMALISED for estimators.contrastive.Normalised parameters.
    **options: fields of Questions that are to be others, such as `see`.
  """
  def features(key, params, x_BD, *, layer, num_draws):
    del layer
    machine, v_BV = reading.machine(params), reading.read(params, x_BD)
    found = {'features': model.hidden_mean(machine, v_BV)}
    if num_draws:
      h_CH = model.sample_hidden(key, machine, jnp.repeat(v_BV, num_draws, axis=0))
      found['draws'] = h_CH.reshape(len(v_BV), num_draws, -1)
    return found

  def log_likelihood(key, params, x_BD, *, num_samples):
    del key, num_samples
    minus_free_B = -model.free_energy(reading.machine(params), reading.read(params, x_BD))
    return {'log_likelihood': minus_free_B + reading.log_det(params)}

  def reconstruction(key, params, x_BD):
    del key
    machine = reading.machine(params)
    h_BH = model.hidden_mean(machine, reading.read(params, x_BD))
    return {'reconstruction': reading.write(params, model.visible_mean(machine, h_BH))}

  def imputation(key, params, x_BD, *, num_draws, num_steps):
    mean_BV, draws_BKV = gibbs.conditional(
      key, model, reading.machine(params), reading.read(params, x_BD), num_draws, num_steps)
    return {'mean': reading.write(params, mean_BV), 'draws': reading.write(params, draws_BKV)}

  def mutations(key, params, x_BD):
    del key
    return {'mutations': mutations_lib.effects(model, params, x_BD)}

  def chains(key, params, num, *, label, num_steps, temperature, start):
    if label is not None:
      raise ValueError(f'asked for class {label}, but this model was trained without classes')
    machine = tempered(model, reading.machine(params), temperature)
    drawn = _from(key, model, machine, num, num_steps, start)
    return reading.write(params, drawn[0]), reading.write(params, drawn[1])

  return Questions(
    features=features, log_likelihood=log_likelihood, reconstruction=reconstruction,
    imputation=imputation, classes=NO_CLASSES, chains=chains, groups=model.visible.group,
    mutations=mutations if model.visible.group > 1 else NO_LETTERS,
    log_partition=lambda params: model.log_partition(reading.machine(params)))._replace(**options)


def class_rbm(num_labels: int, **options) -> Questions:
  """The questions of models.label_rbm, whose rows are pixels: the label is unknown.

  Features and reconstructions are means over p(y | x); what is imputed is drawn together with the
  label.
  """
  model = label_rbm.model(num_labels)

  def posterior(params, x_BF):
    return jax.nn.softmax(label_rbm.label_log_weights(params, num_labels, x_BF), axis=-1)

  def hidden_mean(params, x_BF):
    """sum_y p(y | x) E[h | x, y], [B, H]."""
    def of_label(y):
      return rbm.hidden_mean(label_rbm.given_label(params, num_labels, y), x_BF)
    return jnp.einsum('qbh,bq->bh', jax.lax.map(of_label, jnp.arange(num_labels)),
                      posterior(params, x_BF))

  def features(key, params, x_BD, *, layer, num_draws):
    del layer
    found = {'features': hidden_mean(params, x_BD)}
    if num_draws:
      key_y, key_h = jax.random.split(key)
      y_KB = jax.random.categorical(
        key_y, label_rbm.label_log_weights(params, num_labels, x_BD), shape=(num_draws, len(x_BD)))
      v_CV = label_rbm.attach(jnp.repeat(x_BD, num_draws, axis=0), y_KB.T.reshape(-1), num_labels)
      h_CH = rbm.sample_hidden(key_h, params, v_CV)
      found['draws'] = h_CH.reshape(len(x_BD), num_draws, -1)
    return found

  def log_likelihood(key, params, x_BD, *, num_samples):
    del key, num_samples
    return {'log_likelihood': jax.nn.logsumexp(
      label_rbm.label_log_weights(params, num_labels, x_BD), axis=-1)}

  def reconstruction(key, params, x_BD):
    del key
    v_BV = rbm.visible_mean(params, hidden_mean(params, x_BD))
    return {'reconstruction': v_BV[:, :x_BD.shape[1]]}

  def imputation(key, params, x_BD, *, num_draws, num_steps):
    unknown_BQ = jnp.full((len(x_BD), num_labels), jnp.nan)
    mean_BV, draws_BKV = gibbs.conditional(
      key, model, params, jnp.concatenate([x_BD, unknown_BQ], axis=-1), num_draws, num_steps)
    width = x_BD.shape[1]
    return {'mean': mean_BV[:, :width], 'draws': draws_BKV[..., :width],
            'probabilities': mean_BV[:, width:]}

  def classes(key, params, x_BD):
    del key
    return {'probabilities': posterior(params, x_BD)}

  def chains(key, params, num, *, label, num_steps, temperature, start):
    params = tempered(model, params, temperature)
    width = len(params.b_V) - num_labels
    if label is not None:
      held = label_rbm.given_label(params, num_labels, label)
      if start is not None:
        start = Chains(start.v_CV[:, :width], start.h_CH)
      return _from(key, rbm, held, num, num_steps, start)
    v_NV, mean_NV = _from(key, model, params, num, num_steps, start)
    return v_NV[:, :width], mean_NV[:, :width]

  return Questions(
    features=features, log_likelihood=log_likelihood, reconstruction=reconstruction,
    imputation=imputation, classes=classes, chains=chains,
    log_partition=lambda params: label_rbm.log_partition(params, num_labels))._replace(**options)


DBN = conditional.Latent(
  sample_prior=lambda key, params, num: dbn_lib.sample(key, params, num, 10)[0],
  sample_posterior=dbn_lib.sample_posterior, log_weight=dbn_lib.log_weights_at,
  visible=lambda key, params, h: _visible_of_dbn(key, params, h))


def _visible_of_dbn(key, params, h):
  mean_CV = rbm.visible_mean(params.layers[0], h[0])
  return units.BERNOULLI.sample(key, params.layers[0].b_V, h[0] @ params.layers[0].w_VH.T), mean_CV


def dbn(labelled: bool = False, **options) -> Questions:
  """The questions of models.dbn: layers are counted from the data, their features mean-field.

  A stack of one layer, as it is in the first training phase, is an ordinary machine.

  Args:
    labelled: whether the top layer sees a label.
    **options: fields of Questions that are to be others.
  """
  single: Any = boltzmann(rbm)

  def features(key, params, x_BD, *, layer, num_draws):
    found = dbn_lib.means(params, x_BD)
    depth = len(found) if layer is None else layer
    answer = {'features': found[depth - 1]}
    if num_draws:
      below_BX = (x_BD, *found)[depth - 1]
      machine = (*dbn_lib.recognition(params), params.layers[-1])[depth - 1]
      num_missing = len(machine.b_V) - below_BX.shape[1]
      if num_missing:  # the label, at its probabilities
        below_BX = jnp.concatenate([below_BX, dbn_lib.label_given_visible(params, x_BD)], axis=-1)
      h_CH = rbm.sample_hidden(key, machine, jnp.repeat(below_BX, num_draws, axis=0))
      answer['draws'] = h_CH.reshape(len(x_BD), num_draws, -1)
    return answer

  def log_likelihood(key, params, x_BD, *, num_samples):
    if len(params.layers) == 1:
      return single.log_likelihood(key, params.layers[0], x_BD, num_samples=num_samples)
    log_w_KB = jax.lax.map(lambda key: dbn_lib.log_weights(key, params, x_BD),
                           jax.random.split(key, num_samples))
    return {'log_weights': log_w_KB.T}

  def reconstruction(key, params, x_BD):
    del key
    return {'reconstruction': dbn_lib.reconstruct(params, x_BD)}

  def imputation(key, params, x_BD, *, num_draws, num_steps):
    if len(params.layers) == 1:
      return single.imputation(key, params.layers[0], x_BD, num_draws=num_draws,
                               num_steps=num_steps)
    found = conditional.impute(key, DBN, params, x_BD, num_draws, num_steps)
    return {'mean': found.mean_BV, 'draws': found.draws_BKV, 'acceptance': found.acceptance_B}

  def classes(key, params, x_BD):
    del key
    if not dbn_lib.num_labels_of(params):
      raise ValueError('the layer with the label has not been trained yet: continue the training')
    return {'probabilities': dbn_lib.label_given_visible(params, x_BD)}

  def chains(key, params, num, *, label, num_steps, temperature, start):
    if temperature != 1:
      raise ValueError('temperature: the density of a deep belief network has no single energy')
    return dbn_lib.sample(key, params, num, num_steps, label, start)

  return Questions(
    features=features, log_likelihood=log_likelihood, reconstruction=reconstruction,
    imputation=imputation, classes=classes if labelled else NO_CLASSES, chains=chains,
    log_partition=dbn_lib.log_partition, num_layers=lambda params: len(params.layers)
  )._replace(**options)


def dbm(model: Any, **options) -> Questions:
  """The questions of a models.dbm.DBM: mean-field features, all layers drawn in imputations.

  Its even layers are one side of a machine of two layers and the odd ones the other
  (models.dbm.DBM.fold), so what is missing is drawn as in any machine, the even layers above the
  data with it.
  """
  size = model.sizes[0]

  def features(key, params, x_BD, *, layer, num_draws):
    del key
    _require_composed(params)
    _no_draws(num_draws)
    found = model.features(params, model.posterior(params, x_BD))
    own = len(found) - (model.num_labels > 0)  # above them lies the label
    return {'features': found[(own if layer is None else layer) - 1]}

  def log_likelihood(key, params, x_BD, *, num_samples):
    _require_composed(params)
    q = model.posterior(params, x_BD)
    x_KBS = model.sample_mean_field(key, params, q, num_samples)
    return {'log_weights': model.log_weights(params, x_BD, q, x_KBS).T}

  def reconstruction(key, params, x_BD):
    del key
    _require_composed(params)
    first_BH = model.features(params, model.posterior(params, x_BD))[0]
    return {'reconstruction': model.layers[0].mean(params.biases[0],
                                                   first_BH @ params.weights[0].T)}

  def imputation(key, params, x_BD, *, num_draws, num_steps):
    _require_composed(params)
    folded = model.fold(params)
    above_BE = jnp.full((len(x_BD), len(folded.w_VH) - size), jnp.nan)
    mean_BV, draws_BKV = gibbs.conditional(
      key, model.machine, folded, jnp.concatenate([x_BD, above_BE], axis=-1), num_draws, num_steps)
    return {'mean': mean_BV[:, :size], 'draws': draws_BKV[..., :size]}

  def classes(key, params, x_BD):
    del key
    _require_composed(params)
    return {'probabilities': model.label_given_visible(params, x_BD)}

  def chains(key, params, num, *, label, num_steps, temperature, start):
    if label is not None:
      raise ValueError('--label with --steps, --temperature or --start: give one of the two')
    folded = tempered(model.machine, model.fold(params), temperature)
    v_CV, mean_CV = _from(key, model.machine, folded, num, num_steps, start)
    return v_CV[:, :size], mean_CV[:, :size]

  return Questions(
    features=features, log_likelihood=log_likelihood, reconstruction=reconstruction,
    imputation=imputation, classes=classes if model.num_labels else NO_CLASSES, chains=chains,
    groups=model.layers[0].group, log_partition=model.log_partition,
    num_layers=lambda params: len(model.sizes) - 1)._replace(**options)


def _require_composed(params: Any) -> None:
  """ValueError while the layers of a deep Boltzmann machine are still trained one by one."""
  if isinstance(params, dbn_lib.Params):
    raise ValueError('the layers of this run are still trained one by one: continue its training')


def _no_draws(num_draws: int) -> None:
  if num_draws:
    raise ValueError('features of a deep Boltzmann machine are means: there are no draws of them')


# Chains.


def tempered(model: Any, params: Any, temperature: float) -> Any:
  """The machine of p(v, h)^(1/T): all parameters over T, of units whose log_base is linear.

  Raises:
    ValueError: T is not positive, or a layer has units of another kind.
  """
  if not temperature > 0:
    raise ValueError(f'a temperature is positive, got {temperature}')
  if temperature == 1:
    return params
  for layer in (model.visible, model.hidden):
    if not all(part.levels or isinstance(part, joined.Labelled) for part in (
        layer.layers if isinstance(layer, joined.Joined) else (layer,))):
      raise ValueError(f'temperature {temperature:g}: of {type(layer).__name__} units p^(1/T) is '
                       'not a machine of the same units, so only temperature 1 can be drawn from')
  return jax.tree.map(lambda x: x / temperature, params)


def _from(key, model, machine, num: int, num_steps: int, start: Chains | None):
  """(v, E[v | h]) after `num_steps` Gibbs steps from `start`, or from the visible biases."""
  if start is None:
    return gibbs.sample(key, model, machine, num, num_steps)
  key_gibbs, key_last = jax.random.split(key)
  chains = gibbs.run(key_gibbs, model, machine, start, num_steps)
  return (model.sample_visible(key_last, machine, chains.h_CH),
          model.visible_mean(machine, chains.h_CH))


def persistent_chains(memory: Any, num: int | None = None) -> Chains | None:
  """The chains of a negative phase, at the model's own rung; None where it has none.

  Args:
    memory: of the estimator, as a checkpoint has it.
    num: how many: they are repeated in turn where there are fewer.
  """
  def is_chains(node):
    return isinstance(node, Chains) or hasattr(node, 'at_model')

  found = [node for node in jax.tree.leaves(memory.chains, is_leaf=is_chains) if is_chains(node)]
  if not found:
    return None
  chains = found[0] if isinstance(found[0], Chains) else found[0].at_model
  if num is None:
    return chains
  rows = jnp.arange(num) % len(chains.h_CH)
  return jax.tree.map(lambda x: x[rows], chains)
