"""Every experiment and every variant runs for two steps, and is a pure function of its numbers."""

import ast
import inspect
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gen_models import data, domains
from gen_models.training import loop, parallel, step as step_lib
from gen_models.training.hooks import Hooks
from launch.cli import hyperparameters, registry
from tests.data.conftest import write_set

# Two steps take as long as the compilation before them. The fast suite has one small variant of
# every experiment, and defaults that are small or that others build on.
SMALL = ('gaussian', 'gan_grid', 'linear_rbm', 'mixture', 'rbm_digits')
ALIKE = ('autoencoder', 'gan_grid', 'class_rbm', 'dbm',
         'dbm_classifier')  # built of what another one has
DEFAULTS = ('gaussian', 'mixture', 'rbm_digits', 'rbm_mnist')


def quick_variant(name: str) -> str | None:
  """The first variant on digits by its name, else the first of an experiment that is on digits."""
  variants = list(registry.load(name).variants)
  digits = [v for v in variants if v.startswith('digits')]
  return digits[0] if digits else variants[0] if name in SMALL else None


def case(name: str, variant: str | None):
  fast = name in DEFAULTS if variant is None else (
    variant == quick_variant(name) and name not in ALIKE)
  return pytest.param(name, variant, marks=() if fast else pytest.mark.slow)


CASES = [case(name, variant) for name in registry.names()
         if name != 'gan_cifar10'  # see test_two_steps_in_colour
         for variant in [None, *registry.load(name).variants]]


def some_images(dataset: str) -> data.Arrays:
  """128 random images in the format of the data set, so that nothing need be downloaded.

  Of a user's file, those of conftest.py, the training rows.
  """
  if ':' in dataset:
    return data.load(dataset).train
  shape, levels = data.shape(dataset), data.levels(dataset)
  rng = np.random.default_rng(0)
  return data.Arrays(rng.integers(0, levels + 1, (128, *shape, 1), dtype=np.uint8),
                     rng.integers(0, 10, 128, dtype=np.int32))


@pytest.mark.parametrize('name', [n for n in registry.names() if n != 'gan_cifar10'])
def test_a_model_of_bits_is_asked_about_bits(name):
  # A likelihood of grey rows would be no likelihood: they are seen as images were in training.
  entry = registry.load(name)
  experiment = entry.experiment(**hyperparameters.resolve(entry, quick_variant(name)))
  if (experiment.binarisation not in ('dynamic', 'threshold')
      or isinstance(experiment.questions.log_likelihood, str)):
    pytest.skip(f'no likelihood of bits: its rows are {experiment.binarisation}')
  spec = data.spec(experiment.dataset)
  grey = jnp.linspace(0, 1, 3 * spec.num_visible).reshape(3, -1)
  x = np.asarray(experiment.questions.see(jax.random.key(0), grey))
  assert np.all((x == 0) | (x == 1))
  if experiment.binarisation == 'threshold':
    np.testing.assert_array_equal(x, grey >= 0.5)


@pytest.fixture
def tiny_cifar10(tmp_path, monkeypatch):
  """A prepared set of that name, of 30 + 10 pictures."""
  write_set(tmp_path, 'cifar10', '3.0.2', (32, 32, 3))
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize('variant', registry.load('gan_cifar10').variants)
def test_two_steps_in_colour(variant, tiny_cifar10):
  """Every network for colour, narrow and on batches of 4."""
  width = 16 if variant == 'r3gan' else 4
  entry = registry.load('gan_cifar10')
  values = hyperparameters.resolve(entry, variant, ['num_steps=2', 'batch_size=4',
                                                    f'width={width}'])
  two_steps(entry.experiment(**values))


@pytest.mark.parametrize('name, variant', CASES)
def test_two_steps(name, variant):
  entry = registry.load(name)
  values = hyperparameters.resolve(entry, variant, ['num_steps=2'])
  # And of the training phases that have a number of their own.
  more = {parameter.name: 2 for parameter in hyperparameters.of(entry).values()
          if domains.NumUpdates in (parameter.annotation, *typing.get_args(parameter.annotation))
          and values[parameter.name] is not None}
  two_steps(entry.experiment(**values | more))


def two_steps(experiment):
  experiment = experiment._replace(validate=None)
  images = some_images(experiment.dataset)
  lines = []
  result = loop.fit(experiment, images, images, jax.random.key(0),
                    hooks=Hooks(on_metrics=lambda step, metrics: lines.append(metrics)))
  # A closed form is one step, whatever num_steps is.
  num_steps = [phase.num_steps for phase in experiment.phases]
  assert result.done and result.step == sum(num_steps) and 2 in num_steps and max(num_steps) == 2
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(result.state.params))
  assert lines and lines[-1]
  fresh = parallel.init_states(experiment.phases[-1], jax.random.key(0), images)
  assert any(not np.array_equal(a, b) for a, b in zip(
    jax.tree.leaves(fresh.params), jax.tree.leaves(result.state.params), strict=True))


