"""The functions by which the loop reports to its caller."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Hooks(NamedTuple):
  """Functions that the loop calls while it trains; by default they do nothing.

  Steps are counted over all phases. `replica` is the number of a replica that is a run of its own,
  and None of a single run or of replicas that share a run directory.

  Attributes:
    on_metrics: (step, metrics): once for each dispatch, in order; floats, or arrays over replicas.
    on_alarm: (step, message, replica): a metric has left the range of one of its phase's alarms;
      once for each alarm of a phase.
    on_diverged: (replica, message): a replica that is a run of its own met a number that is not
      finite. It stays as it was last saved; the others continue while there are any.
    on_remark: (line): a note for the user, such as why replicas are trained sequentially.
    should_stop: () -> bool: asked between dispatches; on True the state is saved and returned.
  """

  on_metrics: Callable[[int, dict[str, Any]], None] = lambda step, metrics: None
  on_alarm: Callable[[int, str, int | None], None] = lambda step, message, replica: None
  on_diverged: Callable[[int, str], None] = lambda replica, message: None
  on_remark: Callable[[str], None] = lambda line: None
  should_stop: Callable[[], bool] = lambda: False
