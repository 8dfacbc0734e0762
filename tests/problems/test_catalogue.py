"""The catalogue: names are unique, and entries are on the problem they name."""

from gen_models.problems import catalogue
from gen_models.problems.entry import Problem


def test_no_name_is_taken_twice():
  families = catalogue._FAMILIES
  assert len(catalogue.ENTRIES) == sum(len(family.ENTRIES) for family in families)
  assert len(catalogue.PROBLEMS) == sum(len(family.PROBLEMS) for family in families)
  assert all(name == problem.name for name, problem in catalogue.PROBLEMS.items())


def test_an_entry_is_on_the_problem_it_names():
  for name, entry in catalogue.ENTRIES.items():
    problem = catalogue.PROBLEMS[entry.problem]
    assert isinstance(problem, Problem) and problem.description, name
    assert entry.loss is problem.loss and entry.params is problem.params, name
    assert entry.batch is problem.batch, name


def test_every_problem_has_an_estimator_and_a_burn_in_that_is_enough_for_it():
  assert {entry.problem for entry in catalogue.ENTRIES.values()} == set(catalogue.PROBLEMS)
