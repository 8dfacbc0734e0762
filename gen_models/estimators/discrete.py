"""Gradients for discrete latents, by what each does with the logits of one layer.

  f(z) = log p(x, z) - log q(z | x),    -B grads = d E_q[f] / d parameters

falls into the gradient of log p at samples z, which needs no care, and the gradient along the
logits t of q, from which the encoder has its own. The estimators below do the second: from values
of f, and some from its derivatives, they make d E[f(z)] / d t; `discrete` does everything else.
With m = E_q[z], d log q(z) / d t is z - m, for binary and for categorical units.

In a model of several layers each layer is seen with those below it sampled once and those above it
sampled anew at every evaluation of f, so what is unbiased for one layer is for all of them; a
gradient then costs the evaluations of each layer. What an estimator learns (scales, control
variates), it learns by an optimizer of its own in Memory.shared: f is given to it with all
parameters held, so nothing of that gradient reaches the model.

Axis suffixes: B batch, K samples, Z latents, U units, Q states of a unit, S states of a layer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gen_models.estimators import base
from gen_models.estimators.baselines import Optimizer, follow
from gen_models.estimators.relaxed import as_numbers, as_states, conditional, gumbel_noise
from gen_models.models import networks, vae

MAX_STATES = 4096


class Reward(Protocol):
  """f of samples of a layer."""

  def __call__(self, key: jax.Array, z_KBZ: jax.Array, given_BZ: jax.Array | None = None,
               /) -> jax.Array:
    """f, [K, B] nats; the layers above are drawn given z, or given `given_BZ`."""
    ...


class Layer(NamedTuple):
  """A layer of latents, as an estimator sees it.

  Attributes:
    logits_BZ: of q.
    reward: (key, z_KBZ) -> f [K, B]; the key is for the layers above. It can be differentiated
      along z, which may then lie between states, and in nothing else. With (key, z_KBZ, given_BZ)
      the layers above are drawn given that, so that f has no jumps along z.
    latent: the family of its units.
  """

  logits_BZ: jax.Array
  reward: Reward
  latent: vae.Family

  @property
  def mean_BZ(self) -> jax.Array:
    """E_q[z]."""
    return self.latent.mean(self.logits_BZ)

  def along_logits(self, along_mean_BZ: jax.Array) -> jax.Array:
    """(d m / d t) of a gradient along m."""
    return jax.vjp(self.latent.mean, self.logits_BZ)[1](along_mean_BZ)[0]


class Found(NamedTuple):
  """The gradient of E[f] along the logits, and samples for that of log p.

  weights_KB: of the samples, None for equal ones.
  """

  gradient_BZ: jax.Array
  z_KBZ: jax.Array
  weights_KB: jax.Array | None = None


class Estimate(Protocol):
  """One estimate for a layer."""

  def __call__(self, key: jax.Array, state: Any, layer: Layer, /) -> tuple[Found, Any]:
    """The gradient and the state after it; the key is consumed."""
    ...


class Logits(NamedTuple):
  """An estimator of d E[f(z)] / d logits.

  Attributes:
    estimate: (key, state, layer) -> (Found, state).
    init: (key, latent, width) -> its state for a layer of `width` numbers.
    only_binary: whether it is defined for binary units alone.
    most_states: of a layer, above which it is refused; None for any number.
  """

  estimate: Estimate
  init: Callable[[jax.Array, vae.Family, int], Any] = lambda key, latent, width: ()
  only_binary: bool = False
  most_states: int | None = None


def discrete(model: vae.Model, logits: Logits) -> base.Estimator:
  """grads of -ELBO by an estimator of the gradient along the logits of each layer.

  Metrics are `elbo`, the mean of f over the samples of the first layer, and `distortion`, that of
  -log p(x | z).

  Raises:
    ValueError: latents for which the estimator is not defined.
  """
  _require(model, logits)

  def weights(params, code_BO, x_BV, z):
    return (model.log_likelihood(params, x_BV, z) + model.log_prior(params, z)
            - model.log_posterior(params, code_BO, z))

  def complete(key, params, below, z_KBZ, given_BZ=None):
    """All layers, those below broadcast and those above sampled, given z or given_BZ."""
    z = [jnp.broadcast_to(z_BZ, (len(z_KBZ), *z_BZ.shape)) for z_BZ in below] + [z_KBZ]
    seen = z_KBZ if given_BZ is None else jnp.broadcast_to(given_BZ, z_KBZ.shape)
    for i in range(len(z), len(model.widths)):
      key, key_i = jax.random.split(key)
      seen = model.latent.sample(key_i, model.encode_layer(params, i, seen))
      z.append(seen)
    return tuple(z)

  def init(key, params):
    del params
    return base.Memory(shared=tuple(
      logits.init(k, model.latent, width)
      for k, width in zip(jax.random.split(key, len(model.widths)), model.widths, strict=True)))

  def grad(key, params, memory, x_BV):
    code_BO, pull = jax.vjp(lambda params: model.encode(params, x_BV), params)
    logits_BZ, below, grads, states, layers = code_BO, [], [], [], []
    key, key_p = jax.random.split(key)
    for i, state in enumerate(memory.shared):
      key, key_layer, key_below = jax.random.split(key, 3)

      def reward(key, z_KBZ, given_BZ=None, below=tuple(below)):
        return weights(params, code_BO, x_BV, complete(key, params, below, z_KBZ, given_BZ))

      found, state = logits.estimate(key_layer, state, Layer(logits_BZ, reward, model.latent))
      grads.append(pull(found.gradient_BZ / -len(x_BV))[0])
      states.append(state)
      layers.append(found)
      if i + 1 < len(model.widths):
        below.append(model.latent.sample(key_below, logits_BZ))
        logits_BZ, pull = jax.vjp(
          lambda params, i=i, z_BZ=below[-1]: model.encode_layer(params, i + 1, z_BZ), params)

    z, a_KB = complete(key_p, params, (), layers[0].z_KBZ), layers[0].weights_KB

    def log_p(params):
      log_x_KB = model.log_likelihood(params, x_BV, z)
      return log_x_KB + model.log_prior(params, z), log_x_KB

    log_p_KB, pull_p, log_x_KB = jax.vjp(log_p, params, has_aux=True)
    a_KB = jnp.full_like(log_p_KB, 1 / len(log_p_KB)) if a_KB is None else a_KB
    grads = jax.tree.map(lambda *g: sum(g), pull_p(a_KB / -len(x_BV))[0], *grads)
    l_KB = log_p_KB - model.log_posterior(params, code_BO, z)
    elbo, distortion = (jnp.mean(jnp.sum(a_KB * v_KB, axis=0)) for v_KB in (l_KB, -log_x_KB))
    return grads, memory._replace(shared=tuple(states)), {'elbo': elbo, 'distortion': distortion}

  return base.Estimator(init, grad)


# Pairs and tuples of samples that repel each other.


def arm(pairs: int = 1) -> Logits:
  """(f(1[u > 1 - m]) - f(1[u < m])) (u - 1/2),  u uniform (Yin & Zhou, 2019).

  Augment-REINFORCE-merge: for binary units.
  """
  _require_samples(pairs)

  def estimate(key, state, layer):
    key_u, key_f = jax.random.split(key)
    m_BZ = layer.mean_BZ
    u_KBZ = jax.random.uniform(key_u, (pairs, *m_BZ.shape))
    z_2KBZ = jnp.stack([u_KBZ > 1 - m_BZ, u_KBZ < m_BZ]).astype(m_BZ.dtype)
    z_KBZ = z_2KBZ.reshape(-1, *m_BZ.shape)
    f_2KB = layer.reward(key_f, z_KBZ).reshape(2, pairs, -1)
    gradient_BZ = jnp.mean((f_2KB[0] - f_2KB[1])[..., None] * (u_KBZ - 0.5), axis=0)
    return Found(gradient_BZ, z_KBZ), state

  return Logits(estimate, only_binary=True)


def disarm(pairs: int = 1) -> Logits:
  """(f(z) - f(z')) (z - z') max(m, 1 - m) / 2,  z = 1[u < m], z' = 1[u > 1 - m].

  arm, averaged over all u that make the same pair: DisARM (Dong, Mnih & Tucker, 2020), U2G (Yin,
  Ho, Yan, Qian & Zhou, 2020). For binary units.
  """
  _require_samples(pairs)

  def estimate(key, state, layer):
    key_u, key_f = jax.random.split(key)
    m_BZ = layer.mean_BZ
    u_KBZ = jax.random.uniform(key_u, (pairs, *m_BZ.shape))
    z_2KBZ = jnp.stack([u_KBZ < m_BZ, u_KBZ > 1 - m_BZ]).astype(m_BZ.dtype)
    z_KBZ = z_2KBZ.reshape(-1, *m_BZ.shape)
    f_2KB = layer.reward(key_f, z_KBZ).reshape(2, pairs, -1)
    products_KBZ = (f_2KB[0] - f_2KB[1])[..., None] * (z_2KBZ[0] - z_2KBZ[1])
    return Found(jnp.mean(products_KBZ, axis=0) * jnp.maximum(m_BZ, 1 - m_BZ) / 2, z_KBZ), state

  return Logits(estimate, only_binary=True)


def arms(samples: int) -> Logits:
  """sum_k (f(z_k) - mean f) (z_k - m) / ((K - 1) (1 - r)),  r the correlation of two samples.

  The samples of a unit are 1[u_k < m], u_k^(1 / (K - 1)) one less a Dirichlet vector, where
  m <= 1/2 and mirrored above: as far from each other as exchangeable samples can be; the factor
  1 / (1 - r) undoes what that does to the mean (Dimitriev & Zhou, 2021, ARMS). Two samples are
  disarm. For binary units.
  """
  _require_samples(samples, 2)
  power = samples - 1

  def both(m_BZ):  # P(z_j = z_k = 1) where m <= 1/2
    return jnp.maximum(2 * m_BZ**(1 / power) - 1, 0.0)**power

  def estimate(key, state, layer):
    key_u, key_f = jax.random.split(key)
    m_BZ = layer.mean_BZ
    e_KBZ = jax.random.exponential(key_u, (samples, *m_BZ.shape))
    u_KBZ = (1 - e_KBZ / jnp.sum(e_KBZ, axis=0))**power
    low_BZ = m_BZ <= 0.5
    z_KBZ = jnp.where(low_BZ, u_KBZ, 1 - u_KBZ) < m_BZ
    less_BZ = jnp.where(low_BZ, m_BZ, 1 - m_BZ)  # the rarer state: 1 - r is the same for both
    tiny = 1e-20  # a unit that never changes: no gradient instead of none that is a number
    apart_BZ = (less_BZ - both(less_BZ) + tiny) / (m_BZ * (1 - m_BZ) + tiny)
    z_KBZ = z_KBZ.astype(m_BZ.dtype)
    f_KB = layer.reward(key_f, z_KBZ)
    products_KBZ = (f_KB - jnp.mean(f_KB, axis=0))[..., None] * (z_KBZ - m_BZ)
    return Found(jnp.sum(products_KBZ, axis=0) / (samples - 1) / apart_BZ, z_KBZ), state

  return Logits(estimate, only_binary=True)


# Control variates.


def muprop(samples: int = 1) -> Logits:
  """(f(z) - f(m) - f'(m).(z - m)) (z - m) + f'(m) dm / dt (Gu, Levine, Sutskever & Mnih, 2016).

  The linear part of f at the mean is done in closed form, the rest by the score. In several layers
  the layers above m are sampled, where the paper takes their means.
  """
  _require_samples(samples)

  def estimate(key, state, layer):
    key_z, key_f, key_m = jax.random.split(key, 3)
    m_BZ = layer.mean_BZ
    z_KBZ = _samples(key_z, layer, samples)
    f_m_B, pull = jax.vjp(lambda m_BZ: layer.reward(key_m, m_BZ[None])[0], m_BZ)
    slope_BZ, = pull(jnp.ones_like(f_m_B))
    # A product: as a sum over z, XLA on CPU makes a wrong program of it in large vmaps.
    linear_KB = f_m_B + jnp.einsum('bz,kbz->kb', slope_BZ, z_KBZ - m_BZ)
    rest_KB = layer.reward(key_f, z_KBZ) - linear_KB
    gradient_BZ = jnp.mean(rest_KB[..., None] * (z_KBZ - m_BZ), axis=0)
    return Found(gradient_BZ + layer.along_logits(slope_BZ), z_KBZ), state

  return Logits(estimate)


def double_control_variates(samples: int, optimizer: Optimizer) -> Logits:
  """rloo of f(z_k) + a b_k,  b_k = mean_{j != k} f'(z_j).(z_k - m), less the mean of a f' dm / dt.

  b_k has mean zero and predicts f(z_k) from the slopes at the other samples; what it adds to the
  gradient is subtracted in closed form. `a` starts at 0, which is rloo, and follows the square of
  the gradient downhill (Titsias & Shi, 2022, Double control variates).
  """
  _require_samples(samples, 2)

  def init(key, latent, width):
    del key, latent, width
    return jnp.zeros(()), optimizer.init(jnp.zeros(()))

  def estimate(key, state, layer):
    key_z, key_f = jax.random.split(key)
    m_BZ, z_KBZ = layer.mean_BZ, _samples(key_z, layer, samples)
    f_KB, pull = jax.vjp(lambda z_KBZ: layer.reward(key_f, z_KBZ), z_KBZ)
    slope_KBZ, = pull(jnp.ones_like(f_KB))
    others_KBZ = (jnp.sum(slope_KBZ, axis=0) - slope_KBZ) / (samples - 1)
    b_KB = jnp.sum(others_KBZ * (z_KBZ - m_BZ), axis=-1)
    closed_BZ = layer.along_logits(jnp.mean(slope_KBZ, axis=0))

    def gradient(a):
      r_KB = f_KB + a * b_KB
      centred_KB = (r_KB - jnp.mean(r_KB, axis=0)) / (samples - 1)
      return jnp.sum(centred_KB[..., None] * (z_KBZ - m_BZ), axis=0) - a * closed_BZ

    return Found(gradient(state[0]), z_KBZ), _less_noise(optimizer, gradient, state)

  return Logits(estimate, init)


class Surrogate(NamedTuple):
  """Parameters of c(y) = scale f(softmax(y / exp(log_temperature))) + net(y)."""

  scale: jax.Array
  log_temperature: jax.Array
  net: Any = ()


def relax(optimizer: Optimizer, hidden: tuple[int, ...] | None = (50,), samples: int = 1,
          temperature: float = 0.5, scale: float = 1.0) -> Logits:
  """(f(z) - c(y')) (z - m) + d c(y) / dt - d c(y') / dt,  z the state of y = t + Gumbel noise.

  y' is drawn again given z, with the noise held along t (Grathwohl, Choi, Wu, Roeder & Duvenaud,
  2018). c is scale f(softmax(y / temperature)) plus a network; all of them follow the square of
  the gradient downhill, from earlier batches only. Layers above are drawn given m inside c, by the
  noise that f has: drawn given y they would jump as y moves, which the derivative does not see.

  Args:
    optimizer: of c, any of optax.
    hidden: widths of the network's tanh layers; None for no network, which is rebar.
    samples: K, their mean is taken.
    temperature: at the start.
    scale: at the start.
  """
  _require_samples(samples)
  network = None if hidden is None else networks.MLP(1, tuple(hidden))

  def init(key, latent, width):
    del latent
    c = Surrogate(jnp.float32(scale), jnp.log(jnp.float32(temperature)),
                  () if network is None else networks.init(key, network, width))
    return c, optimizer.init(c)

  def estimate(key, state, layer):
    key_g, key_e, key_f, _ = jax.random.split(key, 4)
    t_BZ, m_BZ, latent = layer.logits_BZ, layer.mean_BZ, layer.latent
    g_KBUQ = gumbel_noise(key_g, (samples, *as_states(latent, t_BZ).shape))
    e_KBUQ = jax.random.exponential(key_e, g_KBUQ.shape)
    top_KBUQ = jax.nn.one_hot(jnp.argmax(as_states(latent, t_BZ) + g_KBUQ, axis=-1),
                              g_KBUQ.shape[-1])
    z_KBZ = as_numbers(latent, top_KBUQ)
    f_KB = layer.reward(key_f, z_KBZ)

    def c(surrogate, y_KBUQ):
      soft_KBUQ = jax.nn.softmax(y_KBUQ / jnp.exp(surrogate.log_temperature))
      c_KB = surrogate.scale * layer.reward(jax.random.clone(key_f), as_numbers(latent, soft_KBUQ),
                                            m_BZ)
      if network is None:
        return c_KB
      shown = y_KBUQ - jnp.mean(y_KBUQ, axis=-1, keepdims=True)
      return c_KB + networks.apply(network, surrogate.net, as_numbers(latent, shown))[..., 0]

    def gradient(surrogate):
      def difference(t_BZ):
        t_BUQ = as_states(latent, t_BZ)
        again_KB = c(surrogate, conditional(t_BUQ, top_KBUQ, e_KBUQ))
        return jnp.sum(c(surrogate, t_BUQ + g_KBUQ) - again_KB), again_KB

      path_BZ, again_KB = jax.grad(difference, has_aux=True)(t_BZ)
      score_KBZ = (f_KB - again_KB)[..., None] * (z_KBZ - m_BZ)
      return jnp.mean(score_KBZ, axis=0) + path_BZ / samples

    return Found(gradient(state[0]), z_KBZ), _less_noise(optimizer, gradient, state)

  return Logits(estimate, init)


def rebar(optimizer: Optimizer, samples: int = 1, temperature: float = 0.5,
          scale: float = 1.0) -> Logits:
  """relax with c(y) = scale f(softmax(y / temperature)) alone.

  Tucker, Mnih, Maddison, Lawson & Sohl-Dickstein (2017), REBAR; scale and temperature learned.
  """
  return relax(optimizer, None, samples, temperature, scale)


# Sums over states.


def measure_valued() -> Logits:
  """sum_s P(z_i = s) (s - m_i) f(z with z_i = s), for every unit i, the others sampled.

  The derivative of a probability is a difference of two, each of which can be drawn from (Mohamed,
  Rosca, Figurnov & Mnih, 2020); for discrete units both are single states. It is the local
  expectation gradient of Titsias & Lazaro-Gredilla (2015). Costs Q U evaluations of f.
  """
  def estimate(key, state, layer):
    key_z, key_f = jax.random.split(key)
    latent, z_BZ = layer.latent, _samples(key_z, layer, 1)[0]
    z_BUQ = as_states_of_samples(latent, z_BZ)
    p_BUQ = jax.nn.softmax(as_states(latent, layer.logits_BZ))
    num_units, num_states = z_BUQ.shape[-2:]

    def one_unit(unit):
      z_QBUQ = jnp.where(jnp.arange(num_units)[:, None] == unit,
                         jnp.eye(num_states)[:, None, None], z_BUQ)
      return layer.reward(key_f, as_numbers(latent, z_QBUQ))  # [Q, B]

    f_BUQ = jnp.moveaxis(jax.vmap(one_unit)(jnp.arange(num_units)), -1, 0)
    gradient_BUQ = p_BUQ * (f_BUQ - jnp.sum(p_BUQ * f_BUQ, axis=-1, keepdims=True))
    return Found(as_numbers(latent, gradient_BUQ), z_BZ[None]), state

  return Logits(estimate)


def enumerated() -> Logits:
  """sum_s q(s) f(s) (s - m) over all states s of a layer: exact where there is one layer.

  Costs as many evaluations of f as there are states, at most 4096.
  """
  def estimate(key, state, layer):
    z_SZ = all_states(layer.latent, layer.logits_BZ.shape[-1])
    z_SBZ = jnp.broadcast_to(z_SZ[:, None], (len(z_SZ), *layer.logits_BZ.shape))
    q_SB = jnp.exp(layer.latent.log_prob(layer.logits_BZ, z_SBZ))
    f_SB = q_SB * layer.reward(key, z_SBZ)
    gradient_BZ = jnp.sum(f_SB[..., None] * (z_SBZ - layer.mean_BZ), axis=0)
    return Found(gradient_BZ, z_SBZ, q_SB), state

  return Logits(estimate, most_states=MAX_STATES)


def all_states(latent: vae.Family, width: int) -> jax.Array:
  """Every state of a layer of `width` numbers, [S, Z]."""
  num_states = latent.num_states or 2
  num_units = width if num_states == 2 else width // num_states
  states_SU = np.indices((num_states,) * num_units).reshape(num_units, -1).T
  if num_states == 2:
    return jnp.asarray(states_SU, jnp.float32)
  return jnp.asarray(np.eye(num_states)[states_SU].reshape(-1, width), jnp.float32)


def as_states_of_samples(latent: vae.Family, z: jax.Array) -> jax.Array:
  """Samples [.., Z] as probabilities of the states of each unit, [.., U, Q]."""
  return jnp.stack([z, 1 - z], axis=-1) if latent.num_states == 2 else as_states(latent, z)


def _samples(key, layer, num):
  return layer.latent.sample(key, jnp.broadcast_to(
    layer.logits_BZ, (num, *layer.logits_BZ.shape)))


def _less_noise(optimizer, gradient, state):
  """The state after a step down the mean square of a gradient, whose mean does not depend on it."""
  grads = jax.grad(lambda learned: jnp.mean(jnp.sum(jnp.square(gradient(learned)), axis=-1)))(
    state[0])
  return follow(optimizer, grads, state[1], state[0])


def _require(model: vae.Model, logits: Logits):
  num_states = model.latent.num_states
  if num_states is None:
    raise ValueError('this gradient is one of discrete latents, and those of this model are '
                     'continuous: use elbo, iwae, stl or dreg')
  if logits.only_binary and num_states != 2:
    raise ValueError(f'this gradient is defined for binary units, and those of this model have '
                     f'{num_states} states: use rloo, muprop, rebar, relax or measure_valued')
  num = max(num_states**(w if num_states == 2 else w // num_states) for w in model.widths)
  if logits.most_states is not None and num > logits.most_states:
    raise ValueError(f'a layer of this model has {num:.3g} states, more than the '
                     f'{logits.most_states} that are enumerated: use measure_valued or disarm')


def _require_samples(samples: int, least: int = 1):
  if samples < least:
    raise ValueError(f'this gradient needs at least {["one sample", "two samples"][least - 1]}, '
                     f'got {samples}')
