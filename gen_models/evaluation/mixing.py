"""How well the chains behind draws of a deep belief network mix: what stands beside their scores.

Chains of the top layer begin as those of a draw do and are followed for T Gibbs steps; every few
steps each is shown as an image, the mean-field pass down from its state.

  autocorrelation_time   tau = 1 + 2 sum_t rho(t) in Gibbs steps, rho that of monitors; at most
                         2 T + 1, and a value near it means: longer than was looked
  classes_visited        mean over chains of the number of classes that their images belong to, by
                         the nearest of some training images
  classes_independent    what as many independent images of the same classes would visit,
                         sum_q 1 - (1 - p_q)^S

The training images name classes; no chain begins at one.

Axis suffixes: C chains, S states looked at, V visible, N training images, Q classes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.evaluation import monitors, samples
from gen_models.models import dbn, gibbs, label_rbm, rbm


@functools.partial(jax.jit, static_argnames=('num_chains', 'gibbs_steps', 'num_steps', 'num_looks'))
def followed(key, params: dbn.Params, num_chains: int, gibbs_steps: int, num_steps: int,
             num_looks: int) -> tuple[jax.Array, jax.Array]:
  """(rho [T], images [S, C, V]) of chains that start as those of dbn.sample, after its steps.

  Args:
    key: consumed.
    params: the net.
    num_chains: C.
    gibbs_steps: behind the state that is followed, as of dbn.sample.
    num_steps: T.
    num_looks: S, evenly over the T steps, the state before the first step among them.
  """
  num_labels = dbn.num_labels_of(params)
  model, top = label_rbm.model(num_labels) if num_labels else rbm, params.layers[-1]
  key_start, key_gibbs, key_rho, key_look = jax.random.split(key, 4)
  start = dbn.top_chains(key_start, params, num_chains, gibbs_steps)
  start = gibbs.run(key_gibbs, model, top, start, gibbs_steps)
  rho_T = monitors.autocorrelation(key_rho, model, top, start, num_steps)

  def look(chains, key):
    return gibbs.run(key, model, top, chains, num_steps // num_looks), image(params, chains.h_CH)

  return rho_T, lax.scan(look, start, jax.random.split(key_look, num_looks))[1]


def image(params: dbn.Params, h_BH) -> jax.Array:
  """The mean-field pass down from hidden units of the top layer, [B, V]."""
  *lower, top = params.layers
  x_BV = rbm.visible_mean(top, h_BH)[:, :len(top.b_V) - dbn.num_labels_of(params)]
  for layer in reversed(lower):
    x_BV = rbm.visible_mean(layer, x_BV)
  return x_BV


def visited(class_SC, num_classes: int) -> tuple[float, float]:
  """(classes_visited, classes_independent) of the classes of S states of C chains."""
  class_SC = np.asarray(class_SC)
  seen_CQ = (class_SC[..., None] == np.arange(num_classes)).any(0)
  p_Q = np.bincount(class_SC.ravel(), minlength=num_classes) / class_SC.size
  return float(seen_CQ.sum(1).mean()), float(np.sum(1 - (1 - p_Q)**len(class_SC)))


@jax.jit
def _nearest(x_BV, v_NV, label_N):
  return label_N[jnp.argmin(samples.squared_distances(x_BV, v_NV), axis=1)]


def scores(key, params: dbn.Params, v_NV, label_N=None, *, num_classes: int = 0,
           num_chains: int = 100, gibbs_steps: int = 1000, num_steps: int = 1000,
           num_looks: int = 20) -> dict[str, float]:
  """The scores above; without labels only the autocorrelation time.

  Args:
    key: consumed.
    params: the net.
    v_NV: training images, of which the first 5,000 name classes.
    label_N: their classes, or None.
    num_classes: Q.
    num_chains, gibbs_steps, num_steps, num_looks: as of `followed`.
  """
  rho_T, x_SCV = followed(key, params, num_chains, gibbs_steps, num_steps, num_looks)
  found = {'autocorrelation_time': float(monitors.autocorrelation_time(rho_T))}
  if label_N is not None and num_classes:
    v_NV, label_N = (jnp.asarray(x[:5000]) for x in (v_NV, label_N))
    class_SC = np.stack([_nearest(x_CV, v_NV, label_N) for x_CV in x_SCV])
    found['classes_visited'], found['classes_independent'] = visited(class_SC, num_classes)
  return found
