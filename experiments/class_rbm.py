"""Class RBM: a label among the visible units, trained for p(x, y), for p(y | x), or for both.

  python -m launch.train --experiment=class_rbm --variant=digits_hybrid --workdir=runs/class_rbm
  python -m launch.evaluate --workdir=runs/class_rbm

The joint gradient is PCD's, the discriminative one exact, the hybrid their weighted sum. Adam, the
learning rate falling linearly to 0.

Score: error of argmax_y p(y | x) on test images in percent and -log p(y | x) in nats, mean +-
standard deviation over seeds; no likelihood of images is computed. Published for MNIST
(Larochelle & Bengio, 2008): discriminative 1.81 %.

  digits_joint           15.80 +- 0.73 %  5 seeds; p(x, y), by persistent contrastive divergence
  digits_discriminative  7.93 +- 0.43 %   5 seeds; p(y | x)
  digits_hybrid          7.20 +- 0.51 %   5 seeds; discriminative + 0.1 joint

Without a variant it is the hybrid on MNIST; --set=objective=joint or discriminative is another.
Cost on 2 CPU cores shared with other work: digits 30 seconds.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._common import custom
from experiments._common.binary import seen
from gen_models import data, indices, inference
from gen_models.domains import DatasetName, NonNegative, NumUpdates, PositiveInt, Width
from gen_models.estimators.base import Memory, weighted
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.negative import persistent
from gen_models.estimators.sampling_free import discriminative
from gen_models.evaluation import figures, likelihood, monitors
from gen_models.experiment import Experiment, Phase, Samples
from gen_models.models import gibbs, label_rbm, rbm, units

_DIGITS = dict(dataset='digits', num_hidden=64, num_steps=6000)
VARIANTS = {
  'digits_joint': dict(_DIGITS, objective='joint'),
  'digits_discriminative': dict(_DIGITS, objective='discriminative'),
  'digits_hybrid': dict(_DIGITS),
}


def check(model, params, v_BV) -> None:
  """Phase.check: raises ValueError unless the batch is of binary pixels and one-of-Q labels."""
  units.check_batch(model.visible, len(params.b_V), v_BV)


def classify(params, num_labels: int, x_NF, label_N, weights_N=None):
  """Percent of images whose label is not the most probable, and -mean log p(y | x) in nats.

  Both weighted where rows are.
  """
  log_p_NQ, y_N = jax.nn.log_softmax(
    label_rbm.label_log_weights(params, num_labels, x_NF)), jnp.asarray(label_N)
  picked_N = jnp.take_along_axis(log_p_NQ, y_N[:, None], axis=1)[:, 0]
  return (100 * data.mean(log_p_NQ.argmax(-1) != y_N, weights_N),
          -data.mean(picked_N, weights_N))


def sampler(shape, num_labels: int):
  """Experiment.sample: of one class or, where none is asked for, of all classes cyclically."""
  @jax.jit
  def of_class(key, params, label):
    # The label held, what remains is an ordinary machine.
    return gibbs.sample(key, rbm, label_rbm.given_label(params, num_labels, label), 1)

  def sample(key, params, num, label):
    if label is not None:
      indices.check('label', label, num_labels, 'classes')
    labels = np.arange(num) % num_labels if label is None else np.full(num, label)
    draws, means = jax.vmap(of_class, (0, None, 0))(
      jax.random.split(key, num), params, jnp.asarray(labels))
    return Samples(draws.reshape(num, *shape), means.reshape(num, *shape))

  return sample


def experiment(*, dataset: DatasetName = 'mnist',
               binarisation: Literal['dynamic', 'threshold'] = 'threshold',
               objective: Literal['joint', 'discriminative', 'hybrid'] = 'hybrid',
               num_hidden: Width = 500, joint_weight: NonNegative = 0.1, steps: PositiveInt = 1,
               chains: PositiveInt = 100, estimator: custom.Estimator | None = None,
               learning_rate: NonNegative = 1e-3,
               batch_size: PositiveInt = 100, num_steps: NumUpdates = 20_000) -> Experiment:
  """joint_weight is the weight of -log p(x, y), added to -log p(y | x), in the hybrid.

  Longer than 45 lines because labels stand beside the images in batches, monitor and scores.
  """
  spec = data.spec(dataset)
  shape = spec.seen_shape
  num_labels = data.classes_of(spec)
  model = label_rbm.model(num_labels)
  draw = sampler(shape, num_labels)
  rows = data.batches(batch_size, binarisation, spec, with_labels=True)

  def batch_at(key, arrays, step):
    x_BF, y_B = rows(key, arrays, step)
    return label_rbm.attach(x_BF, y_B, num_labels)

  def init(key, arrays, previous_params):
    del previous_params
    mean_F = data.fixed(arrays, binarisation, spec, split='train').mean(0)
    params = rbm.init(key, len(mean_F) + num_labels, num_hidden)
    return params._replace(b_V=model.visible.init(
      jnp.concatenate([mean_F, jnp.full(num_labels, 1 / num_labels)])))

  def errors(params, arrays, split):
    x_NF = data.fixed(arrays, binarisation, spec, split=split)
    return classify(params, num_labels, x_NF, arrays.labels, arrays.weights)

  def validate(key, params, arrays):
    del key
    error, cross_entropy = errors(params, arrays, 'valid')
    return {'valid_error_percent': error, 'valid_cross_entropy': cross_entropy,
            'valid_minus_cross_entropy': -cross_entropy}

  def evaluate(key, params, dataset, report):
    del key, report
    error, cross_entropy = jax.jit(errors, static_argnums=2)(params, dataset.test, 'test')
    return likelihood.no_likelihood(
      'judged as a classifier', num_images=len(dataset.test.rows), binarisation=binarisation,
      split='test', weights_N=dataset.test.weights,
      scores={'error_percent': float(error), 'cross_entropy': float(cross_entropy)})

  def pictures(key, params, dataset):
    machine, shown = params._replace(w_VH=params.w_VH[:-num_labels]), min(num_labels, 20)
    of_class = np.concatenate([np.asarray(draw(k, params, 8, y).means).reshape(8, -1)
                               for y, k in enumerate(jax.random.split(key, shown))])
    return {**figures.rbm_filters(shape)(key, machine, dataset),
            'samples of each class': figures.to_grid(of_class, shape, shown, 8)}

  def see(params, arrays, split):
    x_NF = data.fixed(arrays, binarisation, spec, split=split)
    return params, label_rbm.attach(x_NF, jnp.asarray(arrays.labels), num_labels)

  def monitor(key, params, memory, train, valid):
    # The hybrid's memory is that of its two parts, of which the joint one has chains.
    if objective == 'hybrid' and estimator is None:
      memory = Memory(memory.chains[1], memory.shared[1])
    return monitors.of_machine(model, see)(key, params, memory, train, valid)

  joint, given = contrastive(model, persistent(chains, steps)), discriminative(num_labels)
  ours = {'joint': joint, 'discriminative': given,
          'hybrid': weighted((given, 1.0), (joint, joint_weight))}[objective]
  return Experiment(
    dataset=dataset, binarisation=binarisation,
    phases=(Phase('class_rbm', init, custom.chosen(estimator, ours),
                  optax.adam(optax.linear_schedule(learning_rate, 0.0, num_steps)), batch_at,
                  num_steps, batch_size, check=functools.partial(check, model), monitor=monitor,
                  # A machine trained for p(y | x) need not be a good model of images.
                  alarms=monitors.ALARMS if objective == 'joint' else monitors.UNIT_ALARMS),),
    evaluate=evaluate, validate=validate, headline='valid_minus_cross_entropy', pictures=pictures,
    sample=draw, steps_per_dispatch=200,
    questions=inference.class_rbm(num_labels, see=seen(binarisation)),
    model=model,
    protocol='error on all test images, last parameters')
