"""Writes what the commands work on: documents, code, projects."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


def programs(*names: str) -> Callable[[Path], None]:
    """Copies these programs."""

    def prepare(folder: Path) -> None:
        for name in names:
            shutil.copy(PROGRAMS / name, folder)

    return prepare


def site(folder: Path) -> None:
    """A project of Django with tests in four classes."""
    shutil.copytree(PROGRAMS / "site", folder, dirs_exist_ok=True)


def playbook(folder: Path) -> None:
    """A playbook of Ansible and six hosts, all of them this machine."""
    programs("playbook.yml")(folder)
    hosts = "".join(f"host{n} number={n}\n" for n in range(6))
    options = f"ansible_connection=local\nansible_python_interpreter={sys.executable}\n"
    (folder / "hosts.ini").write_text(f"{hosts}[all:vars]\n{options}")


def documents(folder: Path) -> None:
    """Sixteen documents with references to each other, one of them wrong, and an index."""
    source = folder / "source"
    source.mkdir()
    (source / "conf.py").write_text('project = "Parallel"\nextensions = []\n')
    names = [f"chapter{n:02}" for n in range(16)]
    contents = "\n".join(f"   {name}" for name in names)
    (source / "index.rst").write_text(f"Contents\n========\n\n.. toctree::\n\n{contents}\n")
    for n, name in enumerate(names):
        other = names[(n * 5 + 3) % len(names)]
        (source / f"{name}.rst").write_text(_chapter(n, name, other))


def _chapter(n: int, name: str, other: str) -> str:
    title = f"Chapter {n}"
    wrong = ":ref:`nowhere`" if n == 7 else ""
    return f"""\
.. _{name}:

{title}
{"=" * len(title)}

See :ref:`{other}` and :doc:`{other}`. {wrong}

.. py:function:: function_{n}(value)

   Returns ``value`` times {n}.

.. list-table::

   * - one
     - {n}
   * - two
     - {n * n}
"""


def untidy_code(folder: Path) -> None:
    """Twelve modules with something to say for those who look at code; one is broken."""
    code = folder / "code"
    code.mkdir()
    (code / "__init__.py").write_text("")
    for n in range(12):
        (code / f"module{n:02}.py").write_text(_module(n))


def _module(n: int) -> str:
    names = ", ".join(f"'name{i}'" for i in range(n + 8))
    return f"""\
import sys, os
from collections import OrderedDict
import  json
from . import module{(n + 5) % 12:02}
def function_{n}( a,b ):
  unused = {n}
  if a==None : return {{ {names} }}
  return [ x for x in b if  x!=a ]

class Thing{n}:
    def method(self): return os.path.join('a',"b")
"""
