"""Pictures of how the time of a task grows."""

from __future__ import annotations

import io

import matplotlib

from bench.growth.page import PICTURES, Growth

matplotlib.use("svg")
# The same figures give the same file.
matplotlib.rcParams["svg.hashsalt"] = "manycore"
matplotlib.rcParams["svg.fonttype"] = "none"

from matplotlib import pyplot  # noqa: E402

LABELS = {"payload": "bytes of the argument", "workers": "workers, on two processors"}
COLOURS = {
    "manycore": "#c2410c",
    "multiprocessing": "#1d4ed8",
    "concurrent.futures": "#0f766e",
    "loky": "#6b7280",
}


def draw(growth: Growth) -> dict[str, str]:
    """An SVG for each of the pictures whose series was measured."""
    return {name: picture(growth, name) for name in PICTURES if growth.of(name)}


def picture(growth: Growth, name: str) -> str:
    """Time of a task against size, both by powers."""
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for system in growth.systems(name):
        points = [one for one in growth.of(name) if one.system == system]
        axes.loglog(
            [one.size for one in points],
            [one.figure("seconds") for one in points],
            marker="o",
            markersize=4,
            linewidth=1.6,
            color=COLOURS[system],
            label=system,
        )
    axes.set_xlabel(LABELS[name])
    axes.set_ylabel("seconds a task")
    axes.grid(color="#e5e7eb")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return text.getvalue()
