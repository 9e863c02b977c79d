//! The Python face of the engine: a table of contents, no logic.
#![deny(unsafe_code)]

mod arguments;
mod by_value;
mod connection;
mod direct;
mod error;
mod guarded;
mod heap;
mod item;
mod pickle;
mod plain;
mod pool;
mod process;
mod queues;
mod ready;
mod scalar;
mod shared;
mod sharedctypes;
mod sharing;
mod synchronize;
mod unchecked;
mod view;
mod worker;

use pyo3::prelude::*;

#[pymodule]
mod _engine {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::by_value::names_unknown;
    #[pymodule_export]
    use crate::connection::{Stream, poll};
    #[pymodule_export]
    use crate::guarded::Guarded;
    #[pymodule_export]
    use crate::heap::Block;
    #[pymodule_export]
    use crate::pickle::{Sink, dumps, loads_bytes};
    #[pymodule_export]
    use crate::pool::{Job, Pool};
    #[pymodule_export]
    use crate::process::{Child, ForkServer, fork, lifeline, serve, spawn, watch_lifeline};
    #[pymodule_export]
    use crate::queues::Queue;
    #[pymodule_export]
    use crate::shared::{Shared, hand_over, share};
    #[pymodule_export]
    use crate::sharedctypes::{SharedArray, SharedValue, own_methods};
    #[pymodule_export]
    use crate::sharing::{
        is_pickling_message, received_block, received_fd, received_queue, received_shared,
        send_block, send_fd, send_queue, send_shared,
    };
    #[pymodule_export]
    use crate::synchronize::{Condition, Event, SemLock};
    #[pymodule_export]
    use crate::worker::serve_pool;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::synchronize::add_constants(module)?;
        crate::synchronize::set_up(module.py())?;
        crate::guarded::set_up(module.py())
    }
}
