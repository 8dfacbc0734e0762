"""Adversarial estimators on a game of numbers: g(z) = a + b z, f(x) = c_0 tanh(c_1 x + c_2).

Spectral normalisation is seen on a critic with a matrix, and classes on one that has some, see
planes.py.

What each player's loss is in expectation over z (and, in penalties, over a place between data and
sample) is a quadrature. The sum below has the two gradients in one: each player's own loss, with
the other player's parameters held.
"""

import jax
import jax.numpy as jnp
import numpy as np

from gen_models import estimators
from gen_models.models.gan import Params
from gen_models.problems.entry import Problem
from gen_models.problems.planes import CLASSES, PLANE, W_K, Z_K, log_sigmoid

_u, _weight = np.polynomial.legendre.leggauss(20)
U_Q, W_Q = jnp.float32((_u + 1) / 2), jnp.float32(_weight / 2)

PARAMS = Params(jnp.float32([0.4, 0.8]), jnp.float32([1.2, 0.9, -0.3]))
# The hinge has corners, where a Gauss rule is off: a sum over a fine grid is not.
FINE_K = np.linspace(-8, 8, 16_001)
FINE_W_K = jnp.float32(np.exp(-FINE_K**2 / 2) / np.exp(-FINE_K**2 / 2).sum())
FINE_K = jnp.float32(FINE_K)

BATCH = jnp.float32([[-1.3], [-0.2], [0.6], [0.9], [1.7], [0.1]])


class Numbers:
  """The model: packs of `packing` numbers are read by their sum."""

  def __init__(self, packing=1):
    self.packing = packing

  def generate(self, key, params, num):
    a, b = params.generator
    return a + b * jax.random.normal(key, (num, 1))

  def critic(self, params, x_BV):
    return f(params.critic, jnp.sum(x_BV.reshape(-1, self.packing), axis=1))


def f(c, x):
  return c[0] * jnp.tanh(c[1] * x + c[2])


def slope(c, x):
  return c[0] * c[1] / jnp.cosh(c[1] * x + c[2])**2


def over_z(fn, generator):
  """E[fn(g(z))] of fn on arrays, its last axis being z."""
  return fn(generator[0] + generator[1] * FINE_K) @ FINE_W_K


def game(critic_loss, generator_loss):
  """The entry's loss from (generator, critic, x_B) -> each player's."""
  def loss(params, x_BV):
    fixed = jax.lax.stop_gradient(params)
    return (critic_loss(fixed.generator, params.critic, x_BV[:, 0])
            + generator_loss(params.generator, fixed.critic, x_BV[:, 0]))
  return loss


def classification(g, c, x_B):
  return -jnp.mean(log_sigmoid(f(c, x_B))) - over_z(lambda x: log_sigmoid(-f(c, x)), g)


def non_saturating(g, c, x_B):
  del x_B
  return -over_z(lambda x: log_sigmoid(f(c, x)), g)


def witness(g, c, x_B):
  return over_z(lambda x: f(c, x), g) - jnp.mean(f(c, x_B))


def critic_mean(g, c, x_B):
  del x_B
  return -over_z(lambda x: f(c, x), g)


def hinge_margins(g, c, x_B):
  return (jnp.mean(jnp.maximum(0, 1 - f(c, x_B)))
          + over_z(lambda x: jnp.maximum(0, 1 + f(c, x)), g))


def pairs(sign):
  def loss(g, c, x_B):
    return -jnp.mean(over_z(lambda x: log_sigmoid(sign * (f(c, x_B)[:, None] - f(c, x))), g))
  return loss


def slopes(g, c, x_B):
  return 0.7 / 2 * jnp.mean(slope(c, x_B)**2) + 0.4 / 2 * over_z(lambda x: slope(c, x)**2, g)


def slopes_between(g, c, x_B):
  x_K = g[0] + g[1] * Z_K
  between_BQK = x_B[:, None, None] + U_Q[:, None] * (x_K - x_B[:, None, None])
  return 2.0 * jnp.mean(W_Q @ (jnp.abs(slope(c, between_BQK)) - 1)**2 @ W_K)


def packed(g, c, x_B):
  x_K = g[0] + g[1] * Z_K
  sums_KK = x_K[:, None] + x_K
  return (-jnp.mean(log_sigmoid(f(c, x_B.reshape(-1, 2).sum(1))))
          - W_K @ log_sigmoid(-f(c, sums_KK)) @ W_K)


