"""The tutorial programs: the same results on the standard library and on manycore."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import demo
import pytest

EXAMPLES = Path(demo.__file__).parent
METHODS = ("fork", "spawn", "forkserver")

# What a program says besides its timed cases.
PHRASES = {
    "pool_map": [
        "results are in the order  [0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144,",
        "pi is 3.1",
    ],
    "every_method": [],
    "processes": [
        "in the child the list is [1, 4, 9]",
        "in the parent the list is []",
        "I am MainProcess, my pid is ",
        "I am the child, my pid is ",
        "and I cannot wait for myself: can only join a child process",
        "the daemon runs",
        "and it ended with its parent",
    ],
    "big_sums": [],
    "small_functions": [
        "the last squares are [0, 1, 4, 9, 16]",
        "and then no more: Pool not running",
    ],
}


@cache
def output(system: str, program: str, method: str) -> str:
    return demo.run(system, EXAMPLES / f"{program}.py", method, ["--quick"])


def results(text: str) -> dict[tuple[str, str], str]:
    return {(case, way): digest for case, way, _, digest in demo.measurements(text)}


def test_every_program_is_in_the_demo():
    assert set(PHRASES) == set(demo.ROUNDS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("program", demo.ROUNDS)
def test_results_are_equal(program, method):
    ours = results(output("manycore", program, method))
    theirs = results(output("multiprocessing", program, method))
    assert ours == theirs
    serial = {case: digest for (case, way), digest in ours.items() if way == "serial"}
    assert {(case, way): serial[case] for case, way in ours} == ours


@pytest.mark.parametrize("system", demo.SYSTEMS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("program", demo.ROUNDS)
def test_output(program, method, system):
    text = output(system, program, method)
    assert f"Pool of {system}.context, start method {method}" in text
    assert [phrase for phrase in PHRASES[program] if phrase not in text] == []


@pytest.mark.parametrize("method", METHODS)
def test_environment_sets_the_start_method(method):
    done = subprocess.run(
        [sys.executable, "-m", "manycore", str(EXAMPLES / "big_sums.py"), "--quick"],
        env={**os.environ, "MANYCORE_START_METHOD": method},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert f"Pool of manycore.context, start method {method}" in done.stdout


def printed(serial: str = "aaaa", parallel: str = "aaaa", seconds: float = 0.1) -> str:
    return (
        f"work | serial | 0.2 s | result {serial}\nwork | Pool | {seconds} s | result {parallel}\n"
    )


def fake(monkeypatch, **outputs):
    monkeypatch.setattr(demo, "run", lambda system, *_: outputs[system])


def test_demo_succeeds_when_results_are_equal(monkeypatch, capsys):
    fake(monkeypatch, multiprocessing=printed(), manycore=printed(seconds=0.05))
    assert demo.main(["pool_map"]) == 0
    text = capsys.readouterr().out
    assert "2.0x    yes" in text
    assert "wins nowhere" in text


@pytest.mark.parametrize("wrong", ["multiprocessing", "manycore"])
def test_demo_fails_when_a_result_differs(monkeypatch, capsys, wrong):
    outputs = {system: printed() for system in demo.SYSTEMS} | {wrong: printed(parallel="bbbb")}
    fake(monkeypatch, **outputs)
    assert demo.main(["pool_map"]) == 1
    assert "SOME RESULTS DIFFER" in capsys.readouterr().out


def test_demo_fails_when_a_case_is_missing(monkeypatch, capsys):
    fake(monkeypatch, multiprocessing=printed(), manycore="work | serial | 0.2 s | result aaaa\n")
    assert demo.main(["pool_map"]) == 1
    assert "did not print the same cases" in capsys.readouterr().err


def test_demo_says_where_the_standard_library_wins(monkeypatch, capsys):
    fake(monkeypatch, multiprocessing=printed(), manycore=printed(seconds=0.3))
    assert demo.main(["pool_map"]) == 0
    assert "The standard library wins: pool_map, work, Pool" in capsys.readouterr().out


def test_demo_reports_a_program_that_fails(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("raise SystemExit('out of order')\n")
    with pytest.raises(demo.ProgramError, match="exit 1\nout of order"):
        demo.run("multiprocessing", script, None, [])
