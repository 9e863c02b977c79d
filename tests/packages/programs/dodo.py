"""Tasks for doit: functions and commands, with files between them."""

from pathlib import Path


def square(n, targets):
    Path(targets[0]).write_text(f"{n * n}\n")
    print(f"squared {n}")


def total(dependencies, targets):
    Path(targets[0]).write_text(f"{sum(int(Path(name).read_text()) for name in dependencies)}\n")


def task_square():
    """Writes a number into a file."""
    for n in range(6):
        yield {
            "name": str(n),
            "actions": [(square, [n])],
            "targets": [f"square-{n}"],
            "verbosity": 2,
        }


def task_total():
    """Adds up the numbers."""
    names = [f"square-{n}" for n in range(6)]
    return {
        "actions": [(total, [names])],
        "file_dep": names,
        "targets": ["total"],
    }


def task_copy():
    """Copies the sum with a command."""
    return {"actions": ["cp total copy"], "file_dep": ["total"], "targets": ["copy"]}
