"""A phase small enough to run anywhere: RBM 12-5 on random images, batch 8, 16 chains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gen_models import data
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.directions import centred
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.estimators.negative import persistent, reconstruction
from gen_models.experiment import Experiment, Phase
from gen_models.models import rbm

ESTIMATORS = {
  'exact': lambda: maximum_likelihood(rbm.log_likelihood),
  'cd': lambda: contrastive(rbm, reconstruction(2)),
  'pcd': lambda: contrastive(rbm, persistent(chains=16, steps=2)),
  'centred': lambda: contrastive(rbm, persistent(chains=16), direction=centred(0.1)),
}


def arrays(num_images: int = 40) -> data.Arrays:
  """uint8 images [N, 4, 3, 1]."""
  images = np.random.default_rng(0).integers(0, 256, (num_images, 4, 3, 1), dtype=np.uint8)
  return data.Arrays(images, np.zeros(num_images, np.int32))


def phase(estimator: str = 'centred', *, learning_rate=0.1, num_steps: int = 50,
          average: float = 0.0, batch_size: int = 8, name: str = 'rbm') -> Phase:
  def init(key, arrays, previous_params):
    if previous_params is not None:
      return previous_params
    return rbm.init(key, 12, 5, arrays.images.reshape(len(arrays.images), -1).mean(0) / 255, 0.1)

  return Phase(name, init, ESTIMATORS[estimator](), optax.sgd(learning_rate, 0.5),
               data.batches(batch_size, 'dynamic', 255), num_steps, batch_size, average)


def experiment(*phases: Phase, **changes) -> Experiment:
  def validate(key, params, arrays):
    del key
    x_NV = data.fixed(arrays, 'threshold', 255)
    return {'valid_nats': jnp.mean(rbm.log_likelihood(params, x_NV))}

  values = dict(dataset='toy', binarisation='dynamic', phases=phases or (phase(),),
                evaluate=lambda *args: {}, validate=validate, headline='valid_nats',
                steps_per_dispatch=10, validate_every=20)
  return Experiment(**{**values, **changes})


def same_bits(a, b) -> bool:
  """Whether two trees hold the same bits, keys included."""
  def raw(x):
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
  return jax.tree.structure(a) == jax.tree.structure(b) and all(
    raw(x).tobytes() == raw(y).tobytes() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b),
                                                         strict=True))
