"""Up-down: contrastive wake-sleep for all layers of a deep belief network, its two ways apart.

  wake    h ~ q(h | v), data;          W_l, b_l by the gradient of  -log p(h_{l-1} | h_l)
  top     its own contrastive gradient on (h_{L-1}, y), any negative phase
  sleep   states of the top's negative phase, passed down by p; U_l, c_l by the gradient of
          -log q(h_l | h_{l-1})

In expectation over the data, over q and, where the negative phase is unbiased, over the model, this
is the gradient of

  E_data E_q[-log p(v, h, y)]    for the generative weights and the top, with q held still, and of
  E_p[-log q(h | v)]             for the recognition weights, with p held still:

the first is the net's bound up to the entropy of q, the second is not, so up-down follows no single
loss (wake-sleep never does); each half is exact for what it moves. With `reconstruction` in the
negative phase the fantasies of the sleep phase begin at the data, and nothing of it is exact: the
contrastive form of the paper. Greedy training sees neither: a layer below is never told what the
ones above it have become.

Hinton, Osindero & Teh (2006), A fast learning algorithm for deep belief nets, appendix B.

Axis suffixes: B batch, C chains, V visible, F units that the top layer sees without the label.
"""

import jax
import jax.numpy as jnp

from gen_models.estimators import base
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.directions import PLAIN, Direction
from gen_models.estimators.negative import Negative
from gen_models.models import bits, dbn, label_rbm, rbm
from gen_models.models.rows import mean_rows

_FANTASIES = 'fantasies'


def up_down(negative: Negative, *, num_labels: int = 0,
            direction: Direction = PLAIN) -> base.Estimator:
  """The gradient above, for dbn.Untied of Bernoulli layers.

  Args:
    negative: of the top layer, and the states that the sleep phase begins at.
    num_labels: Q, what the top layer sees beside features.
    direction: of the top layer's gradient.

  Returns:
    an Estimator whose batch is v_BV, or (v_BV, y_B) with labels. Metrics: those of the top layer's,
    `wake_loss` and `sleep_loss`, the two losses without the top layer's part, nats.
    `grad` raises ValueError, when traced, for a negative phase whose rows are no draws of the model
    by themselves, such as coupled chains with their correction.
  """
  model = label_rbm.model(num_labels) if num_labels else rbm
  inner = contrastive(model, _watched(negative), direction=direction)

  def init(key, params):
    return inner.init(key, params.layers[-1])

  def grad(key, params, memory, batch):
    key_up, key_top, key_down = jax.random.split(key, 3)
    v_BV, y_B = batch if num_labels else (batch, None)
    x = (v_BV, *dbn.sample_posterior(key_up, params, v_BV))
    seen_BV = label_rbm.attach(x[-1], y_B, num_labels) if num_labels else x[-1]
    top, memory, metrics = inner.grad(key_top, params.layers[-1], memory, seen_BV)
    fantasy_CF = metrics.pop(_FANTASIES)[:, :x[-1].shape[1]]
    fantasy = passed_down(key_down, params, fantasy_CF)
    lower, wake = zip(*(_down(*parts) for parts in zip(params.layers[:-1], x[:-1], x[1:])))
    up, sleep = zip(*(_up(*parts) for parts in zip(params.up, fantasy[:-1], fantasy[1:])))
    return dbn.Untied((*lower, top), up), memory, {
      **metrics, 'wake_loss': sum(wake, jnp.zeros(())), 'sleep_loss': sum(sleep, jnp.zeros(()))}

  def at_top(target: base.Target) -> base.Target:
    def of_net(grads, params, memory):
      *lower, top = grads.layers
      return grads._replace(layers=(*lower, target(top, params.layers[-1], memory)))
    return of_net

  return base.Estimator(init, grad, inner.biased, at_top(inner.target) if inner.target else None)


def passed_down(key, params: dbn.Untied, x_CF) -> tuple[jax.Array, ...]:
  """(v, h_1, .., h_{L-1}): h_{L-1} as given, and p(h_{l-1} | h_l) down to the data."""
  lower = params.layers[:-1]
  fantasy = [x_CF]
  for key_x, layer in zip(jax.random.split(key, max(1, len(lower))), reversed(lower)):
    fantasy.insert(0, bits.bernoulli(key_x, rbm.visible_mean(layer, fantasy[0])))
  return tuple(fantasy)


def _down(layer: rbm.Params, x_BV, h_BH):
  """(gradient, loss) of -mean log p(x | h) by W and b."""
  gap_BV = rbm.visible_mean(layer, h_BH) - x_BV
  loss = -mean_rows(dbn.bernoulli_log_prob(rbm.visible_input(layer, h_BH), x_BV))
  return rbm.Params(gap_BV.T @ h_BH / len(x_BV), mean_rows(gap_BV),
                    jnp.zeros_like(layer.c_H)), loss


def _up(layer: rbm.Params, x_CV, h_CH):
  """(gradient, loss) of -mean log q(h | x) by W and c."""
  gap_CH = rbm.hidden_mean(layer, x_CV) - h_CH
  loss = -mean_rows(dbn.bernoulli_log_prob(rbm.hidden_input(layer, x_CV), h_CH))
  return rbm.Params(x_CV.T @ gap_CH / len(x_CV), jnp.zeros_like(layer.b_V),
                    mean_rows(gap_CH)), loss


def _watched(negative: Negative) -> Negative:
  """`negative` with its visible rows among the metrics, from where up_down takes them."""
  def sample(key, model, params, memory, y_BH):
    drawn, memory = negative.sample(key, model, params, memory, y_BH)
    if drawn.correction is not None:
      raise ValueError('the sleep phase needs draws of the model: the rows of this negative phase '
                       'stand for it only together with a correction')
    return drawn._replace(metrics={**drawn.metrics, _FANTASIES: drawn.v_CV}), memory

  return negative._replace(sample=sample)
