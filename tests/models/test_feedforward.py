"""Networks against NumPy: the pass, the losses' gradients written out, the unrolled stack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import autoencoder, classifier
from gen_models.estimators.base import Memory, from_loss
from gen_models.models import dbn, feedforward, rbm
from tests import oracle
from tests.models.deep import sigmoid, stack

pytestmark = pytest.mark.usefixtures('strict_promotion')

STACK = stack(5, 4, 3)
X_BV = jnp.float32(np.random.default_rng(0).random((6, 5)))
Y_B = jnp.int32([0, 2, 1, 1, 3, 9])


def float64(params):
  return [oracle.float64(layer) for layer in params.layers]


def activations(layers, x):
  """Of every layer, the last one linear."""
  xs = [np.asarray(x, np.float64)]
  for layer in layers[:-1]:
    xs.append(sigmoid(xs[-1] @ layer.w_IO + layer.b_O))
  return [*xs, xs[-1] @ layers[-1].w_IO + layers[-1].b_O]


def backward(layers, xs, d):
  """Gradients of each layer (Rumelhart, Hinton & Williams, 1986), and of the input."""
  grads = []
  for layer, x, y in zip(reversed(layers), reversed(xs[:-1]), reversed(xs[1:])):
    d = d * y * (1 - y) if grads else d
    grads.insert(0, (x.T @ d, d.sum(0)))
    d = d @ layer.w_IO.T
  return grads, d


def assert_same(ours, theirs):
  for layer, (w, b) in zip(ours.layers, theirs, strict=True):
    np.testing.assert_allclose(layer.w_IO, w, atol=2e-6)
    np.testing.assert_allclose(layer.b_O, b, atol=2e-6)


def test_a_stack_as_a_classifier_is_its_mean_field_pass_under_a_uniform_softmax():
  params = feedforward.classifier(STACK.layers, 10)
  hidden = feedforward.Params((*params.layers[:2], feedforward.Layer(jnp.eye(3), jnp.zeros(3))))
  grown = dbn.grow(jax.random.key(0), STACK, X_BV, 7)
  np.testing.assert_allclose(feedforward.forward(hidden, X_BV), dbn.feature_means(grown, X_BV),
                             rtol=1e-6)
  np.testing.assert_allclose(feedforward.class_log_probabilities(params, X_BV), np.log(0.1),
                             rtol=1e-6)


def test_the_unrolled_stack_is_the_pass_up_and_down():
  params = feedforward.unrolled(STACK.layers)
  lower, top = STACK.layers
  code = rbm.hidden_input(top, rbm.hidden_mean(lower, X_BV))
  np.testing.assert_allclose(feedforward.forward(params.encoder, X_BV), code, rtol=1e-6)
  down = rbm.visible_mean(lower, rbm.visible_mean(top, code))
  np.testing.assert_allclose(jax.nn.sigmoid(feedforward.pixel_log_odds(params, X_BV)), down,
                             rtol=1e-5)


def test_the_gradient_of_the_classifier_is_backpropagation():
  params = feedforward.init(jax.random.key(1), [5, 4, 3, 10])
  grads, _, metrics = from_loss(classifier.cross_entropy()).grad(
    jax.random.key(0), params, Memory(), (X_BV, Y_B))
  layers = float64(params)
  xs = activations(layers, X_BV)
  p_BQ = np.exp(xs[-1]) / np.exp(xs[-1]).sum(1, keepdims=True)
  np.testing.assert_allclose(feedforward.class_log_probabilities(params, X_BV), np.log(p_BQ),
                             atol=1e-5)
  np.testing.assert_allclose(metrics['loss'], -np.log(p_BQ[np.arange(6), Y_B]).mean(), rtol=1e-5)
  np.testing.assert_allclose(metrics['train_error_percent'],
                             100 * np.mean(p_BQ.argmax(1) != np.asarray(Y_B)), rtol=1e-6)
  assert_same(grads, backward(layers, xs, (p_BQ - np.eye(10)[np.asarray(Y_B)]) / 6)[0])


def test_the_gradient_of_the_autoencoder_is_backpropagation():
  params = feedforward.init_autoencoder(jax.random.key(1), [5, 4, 2])
  grads, _, metrics = from_loss(autoencoder.cross_entropy()).grad(
    jax.random.key(0), params, Memory(), X_BV)
  encoder, decoder = float64(params.encoder), float64(params.decoder)
  up = activations(encoder, X_BV)
  down = activations(decoder, up[-1])
  x, m = np.asarray(X_BV, np.float64), sigmoid(down[-1])
  loss = -np.sum(x * np.log(m) + (1 - x) * np.log1p(-m), axis=1).mean()
  np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-6)
  np.testing.assert_allclose(metrics['squared_error'], np.sum((x - m)**2, axis=1).mean(), rtol=1e-5)
  of_decoder, d = backward(decoder, down, (m - x) / 6)
  assert_same(grads.decoder, of_decoder)
  assert_same(grads.encoder, backward(encoder, up, d)[0])
  assert autoencoder.squared_error(X_BV, X_BV) == 0


def test_dropout_leaves_the_mean_of_what_a_layer_sees():
  # Of one hidden layer f is linear in the mask: its mean is f without one, its variance closed.
  params, rate = feedforward.init(jax.random.key(1), [5, 4, 3]), 0.4
  draw = jax.jit(jax.vmap(feedforward.dropped, (0, None, None, None)))
  keys = jax.random.split(jax.random.key(2), 2**14)
  f_KQ = np.asarray(draw(keys, params, X_BV[:1], rate), np.float64)[:, 0]
  xs = activations(float64(params), X_BV[:1])
  assert oracle.mean_p_value(f_KQ, xs[-1][0]) > oracle.SIGNIFICANCE
  variance_Q = rate / (1 - rate) * xs[-2][0]**2 @ np.asarray(params.layers[1].w_IO, np.float64)**2
  assert oracle.mean_p_value((f_KQ - xs[-1][0])**2, variance_Q) > oracle.SIGNIFICANCE
  np.testing.assert_allclose(feedforward.dropped(jax.random.key(3), params, X_BV, 0.0),
                             feedforward.forward(params, X_BV), rtol=1e-6)


def test_weights_start_at_their_scale():
  params = feedforward.init(jax.random.key(0), [300, 200, 100])
  for layer, gain in zip(params.layers, (4, 1), strict=True):
    expected = gain * np.sqrt(2 / sum(layer.w_IO.shape))
    # 20,000 normal deviates or more: their sd lies this near for all but 1 key in 10^8.
    assert abs(np.std(layer.w_IO) / expected - 1) < 0.03 and not np.any(layer.b_O)
  both = feedforward.init_autoencoder(jax.random.key(0), [9, 5, 2])
  assert [x.w_IO.shape for half in both for x in half.layers] == [(9, 5), (5, 2), (2, 5), (5, 9)]


def test_a_replica_is_bitwise_identical_to_its_single_run():
  # Sizes at which XLA's reductions over rows differ under vmap (see mean_rows).
  images = jnp.float32(np.random.default_rng(1).random((100, 64)))
  labels = jnp.int32(np.arange(100) % 10)

  def grad(key, images, labels):
    params = feedforward.init(key, [64, 48, 32, 10])
    return from_loss(classifier.cross_entropy()).grad(
      jax.random.key(9), params, Memory(), (images, labels))[0]

  with jax.debug_key_reuse(False):
    keys = jax.random.split(jax.random.key(3), 3)
    many = jax.jit(jax.vmap(grad, (0, None, None)))(keys, images, labels)
    for i in range(3):
      one = jax.jit(grad)(keys[i], images, labels)
      for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_array_equal(a[i], b)
