"""The packages, with the commands that make them start processes."""

from . import material, servers
from .run import Case

FORK, SPAWN = ("fork",), ("spawn",)
#: For packages that ask for a context by its name themselves.
ITS_OWN = (None,)

LUIGI_OPTIONS = ("--local-scheduler", "--log-level", "INFO", "--workers", "2")

# The ports are chosen once: both runs print the same.
UVICORN, HYPERCORN = servers.free_port(), servers.free_port()

CASES = [
    Case(
        "sphinx",
        ("-m", "sphinx", "-j", "2", "-b", "text", "source", "built"),
        prepare=material.documents,
        methods=ITS_OWN,
        processes=4,
        varying=(r"^loading pickled environment.*\n",),
        # Pickles with times in them.
        varying_files=("work/built/.doctrees/*",),
    ),
    Case(
        "black",
        ("-m", "black", "--workers", "2", "code"),
        prepare=material.untidy_code,
        # Each line is about one file.
        unordered=True,
    ),
    Case(
        "flake8",
        ("-m", "flake8", "-j", "2", "code"),
        prepare=material.untidy_code,
        exitcode=1,
        target="_worker.work",
    ),
    Case(
        "isort",
        ("-m", "isort", "--jobs", "2", "code"),
        prepare=material.untidy_code,
        target="_worker.work",
        unordered=True,
    ),
    Case(
        "pylint",
        ("-m", "pylint", "-j", "2", "--persistent=n", "--score=n", "code"),
        prepare=material.untidy_code,
        exitcode=28,
        # The order of the modules is that in which workers take them.
        unordered=True,
    ),
    Case(
        "uvicorn",
        ("-m", "uvicorn", "web_app:app", "--workers", "2", "--port", str(UVICORN)),
        prepare=material.programs("web_app.py"),
        methods=ITS_OWN,
        use=servers.fifty_requests(UVICORN),
        varying=(r"process \[\d+\]", r"127\.0\.0\.1:\d+ - "),
        unordered=True,
    ),
    Case(
        "hypercorn",
        ("-m", "hypercorn", "web_app:app", "--workers", "2", "--bind", f"127.0.0.1:{HYPERCORN}"),
        prepare=material.programs("web_app.py"),
        methods=ITS_OWN,
        use=servers.fifty_requests(HYPERCORN),
        varying=(r"^\[.*?\] \[\d+\]",),
        unordered=True,
    ),
    Case(
        "ansible",
        ("-m", "ansible", "playbook", "--forks", "2", "-i", "hosts.ini", "playbook.yml"),
        prepare=material.playbook,
        methods=ITS_OWN,
        unordered=True,
    ),
    Case(
        "django",
        ("manage.py", "test", "--parallel", "2", "--verbosity", "1"),
        prepare=material.site,
        # The package supports no other.
        methods=FORK + SPAWN,
        target="_worker.work",
        varying=(r"in \d+\.\d+s",),
    ),
    Case(
        "luigi",
        ("-m", "luigi", "--module", "luigi_tasks", "All", *LUIGI_OPTIONS),
        prepare=material.programs("luigi_tasks.py"),
        processes=12,
        varying=(r"Worker\(.*?\)", r"\[pid \d+\]"),
        varying_files=("tmp/luigi/*.pid",),
        unordered=True,
    ),
    Case(
        "doit",
        ("-m", "doit", "run", "-n", "2"),
        prepare=material.programs("dodo.py"),
        varying_files=("work/.doit.db*",),
        unordered=True,
    ),
    Case(
        "scipy",
        ("scipy_workers.py",),
        prepare=material.programs("scipy_workers.py"),
        target="_worker.work",
        processes=12,
    ),
    Case(
        "emcee",
        ("emcee_pool.py",),
        prepare=material.programs("emcee_pool.py"),
        target="_worker.work",
    ),
    Case(
        "dask",
        ("dask_processes.py",),
        prepare=material.programs("dask_processes.py"),
        processes=6,
    ),
    Case(
        "joblib",
        ("joblib_backend.py",),
        prepare=material.programs("joblib_backend.py"),
        target="_worker.work",
        processes=8,
    ),
    Case(
        "loky",
        ("joblib_loky.py",),
        prepare=material.programs("joblib_loky.py"),
        methods=ITS_OWN,
        own_process="joblib.externals.loky.backend.process.LokyProcess",
    ),
    Case(
        "tqdm",
        ("tqdm_maps.py",),
        prepare=material.programs("tqdm_maps.py"),
        processes=6,
        varying=(r"^.*\r(?=.)",),
    ),
    Case(
        "pandarallel",
        ("pandas_parallel.py",),
        prepare=material.programs("pandas_parallel.py"),
        methods=ITS_OWN,
        processes=16,
        varying=(r"^.*FutureWarning.*\n.*\n",),
    ),
    Case(
        "gensim",
        ("gensim_models.py",),
        prepare=material.programs("gensim_models.py"),
    ),
    Case(
        "spacy",
        ("spacy_pipe.py",),
        prepare=material.programs("spacy_pipe.py"),
        # Errors come by a way of their own, at any time.
        unordered=True,
    ),
    Case(
        "pebble",
        ("pebble_pool.py",),
        prepare=material.programs("pebble_pool.py"),
    ),
    Case(
        "coverage",
        ("-m", "coverage", "run", "covered.py"),
        prepare=material.programs("covered.py", ".coveragerc"),
        then=(
            ("-m", "coverage", "combine", "--quiet"),
            ("-m", "coverage", "report", "--show-missing", "--include=covered.py"),
        ),
        processes=5,
        # A data base with random numbers in it.
        varying_files=("work/.coverage",),
    ),
    Case(
        "logging",
        ("logging_queue.py",),
        prepare=material.programs("logging_queue.py"),
        processes=5,
        # Written as the records come.
        varying_files=("work/all.log",),
    ),
]
