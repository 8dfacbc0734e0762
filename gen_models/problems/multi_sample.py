"""Bounds of several samples, wake-sleep and shaped KLs on the small models of variational.py.

Losses that two sets of parameters follow, each the own one, are sums in which what is held is
`held`: their gradient is that of both.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from gen_models import estimators as v
from gen_models.problems.entry import Problem
from gen_models.problems.variational import (
  BELIEF,
  BELIEF_NET,
  BELIEF_NET_IWAE2,
  BELIEF_NET_IWAE3,
  DEEP_BELIEF,
  DEEP_BELIEF_NET_IWAE2,
  ONE,
  TWO,
  TWO_LAYERS_IWAE2,
  VAE,
  belief_terms,
  log_weights_one,
  normals,
  states,
)

held = jax.lax.stop_gradient
UNITS = (3,)
FREE_NATS = 1.5
BURN_IN_NVIL = 10


def rws_loss(params, x_BV):
  """-log p(x) along p, KL(p(z | x) || q(z | x)) along q."""
  log_p_SB, log_q_SB = belief_terms(params, x_BV, UNITS)
  log_x_B = jax.nn.logsumexp(log_p_SB, axis=0)
  posterior_SB = held(jnp.exp(log_p_SB - log_x_B))
  return -jnp.mean(log_x_B + jnp.sum(posterior_SB * log_q_SB, axis=0))


def wake_sleep_loss(params, x_BV):
  """-E_q[log p(x, z)] along p, -E_p[log q(z | x)] over all x along q."""
  log_p_SB, log_q_SB = belief_terms(params, x_BV, UNITS)
  log_p_SX, log_q_SX = belief_terms(params, jnp.asarray(states(x_BV.shape[1])), UNITS)
  wake = jnp.mean(jnp.sum(held(jnp.exp(log_q_SB)) * log_p_SB, axis=0))
  return -wake - jnp.sum(held(jnp.exp(log_p_SX)) * log_q_SX)


def tvo_loss(params, x_BV, parts: int = 2, first: float = 0.1):
  """-sum_j (b_{j+1} - b_j) E_{pi_j}[l], the b_j = first^(1 - j / (parts - 1)) after b_0 = 0."""
  log_p_SB, log_q_SB = belief_terms(params, x_BV, UNITS)
  b_J = [0.0] + [first**(1 - j / (parts - 1)) for j in range(parts - 1)] + [1.0]
  total_B = 0.0
  for b, above in zip(b_J, b_J[1:], strict=False):
    pi_SB = jax.nn.softmax((1 - b) * log_q_SB + b * log_p_SB, axis=0)
    total_B += (above - b) * jnp.sum(pi_SB * (log_p_SB - log_q_SB), axis=0)
  return -jnp.mean(total_B)


def free_bits_loss(params, x_BV):
  """-E_q[log p(x | z)] + max(FREE_NATS, the mean KL)."""
  nodes, weights = normals(32, 1)
  distortion, elbo = (-jnp.mean(weights @ log_weights_one(params, x_BV, nodes, beta))
                      for beta in (0.0, 1.0))
  return distortion + jnp.maximum(elbo - distortion, FREE_NATS)


BELIEF_NET_RWS = BELIEF_NET._replace(
  name='belief_net_rws', loss=rws_loss, objective='-log p(x) of p, KL(p(z | x) || q) of q')
BELIEF_NET_WAKE_SLEEP = BELIEF_NET._replace(
  name='belief_net_wake_sleep', loss=wake_sleep_loss,
  objective='-E_q[log p(x, z)] of p, -E_p[log q(z | x)] of q')
BELIEF_NET_TVO = BELIEF_NET._replace(
  name='belief_net_tvo', loss=tvo_loss, objective='-TVO of 2 parts')
VAE_FREE_BITS = VAE._replace(name='vae_free_bits', loss=free_bits_loss,
                             objective=f'-ELBO, {FREE_NATS} nats free')
PROBLEMS: tuple[Problem, ...] = (
  BELIEF_NET_RWS, BELIEF_NET_WAKE_SLEEP, BELIEF_NET_TVO, VAE_FREE_BITS)

_of_belief = functools.partial(v.variational, BELIEF)

ENTRIES = {
  'vimco2': BELIEF_NET_IWAE2.entry(_of_belief(v.vimco(2))),
  'vimco3_arithmetic': BELIEF_NET_IWAE3.entry(_of_belief(v.vimco(3, 'arithmetic'))),
  'two_layers_vimco2': DEEP_BELIEF_NET_IWAE2.entry(v.variational(DEEP_BELIEF, v.vimco(2))),
  'ovis3': BELIEF_NET_IWAE3.entry(_of_belief(v.ovis(3))),
  'ovis3_many': BELIEF_NET_IWAE3.entry(_of_belief(v.ovis(3, gamma=1.0))),
  'ovis2_monte_carlo': BELIEF_NET_IWAE2.entry(_of_belief(v.ovis_monte_carlo(2, 2))),
  'tvo2': BELIEF_NET_TVO.entry(_of_belief(v.tvo(2))),
  'rws2': BELIEF_NET_RWS.entry(_of_belief(v.rws(2))),
  'wake_sleep1': BELIEF_NET_WAKE_SLEEP.entry(v.wake_sleep(BELIEF)),
  'nvil1': BELIEF_NET.entry(v.nvil(BELIEF, 4, optax.adam(0.03), hidden=(8,), rate=0.1),
                            burn_in=BURN_IN_NVIL),
  'elbo_warm_up': VAE.entry(v.warm_up(lambda beta: v.variational(ONE, v.elbo(2, beta)), 3),
                            burn_in=3),
  'free_bits': VAE_FREE_BITS.entry(v.free_bits(ONE, FREE_NATS)),
  'two_layers_gdreg2': TWO_LAYERS_IWAE2.entry(v.generalised_dreg(TWO, 2)),
}
