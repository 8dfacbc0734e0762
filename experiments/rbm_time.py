"""Time to likelihood: seconds of training until an RBM 784-500 on MNIST reaches -90 nats.

  python -m launch.train --experiment=rbm_time --variant=centred --workdir=runs/time
  python -m launch.evaluate --workdir=runs/time

The run of rbm_mnist with what makes runs of any length comparable: a constant learning rate, and
the moving average of the parameters, which is what is judged. The validation likelihood, by
annealing over 1,000 temperatures, is looked at every 1,000 updates.

Score: `seconds_to_target`, seconds of training, compilation included and validation not, until the
mean over 10,000 validation images is first -90 nats or above, and `updates_to_target`, means +-
standard deviations over seeds, each a run of its own; test nats as of rbm_mnist, from 3,000
temperatures, at the end of the run. A dash: not measured, or -90 not reached.

  pcd1      –
  centred   –
  fpcd1     –
  pcd5      –
  pt        –
  ptt       –
  cd25      –

Cost on 2 CPU cores shared with other work: 3 seconds a thousand updates with one sweep an update.
"""

from experiments import rbm_mnist
from experiments.rbm_digits import DirectionName, NegativeName
from gen_models.experiment import Experiment

VARIANTS = {
  'pcd1': dict(),
  'centred': dict(direction='centred', num_steps=20_000),
  'fpcd1': dict(negative='fpcd'),
  'pcd5': dict(steps=5, num_steps=10_000),
  'pt': dict(negative='pt', chains=20, rungs=50, direction='centred', num_steps=10_000),
  'ptt': dict(negative='ptt', chains=20, rungs=30, direction='centred', num_steps=10_000),
  'cd25': dict(negative='cd', steps=25, num_steps=3_000),
}


def experiment(*, negative: NegativeName = 'pcd', steps: int = 1, chains: int = 100,
               rungs: int = 10, direction: DirectionName = 'plain', learning_rate: float = 0.05,
               average: float = 0.999, num_steps: int = 15_000, target: float = -90.0,
               ais_temperatures: int = 3_000) -> Experiment:
  """As rbm_mnist's; target is in nats."""
  base = rbm_mnist.experiment(
    negative=negative, steps=steps, chains=chains, rungs=rungs, direction=direction,
    learning_rate=learning_rate, schedule='constant', average=average, num_steps=num_steps,
    ais_temperatures=ais_temperatures)
  phase = base.phases[0]._replace(monitor=None)  # whether chains mix is not asked here, and costs
  return base._replace(phases=(phase,), target=target, validate_every=1000)
