"""Deep generative models in JAX: models, estimators, samplers, evaluation, training, data."""
