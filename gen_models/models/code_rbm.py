"""Restricted Boltzmann machine with binary visible and linear hidden units: a layer of codes.

  E(v, h) = -b.v + |h - c|^2 / 2 - v.W.h,    v in {0, 1}, h real

so that p(h | v) = N(c + v.W, I), p(v_i = 1 | h) = sigma(b_i + (W h)_i) and

  F(v) = -b.v - c.(v.W) - |v.W|^2 / 2 - (H / 2) log 2 pi.

Parameters are rbm.Params. The quadratic term lets weights run away: train it at a hundredth of the
rate of binary units.

Axis suffixes: B batch, C chains, V visible, H hidden. Nats.

Welling, Rosen-Zvi & Hinton (2005); Hinton & Salakhutdinov (2006).
"""

import jax
import jax.numpy as jnp
from jax import lax

from gen_models.models import rbm, units

Params, Chains = rbm.Params, rbm.Chains

visible, hidden = units.BERNOULLI, units.LINEAR


def free_energy(params: Params, v_BV) -> jax.Array:
  """F(v) = -log integral exp(-E(v, h)) dh, [B] nats."""
  u_BH = v_BV @ params.w_VH
  return (-v_BV @ params.b_V - u_BH @ params.c_H - jnp.sum(u_BH**2, axis=-1) / 2
          - len(params.c_H) / 2 * jnp.log(2 * jnp.pi))


# Conditionals: those of v given h are rbm's.

hidden_mean = rbm.hidden_input  # E[h | v] = c + v.W
visible_mean, sample_visible = rbm.visible_mean, rbm.sample_visible


# Sampling.


def draw_hidden(key, mean_BH) -> jax.Array:
  """h ~ N(mean, I)."""
  return mean_BH + jax.random.normal(key, mean_BH.shape)


def init_chains(key, params: Params, num_chains: int) -> Chains:
  """v from the visible biases, h ~ p(h | v)."""
  key_v, key_h = jax.random.split(key)
  h_CH = jnp.zeros((num_chains, len(params.c_H)))
  v_CV = sample_visible(key_v, params, h_CH)
  return Chains(v_CV, draw_hidden(key_h, hidden_mean(params, v_CV)))


def gibbs(key, params: Params, chains: Chains, num_steps: int) -> Chains:
  """`num_steps` sweeps, v ~ p(v | h) then h ~ p(h | v), as one lax.scan."""
  def body(chains, key):
    key_v, key_h = jax.random.split(key)
    v_CV = sample_visible(key_v, params, chains.h_CH)
    return Chains(v_CV, draw_hidden(key_h, hidden_mean(params, v_CV))), None
  return lax.scan(body, chains, jax.random.split(key, num_steps))[0]
