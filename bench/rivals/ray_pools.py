"""ray: its `multiprocessing.Pool`, whose workers are actors."""

from __future__ import annotations

import os
from typing import Any

from bench.rivals.base import Adapter


class Ray(Adapter):
    """A cluster on this machine; it runs before the clock starts."""

    slow = 10

    def __init__(self, method: str) -> None:
        super().__init__(method)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        self.ray = ray
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=1 << 30,
        )

    def Pool(self, workers: int) -> Any:
        """A pool of actors."""
        from ray.util.multiprocessing import Pool

        return Pool(workers)

    def close(self) -> None:
        """Ends the cluster."""
        self.ray.shutdown()
