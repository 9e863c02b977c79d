"""The short forms of the long runs in `stress`."""

import pytest

from tests.stress.chaos import chaos
from tests.stress.deaths import deaths
from tests.stress.leaks import leaks
from tests.stress.workloads import workloads

pytestmark = pytest.mark.patience(120)


def test_workers_that_are_killed_at_random_lose_their_own_tasks_only(start_method, tmp_path):
    kills = 10 if start_method == "spawn" else 100
    counts = chaos(tmp_path, method=start_method, kills=kills)
    assert counts["kills"] >= kills
    assert counts["returned"] + counts["lost"] == counts["tasks"]
    # A worker has at most one started task.
    assert counts["lost"] <= counts["kills"]


def test_deaths_are_known_and_workers_replaced(start_method, tmp_path):
    times = deaths(tmp_path, method=start_method, rounds=5)
    assert min(times.values()) > 0


def test_all_methods_with_tasks_of_all_lengths(start_method, tmp_path):
    counts = workloads(tmp_path, method=start_method, seconds=3)
    assert min(counts.values()) > 0


def test_pools_leave_nothing_behind(start_method, tmp_path):
    # What they hold is compared in there; the memory is measured in the long runs.
    leaks(tmp_path, method=start_method, pools=5 if start_method == "spawn" else 30)
