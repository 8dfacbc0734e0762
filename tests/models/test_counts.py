"""Families of counts against SciPy, and their draws.

Statistical tests fail for one key in a million if the code is right (oracle.SIGNIFICANCE).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gen_models.models import counts, vae
from tests import oracle

pytestmark = pytest.mark.usefixtures('strict_promotion', 'whole_programs')

MEAN, SHAPE = np.array([1.3, 0.4, 7.0]), np.array([1.6, 2.7, 0.7])
CASES = [
  (counts.POISSON, np.log(MEAN), scipy.stats.poisson(MEAN)),
  (counts.NEGATIVE_BINOMIAL, np.log(np.concatenate([MEAN, SHAPE])),
   scipy.stats.nbinom(SHAPE, SHAPE / (SHAPE + MEAN)))]
every_family = pytest.mark.parametrize('family, outputs, law', CASES,
                                       ids=['poisson', 'negative_binomial'])


@every_family
def test_densities_means_and_the_untrained_network(family, outputs, law):
  outputs, x_ND = jnp.float32(outputs), jnp.float32([[0, 0, 0], [1, 2, 9], [3, 0, 40]])
  np.testing.assert_allclose(family.log_prob(outputs, x_ND), law.logpmf(x_ND).sum(-1), rtol=1e-5)
  np.testing.assert_allclose(family.mean(outputs), MEAN, rtol=1e-5)
  np.testing.assert_allclose(family.mean(family.outputs(jnp.float32(MEAN))), MEAN, rtol=1e-5)
  assert np.isfinite(family.log_prob(jnp.full_like(outputs, 200.0), x_ND)).all()


@every_family
def test_draws_follow_the_density(family, outputs, law):
  num = 20_000
  x_ND = np.asarray(jax.jit(family.sample)(
    jax.random.key(0), jnp.broadcast_to(jnp.float32(outputs), (num, len(outputs)))))
  for i, x_N in enumerate(x_ND.T):
    most = int(x_N.max())
    expected = law.pmf(np.arange(most + 1)[:, None])[:, i]
    seen = np.bincount(x_N.astype(int), minlength=most + 1)
    often = expected * num > 10
    table = np.append(seen[often], seen[~often].sum()), np.append(
      expected[often], 1 - expected[often].sum()) * num
    assert scipy.stats.chisquare(*table).pvalue > oracle.SIGNIFICANCE


def test_the_kl_of_poisson_units_is_the_sum_and_the_other_is_refused():
  q, p = jnp.float32([0.3, -0.4]), jnp.float32([-0.5, 0.2])
  x = np.arange(60)[:, None]
  log_q, log_p = (scipy.stats.poisson(np.exp(v)).logpmf(x) for v in (q, p))
  np.testing.assert_allclose(counts.POISSON.kl(q, p), np.sum(np.exp(log_q) * (log_q - log_p)),
                             rtol=1e-5)
  with pytest.raises(ValueError, match='no closed form'):
    counts.NEGATIVE_BINOMIAL.kl(jnp.zeros(4), jnp.zeros(4))


def test_an_encoder_sees_the_logarithm_of_counts():
  model = vae.model(3, (2,), ((4,),), likelihood=counts.POISSON)
  of_counts = model._replace(encoders=(counts.OfCounts(model.encoders[0]),))
  x_BV = jnp.float32([[0, 3, 1000], [5, 0, 0]])
  params = of_counts.init(jax.random.key(0), x_BV.mean(0))
  inner = params._replace(encoder=({**params.encoder[0]['network']},))
  np.testing.assert_allclose(of_counts.encode(params, x_BV), model.encode(inner, jnp.log1p(x_BV)),
                             rtol=1e-6)
