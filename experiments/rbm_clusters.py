"""RBM 100-12 on three clusters far apart: where persistent chains fail, and what comes before.

  python -m launch.train --experiment=rbm_clusters --variant=ptt_low_rank --workdir=runs/clusters
  python -m launch.evaluate --workdir=runs/clusters

Rows of 100 bits, 60, 30 and 10 % of them around three centres that differ in half of the columns
(data set `clusters`). Chains divide among the clusters when the machine takes them up and hardly
ever cross later, so a machine trained by PCD has the clusters with wrong weights. With
pretrain=low_rank a training phase of one step fits a machine of rank 2 along principal directions
by convex maximum likelihood (gen_models.models.low_rank), as which the RBM begins, its chains as
exact draws of it; ptt then has that machine as its first rung, drawn from exactly at every update.

Score: exact test nats of 2,000 held-out rows, mean +- standard deviation over seeds. Independent
columns score -50.53, a mixture of 100 products of Bernoullis -25.12.

  pcd           -37.12 +- 4.59   3 seeds
  pcd_low_rank  -63.50 +- 16.23  3 seeds; pretrained: PCD leaves the start for worse
  ptt           -28.52 +- 1.81   3 seeds
  ptt_low_rank  -25.57 +- 0.41   3 seeds; pretrained, the first rung drawn from exactly
  low_rank      -32.20 +- 0.02   3 seeds; the machine that the pretrained ones begin with
  exact         -24.58 +- 0.07   3 seeds; the enumerated gradient, 3,000 updates, a rate of 0.2
  pt            -25.98 +- 1.68   3 seeds; tempered chains that swap

Beside it the distance of the clusters' probabilities, enumerated, from their shares of the rows,
and the clusters that a chain visits in 1,000 steps: of three, chains of ptt_low_rank visit one by
Gibbs steps, 1.8 on 20 temperatures, and all three on 20 rungs from the machine of low rank.

Cost for three seeds on 2 CPU cores shared with other work: PCD half a minute to
two, of which the fit takes 10 seconds; ptt and ptt_low_rank 4 to 6 minutes.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments._common import binary, boltzmann, custom, pretrained, whole
from gen_models import data, inference
from gen_models.domains import NonNegative, NumUpdates, PositiveInt, Width
from gen_models.estimators.contrastive import contrastive
from gen_models.estimators.maximum_likelihood import maximum_likelihood
from gen_models.evaluation import figures, monitors
from gen_models.experiment import EXACT, Experiment, Phase, unlabelled
from gen_models.models import gibbs, low_rank, rbm, units
from gen_models.samplers import tempering

VARIANTS = {
  'pcd': dict(),
  'pcd_low_rank': dict(pretrain='low_rank'),
  'pt': dict(negative='pt'),
  'ptt': dict(negative='ptt'),
  'ptt_low_rank': dict(negative='ptt', pretrain='low_rank'),
  'exact': dict(negative='exact', learning_rate=0.2, num_steps=3000),
  'low_rank': dict(pretrain='low_rank', num_steps=1, learning_rate=0.0),
}


@jax.jit
def shares(params: rbm.Params, centre_MV) -> jax.Array:
  """Probability of each cluster under the machine, [M]: p(h) of the states whose E[v | h] is near.

  Exact, by enumeration of the hidden units.
  """
  h_SH = rbm.all_states(len(params.c_H))
  y_SV = rbm.visible_input(params, h_SH)
  p_S = jax.nn.softmax(h_SH @ params.c_H + jnp.sum(jax.nn.softplus(y_SV), axis=-1))
  return p_S @ jax.nn.one_hot(nearest(jax.nn.sigmoid(y_SV), centre_MV), len(centre_MV))


def centres(v_NV, label_N) -> jax.Array:
  """The mean row of each cluster, [M, V]."""
  return jnp.stack([v_NV[label_N == m].mean(0) for m in range(label_N.max() + 1)])


def nearest(x_NV, centre_MV) -> jax.Array:
  """The index of the nearest centre, [N]."""
  return jnp.argmin(jnp.sum(centre_MV**2, axis=1) - 2 * x_NV @ centre_MV.T, axis=1)


@functools.partial(jax.jit, static_argnames='num_steps')
def visited(key, params_R: rbm.Params, v_CV, centre_MV, draws: low_rank.Draws | None = None,
            num_steps: int = 1000) -> jax.Array:
  """Mean number of clusters that a chain at the last rung has been in after `num_steps`; scalar.

  Args:
    key: consumed.
    params_R: the rungs of a ladder, the model last.
    v_CV: where all rungs begin.
    centre_MV: centres of the clusters.
    draws: of the first rung, which is then drawn from exactly at every step.
    num_steps: Gibbs steps of all rungs, with swaps.
  """
  key_h, key_steps = jax.random.split(key)
  v_RCV = jnp.broadcast_to(v_CV, (len(params_R.w_VH), *v_CV.shape))
  keys = jax.random.split(key_h, len(v_RCV))
  ladder = tempering.Ladder(v_RCV, jax.vmap(rbm.sample_hidden, (0, 0, 0))(keys, params_R, v_RCV))

  def body(ladder, key):
    key_v, key_h, key_step = jax.random.split(key, 3)
    if draws is not None:
      first, new_CV = jax.tree.map(lambda x: x[0], params_R), low_rank.sample(
        key_v, draws, len(v_CV))
      ladder = tempering.Ladder(ladder.v_RCV.at[0].set(new_CV), ladder.h_RCH.at[0].set(
        rbm.sample_hidden(key_h, first, new_CV)))
    ladder, _ = tempering.step(key_step, params_R, ladder)
    return ladder, jax.nn.one_hot(nearest(ladder.v_RCV[-1], centre_MV), len(centre_MV))

  _, seen_TCM = jax.lax.scan(body, ladder, jax.random.split(key_steps, num_steps))
  return jnp.mean(jnp.sum(jnp.max(seen_TCM, axis=0), axis=-1))


def mixing(key, params: rbm.Params, low: low_rank.Params, base_V, v_CV, centre_MV
           ) -> dict[str, float]:
  """Clusters that chains from v visit in 1,000 steps: of three by independent draws.

  By Gibbs steps; on 20 rungs of temperature; and on 20 rungs along the straight line from the
  machine of low rank, which is drawn from exactly.
  """
  keys, share_R = jax.random.split(key, 3), jnp.linspace(0, 1, 20)
  size = pretrained.SIZES[low.u_VD.shape[1]]
  of = jax.jit(lambda low: low_rank.draws(low, low_rank.lattice(low, size)))(low)
  along_R = jax.tree.map(lambda a, b: a + share_R.reshape(-1, *(1,) * a.ndim) * (b - a),
                         low_rank.machine(low), params)
  return {name: float(visited(key, rungs_R, v_CV, centre_MV, draws))
          for key, (name, rungs_R, draws) in zip(keys, (
            ('visited_gibbs', tempering.stacked([params, params]), None),
            ('visited_temperatures', tempering.scaled(params, base_V, np.linspace(0, 1, 20)), None),
            ('visited_trajectory', along_R, of)), strict=True)}


def experiment(*, num_hidden: Width = 12,
               negative: Literal['cd', 'pcd', 'fpcd', 'pt', 'ptt', 'exact'] | custom.Negative
               = 'pcd', pretrain: pretrained.Pretrain | None = None,
               rank: pretrained.Rank = 2, steps: PositiveInt = 1, chains: PositiveInt = 100,
               rungs: PositiveInt = 10, fast_rate: NonNegative = 0.01,
               estimator: custom.Estimator | None = None, learning_rate: NonNegative = 0.05,
               weight_decay: NonNegative = 1e-4, batch_size: PositiveInt = 100,
               num_steps: NumUpdates = 10_000) -> Experiment:
  """The learning rate falls linearly to 0; weight decay is on W only."""
  spec = data.spec('clusters')
  before = pretrained.LowRank(spec, 'static', rank, num_hidden) if pretrain else None
  if negative == 'exact':
    ours = maximum_likelihood(rbm.log_likelihood)
  else:
    ours = contrastive(rbm, (before or boltzmann).negative_phase(
      negative, chains=chains, steps=steps, rungs=rungs, fast_rate=fast_rate))

  def init(key, arrays, previous_params):
    del previous_params
    return rbm.init(key, spec.num_visible, num_hidden, data.mean_image(arrays, spec))

  def validate(key, params, arrays):
    del key
    v_NV = data.fixed(arrays, 'static', spec)
    log_p = rbm.log_likelihood if isinstance(params, rbm.Params) else pretrained.log_likelihood
    return {'valid_nats': data.mean(log_p(params, v_NV), arrays.weights)}

  def evaluate(key, params, dataset, report):
    del report
    train_NV, test_NV = (data.fixed_split(dataset, split, 'static') for split in ('train', 'test'))
    centre_MV = centres(train_NV, dataset.train.labels)
    share_M = np.asarray(shares(params, centre_MV))
    low = jax.jit(pretrained.LowRank(spec, 'static', rank, num_hidden).fit)(whole.Rows(train_NV))
    of_test_M = np.bincount(dataset.test.labels) / len(test_NV)
    return binary.exact(params, train_NV, test_NV, 'static') | {
      'baselines': binary.baseline_scores(dataset, 'static', search=False),
      'scores': {
        'shares_distance': float(np.abs(share_M - of_test_M).sum() / 2),
        **mixing(key, params, low, units.log_odds(train_NV.mean(0)), test_NV[:100], centre_MV)}}

  phase = Phase('rbm', init, custom.chosen(estimator, ours),
                boltzmann.descent(learning_rate, 0.0, weight_decay, num_steps),
                data.batches(batch_size, 'static', spec), num_steps, batch_size,
                check=boltzmann.check, monitor=monitors.of_chains(rbm, 'static', spec),
                alarms=monitors.ALARMS)
  return Experiment(
    dataset='clusters', binarisation='static',
    phases=before.phases(phase) if before else (phase,),
    evaluate=evaluate, thorough=EXACT, validate=validate, headline='valid_nats',
    pictures=figures.rbm_pictures(spec.seen_shape),
    sample=unlabelled(gibbs.sampler(rbm), spec.seen_shape),
    questions=inference.boltzmann(rbm, see=binary.seen('static')),
    steps_per_dispatch=200, validate_every=1000, model=rbm,
    protocol='exact log-likelihood of 2,000 held-out rows, last parameters')
