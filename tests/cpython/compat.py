"""Writes the list of differences into COMPAT.md: ``python -m tests.cpython.compat``."""

from pathlib import Path

from . import differences

COMPAT = Path(__file__).resolve().parents[2] / "COMPAT.md"

BEGIN = (
    "<!-- from tests/cpython/differences.toml; `python -m tests.cpython.compat` writes it -->\n\n"
)
END = "<!-- end of the list -->\n"


EXECUTOR = """
And with `manycore.futures.ProcessPoolExecutor` in the place of the one in `concurrent.futures`:

"""


def section() -> str:
    """The list as COMPAT.md has it."""
    entries = differences.read()
    common = [_entry(entry) for entry in entries if not entry.suites]
    executor = [_entry(entry) for entry in entries if entry.suites]
    return "\n".join(common) + "\n" + EXECUTOR + "\n".join(executor) + "\n\n"


def _entry(difference: differences.Difference) -> str:
    tests = ", ".join(f"`{pattern.removeprefix('*.')}`" for pattern in difference.tests)
    on = f" (on {', '.join(difference.pythons)})" if difference.pythons else ""
    return f"- {difference.reason}{on}\n  Tests: {tests}."


def written(text: str) -> str:
    """``text`` with the list of today between the marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{section()}{END}{after}"


if __name__ == "__main__":
    COMPAT.write_text(written(COMPAT.read_text()))
