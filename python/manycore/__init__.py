"""multiprocessing with a Rust engine."""
