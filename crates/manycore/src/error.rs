//! The one error type of the engine.

use std::fmt;
use std::io;

use crate::sys::room::Room;

/// What an engine call returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an engine call failed. Opaque: ask it with the predicates.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A system call failed while doing `what`.
    Os { what: &'static str, source: io::Error },
    /// There is not enough memory; the limit if one is known.
    NoMemory { what: &'static str, size: usize, limit: Option<Box<Room>> },
    /// A wait ended before what it waited for happened.
    TimedOut,
    /// A signal ended a wait; the caller looks at it and waits again.
    Interrupted,
    /// The other side is gone.
    Closed { what: &'static str },
    /// The process that held a lock has died without releasing it.
    OwnerDied { pid: u32 },
    /// The caller may not do this to the object in its present state.
    Misuse { message: String },
    /// The handle was made by another process and came here by a fork.
    Inherited { what: &'static str, owner: u32 },
    /// Bytes from another process that do not follow the protocol.
    Corrupt { what: &'static str },
}

impl Error {
    pub(crate) fn os(what: &'static str, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        if source.kind() == io::ErrorKind::Interrupted {
            return Self { kind: Kind::Interrupted };
        }
        Self { kind: Kind::Os { what, source } }
    }

    /// The last system call of this thread failed while doing `what`.
    pub(crate) fn last_os(what: &'static str) -> Self {
        Self::os(what, io::Error::last_os_error())
    }

    /// There are no `size` bytes of memory for `what`, as far as is known because of a limit.
    pub(crate) fn no_memory(what: &'static str, size: usize, limit: Option<Room>) -> Self {
        Self { kind: Kind::NoMemory { what, size, limit: limit.map(Box::new) } }
    }

    pub(crate) fn timed_out() -> Self {
        Self { kind: Kind::TimedOut }
    }

    /// What a callback on a signal returns to end the call that it interrupted.
    #[must_use]
    pub fn interrupted() -> Self {
        Self { kind: Kind::Interrupted }
    }

    pub(crate) fn closed(what: &'static str) -> Self {
        Self { kind: Kind::Closed { what } }
    }

    pub(crate) fn owner_died(pid: u32) -> Self {
        Self { kind: Kind::OwnerDied { pid } }
    }

    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Self { kind: Kind::Misuse { message: message.into() } }
    }

    pub(crate) fn inherited(what: &'static str, owner: u32) -> Self {
        Self { kind: Kind::Inherited { what, owner } }
    }

    pub(crate) fn corrupt(what: &'static str) -> Self {
        Self { kind: Kind::Corrupt { what } }
    }

    /// There is not enough memory.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.kind, Kind::NoMemory { .. })
    }

    /// A wait ended before what it waited for happened.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, Kind::TimedOut)
    }

    /// A signal arrived during a wait; nothing was lost, the call can be made again.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        matches!(self.kind, Kind::Interrupted)
    }

    /// The other side is gone: its process died or closed its end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.kind, Kind::Closed { .. })
    }

    /// The call does not fit the object's state, for example a release of a free lock.
    #[must_use]
    pub fn is_misuse(&self) -> bool {
        matches!(self.kind, Kind::Misuse { .. })
    }

    /// The handle belongs to the process from which this one was forked.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        matches!(self.kind, Kind::Inherited { .. })
    }

    /// The pid of the dead process that held the lock, if that is the reason.
    #[must_use]
    pub fn dead_owner(&self) -> Option<u32> {
        match self.kind {
            Kind::OwnerDied { pid } => Some(pid),
            _ => None,
        }
    }

    /// The operating system's error number (`errno`), if a system call failed.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match &self.kind {
            Kind::Os { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Os { what, source } => write!(f, "{what}: {source}"),
            Kind::NoMemory { what, size, limit } => {
                write!(f, "no memory for {what}: {} are needed", Bytes(*size as u64))?;
                let Some(room) = limit else { return Ok(()) };
                let Room { left, limit, source } = &**room;
                write!(f, ", {} of the {} of {source} are left", Bytes(*left), Bytes(*limit))
            }
            Kind::TimedOut => f.write_str("timed out"),
            Kind::Interrupted => f.write_str("interrupted by a signal"),
            Kind::Closed { what } => write!(f, "{what} is closed"),
            Kind::OwnerDied { pid } => {
                write!(f, "process {pid} died while it held the lock")
            }
            Kind::Misuse { message } => f.write_str(message),
            Kind::Inherited { what, owner } => write!(
                f,
                "this {what} belongs to process {owner} and cannot be used in a fork of it"
            ),
            Kind::Corrupt { what } => write!(f, "{what} does not follow the protocol"),
        }
    }
}

/// A size for people.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
        let Some(index) = self.0.max(1).ilog2().checked_div(10).and_then(|n| n.checked_sub(1))
        else {
            return write!(f, "{} bytes", self.0);
        };
        let index = (index as usize).min(UNITS.len() - 1);
        write!(f, "{:.1} {}", self.0 as f64 / 1024_f64.powi(index as i32 + 1), UNITS[index])
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_memory_names_size_and_limit() {
        let room = Room { left: 5 << 29, limit: 1 << 50, source: "this system".to_owned() };
        let error = Error::no_memory("a message", 3 << 30, Some(room));
        assert!(error.is_out_of_memory());
        let text = "no memory for a message: 3.0 GiB are needed, \
                    2.5 GiB of the 1024.0 TiB of this system are left";
        assert_eq!(error.to_string(), text);
        let error = Error::no_memory("a message", 100, None);
        assert_eq!(error.to_string(), "no memory for a message: 100 bytes are needed");
    }
}
