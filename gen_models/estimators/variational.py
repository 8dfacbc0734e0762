"""Gradients of variational bounds, by a rule on the log-weights.

  l_kb = log p(x_b, z_kb) - log q(z_kb | x_b),    z_kb ~ q(z | x_b),    k = 1 .. K,

  -B grads = sum_kb  a_kb d log p(x_b, z_kb)          along the parameters, z held
                   + c_kb d log q(z_kb | x_b)         along the parameters, z held: the score
                   + d_kb (d l_kb / d z) (d z / d params)   the path through the samples

A rule says the multiples a, c and d, functions of l; ELBO, IWAE, STL, DReG, REINFORCE and RLOO
differ in nothing else, and each is a few lines below; those of several samples of discrete latents
are in multi_sample.py. `path` holds the parameters of the densities
while samples move, through all stochastic layers (holding the distributions instead would lose what
flows through the layers above). Discrete samples do not move: a rule with a path refuses them.

`model` is anything that reads like vae.Model: encode, sample_posterior, log_likelihood, log_prior,
log_posterior, has_path, and kl for the analytic bound. With beta the prior and posterior terms of l
are multiplied by it.

Axis suffixes: B batch, K samples, V visible.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from gen_models.estimators import base, baselines


class Model(Protocol):
  """A density with latents and an approximate posterior, as gen_models.models.vae.Model is.

  z is a tuple of arrays [K, B, Z], one for each layer; the code of x is the output of its encoder.
  """

  @property
  def has_path(self) -> bool:
    """Whether z can be differentiated with respect to the code: latents are continuous."""
    ...

  def encode(self, params: Any, x_BV: jax.Array, /) -> jax.Array:
    """The code of x, [B, O]."""
    ...

  def sample_posterior(self, key: jax.Array, params: Any, code_BO: jax.Array, num_samples: int,
                       /) -> tuple:
    """z ~ q(z | x), `num_samples` of each image; differentiable where there is a path."""
    ...

  def log_likelihood(self, params: Any, x_BV: jax.Array, z: tuple, /) -> jax.Array:
    """log p(x | z), [K, B]."""
    ...

  def log_prior(self, params: Any, z: tuple, /) -> jax.Array:
    """log p(z), [K, B]."""
    ...

  def log_posterior(self, params: Any, code_BO: jax.Array, z: tuple, /) -> jax.Array:
    """log q(z | x), [K, B]."""
    ...

  def kl(self, params: Any, code_BO: jax.Array, /) -> jax.Array:
    """KL(q(z | x) || p(z)) in closed form, [B]; for the analytic bound only."""
    ...

  def kl_by_unit(self, params: Any, code_BO: jax.Array, /) -> jax.Array:
    """The same for each latent, [B, Z]; for free bits only."""
    ...

  def sample_prior(self, key: jax.Array, params: Any, num_samples: int, /) -> tuple:
    """z ~ p(z), each [N, Z]; for wake-sleep only."""
    ...

  def sample_visible(self, key: jax.Array, params: Any, z_1: jax.Array, /) -> jax.Array:
    """x ~ p(x | z_1), [.., V]; for wake-sleep only."""
    ...


class Coefficients(NamedTuple):
  """The multiples a, c and d, [K, B] each; None is zero, and then costs nothing."""

  log_p: jax.Array
  score: jax.Array | None = None
  path: jax.Array | None = None


class Coefficient(Protocol):
  """The multiples of a rule, functions of the log-weights."""

  def __call__(self, l_KB: jax.Array, /) -> Coefficients:
    """Those of K samples of each image; no gradient flows through it."""
    ...


class Rule(NamedTuple):
  """A gradient of a bound from K samples.

  Attributes:
    samples: K.
    coefficients: l [K, B] -> Coefficients. No gradient flows through it.
    biased: whether the expectation differs from the gradient of the bound.
    beta: weight of the prior and posterior terms of l.
  """

  samples: int
  coefficients: Coefficient
  biased: bool = False
  beta: float = 1.0


# Rules.


def elbo(samples: int = 1, beta: Any = 1.0) -> Rule:
  """The mean of l over samples, differentiated as it stands (Kingma & Welling, 2014).

  beta: Higgins et al. (2017).
  """
  _require_samples(samples)

  def coefficients(l_KB):
    a_KB = jnp.full_like(l_KB, 1 / samples)
    return Coefficients(a_KB, -beta * a_KB, a_KB)

  return Rule(samples, coefficients, beta=beta)


def iwae(samples: int) -> Rule:
  """log (1/K) sum_k exp(l_k), differentiated as it stands: w = softmax(l) (Burda et al., 2016)."""
  _require_samples(samples)

  def coefficients(l_KB):
    w_KB = jax.nn.softmax(l_KB, axis=0)
    return Coefficients(w_KB, -w_KB, w_KB)

  return Rule(samples, coefficients)


def stl(samples: int = 1) -> Rule:
  """iwae without its score (Roeder, Wu & Duvenaud, 2017).

  Exact posteriors give it zero variance. E[score] is 0 for one sample, not for more: then biased.
  """
  _require_samples(samples)

  def coefficients(l_KB):
    w_KB = jax.nn.softmax(l_KB, axis=0)
    return Coefficients(w_KB, None, w_KB)

  return Rule(samples, coefficients, biased=samples > 1)


def dreg(samples: int) -> Rule:
  """iwae with its score reparametrised once more: path w^2 (Tucker et al., 2019)."""
  _require_samples(samples)

  def coefficients(l_KB):
    w_KB = jax.nn.softmax(l_KB, axis=0)
    return Coefficients(w_KB, None, w_KB**2)

  return Rule(samples, coefficients)


def reinforce(samples: int = 1) -> Rule:
  """The mean of l by its score, without a path, for latents without a path (Williams, 1992)."""
  _require_samples(samples)

  def coefficients(l_KB):
    return Coefficients(jnp.full_like(l_KB, 1 / samples), l_KB / samples)

  return Rule(samples, coefficients)


def rloo(samples: int) -> Rule:
  """reinforce, less for each sample the mean l of the others (Kool, van Hoof & Welling, 2019)."""
  if samples < 2:
    raise ValueError(f'leaving one out needs at least two samples, got {samples}')

  def coefficients(l_KB):
    return Coefficients(jnp.full_like(l_KB, 1 / samples),
                        (l_KB - jnp.mean(l_KB, axis=0)) / (samples - 1))

  return Rule(samples, coefficients)


# Estimators.


def variational(model: Model, rule: Rule, *,
                baseline: baselines.Baseline | float | None = None) -> base.Estimator:
  """The gradient that `rule` defines, for a batch x_BV.

  Args:
    model: see above.
    rule: which bound, and how its gradient is estimated.
    baseline: subtracted from l before the rule sees it; a number is the rate, in (0, 1], of a
      running mean of l. It has seen earlier batches only, so what is unbiased stays so. Of the
      rules above only reinforce is moved by it, the others being blind to what is added to every l
      of an image.

  Returns:
    an Estimator; metrics are `bound`, the mean over the batch of log (1/K) sum_k exp(l_k), `elbo`,
    that of l, and `distortion`, that of -log p(x | z).

  Raises:
    ValueError: a rule with a path through the samples, and a model whose latents are discrete.
  """
  l_K1 = jax.ShapeDtypeStruct((rule.samples, 1), jnp.float32)
  if jax.eval_shape(rule.coefficients, l_K1).path is not None:
    _require_path(model)
  level = baselines.as_baseline(baseline)

  def init(key, params):
    del params
    return base.Memory(shared=level.init(key))

  def grad(key, params, memory, x_BV):
    def log_p(params, z):
      log_x_KB = model.log_likelihood(params, x_BV, z)
      return log_x_KB + rule.beta * model.log_prior(params, z), log_x_KB

    # Parameters of q come in twice, as themselves and through the code: `at`. Pulling both back to
    # the code first leaves one pass through the network that encodes x.
    code_BO, pull_code = jax.vjp(lambda params: model.encode(params, x_BV), params)
    at = params, code_BO
    z, pull_z = jax.vjp(lambda at: model.sample_posterior(key, at[0], at[1], rule.samples), at)
    log_p_KB, pull_p, log_x_KB = jax.vjp(log_p, params, z, has_aux=True)
    log_q_KB, pull_q = jax.vjp(lambda at, z: model.log_posterior(at[0], at[1], z), at, z)

    l_KB = log_p_KB - rule.beta * log_q_KB
    centre = level.predict(memory.shared, x_BV)
    shared = level.update(memory.shared, x_BV, l_KB)
    c = jax.tree.map(lambda c_KB: -c_KB / len(x_BV), rule.coefficients(l_KB - centre))

    # Two pulls of one cotangent are one pass once compiled.
    along_at = jax.tree.map(jnp.zeros_like, at)
    if c.score is not None:
      along_at = jax.tree.map(jnp.add, along_at, pull_q(c.score)[0])
    if c.path is not None:
      along_z = jax.tree.map(jnp.add, pull_p(c.path)[1], pull_q(-rule.beta * c.path)[1])
      along_at = jax.tree.map(jnp.add, along_at, pull_z(along_z)[0])
    along_params, along_code = along_at
    grads = jax.tree.map(lambda *g: sum(g), pull_p(c.log_p)[0], along_params,
                         pull_code(along_code)[0])
    bound_B = jax.nn.logsumexp(l_KB, axis=0) - jnp.log(rule.samples)
    metrics = {'bound': jnp.mean(bound_B), 'elbo': jnp.mean(l_KB),
               'distortion': -jnp.mean(log_x_KB)}
    return grads, memory._replace(shared=shared), metrics

  return base.Estimator(init, grad, rule.biased)


def analytic_elbo(model: Model, samples: int = 1, beta: float = 1.0) -> base.Estimator:
  """grads of -(1/K) sum_k log p(x | z_k) + beta KL(q(z | x) || p(z)), the KL in closed form.

  Raises:
    ValueError: discrete latents; as model.kl.
  """
  def price(params, code_BO):
    kl = jnp.mean(model.kl(params, code_BO))
    return kl, beta * kl

  return _closed_form(model, samples, price)


def free_bits(model: Model, nats: float, samples: int = 1) -> base.Estimator:
  """grads of -E_q[log p(x | z)] + sum_i max(nats, mean_b KL_i), KL_i that of latent i.

  A latent that is worth fewer than `nats` costs nothing more, so it is not switched off early
  (Kingma et al., 2016, Improved variational inference with inverse autoregressive flow). The mean
  is that of the batch. KL_i is in closed form, `model.kl_by_unit`.

  Raises:
    ValueError: discrete latents; several layers.
  """
  def price(params, code_BO):
    kl_Z = jnp.mean(model.kl_by_unit(params, code_BO), axis=0)
    return jnp.sum(kl_Z), jnp.sum(jnp.maximum(kl_Z, nats))

  return _closed_form(model, samples, price)


def _closed_form(model: Model, samples: int, price: Callable) -> base.Estimator:
  """grads of the sampled distortion and of `price`: (params, code) -> (KL, what is paid for it)."""
  _require_samples(samples)
  _require_path(model)

  def loss(key, params, x_BV):
    code_BO = model.encode(params, x_BV)
    z = model.sample_posterior(key, params, code_BO, samples)
    distortion = -jnp.mean(model.log_likelihood(params, x_BV, z))
    kl, paid = price(params, code_BO)
    return distortion + paid, {'elbo': -distortion - kl, 'distortion': distortion}

  return base.from_loss(loss)


def warm_up(of_beta: Callable[[Any], base.Estimator], num_updates: int) -> base.Estimator:
  """The estimator at beta = min(1, t / num_updates), t the updates before this one.

  Warm-up of the KL (Bowman et al., 2016; Sonderby et al., 2016): at first the autoencoder is
  trained without a prior. t is a counter in the memory.

  Args:
    of_beta: beta -> Estimator, such as lambda beta: variational(model, elbo(beta=beta)).
    num_updates: until beta is one.
  """
  if num_updates < 1:
    raise ValueError(f'a warm-up takes at least one update, got {num_updates}')
  after = of_beta(jnp.ones(()))

  def init(key, params):
    memory = after.init(key, params)
    return memory._replace(shared=(jnp.zeros((), jnp.int32), memory.shared))

  def grad(key, params, memory, x_BV):
    step, shared = memory.shared
    beta = jnp.minimum(step.astype(jnp.float32) / num_updates, 1.0)
    grads, memory, metrics = of_beta(beta).grad(key, params, memory._replace(shared=shared), x_BV)
    return (grads, memory._replace(shared=(jnp.minimum(step + 1, num_updates), memory.shared)),
            metrics | {'beta': beta})

  return base.Estimator(init, grad, after.biased)


def generalised_dreg(model: Any, samples: int) -> base.Estimator:
  """dreg, with the scores of the priors of a hierarchy reparametrised too (Bauer & Mnih, 2021).

  With z_l = T(e_l; theta(z_{l+1})) the sample of layer l seen as one of its prior, e_l held,

    E[w_k d log p(z_l | z_{l+1}) / d theta]
      = E[(w_k d (log p(x, z) - log p(z_l | z_{l+1})) / d z_l - w_k^2 d l_k / d z_l) dT / d theta],

  each derivative along z_l with all other layers held. Along q it is dreg; p(x | z_1) has w. It is
  for gen_models.models.vae.Model: it follows samples through their priors' outputs.

  Raises:
    ValueError: discrete latents; a prior of the top layer that is not one of independent units.
  """
  _require_samples(samples)
  _require_path(model)
  if model.prior is not None:
    raise ValueError('generalised DReG sees a sample of every layer as one that its prior made of '
                     f'its outputs, and {model.prior} has none: use dreg')

  def grad(key, params, memory, x_BV):
    code_BO, pull_code = jax.vjp(lambda params: model.encode(params, x_BV), params)
    at = params, code_BO
    z, pull_z = jax.vjp(lambda at: model.sample_posterior(key, at[0], at[1], samples), at)
    log_x_KB, pull_x = jax.vjp(lambda params: model.log_likelihood(params, x_BV, z), params)
    log_p_KB, pull_p = jax.vjp(
      lambda z: model.log_likelihood(params, x_BV, z) + model.log_prior(params, z), z)
    log_q_KB, pull_q = jax.vjp(lambda z: model.log_posterior(params, code_BO, z), z)
    outputs, pull_outputs = jax.vjp(lambda params: model.prior_outputs(params, z), params)
    own, pull_own = jax.vjp(lambda z: tuple(map(model.latent.log_prob, outputs, z)), z)

    l_KB = log_p_KB - log_q_KB
    w_KB = jax.nn.softmax(l_KB, axis=0) / -len(x_BV)
    square_KB = -jax.nn.softmax(l_KB, axis=0)**2 / len(x_BV)
    along_z = jax.tree.map(jnp.subtract, pull_p(square_KB)[0], pull_q(square_KB)[0])
    along_prior = jax.tree.map(lambda p, one, path: p - one - path, pull_p(w_KB)[0],
                               pull_own((w_KB,) * len(own))[0], along_z)
    _, pull_followed = jax.vjp(
      lambda outputs: tuple(map(model.latent.follow, outputs, z)), outputs)
    along_params, along_code = pull_z(along_z)[0]
    grads = jax.tree.map(lambda *g: sum(g), pull_x(w_KB)[0], along_params,
                         pull_code(along_code)[0], pull_outputs(pull_followed(along_prior)[0])[0])
    bound = jnp.mean(jax.nn.logsumexp(l_KB, axis=0)) - jnp.log(samples)
    return grads, memory, {'bound': bound, 'elbo': jnp.mean(l_KB),
                           'distortion': -jnp.mean(log_x_KB)}

  return base.Estimator(lambda key, params: base.Memory(), grad)


def _require_path(model: Model):
  """ValueError where the model's samples cannot be differentiated."""
  if not getattr(model, 'has_path', True):
    raise ValueError('this gradient goes through the samples, and those of discrete latents have '
                     'no derivative, so that of their encoder would be off: use reinforce or rloo, '
                     'an estimator for discrete latents, or relaxed samples')


def _require_samples(samples: int):
  if samples < 1:
    raise ValueError(f'a bound needs at least one sample, got {samples}')
