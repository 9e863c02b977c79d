"""The benchmarks: every case is right on both systems, and the tables say what was measured."""

import pytest

from bench import tables
from bench.child import FailedError, run
from bench.registry import WrongResultError, check, load
from bench.results import Measurement, Results, merge
from bench.systems import OURS, STDLIB, SYSTEMS

CASES = load()


def measured(case, figures):
    """Results of one case; figures by system and start method, in seconds."""
    machine = {
        "manycore": "1",
        "commit": "abc",
        "date": "2026-01-01",
        "processors": 2,
        "processor": "a processor",
        "system": "Linux",
        "python": "3.13",
        "numpy": "2",
        "versions": dict.fromkeys(SYSTEMS, "1.2"),
        "not installed": {},
    }
    found = [Measurement(case, *one, rounds=[seconds] * 5) for one, seconds in figures.items()]
    return Results(machine, found)


def lines(results):
    return list(tables.figures(results, CASES))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("system", [STDLIB, OURS])
def test_a_case_is_right(system, name):
    adapter = SYSTEMS[system].start("fork")
    adapter.slow = 100
    assert CASES[name].measure(adapter) > 0


def test_a_wrong_result_is_seen():
    with pytest.raises(WrongResultError, match="3 instead of 4"):
        check(3, 4)


def test_a_measurement_has_its_own_process():
    assert float(run("bench.once", "lock", OURS, "fork")) > 0


def test_a_measurement_that_fails_says_why():
    with pytest.raises(FailedError, match="does not offer Pool"):
        run("bench.once", "apply", "faster-fifo", "fork")


def test_ratio_and_goal():
    goal = CASES["apply"].goal.ratio["fork"]
    for factor, reached in ((1.1, "yes"), (0.9, "**no**")):
        results = measured("apply", {(OURS, "fork"): 1e-5, (STDLIB, "fork"): 1e-5 * goal * factor})
        (row,) = [line for line in lines(results) if line.startswith("| apply | fork")]
        assert f"| {goal * factor:.1f}x | {goal:g}x | {reached} |" in row


def test_a_map_has_to_beat_the_serial_loop_too():
    figures = {(OURS, "fork"): 1e-7, (STDLIB, "fork"): 1e-6}
    for serial, reached in ((2e-7, True), (0.5e-7, False)):
        results = measured("map", {**figures, ("serial", "-"): serial})
        assert results.reached(CASES["map"], "fork") is reached


def test_a_share_of_the_ideal():
    ideal = CASES["skewed"].ideal
    for share, reached in ((0.95, True), (0.9, False)):
        results = measured("skewed", {(OURS, "fork"): ideal / share})
        assert results.reached(CASES["skewed"], "fork") is reached
        assert any(f"| {share:.2f} |" in line for line in lines(results))


def test_a_rival_that_is_ahead_is_named():
    results = measured(
        "apply", {(OURS, "fork"): 3e-6, (OURS, "spawn"): 2e-6, ("loky", "loky"): 1e-6}
    )
    assert results.ahead("apply") == ["loky"]
    assert "- A rival is faster: apply (loky)." in lines(results)
    assert any("**1.00 µs**" in line for line in lines(results))


def test_a_rival_is_compared_with_the_best_of_ours():
    results = measured(
        "apply", {(OURS, "fork"): 1e-6, (OURS, "spawn"): 9e-6, ("loky", "loky"): 2e-6}
    )
    assert results.ahead("apply") == []


def test_a_rival_that_fails_is_named():
    results = measured("apply", {(OURS, "fork"): 1e-6})
    results.found.append(Measurement("apply", "loky", "loky", failed="it was unwell"))
    assert "- loky has failed at apply: it was unwell" in lines(results)


def test_a_case_that_was_measured_again_replaces_the_old_one():
    old = [Measurement("imap", OURS, "fork", [1.0]), Measurement("apply", OURS, "fork", [1.0])]
    new = [Measurement("imap", OURS, "fork", [2.0])]
    assert [(one.case, one.rounds) for one in merge(old, new, list(CASES))] == [
        ("apply", [1.0]),
        ("imap", [2.0]),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4e-9, "4.00 ns"), (9.9999e-7, "1.00 µs"), (0.123, "123 ms"), (23, "23.0 s")],
)
def test_durations(seconds, text):
    assert tables.duration(seconds) == text


def test_only_what_is_between_the_marks_is_written():
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    assert tables.insert(text, "x", ["new"]) == text.replace("old", "new")
    with pytest.raises(SystemExit, match="has no <!-- y: begin -->"):
        tables.insert(text, "y", [])