def packed_non_saturating(g, c, x_B):
  del x_B
  x_K = g[0] + g[1] * Z_K
  return -W_K @ log_sigmoid(f(c, x_K[:, None] + x_K)) @ W_K


def plus(one, other):
  return lambda *args: one(*args) + other(*args)


def saturated(g, c, x_B):
  del x_B
  return over_z(lambda x: log_sigmoid(-f(c, x)), g)


def squares(g, c, x_B):
  return jnp.mean((f(c, x_B) - 1)**2) / 2 + over_z(lambda x: f(c, x)**2, g) / 2


def square_to_one(g, c, x_B):
  del x_B
  return over_z(lambda x: (f(c, x) - 1)**2, g) / 2


def averages(sign):
  """Pairs with the other side's mean, the samples' over z instead of over a batch."""
  def loss(g, c, x_B):
    mean_fake, f_B = over_z(lambda x: f(c, x), g), f(c, x_B)
    return (-jnp.mean(log_sigmoid(sign * (f_B - mean_fake)))
            - over_z(lambda x: log_sigmoid(sign * (jnp.mean(f_B) - f(c, x))), g))
  return loss


def variational(name):
  """The critic's loss of a divergence: E_q[f*(T)] - E_p[T]; and the generator's."""
  activation, conjugate, *_ = estimators.DIVERGENCES[name]

  def critic(g, c, x_B):
    return over_z(lambda x: conjugate(f(c, x)), g) - jnp.mean(activation(f(c, x_B)))

  def generator(g, c, x_B):
    del x_B
    return -over_z(lambda x: conjugate(f(c, x)), g)

  return critic, generator


BANDWIDTHS = (0.5, 1.0)


def gaussian_kernel(a, b):
  return sum(jnp.exp(-(a - b)**2 / (2 * s**2)) for s in BANDWIDTHS)


def over_pairs(kernel, f_B):
  """The mean over pairs of two rows of the batch."""
  between = kernel(f_B[:, None], f_B)
  return (jnp.sum(between) - jnp.trace(between)) / (len(f_B) * (len(f_B) - 1))


def kernel_distance(g, c, x_B):
  f_K, f_B = f(c, g[0] + g[1] * Z_K), f(c, x_B)
  return (over_pairs(gaussian_kernel, f_B) + W_K @ gaussian_kernel(f_K[:, None], f_K) @ W_K
          - 2 * jnp.mean(gaussian_kernel(f_B[:, None], f_K) @ W_K))


def energy(g, c, x_B):
  """2 E|a - b| - E|a - a'| - E|b - b'|; f rises along z, so E|b - b'| = 2 E[b (2 Phi(z) - 1)]."""
  f_B = f(c, x_B)
  cross = over_z(lambda x: jnp.mean(jnp.abs(f_B[:, None] - f(c, x)), axis=0), g)
  own = 2 * (f(c, g[0] + g[1] * FINE_K) * jax.lax.erf(FINE_K / jnp.sqrt(2.0))) @ FINE_W_K
  return 2 * cross - own - over_pairs(lambda a, b: jnp.abs(a - b), f_B)


def minus(loss):
  return lambda *args: -loss(*args)


def upper_half(g, c, x_B):
  """The generator's loss over the half of its samples that the critic likes best: z above 0."""
  del x_B
  return -2 * jnp.where(FINE_K > 0, log_sigmoid(f(c, g[0] + g[1] * FINE_K)), 0.0) @ FINE_W_K


def slopes_around(g, c, x_B):
  del g
  around_BK = x_B[:, None] + 0.5 * jnp.std(x_B) * Z_K
  return 2.0 * jnp.mean((jnp.abs(slope(c, around_BK)) - 1)**2 @ W_K)


def flat_between(g, c, x_B):
  between_BQK = x_B[:, None, None] + U_Q[:, None] * (g[0] + g[1] * Z_K - x_B[:, None, None])
  return 2.0 * jnp.mean(W_Q @ slope(c, between_BQK)**2 @ W_K)


NOISE = 0.4  # of the augmentation


def changes(g, c, x_B):
  """The penalties of consistency at data (2.0) and of both (1.5)."""
  def squared(x):
    return (f(c, x)[..., None] - f(c, x[..., None] + NOISE * Z_K))**2 @ W_K
  data = jnp.mean(squared(x_B))
  return 2.0 * data + 1.5 * (data + W_K @ squared(g[0] + g[1] * Z_K))


