"""Sigmoid belief network: a directed model whose latent units are binary.

  p(z_L) = prod_j sigma(a_j)^z_j (1 - sigma(a_j))^(1 - z_j),
  p(z_{l-1,i} = 1 | z_l) = sigma(f_i(z_l)),    p(x_i = 1 | z_1) = sigma(f_i(z_1) + b_i),

with f linear in the classic network, a multilayer perceptron in the nonlinear one, and a factorial
encoder q(z_l | z_{l-1}) of the same shape. It is the variational autoencoder of vae.py with another
family of latent units and a learned prior; samples carry no path derivative, so its encoder is
trained by the score (REINFORCE, RLOO) or by an estimator for discrete latents.

Neal (1992), Connectionist learning of belief networks; Mnih & Gregor (2014).
"""

from gen_models.models import networks, vae


def model(num_visible: int, widths: tuple[int, ...] = (200,), hidden: tuple[int, ...] = (), *,
          num_states: int = 2, activation: networks.Activation = networks.leaky_relu) -> vae.Model:
  """Discrete layers of `widths` units over binary x, `hidden` layers of a network between each two.

  The encoder sees x minus the data's mean, so that its output at the start does not depend on it.

  Args:
    num_visible: binary units.
    widths: units of each layer of latents.
    hidden: widths of the deterministic layers.
    num_states: 2 for binary units; of more states, a unit is that many numbers of which one is 1.
    activation: of the deterministic layers.
  """
  latent = vae.BINARY if num_states == 2 else vae.categorical(num_states)
  widths = tuple(w * (1 if num_states == 2 else num_states) for w in widths)
  return vae.model(num_visible, widths, (tuple(hidden),) * len(widths), latent=latent,
                   activation=activation, learned_prior=True, centred=True)
