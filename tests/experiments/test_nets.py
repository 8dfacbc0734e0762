"""Networks of `vae` by name, of one and several stochastic layers: shapes, without compiling."""

import jax
import jax.numpy as jnp
import pytest

from experiments import vae

TWO = dict(latents='3-2', hidden='6-6,4')


@pytest.mark.parametrize('nets, inference', [
  ('residual', 'ladder'), ('conv', None), ('conv', 'ladder'), ('conv_residual', None)])
def test_every_net_goes_through_several_stochastic_layers(nets, inference):
  model = vae.experiment(dataset='digits', nets=nets, inference=inference, **TWO).model
  assert len(model.encoders) == (1 if inference else 2) and len(model.decoders) == 2
  x_BV = jnp.zeros((5, 64))

  def both(key):
    key_init, key_z, key_x, key_w = jax.random.split(key, 4)
    params = model.init(key_init, x_BV[0])
    z = model.sample_prior(key_z, params, 7)
    return (model.log_weights(key_w, params, x_BV, 4),
            model.sample_visible(key_x, params, z[0]), params)

  log_w_KB, x_NV, params = jax.eval_shape(both, jax.random.key(0))
  assert log_w_KB.shape == (4, 5) and x_NV.shape == (7, 64)
  names = {str(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
  assert any('halve' in name for name in names) == nets.startswith('conv')
  assert any('second' in name for name in names) == nets.endswith('residual')


def test_layers_without_hidden_layers_are_refused():
  with pytest.raises(ValueError, match='2 stochastic layers, but hidden layers for 1'):
    vae.experiment(dataset='digits', nets='conv', latents='3-2', hidden='6')
