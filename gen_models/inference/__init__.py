"""Inference: questions to a trained model, and the answers of each family of models.

  questions = gm.inference.boltzmann(gm.models.rbm)
  found = gm.inference.ask(questions, 'imputation', key, params, rows_ND)

An experiment carries the questions of its model, `Experiment.questions`; `launch.apply` asks them.
"""

from typing import TYPE_CHECKING

from gen_models import _lazy

if TYPE_CHECKING:
  from gen_models.inference import asking, densities, latent, machines, nets
  from gen_models.inference.asking import LogPartition, ask
  from gen_models.inference.densities import gaussian, linear_rbm, mixture, pca
  from gen_models.inference.latent import belief_net, class_conditional, rbm_prior, vae, vq
  from gen_models.inference.machines import boltzmann, class_rbm, dbm, dbn, persistent_chains
  from gen_models.inference.nets import autoencoder, classifier, gan

__all__ = [
  'LogPartition', 'ask', 'asking', 'autoencoder', 'belief_net', 'boltzmann',
  'class_conditional', 'class_rbm', 'classifier', 'dbm', 'dbn', 'densities', 'gan', 'gaussian',
  'latent', 'linear_rbm', 'machines', 'mixture', 'nets', 'pca', 'persistent_chains', 'rbm_prior',
  'vae', 'vq']

__getattr__, __dir__ = _lazy.attach(
  __name__,
  ('asking', 'densities', 'latent', 'machines', 'nets'),
  {**dict.fromkeys(('LogPartition', 'ask'), 'gen_models.inference.asking'),
   **dict.fromkeys(('gaussian', 'linear_rbm', 'mixture', 'pca'),
                   'gen_models.inference.densities'),
   **dict.fromkeys(('belief_net', 'class_conditional', 'rbm_prior', 'vae', 'vq'),
                   'gen_models.inference.latent'),
   **dict.fromkeys(('boltzmann', 'class_rbm', 'dbm', 'dbn', 'persistent_chains'),
                   'gen_models.inference.machines'),
   **dict.fromkeys(('autoencoder', 'classifier', 'gan'), 'gen_models.inference.nets')})
