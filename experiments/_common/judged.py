"""Draws of a model with classes, judged by a classifier that is trained on the data's own classes.

Axis suffixes: N draws, V values of a row, C channels, Q classes.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from experiments._common import kept
from gen_models import data, indices
from gen_models.data.binarise import Split
from gen_models.evaluation import judge
from gen_models.experiment import Sampler, Samples
from gen_models.models import gan

DIGITS = 10
DRAWS_A_CLASS, STACKED_DRAWS, BATCH = 1000, 26_000, 1000
MOST_STACKS = 20_000  # whose channels train the classifier


class Draw(Protocol):
  """Draws of given classes."""

  def __call__(self, key: jax.Array, params: Any, y_NQ: jax.Array,
               /) -> tuple[jax.Array, jax.Array]:
    """(draws, their means), [N, V] each, of one-of-Q classes; the key is consumed."""
    ...


def of_game(model: gan.ClassConditional, mixed: int | None = None) -> tuple[Draw, int]:
  """(draws of a class-conditional game, which have no other means, Q).

  mixed: rows of the batches that draws are taken from, whatever their class, with all classes in
  turn, as in training; for networks that normalise over a batch.
  """
  def draw(key, params, y_NQ):
    return (model.draw(key, params, y_NQ),) * 2
  return draw if mixed is None else among_all(draw, mixed), model.num_classes


def among_all(draw: Draw, batch_size: int) -> Draw:
  """Draws of given classes, each from a batch of that size in which all classes are as frequent."""
  def mixed(key, params, y_NQ):
    num, num_classes = y_NQ.shape
    kept_rows = max(1, batch_size // num_classes)  # of a batch: the others have the other classes
    blocks = -(-num // kept_rows)
    y_BKQ = jnp.resize(y_NQ, (blocks, kept_rows, num_classes))

    def block(of_block):
      key, y_KQ = of_block
      classes = jnp.concatenate([jnp.roll(y_KQ, shift, axis=1) for shift in range(num_classes)])
      return tuple(x_MV[:kept_rows] for x_MV in draw(key, params, classes))

    return tuple(x_BKV.reshape(blocks * kept_rows, -1)[:num] for x_BKV in jax.lax.map(
      block, (jax.random.split(key, blocks), y_BKQ)))

  return mixed


def of_class(draw: Draw, num_classes: int, shape) -> Sampler:
  """Experiment.sample: of one class or, where none is asked for, of all classes in turn."""
  drawn = jax.jit(draw)

  def sample(key, params, num, label):
    if label is not None:
      indices.check('label', label, num_classes, 'classes')
    y_N = np.arange(num) % num_classes if label is None else np.full(num, label)
    found = drawn(key, params, jax.nn.one_hot(y_N, num_classes))
    return Samples(*(x_NV.reshape(num, *shape) for x_NV in found))

  return sample


def class_scores(key, draw: Draw, num_classes: int, params, dataset: data.Dataset,
                 report: Callable[[str], None], binarisation: str = 'real') -> dict[str, float]:
  """The share of 1,000 draws a class of which a classifier says the class that was asked for.

  Of binary images both see binary ones.
  """
  report('training the classifier that judges the draws, if these data have none yet')
  found = _judge(dataset, num_classes, binarisation)
  drawn = jax.jit(lambda *args: draw(*args)[0])
  y_NQ = jnp.eye(num_classes)
  right_Q = [found.accuracy(drawn(key_class, params, jnp.tile(y_NQ[y], (DRAWS_A_CLASS, 1))),
                            np.full(DRAWS_A_CLASS, y))
             for y, key_class in enumerate(jax.random.split(key, num_classes))]
  return {'class_accuracy': float(np.mean(right_Q)), 'worst_class_accuracy': float(min(right_Q)),
          'judge_accuracy': found.accuracy(*_rows(dataset, 'test', binarisation))}


def stack_scores(key, draw: Callable, params, dataset: data.Dataset,
                 report: Callable[[str], None]) -> dict[str, float]:
  """Classes among 26,000 draws of stacked digits, and the divergence of their shares.

  The classifier reads one channel. `of_data` are as many stacks of the training digits, made anew.
  """
  report('training the classifier that judges the draws, if these data have none yet')
  found = _judge_of_channels(dataset)
  train_MV, _ = _channels(*_rows(dataset, 'train', most=MOST_STACKS))
  key_draw, key_data = jax.random.split(key)
  rows_NC = np.asarray(jax.random.randint(key_data, (STACKED_DRAWS, 3), 0, len(train_MV)))
  of_data = judge.coverage(found.classes(train_MV)[rows_NC] @ [100, 10, 1], DIGITS**3)
  drawn = np.concatenate([np.asarray(draw(key, params, BATCH)) for key in jax.random.split(
    key_draw, STACKED_DRAWS // BATCH)])
  y_M = found.classes(_channels(drawn, np.zeros(len(drawn), int))[0])
  return {**judge.coverage(y_M.reshape(3, -1).T @ [100, 10, 1], DIGITS**3),
          **{f'{name}_of_data': value for name, value in of_data.items()},
          'judge_accuracy': found.accuracy(*_channels(*_rows(dataset, 'test')))}


@kept.of_data
def _judge(dataset: data.Dataset, num_classes: int, binarisation: str) -> judge.Judge:
  return judge.train(*_rows(dataset, 'train', binarisation), num_classes)


@kept.of_data
def _judge_of_channels(dataset: data.Dataset) -> judge.Judge:
  return judge.train(*_channels(*_rows(dataset, 'train', most=MOST_STACKS)), DIGITS)


def _rows(dataset: data.Dataset, split: Split, binarisation: str = 'real',
          most: int | None = None) -> tuple[np.ndarray, np.ndarray]:
  """The first `most` rows as a model sees them, and their labels."""
  arrays = getattr(dataset, split)
  arrays = data.Arrays(arrays.rows[:most], arrays.labels[:most])
  return (np.asarray(data.fixed(arrays, binarisation, dataset.about, split=split)),
          np.asarray(arrays.labels))


def _channels(x_NV, y_N) -> tuple[np.ndarray, np.ndarray]:
  """Every channel of stacked digits as a row, [3 N, V / 3], those of the first first; its digit."""
  x_NV = np.asarray(x_NV)
  x_CNV = np.moveaxis(x_NV.reshape(len(x_NV), -1, 3), -1, 0)
  return x_CNV.reshape(3 * len(x_NV), -1), np.concatenate([y_N // 100, y_N // 10 % 10, y_N % 10])
