"""Adversarial games of points on a line in the plane, whose critic has two layers, and classes."""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.models.gan import Params

_z, _weight = np.polynomial.hermite_e.hermegauss(40)
Z_K, W_K = jnp.float32(_z), jnp.float32(_weight / _weight.sum())


def log_sigmoid(x):
  return -jnp.log1p(jnp.exp(-x))


class Plane:
  """g(z) = (a_0 + a_1 z, a_2 + a_3 z), f(x) = w.tanh(x M + b): a critic of two layers."""

  params = Params(jnp.float32([0.4, 0.8, -0.3, 0.5]),
                  {'m': jnp.float32([[1.1, -0.4], [0.3, 0.8]]), 'b': jnp.float32([0.2, -0.1]),
                   'w': jnp.float32([[1.4], [-0.6]])})
  batch = jnp.float32([[-1.3, 0.4], [-0.2, 0.9], [0.6, -0.5], [0.9, 0.1], [1.7, -1.1], [0.1, 0.3]])

  def at(self, generator, z):
    return jnp.stack([generator[0] + generator[1] * z, generator[2] + generator[3] * z], axis=-1)

  def generate(self, key, params, num):
    return self.at(params.generator, jax.random.normal(key, (num,)))

  def features(self, params, x_BV):
    return jnp.tanh(x_BV @ params.critic['m'] + params.critic['b'])

  def critic(self, params, x_BV):
    return (self.features(params, x_BV) @ params.critic['w'])[:, 0]

  def loss(self, critic_of, matching=0.0):
    """Both players' non-saturating losses, critic_of(parameters) being those that are used."""
    def players(params, x_BV):
      fixed = jax.lax.stop_gradient(params)

      def f(critic, x_BV):
        return self.critic(Params(None, critic_of(critic)), x_BV)

      def h(x_BV):
        return self.features(fixed, x_BV)

      fixed_KV, x_KV = (self.at(g, Z_K) for g in (fixed.generator, params.generator))
      gap = jnp.mean(h(x_BV), 0) - W_K @ h(x_KV)
      return (-jnp.mean(log_sigmoid(f(params.critic, x_BV)))
              - W_K @ log_sigmoid(-f(params.critic, fixed_KV))
              - W_K @ log_sigmoid(f(fixed.critic, x_KV)) + matching * jnp.sum(gap**2))
    return players


PLANE = Plane()


class Classes:
  """The plane with two classes: g(z, y) = g(z) + y (1, -1), y = -1 or 1, and p(y | h(x))."""

  params = PLANE.params._replace(critic={
    **PLANE.params.critic, 'class': jnp.float32([[0.9, -0.7], [-0.2, 0.6]])})
  batch = jnp.concatenate([PLANE.batch, jax.nn.one_hot(jnp.arange(6) % 2, 2)], axis=1)

  def at(self, generator, z, y):
    sign = (2 * y - 1).astype(jnp.float32)
    return PLANE.at(generator, z) + sign[..., None] * jnp.float32([1.0, -1.0])

  def generate(self, key, params, num):
    y = jnp.arange(num) % 2
    x_BV = self.at(params.generator, jax.random.normal(key, (num,)), y)
    return jnp.concatenate([x_BV, jax.nn.one_hot(y, 2, dtype=x_BV.dtype)], axis=1)

  def critic(self, params, x_BV):
    return PLANE.critic(params, x_BV[:, :2])

  def judge(self, params, x_BV):
    log_p_BQ = jax.nn.log_softmax(PLANE.features(params, x_BV[:, :2]) @ params.critic['class'])
    return self.critic(params, x_BV), -jnp.sum(x_BV[:, 2:] * log_p_BQ, axis=1)

  def loss(self, weight):
    """Both players' non-saturating losses with the auxiliary classifier's of that weight."""
    def players(params, x_BV):
      fixed = jax.lax.stop_gradient(params)

      def expected(generator, critic):
        """Over z and both classes: (E log sigmoid(-f), E log sigmoid(f), E -log p(y | x))."""
        sums = jnp.zeros(3)
        for y in (0, 1):
          x_KV = self.at(generator, Z_K, jnp.full(len(Z_K), y))
          rows_KV = jnp.concatenate([x_KV, jnp.broadcast_to(jax.nn.one_hot(y, 2), x_KV.shape)], 1)
          f_K, error_K = self.judge(Params(None, critic), rows_KV)
          sums += 0.5 * jnp.stack([W_K @ log_sigmoid(-f_K), W_K @ log_sigmoid(f_K), W_K @ error_K])
        return sums

      f_B, error_B = self.judge(params, x_BV)
      dislikes, _, errors = expected(fixed.generator, params.critic)
      _, likes, generators_errors = expected(params.generator, fixed.critic)
      return (-jnp.mean(log_sigmoid(f_B)) - dislikes - likes
              + weight * (jnp.mean(error_B) + errors + generators_errors))
    return players


CLASSES = Classes()