def anchored(g, c, x_B):
  """LeCam's penalty, whose averages are held."""
  held = jax.lax.stop_gradient(c)
  fake, real = over_z(lambda x: f(held, x), g), jnp.mean(f(held, x_B))
  return 0.8 * (jnp.mean((f(c, x_B) - fake)**2) + over_z(lambda x: (f(c, x) - real)**2, g))


def seen_blurred(of):
  """A loss of the critic's outputs at x + NOISE e, e ~ N(0, 1): at data, and at samples."""
  def data(c, x_B, fn):
    return jnp.mean(fn(f(c, x_B[:, None] + NOISE * Z_K)) @ W_K)

  def samples(c, g, fn):
    return W_K @ fn(f(c, (g[0] + g[1] * Z_K)[:, None] + NOISE * Z_K)) @ W_K

  if of == 'critic':
    return lambda g, c, x_B: (-data(c, x_B, log_sigmoid)
                              - samples(c, g, lambda t: log_sigmoid(-t)))
  return lambda g, c, x_B: -samples(c, g, log_sigmoid)


def seen_mirrored(of, probability=0.3):
  """The same at -x with a probability, else at x."""
  def mixed(fn):
    return lambda x: (1 - probability) * fn(x) + probability * fn(-x)

  def loss(g, c, x_B):
    likes, dislikes = (mixed(lambda x, sign=sign: log_sigmoid(sign * f(c, x))) for sign in (1, -1))
    if of == 'generator':
      return -over_z(likes, g)
    return -jnp.mean(likes(x_B)) - over_z(dislikes, g)

  return loss


def _game(name, critic_loss, generator_loss, params=PARAMS, batch=BATCH):
  return Problem(f'gan_{name}', params, batch, game(critic_loss, generator_loss),
                 'adversarial game of numbers',
                 f"each player's own loss, {name.replace('_', ' ')}")


MINIMAX = _game('minimax', classification, saturated)
NON_SATURATING = _game('non_saturating', classification, non_saturating)
HINGE = _game('hinge', hinge_margins, critic_mean)
WASSERSTEIN = _game('wasserstein', witness, critic_mean)
WASSERSTEIN_GP = _game('wasserstein_gp', plus(witness, slopes_between), critic_mean)
RELATIVISTIC = _game('relativistic', pairs(1), pairs(-1))
RELATIVISTIC_R1_R2 = _game('relativistic_r1_r2', plus(pairs(1), slopes), pairs(-1))
PACKED = _game('packed', packed, packed_non_saturating)
LEAST_SQUARES = _game('least_squares', squares, square_to_one)
# A steep critic and a batch of two: the bias of a mean within the loss is easy to see.
RELATIVISTIC_AVERAGE = _game('relativistic_average', averages(1), averages(-1),
                             PARAMS._replace(critic=jnp.float32([3.0, 0.9, -0.3])), BATCH[1:3])
DIVERGENCES = {name: _game(name, *variational(name)) for name in estimators.DIVERGENCES}
MMD = _game('mmd', minus(kernel_distance), kernel_distance)
ENERGY = _game('energy', minus(energy), energy)
TOP_K = _game('top_k', classification, upper_half)
DRAGAN = _game('dragan', plus(classification, slopes_around), non_saturating)
ZERO_CENTRED = _game('zero_centred', plus(classification, flat_between), non_saturating)
CONSISTENCY = _game('consistency', plus(classification, changes), non_saturating)
LECAM = _game('lecam', plus(classification, anchored), non_saturating)
AUGMENTED = _game('augmented', seen_blurred('critic'), seen_blurred('generator'))
ADAPTIVE = _game('adaptive', seen_mirrored('critic'), seen_mirrored('generator'))
SPECTRAL_NORM = Problem(
  'gan_spectral_norm', PLANE.params, PLANE.batch, PLANE.loss(estimators.spectral_norm().exact),
  'adversarial game on a line in the plane', "each player's own loss, exact singular values")
FEATURE_MATCHING = Problem(
  'gan_feature_matching', PLANE.params, PLANE.batch, PLANE.loss(lambda critic: critic, 1.5),
  'adversarial game on a line in the plane', "each player's own loss, feature matching")
AUXILIARY = Problem(
  'gan_auxiliary', CLASSES.params, CLASSES.batch, CLASSES.loss(1.5),
  'adversarial game of two classes', "each player's own loss, with an auxiliary classifier's")
