"""Deep Boltzmann machine: layers of units, each coupled to the one below and the one above.

  E(x_0, .., x_L) = -sum_l log_base(theta_l, x_l) - sum_l x_{l-1}.W_l.x_l,    x_0 = v the data,

with units of any kind (gen_models.models.units). Given the odd layers the even ones are independent
of each other, and the other way round. So the machine is one of two layers (`fold`): the visible
side is that of all even layers, the hidden side that of all odd ones,

  V = [v, x_2, x_4, ..],    H = [x_1, x_3, ..],    W_VH the blocks W_l, zeros elsewhere,

and what is written for two layers holds for it: block Gibbs (gen_models.models.gibbs) alternates
between the even and the odd layers, annealing and tempering sum the odd ones out. With Bernoulli
units everywhere the folded machine is gen_models.models.rbm.

What is new is the posterior: given v the layers above it are still coupled. They are a machine of
two layers too, E = [x_2, x_4, ..] against the odd layers O, whose biases v shifts by v.W_1, and

  log p(v) = log_base(b, v) + log Z_{E, O | v} - log Z.

Mean field approximates it by q(x) of independent units, each layer of its own kind with an input y:

  y_E = W_E.m_O,    y_O = v.W_1 + m_E.W_E,    m = E_q[x],
  log p(v) >= log_base(b, v) + A(theta_E, y_E) - m_E.y_E + A(theta_O, y_O) - log Z,

A the cumulants. Replacing y_E by any share of the way to W_E.m_O raises the bound, so the damped
iteration climbs to a local maximum of it.

A label is one more layer of one-of-Q units, at the top; it may be held, or left to the posterior.

Axis suffixes: B batch, K samples, V visible, H hidden side of the folded machine; E even and O odd
layers above the data, so V = D + E with D units of data and H = O; L layers, S states. Nats.

Salakhutdinov & Hinton (2009), Deep Boltzmann machines.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gen_models.models import gibbs, joined, machine, rbm, units

MAX_ENUMERATED_STATES = 2**20
_HELD = 1e3  # an input so large that a one-of-Q unit's mean is the state that is held


class Params(NamedTuple):
  """Parameters of p(x_0, .., x_L).

  Attributes:
    weights: W_k [D_{k-1}, D_k] for k = 1, .., L.
    biases: what each layer has of its own, for k = 0, .., L (an array, or a tree).
  """

  weights: tuple[jax.Array, ...]
  biases: tuple[Any, ...]


class Posterior(NamedTuple):
  """Mean-field posterior q(x_1, .., x_L | v), by the inputs of its units.

  Attributes:
    y_BE: inputs of the even layers above the data.
    y_BO: inputs of the odd layers, v.W_1 + m_E.W_E: of all q with this y_BE, the best one.
    drive_BO: v.W_1, the part that is fixed.
    iterations: passes until the means moved less than the tolerance, int32.
    change: max |m_E - what it was one pass before|.
  """

  y_BE: jax.Array
  y_BO: jax.Array
  drive_BO: jax.Array
  iterations: jax.Array
  change: jax.Array


def model(sizes: Sequence[int], visible: units.Layer = units.BERNOULLI,
          hidden: units.Layer = units.BERNOULLI, num_labels: int = 0) -> 'DBM':
  """The deep Boltzmann machine of these sizes, the data first; a label is a layer above them."""
  layers = (visible, *[hidden] * (len(sizes) - 1))
  if num_labels:
    sizes, layers = (*sizes, num_labels), (*layers, units.Categorical(num_labels))
  return DBM(tuple(sizes), layers)


@dataclasses.dataclass(frozen=True)
class DBM:
  """Functions of Params; states of all layers are a tuple (x_0, .., x_L).

  Attributes:
    sizes: units of each layer, the data first.
    layers: their kinds. Above the data the bias must be all that a layer has (no learned variance),
      because the mean is all that is known of it.
  """

  sizes: tuple[int, ...]
  layers: tuple[units.Layer, ...]

  Params = Params

  def __post_init__(self):
    if len(self.sizes) < 2 or min(self.sizes) < 1 or len(self.sizes) != len(self.layers):
      raise ValueError('a deep Boltzmann machine needs data and at least one layer above them, '
                       f'each with a unit and a kind; got {self.sizes} of {len(self.layers)} kinds')
    for layer, size in zip(self.layers, self.sizes):
      if size % layer.group:
        raise ValueError(f'{size} units are not groups of {layer.group}')
    if any(isinstance(layer, units.Gaussian) for layer in self.layers[1:]):
      raise ValueError('units of learned variance can only be data: use units.LINEAR above them')

  def init(self, key, data_mean_V=None, scale: float = 0.01) -> Params:
    """W_ij ~ N(0, scale^2); the data's layer has the data's mean, the biases above it are 0.

    Raises:
      ValueError: the mean has another width than the data's layer.
    """
    if data_mean_V is not None and jnp.shape(data_mean_V) != self.sizes[:1]:
      raise ValueError(f'data mean has shape {jnp.shape(data_mean_V)}, the model {self.sizes[0]} '
                       'visible units')
    means = [jnp.full(size, layer.neutral) for layer, size in zip(self.layers, self.sizes)]
    if data_mean_V is not None:
      means[0] = jnp.asarray(data_mean_V)
    keys = jax.random.split(key, len(self.sizes) - 1)
    return Params(tuple(scale * jax.random.normal(k, pair)
                        for k, pair in zip(keys, zip(self.sizes, self.sizes[1:]))),
                  tuple(layer.init(mean) for layer, mean in zip(self.layers, means)))

  # The machine of two layers.

  @property
  def binary(self) -> bool:
    """Whether all units are Bernoulli."""
    return all(layer == units.BERNOULLI for layer in self.layers)

  @property
  def log2_states(self) -> tuple[float, float]:
    """log2 of the number of states of the even layers, and of the odd ones; inf if continuous."""
    return self._side(0).log2_states, self._side(1).log2_states

  @property
  def machine(self) -> Any:
    """The folded machine: gen_models.models.rbm where all units are Bernoulli, else a Machine."""
    return rbm if self.binary else machine.Machine(self._side(0), self._side(1))

  @property
  def num_labels(self) -> int:
    """Q: units of a label at the top; 0 where there is none."""
    top = self.layers[-1]
    return self.sizes[-1] if isinstance(top, units.Categorical) else 0

  def fold(self, params: Params) -> Any:
    """Parameters of `machine`: the even layers visible, the odd ones hidden."""
    even, odd = range(0, len(self.sizes), 2), range(1, len(self.sizes), 2)
    w_VH = jnp.concatenate([jnp.concatenate([self._block(params, i, j) for j in odd], axis=1)
                            for i in even])
    of: Any = rbm.Params if self.binary else machine.Params
    return of(w_VH, *(self._join_biases(params.biases[parity::2]) for parity in (0, 1)))

  def unfold(self, folded: Any) -> Params:
    """Params of a folded machine, or of a gradient of one; what no layer couples is left out."""
    starts = self._starts()
    weights = []
    for below, above in zip(range(len(self.sizes)), range(1, len(self.sizes))):
      even, odd = (below, above) if below % 2 == 0 else (above, below)
      w = folded.w_VH[starts[even]:starts[even] + self.sizes[even],
                      starts[odd]:starts[odd] + self.sizes[odd]]
      weights.append(w if even == below else w.T)
    biases: list[Any] = [None] * len(self.sizes)
    biases[0::2], biases[1::2] = (self._split_biases(theta, parity) for parity, theta in enumerate(
      (folded.b_V, folded.c_H)))
    return Params(tuple(weights), tuple(biases))

  def connections(self) -> np.ndarray | None:
    """1 where W_VH of the folded machine is a parameter, else 0; None where all of it is."""
    if len(self.sizes) <= 3:
      return None
    ones = Params(tuple(jnp.ones(pair) for pair in zip(self.sizes, self.sizes[1:])), ())
    even, odd = range(0, len(self.sizes), 2), range(1, len(self.sizes), 2)
    return np.block([[np.asarray(self._block(ones, i, j)) for j in odd] for i in even])

  def join(self, x: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """(even [B, V], odd [B, H]) of the states of all layers."""
    even_BV, odd_BH = (jnp.concatenate(x[parity::2], axis=-1) for parity in (0, 1))
    return even_BV, odd_BH

  def split(self, x_BV, x_BH) -> tuple[jax.Array, ...]:
    """The states of all layers from those of the folded machine."""
    layers: list[Any] = [None] * len(self.sizes)
    layers[0::2], layers[1::2] = (self._cut(x, parity) for parity, x in enumerate((x_BV, x_BH)))
    return tuple(layers)

  def _block(self, params, even: int, odd: int):
    """The block of layers `even` and `odd` in W_VH."""
    if abs(even - odd) != 1:
      return jnp.zeros((self.sizes[even], self.sizes[odd]))
    w = params.weights[max(even, odd) - 1]
    return w if even < odd else w.T

  def _starts(self) -> list[int]:
    """Where each layer starts in its side of the folded machine."""
    return [sum(self.sizes[k % 2:k:2]) for k in range(len(self.sizes))]

  def _cut(self, x, parity: int) -> list:
    return jnp.split(x, np.cumsum(self.sizes[parity::2])[:-1], axis=-1)

  def _side(self, parity: int) -> joined.Joined:
    return joined.Joined(self.layers[parity::2], self.sizes[parity::2])

  def _join_biases(self, biases):
    return jnp.concatenate(biases) if self.binary else units.Parts(tuple(biases))

  def _split_biases(self, theta, parity: int):
    return self._cut(theta, parity) if self.binary else theta.parts

  # Density.

  def energy(self, params: Params, x: Sequence[jax.Array]) -> jax.Array:
    """E(x_0, .., x_L), [B] nats."""
    coupled = sum(jnp.sum(below @ w * above, axis=-1)
                  for w, below, above in zip(params.weights, x, x[1:]))
    own = sum(layer.log_base(theta, x_l)
              for layer, theta, x_l in zip(self.layers, params.biases, x))
    return jnp.asarray(-coupled - own)

  def log_partition(self, params: Params) -> jax.Array:
    """log Z, scalar nats: one side of the folded machine enumerated, the other in closed form.

    Raises:
      ValueError: both sides have too many states, or continuous units.
    """
    folded = self.fold(params)
    if self.binary:
      return rbm.log_partition(folded)
    return _log_sum(self._side(0), folded.b_V, self._side(1), folded.c_H, folded.w_VH,
                    jnp.zeros((1, len(folded.w_VH[0]))))[0]

  def log_unnormalised(self, params: Params, v_BV) -> jax.Array:
    """log sum over all layers above v of exp(-E), [B] nats; enumerated, raises as log_partition."""
    upper = self._upper(params)
    return self.layers[0].log_base(params.biases[0], v_BV) + _log_sum(
      upper.even, upper.of_E, upper.odd, upper.of_O, upper.w_EO, v_BV @ upper.w_VO)

  def log_likelihood(self, params: Params, v_BV) -> jax.Array:
    """log p(v), [B] nats, exact; raises as log_partition."""
    return self.log_unnormalised(params, v_BV) - self.log_partition(params)

  # Posterior.

  def posterior(self, params: Params, v_BV, y_B=None, *, tolerance: float = 1e-3,
                max_iterations: int = 100, damping: float = 0.0) -> Posterior:
    """Mean field: y_E <- damping y_E + (1 - damping) W_E.m_O until no mean moves by `tolerance`.

    Starts from one pass upwards in which every layer but the last sees its input twice, for the
    layer above that is not known yet. The gradient is implicit: that of the fixed point, whatever
    way led to it, from a second iteration with the transposed Jacobian.

    Args:
      params: the machine.
      v_BV: data.
      y_B: labels that are held; None leaves the label, where there is one, to the posterior.
      tolerance: of the means of the even layers, between passes.
      max_iterations: passes at most.
      damping: in [0, 1), the share of y_E that a pass keeps.

    Raises:
      ValueError: labels, and a machine without.
    """
    upper = self._upper(params)
    held_BQ = self._held(y_B)
    drive_BO = v_BV @ upper.w_VO
    start_BE = lax.stop_gradient(self._first_pass(params, v_BV))
    if not start_BE.shape[-1]:
      return Posterior(start_BE, self._holding(drive_BO, held_BQ, 1), drive_BO,
                       jnp.zeros((), jnp.int32), jnp.zeros(()))

    def once(theta, y_BE):
      (w_EO, of_E, of_O), drive_BO, held_BQ = theta
      m_BE = upper.even.mean(of_E, self._holding(y_BE, held_BQ, 0))
      y_BO = drive_BO + m_BE @ w_EO
      return upper.odd.mean(of_O, self._holding(y_BO, held_BQ, 1)) @ w_EO.T

    def means(theta, y_BE):
      return upper.even.mean(theta[0][1], self._holding(y_BE, theta[2], 0))

    theta = ((upper.w_EO, upper.of_E, upper.of_O), drive_BO, held_BQ)
    y_BE, iterations, change = fixed_point(once, means, tolerance, max_iterations, damping)(
      theta, start_BE)
    y_BE = self._holding(y_BE, held_BQ, 0)
    y_BO = self._holding(drive_BO + upper.even.mean(upper.of_E, y_BE) @ upper.w_EO, held_BQ, 1)
    return Posterior(y_BE, y_BO, drive_BO, iterations, change)

  def posterior_means(self, params: Params, q: Posterior) -> tuple[jax.Array, jax.Array]:
    """(m_E [B, E], m_O [B, O]) of a mean-field posterior."""
    upper = self._upper(params)
    return upper.even.mean(upper.of_E, q.y_BE), upper.odd.mean(upper.of_O, q.y_BO)

  def complete(self, params: Params, v_BV, q: Posterior) -> jax.Array:
    """[v, m_E], [B, V]: data as the visible side of the folded machine."""
    return jnp.concatenate([v_BV, self.posterior_means(params, q)[0]], axis=-1)

  def features(self, params: Params, q: Posterior) -> tuple[jax.Array, ...]:
    """(m_1, .., m_L): the means of all layers above the data."""
    return self._above(*self.posterior_means(params, q))

  def layer_inputs(self, params: Params, q: Posterior) -> tuple[jax.Array, ...]:
    """(y_1, .., y_L): the inputs of all layers above the data, without their biases."""
    del params
    return self._above(q.y_BE, q.y_BO)

  def _above(self, x_BE, x_BO):
    nothing = jnp.zeros((len(x_BE), self.sizes[0]))
    return self.split(jnp.concatenate([nothing, x_BE], axis=-1), x_BO)[1:]

  def bound(self, params: Params, v_BV, q: Posterior) -> jax.Array:
    """E_q[log p(v, x) / q(x)] + log Z, [B] nats: log_unnormalised from below.

    q from data without labels. It is a bound whether or not the iteration has converged.
    """
    upper = self._upper(params)
    m_BE = upper.even.mean(upper.of_E, q.y_BE)
    return (self.layers[0].log_base(params.biases[0], v_BV)
            + upper.even.cumulant(upper.of_E, q.y_BE) - jnp.sum(m_BE * q.y_BE, axis=-1)
            + upper.odd.cumulant(upper.of_O, q.y_BO))

  def log_weights(self, params: Params, v_BV, q: Posterior, x_KBS) -> jax.Array:
    """log of the sum over one side of exp(-E) / q, at states of the other; [K, B] nats.

    The states are those of the side that `sampled_side` names. For x ~ q(. | v), E[w] is the
    unnormalised p(v), and E[log w] lies between `bound` and its logarithm.
    """
    upper = self._upper(params)
    of_data_B = self.layers[0].log_base(params.biases[0], v_BV)
    if self.sampled_side == 0:
      return (of_data_B + upper.odd.cumulant(upper.of_O, q.drive_BO + x_KBS @ upper.w_EO)
              - jnp.sum(x_KBS * q.y_BE, axis=-1) + upper.even.cumulant(upper.of_E, q.y_BE))
    return (of_data_B + jnp.sum(x_KBS * (q.drive_BO - q.y_BO), axis=-1)
            + upper.even.cumulant(upper.of_E, x_KBS @ upper.w_EO.T)
            + upper.odd.cumulant(upper.of_O, q.y_BO))

  @property
  def sampled_side(self) -> int:
    """Which layers above the data `log_weights` draws: 0 even, 1 odd, whichever are fewer units."""
    return 0 if sum(self.sizes[2::2]) <= sum(self.sizes[1::2]) else 1

  def sample_mean_field(self, key, params: Params, q: Posterior, num_samples: int) -> jax.Array:
    """States ~ q of the side that `sampled_side` names, [K, B, E or O]."""
    upper = self._upper(params)
    layer, theta, y = ((upper.even, upper.of_E, q.y_BE), (upper.odd, upper.of_O, q.y_BO))[
      self.sampled_side]
    return layer.sample(key, theta, jnp.broadcast_to(y, (num_samples, *y.shape)))

  def posterior_step(self, key, params: Params, drive_BO, x_BO) -> tuple[jax.Array, jax.Array]:
    """(x_E, x_O): one Gibbs step of the layers above data that are held, even layers first."""
    upper = self._upper(params)
    key_even, key_odd = jax.random.split(key)
    x_BE = upper.even.sample(key_even, upper.of_E, x_BO @ upper.w_EO.T)
    return x_BE, upper.odd.sample(key_odd, upper.of_O, drive_BO + x_BE @ upper.w_EO)

  def sample_posterior(self, key, params: Params, q: Posterior,
                       num_steps: int) -> tuple[jax.Array, jax.Array]:
    """(x_E, x_O) after `num_steps` Gibbs steps from x_O ~ q, the data held."""
    upper = self._upper(params)
    key_start, key_steps = jax.random.split(key)
    x_BO = upper.odd.sample(key_start, upper.of_O, q.y_BO)
    start = jnp.zeros(q.y_BE.shape), x_BO

    def body(x, key):
      return self.posterior_step(key, params, q.drive_BO, x[1]), None

    return lax.scan(body, start, jax.random.split(key_steps, num_steps))[0]

  def given_label(self, params: Params, y) -> tuple['DBM', Params]:
    """The machine of p(x | y) without the layer of the label, which is held; y may be traced."""
    last = len(self.sizes) - 2
    bias = params.biases[last] + params.weights[-1][:, y]
    return (DBM(self.sizes[:-1], self.layers[:-1]),
            Params(params.weights[:-1], (*params.biases[:last], bias)))

  def label_given_visible(self, params: Params, v_BV, **options) -> jax.Array:
    """q(y | v) of the mean-field posterior, [B, Q]; options as of `posterior`."""
    q = self.posterior(params, v_BV, **options)
    return self.features(params, q)[-1]

  def _upper(self, params: Params) -> '_Upper':
    folded, size = self.fold(params), self.sizes[0]
    even = joined.Joined(self.layers[2::2], self.sizes[2::2])
    of_E, of_O = (units.Parts(tuple(params.biases[first::2])) for first in (2, 1))
    return _Upper(even, of_E, self._side(1), of_O, folded.w_VH[:size], folded.w_VH[size:])

  def _first_pass(self, params: Params, v_BV) -> jax.Array:
    """Inputs of the even layers from one pass upwards, [B, E]."""
    x, inputs, last = v_BV, [], len(self.sizes) - 1
    for k, w in enumerate(params.weights, 1):
      y = x @ w * (1.0 if k == last else 2.0)
      x = self.layers[k].mean(params.biases[k], y)
      inputs.append(y)
    return jnp.concatenate([jnp.zeros((len(v_BV), 0)), *inputs[1::2]], axis=-1)

  def _held(self, y_B):
    """The input that holds a label, [B, Q]; None without one."""
    if y_B is None:
      return None
    if not self.num_labels:
      raise ValueError('labels, and a deep Boltzmann machine without a layer for them')
    return _HELD * jax.nn.one_hot(y_B, self.num_labels)

  def _holding(self, y, held_BQ, parity: int):
    """Inputs of one side, those of a held label replaced where it is on that side."""
    if held_BQ is None or (len(self.sizes) - 1) % 2 != parity:
      return y
    return jnp.concatenate([y[..., :-self.num_labels], held_BQ], axis=-1)

  # Sampling.

  def sample(self, key, params: Params, num: int, num_steps: int = 1000, *, num_warm: int = 1000,
             ) -> tuple[jax.Array, jax.Array]:
    """(v, E[v | x_1]), [num, D], of independent chains that need no data.

    They start from independent units, all W = 0, and take `num_warm` Gibbs steps while the weights
    grow evenly to what they are, then `num_steps` at the machine itself.
    """
    machine, folded = self.machine, self.fold(params)
    key_init, key_warm, key_gibbs, key_last = jax.random.split(key, 4)
    chains = self._warm(key_init, key_warm, folded, num, num_warm)
    chains = gibbs.run(key_gibbs, machine, folded, chains, num_steps)
    size = self.sizes[0]
    return (machine.sample_visible(key_last, folded, chains.h_CH)[:, :size],
            machine.visible_mean(folded, chains.h_CH)[:, :size])

  def chains(self, key, params: Params, num: int, num_warm: int = 1000) -> gibbs.Chains:
    """Chains of the folded machine where those of `sample` are once the weights have grown."""
    key_init, key_warm = jax.random.split(key)
    return self._warm(key_init, key_warm, self.fold(params), num, num_warm)

  def _warm(self, key_init, key_warm, folded, num: int, num_warm: int) -> gibbs.Chains:
    """From W = 0, `num_warm` Gibbs steps while W grows evenly to what it is."""
    machine = self.machine
    chains = gibbs.init_chains(key_init, machine, folded._replace(
      w_VH=jnp.zeros_like(folded.w_VH)), num)

    def warm(chains, xs):
      key, beta = xs
      cold = folded._replace(w_VH=beta * folded.w_VH)
      return gibbs.step(key, machine, cold, chains), None

    betas = (jnp.arange(num_warm, dtype=jnp.float32) + 1) / max(num_warm, 1)
    return lax.scan(warm, chains, (jax.random.split(key_warm, num_warm), betas))[0]


class _Upper(NamedTuple):
  """The layers above the data as a machine of two layers, and what the data say to it."""

  even: joined.Joined
  of_E: Any
  odd: joined.Joined
  of_O: Any
  w_VO: jax.Array
  w_EO: jax.Array


def fixed_point(once, means, tolerance: float, max_iterations: int, damping: float):
  """(theta, start) -> (y, iterations, change): y = once(theta, y), found by damped iteration.

  The derivative with respect to theta is that of the fixed point: with J = d once / d y there,
  u = g + J'u is iterated to the same tolerance of u, and d once / d theta is applied to u.
  """
  def run(theta, start):
    def body(state):
      y, m, i, _ = state
      y = damping * y + (1 - damping) * once(theta, y)
      new = means(theta, y)
      return y, new, i + 1, jnp.max(jnp.abs(new - m))

    def going(state):
      return (state[3] >= tolerance) & (state[2] < max_iterations)

    start = start, means(theta, start), jnp.zeros((), jnp.int32), jnp.full((), jnp.inf)
    y, _, iterations, change = lax.while_loop(going, body, start)
    return y, iterations, change

  solve = jax.custom_vjp(run)

  def forward(theta, start):
    found = run(theta, start)
    return found, (theta, found[0])

  def backward(kept, gradient):
    theta, y = kept
    g, pull = gradient[0], jax.vjp(once, theta, y)[1]

    def body(state):
      u, i, _ = state
      new = damping * u + (1 - damping) * (g + pull(u)[1])
      return new, i + 1, jnp.max(jnp.abs(new - u))

    def going(state):
      return (state[2] >= tolerance * jnp.max(jnp.abs(g))) & (state[1] < max_iterations)

    u, _, _ = lax.while_loop(going, body, (g, jnp.zeros((), jnp.int32), jnp.full((), jnp.inf)))
    return pull(u)[0], jnp.zeros_like(y)

  solve.defvjp(forward, backward)
  return solve


def _log_sum(even: joined.Joined, of_E, odd: joined.Joined, of_O, w_EO, y_BO) -> jax.Array:
  """log sum_{x_E, x_O} exp(log_base + x_E.W.x_O + x_O.y), [B]: the side of fewer states summed."""
  count_E, count_O = even.log2_states, odd.log2_states
  if min(count_E, count_O) > math.log2(MAX_ENUMERATED_STATES):
    raise ValueError(f'an exact sum would enumerate 2^{min(count_E, count_O):.0f} states (inf: '
                     f'continuous units), at most 2^{math.log2(MAX_ENUMERATED_STATES):.0f} are '
                     'allowed: bound or anneal it instead')
  if count_E <= count_O:
    x_SE = even.states()
    base_S, y_SO = even.log_base(of_E, x_SE), x_SE @ w_EO
    return lax.map(lambda y_O: jax.nn.logsumexp(base_S + odd.cumulant(of_O, y_SO + y_O)), y_BO)
  x_SO = odd.states()
  base_S = odd.log_base(of_O, x_SO) + even.cumulant(of_E, x_SO @ w_EO.T)
  return lax.map(lambda y_O: jax.nn.logsumexp(base_S + x_SO @ y_O), y_BO)


# Pretraining.


def copies(depth: int, num_layers: int) -> tuple[int, int]:
  """(visible, hidden): how often RBM `depth`, from 0, of a stack of `num_layers` has either side.

  A layer between two others hears from both. While one of them is missing, the other counts twice:
  the visible side of every RBM but the last is there twice, with the same weights, which stands for
  the layer above its hidden units; the hidden side of every RBM but the first is there twice, for
  the layer below its visible units.
  """
  return 2 if depth < num_layers - 1 else 1, 2 if depth > 0 else 1


def compose(layers: Sequence[rbm.Params]) -> Params:
  """The deep Boltzmann machine of RBMs that were trained with `copies`.

  Weights stay. A layer in between halves what it hears from either side and adds: its log-odds are
  the mean of those that the RBM below and the one above give it, so its bias is the mean of two.
  """
  inner = [(below.c_H + above.b_V) / 2 for below, above in zip(layers, layers[1:])]
  return Params(tuple(layer.w_VH for layer in layers),
                (layers[0].b_V, *inner, layers[-1].c_H))


@dataclasses.dataclass(frozen=True)
class Stack:
  """RBMs trained with `copies` one after another; estimators.greedy.on_top takes it as its model.

  Attributes:
    num_layers: RBMs in the end.
  """

  num_layers: int

  def top_input(self, key, params, batch, propagate) -> jax.Array:
    """The data of the top RBM: samples of the layers below it, or means; [B, V]."""
    x_BV = batch
    keys = jax.random.split(key, max(1, len(params.layers) - 1))
    for depth, (k, layer) in enumerate(zip(keys, params.layers[:-1])):
      visible, _ = copies(depth, self.num_layers)
      y_BH = visible * (x_BV @ layer.w_VH)
      of = units.BERNOULLI
      x_BV = of.mean(layer.c_H, y_BH) if propagate == 'means' else of.sample(k, layer.c_H, y_BH)
    return x_BV
