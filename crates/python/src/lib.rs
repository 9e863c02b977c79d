//! The Python face of the engine: a table of contents, no logic.

use pyo3::prelude::*;

#[pymodule]
mod _engine {}
