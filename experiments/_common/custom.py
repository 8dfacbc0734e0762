"""Hyperparameters whose values may be objects of a user's own.

  def experiment(*, estimator: Estimator | None = None, ...):
    ours = ...
    estimator = ours if estimator is None else as_estimator(estimator)

From Python the object is passed as it is; a command line names it, --set=estimator=path.py:name.
"""

from typing import Annotated, Any, Literal

from gen_models.domains import Custom
from gen_models.estimators import custom
from gen_models.estimators.base import Estimator as _Estimator, in_bfloat16
from gen_models.models import gan, networks


def _network(thing):
  if not networks.is_network(thing):
    raise TypeError(f'it is of type {type(thing).__name__}; expected a flax module, or a class or '
                    'function that makes one')
  return thing


Estimator = Annotated[Any, Custom(custom.as_estimator, 'an estimator')]
Negative = Annotated[Any, Custom(custom.as_negative, 'a negative phase')]
Direction = Annotated[Any, Custom(custom.as_direction, 'a direction')]
Rule = Annotated[Any, Custom(custom.as_rule, 'a variational rule')]
Loss = Annotated[Any, Custom(custom.as_loss, 'losses of two players')]
Penalty = Annotated[Any, Custom(custom.as_penalty, 'a penalty')]
Precision = Literal['bfloat16']
Network = Annotated[Any, Custom(_network, 'a flax module')]


def players(model: gan.Model, generator: Any, critic: Any, shape) -> gan.Model:
  """The model with the networks of a user's that are given; shape is that of an image.

  Raises:
    ValueError: they are of other widths.
  """
  if generator is not None:
    model = model._replace(generator_net=networks.custom(
      generator, model.num_latents, model.num_visible, shape=shape))
  if critic is not None:
    model = model._replace(critic_net=networks.custom(
      critic, model.packing * model.num_visible, 1, shape=shape))
  return model


def chosen(given: Any, ours: _Estimator, precision: Precision | None = None) -> _Estimator:
  """The estimator that was given, or ours where none was; of a precision, that of its products."""
  estimator = ours if given is None else custom.as_estimator(given)
  return estimator if precision is None else in_bfloat16(estimator)
