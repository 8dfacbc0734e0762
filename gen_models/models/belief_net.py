"""Sigmoid belief network: a directed model whose latent units are binary.

  p(z_L) = prod_j sigma(a_j)^z_j (1 - sigma(a_j))^(1 - z_j),
  p(z_{l-1,i} = 1 | z_l) = sigma(f_i(z_l)),    p(x_i = 1 | z_1) = sigma(f_i(z_1) + b_i),

with f linear in the classic network, a multilayer perceptron in the nonlinear one, and a factorial
encoder q(z_l | z_{l-1}) of the same shape. It is the variational autoencoder of vae.py with another
family of latent units and a learned prior; samples carry no path derivative, so its encoder is
trained by the score (REINFORCE, RLOO).

Neal (1992), Connectionist learning of belief networks; Mnih & Gregor (2014).
"""

from gen_models.models import networks, vae


def model(num_visible: int, widths: tuple[int, ...] = (200,), hidden: tuple[int, ...] = (), *,
          activation: networks.Activation = networks.leaky_relu) -> vae.Model:
  """Binary layers of `widths` units over binary x, `hidden` deterministic layers between each two.

  The encoder sees x minus the data's mean, so that its output at the start does not depend on it.
  """
  return vae.model(num_visible, widths, (tuple(hidden),) * len(widths), latent=vae.BINARY,
                   activation=activation, learned_prior=True, centred=True)
