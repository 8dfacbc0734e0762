"""What the registry holds together: names, and entries that are on the problem they name."""

from gen_models.problems import registry
from gen_models.problems.entry import Problem


def test_no_name_is_taken_twice():
  families = registry._FAMILIES
  assert len(registry.ENTRIES) == sum(len(family.ENTRIES) for family in families)
  assert len(registry.PROBLEMS) == sum(len(family.PROBLEMS) for family in families)
  assert all(name == problem.name for name, problem in registry.PROBLEMS.items())


def test_an_entry_is_on_the_problem_it_names():
  for name, entry in registry.ENTRIES.items():
    problem = registry.PROBLEMS[entry.problem]
    assert isinstance(problem, Problem) and problem.description, name
    assert entry.loss is problem.loss and entry.params is problem.params, name
    assert entry.batch is problem.batch, name


def test_every_problem_has_an_estimator_and_a_burn_in_that_is_enough_for_it():
  assert {entry.problem for entry in registry.ENTRIES.values()} == set(registry.PROBLEMS)
