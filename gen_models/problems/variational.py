"""Latent-variable models small enough to integrate, and their bounds written out once more.

Continuous: linear maps, Gaussian units, one latent a layer, so that the bound of K samples is an
integral over K (two layers: 2 K) standard normals, done by Gauss-Hermite quadrature. Discrete: sums
over all z. Losses share no code with the models; test_variational.py holds the quadrature to have
converged.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import estimators as v
from gen_models.models import belief_net, vae
from gen_models.problems.entry import Problem

SCALE = 0.7
ONE = vae.model(2, (1,), ((),), likelihood=vae.gaussian(SCALE))
TWO = vae.model(2, (1, 1), ((), ()), likelihood=vae.gaussian(SCALE))
BELIEF = belief_net.model(4, (3,))
DEEP_BELIEF = belief_net.model(4, (3, 2))


def some_params(model: vae.Model, num_visible: int, scale: float, seed: int) -> vae.Params:
  """Every number N(0, scale^2)."""
  rng = np.random.default_rng(seed)
  fresh = jax.eval_shape(model.init, jax.random.key(0), jnp.full(num_visible, 0.5))
  return jax.tree.map(lambda x: jnp.asarray(scale * rng.normal(size=x.shape), jnp.float32), fresh)


def constant_scales(params: vae.Params) -> vae.Params:
  """Scales that do not depend on z: else z_2 has log-normal tails and gradients no variance."""
  def change(layer):
    return {'Dense_0': {**layer['Dense_0'], 'w_DF': layer['Dense_0']['w_DF'] * jnp.array([1., 0.])}}
  return params._replace(encoder=(params.encoder[0], change(params.encoder[1])),
                         decoder=(params.decoder[0], change(params.decoder[1])))


ONE_PARAMS = some_params(ONE, 2, 0.6, 1)
TWO_PARAMS = constant_scales(some_params(TWO, 2, 0.6, 4))
BELIEF_PARAMS = some_params(BELIEF, 4, 1.0, 2)
DEEP_PARAMS = some_params(DEEP_BELIEF, 4, 1.0, 3)
REAL_BATCH = jnp.asarray(np.random.default_rng(5).normal(size=(4, 2)) + 0.5, jnp.float32)
BINARY_BATCH = jnp.asarray(np.random.default_rng(6).random((4, 4)) < 0.5, jnp.float32)


def affine(layer, x):
  layer, = layer.values()
  return x @ layer['w_DF'] + layer.get('b_F', 0.0)


def log_normal(x, mean, log_scale):
  return -0.5 * jnp.square((x - mean) / jnp.exp(log_scale)) - log_scale - 0.5 * np.log(2 * np.pi)


def normals(num_nodes: int, num_variables: int):
  """Nodes [A, num_variables] and weights [A] of E[f(e)], e ~ N(0, I)."""
  x, w = np.polynomial.hermite_e.hermegauss(num_nodes)
  nodes = np.array(list(itertools.product(x, repeat=num_variables)), np.float32)
  weights = np.array([np.prod(p) for p in itertools.product(w, repeat=num_variables)])
  return jnp.asarray(nodes), jnp.asarray(weights / weights.sum(), jnp.float32)


def log_weights_one(params, x_BV, e_A1, beta=1.0):
  """l of z = m + s e, [A, B]."""
  m_B, s_B = affine(params.encoder[0], x_BV).T
  z_AB = m_B + jnp.exp(s_B) * e_A1
  x_mean = affine(params.decoder[0], z_AB[..., None]) + params.bias_O
  log_x = jnp.sum(log_normal(x_BV, x_mean, np.log(SCALE)), axis=-1)
  return log_x + beta * (log_normal(z_AB, 0.0, 0.0) - log_normal(z_AB, m_B, s_B))


def log_weights_two(params, x_BV, e_A2):
  """The same for z_1 = m(x) + s(x) e_1, z_2 = m(z_1) + s(z_1) e_2."""
  m_B, s_B = affine(params.encoder[0], x_BV).T
  z_1 = m_B + jnp.exp(s_B) * e_A2[:, :1]
  m_2, s_2 = jnp.moveaxis(affine(params.encoder[1], z_1[..., None]), -1, 0)
  z_2 = m_2 + jnp.exp(s_2) * e_A2[:, 1:]
  m_1, s_1 = jnp.moveaxis(affine(params.decoder[1], z_2[..., None]), -1, 0)
  x_mean = affine(params.decoder[0], z_1[..., None]) + params.bias_O
  log_p = (jnp.sum(log_normal(x_BV, x_mean, np.log(SCALE)), axis=-1) + log_normal(z_1, m_1, s_1)
           + log_normal(z_2, 0.0, 0.0))
  return log_p - log_normal(z_1, m_B, s_B) - log_normal(z_2, m_2, s_2)


def bound_loss(log_weights, layers: int, samples: int, num_nodes: int, **options):
  """-mean_b E[log (1/K) sum_k exp(l_kb)] for K of 1 or 2, the samples being independent."""
  nodes, weights = normals(num_nodes, layers)

  def loss(params, x_BV):
    l_AB = log_weights(params, x_BV, nodes, **options)
    if samples == 1:
      return -jnp.mean(weights @ l_AB)
    pairs_AAB = jnp.logaddexp(l_AB[:, None], l_AB[None]) - np.log(2)
    return -jnp.mean(jnp.einsum('i,j,ijb->b', weights, weights, pairs_AAB))

  return loss


def states(num_units: int):
  """Every binary vector, [2^n, n]."""
  return np.array(list(itertools.product((0.0, 1.0), repeat=num_units)), np.float32)


def bernoulli_sum(logits, x):
  return jnp.sum(x * jax.nn.log_sigmoid(logits) + (1 - x) * jax.nn.log_sigmoid(-logits), axis=-1)


def belief_terms(params, x_BV, num_units):
  """(log p(x, z), log q(z | x)), [S, B], over every z of layers of `num_units`; S states."""
  grids = np.array(list(itertools.product(*(range(2**n) for n in num_units))))
  z = [jnp.asarray(states(n)[grids[:, i]])[:, None] for i, n in enumerate(num_units)]
  below = [x_BV - jax.lax.stop_gradient(params.center_V), *z[:-1]]
  log_q = sum(bernoulli_sum(affine(layer, y), z_l)
              for layer, y, z_l in zip(params.encoder, below, z, strict=True))
  log_p = bernoulli_sum(params.prior_O, z[-1])
  log_p += bernoulli_sum(affine(params.decoder[0], z[0]) + params.bias_O, x_BV)
  for layer, lower, upper in zip(params.decoder[1:], z, z[1:], strict=False):
    log_p += bernoulli_sum(affine(layer, upper), lower)
  return log_p, log_q


def belief_loss(num_units, samples: int = 1):
  """-mean_b E[log (1/K) sum_k exp(l_kb)], a sum over all K-tuples of z; l = log p(x, z) - log q."""
  def loss(params, x_BV):
    log_p, log_q = map(jnp.asarray, belief_terms(params, x_BV, num_units))
    tuples_TK = np.array(list(itertools.product(range(len(log_q)), repeat=samples)))
    l_TKB, log_q_TKB = (log_p - log_q)[tuples_TK], log_q[tuples_TK]
    bound_TB = jax.nn.logsumexp(l_TKB, axis=1) - np.log(samples)
    return -jnp.mean(jnp.sum(jnp.exp(jnp.sum(log_q_TKB, axis=1)) * bound_TB, axis=0))
  return loss


def bound_by_score(samples: int) -> v.Rule:
  """The bound of K samples L for latents without a path: w = softmax(l), and L as the reward."""
  def coefficients(l_KB):
    w_KB = jax.nn.softmax(l_KB, axis=0)
    bound_B = jax.nn.logsumexp(l_KB, axis=0) - np.log(samples)
    return v.Coefficients(w_KB, bound_B - w_KB)
  return v.Rule(samples, coefficients)


ELBO = bound_loss(log_weights_one, 1, 1, 32)
ELBO_BETA3 = bound_loss(log_weights_one, 1, 1, 32, beta=3.0)
IWAE2 = bound_loss(log_weights_one, 1, 2, 64)
TWO_ELBO = bound_loss(log_weights_two, 2, 1, 16)
TWO_IWAE2 = bound_loss(log_weights_two, 2, 2, 24)
BELIEF_ELBO = belief_loss((3,))
DEEP_ELBO = belief_loss((3, 2))
BELIEF_IWAE2, BELIEF_IWAE3 = belief_loss((3,), 2), belief_loss((3,), 3)
DEEP_IWAE2 = belief_loss((3, 2), 2)


def _of(name, params, batch, loss, description, objective):
  return Problem(name, params, batch, loss, description, objective, burn_in=3)


VAE = _of('vae', ONE_PARAMS, REAL_BATCH, ELBO,
          'linear Gaussian autoencoder, 2 visible units, 1 latent (variational.ONE)', '-ELBO')
VAE_BETA = VAE._replace(name='vae_beta', loss=ELBO_BETA3, objective='-ELBO, beta 3')
VAE_IWAE2 = VAE._replace(name='vae_iwae2', loss=IWAE2, objective='-IWAE of 2 samples')
TWO_LAYERS = _of('vae_two_layers', TWO_PARAMS, REAL_BATCH, TWO_ELBO,
                 'Gaussian autoencoder of 2 layers of 1 latent (variational.TWO)', '-ELBO')
TWO_LAYERS_IWAE2 = TWO_LAYERS._replace(
  name='vae_two_layers_iwae2', loss=TWO_IWAE2, objective='-IWAE of 2 samples')
BELIEF_NET = _of('belief_net', BELIEF_PARAMS, BINARY_BATCH, BELIEF_ELBO,
                 'sigmoid belief net, 4 visible and 3 hidden units (variational.BELIEF)', '-ELBO')
DEEP_BELIEF_NET = _of('deep_belief_net', DEEP_PARAMS, BINARY_BATCH, DEEP_ELBO,
                      'sigmoid belief net 4-3-2 (variational.DEEP_BELIEF)', '-ELBO')
BELIEF_NET_IWAE2 = BELIEF_NET._replace(
  name='belief_net_iwae2', loss=BELIEF_IWAE2, objective='-IWAE of 2 samples')
BELIEF_NET_IWAE3 = BELIEF_NET._replace(
  name='belief_net_iwae3', loss=BELIEF_IWAE3, objective='-IWAE of 3 samples')
DEEP_BELIEF_NET_IWAE2 = DEEP_BELIEF_NET._replace(
  name='deep_belief_net_iwae2', loss=DEEP_IWAE2, objective='-IWAE of 2 samples')
PROBLEMS = (VAE, VAE_BETA, VAE_IWAE2, TWO_LAYERS, TWO_LAYERS_IWAE2, BELIEF_NET, BELIEF_NET_IWAE2,
            BELIEF_NET_IWAE3, DEEP_BELIEF_NET, DEEP_BELIEF_NET_IWAE2)

_of_one, _of_two, _of_belief = (functools.partial(v.variational, m) for m in (ONE, TWO, BELIEF))

ENTRIES = {
  'elbo1': VAE.entry(_of_one(v.elbo())),
  'elbo3': VAE.entry(_of_one(v.elbo(3))),
  'elbo_beta': VAE_BETA.entry(_of_one(v.elbo(2, beta=3.0))),
  'elbo_analytic': VAE.entry(v.analytic_elbo(ONE)),
  'elbo_analytic_beta': VAE_BETA.entry(v.analytic_elbo(ONE, 2, beta=3.0)),
  'iwae2': VAE_IWAE2.entry(_of_one(v.iwae(2))),
  'stl1': VAE.entry(_of_one(v.stl())),
  'stl2': VAE_IWAE2.entry(_of_one(v.stl(2))),
  'dreg2': VAE_IWAE2.entry(_of_one(v.dreg(2))),
  'two_layers_elbo1': TWO_LAYERS.entry(_of_two(v.elbo())),
  'two_layers_stl1': TWO_LAYERS.entry(_of_two(v.stl())),
  'two_layers_iwae2': TWO_LAYERS_IWAE2.entry(_of_two(v.iwae(2))),
  'two_layers_dreg2': TWO_LAYERS_IWAE2.entry(_of_two(v.dreg(2))),
  'reinforce1': BELIEF_NET.entry(_of_belief(v.reinforce())),
  'reinforce_baseline': BELIEF_NET.entry(_of_belief(v.reinforce(2), baseline=0.1), burn_in=3),
  'rloo2': BELIEF_NET.entry(_of_belief(v.rloo(2))),
  'rloo3': BELIEF_NET.entry(_of_belief(v.rloo(3))),
  'two_layers_rloo2': DEEP_BELIEF_NET.entry(v.variational(DEEP_BELIEF, v.rloo(2))),
  'belief_bound2': BELIEF_NET_IWAE2.entry(_of_belief(bound_by_score(2))),
  'belief_bound3': BELIEF_NET_IWAE3.entry(_of_belief(bound_by_score(3))),
  'two_layers_belief_bound2': DEEP_BELIEF_NET_IWAE2.entry(
    v.variational(DEEP_BELIEF, bound_by_score(2))),
}