@pytest.mark.parametrize('name', registry.names())
def test_every_hyperparameter_has_a_type_a_default_and_a_reader(name):
  entry = registry.load(name)
  for parameter in hyperparameters.of(entry).values():
    assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    assert parameter.default is not inspect.Parameter.empty
    default = parameter.default
    parsed = hyperparameters.parse(parameter.name, str(default), parameter.annotation)
    assert parsed == default and type(parsed) is type(default)
  for changes in entry.variants.values():
    assert set(changes) <= set(hyperparameters.of(entry))


@pytest.mark.parametrize('name', registry.names())
def test_every_hyperparameter_has_a_domain(name):
  for parameter in hyperparameters.of(registry.load(name)).values():
    for option in typing.get_args(parameter.annotation | None):
      kind = typing.get_origin(option) or option
      assert kind in (typing.Annotated, typing.Literal, bool, type(None)), parameter


@pytest.mark.parametrize('name', registry.names())
def test_published_values_are_of_variants_and_have_sources(name):
  entry = registry.load(name)
  for variant, published in entry.published.items():
    assert variant in entry.variants
    assert re.search(r', (19|20)\d\d$', published.source), 'authors, year'
    assert published.checked and 'memory' not in f'{published}{published.checked}'
  assert 'memory' not in entry.doc


@pytest.mark.parametrize('name', registry.names())
def test_docstrings_say_command_cost_and_score(name):
  doc = registry.load(name).doc
  for word in ('python -m launch.train', 'seconds', 'seeds', '+-'):
    assert word in doc, f'{name}: its docstring lacks {word!r}'
  words = ' '.join(doc.split())
  assert 'nats' in words or 'no likelihood' in words, f'{name}: its docstring names no score'


@pytest.mark.parametrize('name', registry.names())
def test_an_experiment_fits_on_a_page(name):
  source = inspect.getsource(registry.load(name).experiment)
  function, = ast.parse(source).body
  doc, *body = function.body
  assert ast.get_docstring(function)
  lines = body[-1].end_lineno - body[0].lineno + 1
  longer = 'Longer than 45 lines because' in ' '.join(ast.get_docstring(function).split())
  assert lines <= 45 or longer, f'{lines} lines, and its docstring does not say why'


def test_learning_rates_may_be_traced():
  entry = registry.load('rbm_digits')
  images = jax.device_put(some_images('digits'))

  # The images are an argument: closed over, they would be folded at compile time, in other bits.
  def train(learning_rate, key, images):
    phase, = entry.experiment(learning_rate=learning_rate, num_steps=3).phases
    state = step_lib.init_state(key, phase, images)
    return step_lib.train_steps(phase, state, images, 3)[0].params.w_VH

  # A grid of two rates and two seeds, one replica a point.
  rates = jnp.array([0.01, 0.01, 0.2, 0.2])
  keys = jax.vmap(jax.random.key)(jnp.array([0, 1, 0, 1]))
  sweep = jax.jit(jax.vmap(train, (0, 0, None)))(rates, keys, images)
  for i in range(4):
    np.testing.assert_array_equal(sweep[i], jax.jit(train)(rates[i], keys[i], images))


@pytest.mark.slow
def test_validation_and_scores_agree_on_digits():
  entry = registry.load('rbm_digits')
  experiment = entry.experiment(num_steps=2, num_hidden=6)
  dataset = data.load('digits')
  result = loop.fit(experiment, dataset.train, dataset.valid, jax.random.key(0))
  params = result.state.params
  as_test = dataset._replace(test=dataset.valid)
  score = experiment.evaluate(jax.random.key(1), params, as_test, print)
  valid = experiment.validate(jax.random.key(2), params, dataset.valid)['valid_nats']
  assert score['kind'] == 'exact' and score['num_images'] == 200
  assert score['lower'] == score['test_nats'] == score['upper']
  np.testing.assert_allclose(score['test_nats'], valid, rtol=1e-5)
  assert set(score['baselines']) == {'independent pixels', 'mixture of Bernoullis'}
  grids = experiment.pictures(jax.random.key(3), params, dataset)
  for grid in grids.values():
    assert grid.ndim == 4 and np.all((grid >= 0) & (grid <= 1))


@pytest.mark.parametrize('name', registry.names())
def test_every_experiment_names_its_model(name, request):
  if name == 'gan_cifar10':
    request.getfixturevalue('tiny_cifar10')
  entry = registry.load(name)
  assert entry.experiment(**hyperparameters.resolve(entry)).model is not None
