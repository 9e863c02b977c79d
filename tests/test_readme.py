"""The code blocks of README.md: complete scripts, each followed by what it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(
    r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```\n",
    (ROOT / "README.md").read_text(),
    re.MULTILINE | re.DOTALL,
)
#: Words of the blocks that the standard library could not run.
OURS = ("WorkerDied", "install", "lambda", "shape=", "shared")
DROP_IN = [block for block in BLOCKS if not any(word in block[0] for word in OURS)]
METHODS = ("fork", "spawn", "forkserver")


def run(code: str, path: Path, method: str, *launcher: str) -> str:
    script = path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, *launcher, str(script)],
        env={**os.environ, "MANYCORE_START_METHOD": method},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_block_says_what_it_prints():
    text = (ROOT / "README.md").read_text()
    assert len(BLOCKS) == text.count("```python") > len(DROP_IN) > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("code", "expected"), BLOCKS, ids=range(len(BLOCKS)))
def test_block(code, expected, method, tmp_path):
    assert run(code, tmp_path, method) == expected


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("code", "expected"), DROP_IN, ids=range(len(DROP_IN)))
def test_block_on_the_standard_library(code, expected, method, tmp_path):
    plain = code.replace("import manycore as mp", "import multiprocessing as mp")
    assert "manycore" not in plain
    assert run(plain, tmp_path, method, str(ROOT / "examples/plain.py"), method) == expected