PROBLEMS = (MINIMAX, NON_SATURATING, HINGE, WASSERSTEIN, WASSERSTEIN_GP, RELATIVISTIC,
            RELATIVISTIC_R1_R2, PACKED, LEAST_SQUARES, RELATIVISTIC_AVERAGE,
            *DIVERGENCES.values(), MMD, ENERGY, TOP_K, DRAGAN, ZERO_CENTRED, CONSISTENCY, LECAM,
            AUGMENTED, ADAPTIVE, SPECTRAL_NORM, FEATURE_MATCHING, AUXILIARY)


def _of(loss, penalties=(), turn=None, packing=1, **options):
  loss = estimators.LOSSES[loss] if isinstance(loss, str) else loss
  return estimators.adversarial(Numbers(packing), loss, penalties, turn, **options)


def _penalised(*penalties):
  return _of('non_saturating', penalties)


BLUR = estimators.jitter(NOISE)
SLOPES = (estimators.r1(0.7), estimators.r2(0.4))
TURNS = _of('relativistic', SLOPES, estimators.turns(2))

ENTRIES = {
  'gan_minimax': MINIMAX.entry(_of('minimax')),
  'gan_non_saturating': NON_SATURATING.entry(_of('non_saturating')),
  'gan_hinge': HINGE.entry(_of('hinge')),
  'gan_wasserstein': WASSERSTEIN.entry(_of('wasserstein')),
  'gan_wasserstein_gp': WASSERSTEIN_GP.entry(
    _of('wasserstein', (estimators.gradient_penalty(2.0),))),
  'gan_relativistic': RELATIVISTIC.entry(_of('relativistic')),
  'gan_relativistic_r1_r2': RELATIVISTIC_R1_R2.entry(_of('relativistic', SLOPES)),
  'gan_packed': PACKED.entry(_of('non_saturating', packing=2)),
  # Of three turns the second is the generator's; the audit's target is masked as the gradient is.
  'gan_critics_turn': RELATIVISTIC_R1_R2.entry(TURNS),
  'gan_generators_turn': RELATIVISTIC_R1_R2.entry(TURNS, burn_in=1),
  'gan_least_squares': LEAST_SQUARES.entry(_of('least_squares')),
  'gan_relativistic_average': RELATIVISTIC_AVERAGE.entry(_of('relativistic_average')),
  **{f'gan_{name}': problem.entry(_of(name)) for name, problem in DIVERGENCES.items()},
  'gan_mmd': MMD.entry(_of(estimators.mmd(BANDWIDTHS))),
  'gan_energy': ENERGY.entry(_of('energy')),
  'gan_top_k': TOP_K.entry(_of(estimators.top_k(estimators.non_saturating, 0.5))),
  'gan_dragan': DRAGAN.entry(_penalised(estimators.dragan(2.0))),
  'gan_zero_centred': ZERO_CENTRED.entry(_penalised(estimators.zero_centred(2.0))),
  'gan_consistency': CONSISTENCY.entry(_penalised(
    estimators.consistency(2.0, BLUR), estimators.balanced_consistency(1.5, BLUR))),
  'gan_lecam': LECAM.entry(_penalised(estimators.lecam(0.8, 0.5)), burn_in=20),
  'gan_lazy_r1_r2': RELATIVISTIC_R1_R2.entry(
    _of('relativistic', tuple(estimators.lazy(penalty, 3) for penalty in SLOPES))),
  'gan_augmented': AUGMENTED.entry(_of('non_saturating', augment=BLUR)),
  # Its controller rests: where it moves, the loss moves with it.
  'gan_adaptive': ADAPTIVE.entry(_of('non_saturating', augment=estimators.adaptive(
    [lambda key, x_BV: -x_BV], images=float('inf'), start=0.3))),
  'gan_spectral_norm': SPECTRAL_NORM.entry(estimators.adversarial(
    PLANE, estimators.non_saturating, spectral=estimators.spectral_norm()), burn_in=20),
  'gan_feature_matching': FEATURE_MATCHING.entry(estimators.adversarial(
    PLANE, estimators.non_saturating, feature_matching=1.5)),
  'gan_auxiliary': AUXILIARY.entry(estimators.adversarial(
    CLASSES, estimators.non_saturating, auxiliary=1.5)),
}
