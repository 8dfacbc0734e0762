"""Objects of a user's in experiments, from Python: what the names give, objects give too."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import gen_models as gm
from experiments import gan, gaussian, rbm as any_rbm, rbm_digits, vae
from gen_models import data
from gen_models.models import families, networks, rbm, units
from gen_models.models.machine import Machine
from tests.training import toy


def first_gradient(experiment, arrays):
  phase, = experiment.phases
  keys = jax.random.split(jax.random.key(0), 4)
  params = phase.init(keys[0], arrays, None)
  memory, batch = phase.estimator.init(keys[1], params), phase.batch_at(keys[3], arrays, 0)
  return jax.jit(phase.estimator.grad)(keys[2], params, memory, batch)[0]


@pytest.mark.parametrize('given, name', [
  (dict(negative=gm.estimators.persistent(100, 1)), dict(negative='pcd')),
  (dict(negative='cd', direction=lambda: gm.estimators.centred(0.01)),
   dict(negative='cd', direction='centred')),
  (dict(estimator=gm.estimators.contrastive(rbm, gm.estimators.reconstruction(1))),
   dict(negative='cd')),
  (dict(estimator=lambda key, params, v_BV: (-rbm.log_likelihood(params, v_BV).mean(), {})),
   dict(negative='exact'))])
def test_an_object_gives_the_gradient_of_its_name(given, name):
  arrays = data.load('digits').train
  found, expected = (first_gradient(rbm_digits.experiment(num_hidden=4, **kwargs), arrays)
                     for kwargs in (given, name))
  if 'exact' in name.values():  # summed in another order
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), found, expected)
  else:
    assert toy.same_bits(found, expected)


def test_machines_of_any_data_take_them_too():
  arrays = data.load('digits').train
  machine, persistent = Machine(units.BERNOULLI, units.BERNOULLI), gm.estimators.persistent(100, 1)
  mine = gm.estimators.contrastive(machine, persistent, direction=gm.estimators.centred())
  expected = first_gradient(any_rbm.experiment(num_hidden=4), arrays)
  for given in dict(negative=persistent), dict(estimator=mine, negative='cd'):
    found = first_gradient(any_rbm.experiment(num_hidden=4, **given), arrays)
    assert toy.same_bits(found, expected)


def test_losses_penalties_and_rules_too():
  theirs = gan.experiment(dataset='digits', nets='dense', width=4, loss=gm.estimators.hinge,
                          penalty=gm.estimators.r1(1.0), batch_size=4)
  ours = gan.experiment(dataset='digits', nets='dense', width=4, loss='hinge', penalty='r1',
                        batch_size=4)
  arrays = data.load('digits').train
  assert toy.same_bits(first_gradient(theirs, arrays), first_gradient(ours, arrays))
  small = dict(dataset='digits', hidden='4', latents='2', num_steps=10, binarisation='threshold')
  assert toy.same_bits(first_gradient(vae.experiment(bound=gm.estimators.stl(1), **small), arrays),
                       first_gradient(vae.experiment(bound='stl', **small), arrays))


class Linear(nn.Module):
  num_outputs: int
  shape: tuple = ()

  @nn.compact
  def __call__(self, x_BD):
    assert x_BD.shape[-1] in (*self.shape, 64, 2)
    return nn.Dense(self.num_outputs)(x_BD)


class Normalised(nn.Module):
  num_outputs: int

  @nn.compact
  def __call__(self, x_BD):
    return nn.Dense(self.num_outputs)(nn.BatchNorm(use_running_average=False)(x_BD))


def test_a_network_is_given_what_it_asks_for_and_held_to_its_widths():
  made = networks.custom(Linear, 64, 6, shape=(8, 8))
  assert made.num_outputs == 6 and made.shape == (8, 8)
  assert networks.custom(nn.Dense(6), 64, 6).features == 6
  for wrong, message in {
      lambda: nn.Dense(5): r'maps \[3, 64\] to \[3, 5\], expected \[3, 6\]',
      lambda width: nn.Dense(width): 'wants width: a network is given num_inputs, num_outputs',
      lambda: 7: 'makes an object of type int', Normalised: 'variables are batch_stats, params',
      lambda num_outputs: Linear(num_outputs, nothing=1): 'nothing'}.items():
    with pytest.raises((ValueError, TypeError), match=message):
      networks.custom(wrong, 64, 6)
  model = vae.build(data.spec('digits'), 'dense', '4', '3', families.BINARY, encoder=Linear)
  assert jax.eval_shape(model.init, jax.random.key(0), np.zeros(64, np.float32)).encoder[0][
    'Dense_0']['kernel'].shape == (64, 6)
  with pytest.raises(ValueError, match='one stochastic layer, not 2'):
    vae.build(data.spec('digits'), 'dense', '4,4', '3-3', families.BINARY, decoder=Linear)


def test_a_closed_form_takes_no_estimator():
  with pytest.raises(ValueError, match='for method=gradient, not closed'):
    gaussian.experiment(estimator=lambda key, params, x: (0.0, {}))
