"""Priors and posteriors of autoencoders by name.

  prior       standard, mixture, vamp (VampPrior), flow (couplings)
  posterior   gaussian, iaf (inverse autoregressive flow), coupling, mixture
  inference   bottom_up, ladder (from the top, precision-weighted)
"""

from typing import Literal, NamedTuple

from gen_models.models import flows, posteriors, priors, vae

Prior = Literal['standard', 'mixture', 'vamp', 'flow']
Posterior = Literal['gaussian', 'iaf', 'coupling', 'mixture']
Inference = Literal['bottom_up', 'ladder']
PRIOR_COMPONENTS, POSTERIOR_COMPONENTS, FLOW_STEPS, FLOW_WIDTH = 50, 4, 2, 64


class Parts(NamedTuple):
  """What a model has in the place of its standard normal and of its Gaussian chain."""

  prior: vae.Prior | None = None
  posterior: vae.Posterior | None = None
  top_down: bool = False


def by_name(prior: str | None = None, prior_components: int | None = None,
            posterior: str | None = None, posterior_components: int | None = None,
            flow_steps: int | None = None, flow_width: int | None = None,
            inference: str | None = None) -> Parts:
  """The parts that the names say; None is the first of each list at the top of the file.

  Args:
    prior: of the top layer.
    prior_components: of mixture and vamp; None for 50.
    posterior: of every layer.
    posterior_components: of a mixture; None for 4.
    flow_steps: of each flow; None for 2.
    flow_width: hidden units of each step; None for 64.
    inference: in which direction q draws.

  Raises:
    ValueError: a number for a part that is not chosen.
  """
  of_flows = prior == 'flow' or posterior in ('iaf', 'coupling')
  for name, value, used, of in (
      ('prior_components', prior_components, prior in ('mixture', 'vamp'), 'prior=mixture or vamp'),
      ('posterior_components', posterior_components, posterior == 'mixture', 'posterior=mixture'),
      ('flow_steps', flow_steps, of_flows, 'prior=flow or posterior=iaf or coupling'),
      ('flow_width', flow_width, of_flows, 'prior=flow or posterior=iaf or coupling')):
    if value is not None and not used:
      raise ValueError(f'{name}={value} is read with {of} only')
  steps, features = flow_steps or FLOW_STEPS, (flow_width or FLOW_WIDTH,)
  components = prior_components or PRIOR_COMPONENTS
  return Parts(
    {'mixture': priors.Mixture(components), 'vamp': priors.Vamp(components),
     'flow': priors.Flow(steps, features)}.get(prior or ''),
    {'iaf': posteriors.Flow(flows.autoregressive, steps, features),
     'coupling': posteriors.Flow(flows.coupling, steps, features),
     'mixture': posteriors.Mixture(posterior_components or POSTERIOR_COMPONENTS)}.get(
       posterior or ''),
    top_down=inference == 'ladder')
