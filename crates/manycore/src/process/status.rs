//! How a process ended.

use std::fmt;

use crate::sys::process::Ending;

/// The exit code that stands for an unknown one.
const UNKNOWN_CODE: i32 = 255;

/// How a process ended: by itself with a code, or by a signal; or nobody knows any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(Ending);

impl ExitStatus {
    pub(crate) const UNKNOWN: Self = Self(Ending::Unknown);

    pub(super) fn new(ending: Ending) -> Self {
        Self(ending)
    }

    /// The code that the process ended with, if it ended by itself.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self.0 {
            Ending::Code(code) => Some(code),
            _ => None,
        }
    }

    /// The signal that ended the process, if one did.
    #[must_use]
    pub fn signal(self) -> Option<i32> {
        match self.0 {
            Ending::Signal(signo) => Some(signo),
            _ => None,
        }
    }

    /// One number, as Python has it: the code, or the signal's number with a minus sign, or 255
    /// if the status is not known because somebody else has taken it.
    #[must_use]
    pub fn exitcode(self) -> i32 {
        match self.0 {
            Ending::Code(code) => code,
            Ending::Signal(signo) => -signo,
            Ending::Unknown => UNKNOWN_CODE,
        }
    }

    /// A number that is not 0, for another process.
    pub(super) fn to_wire(self) -> u64 {
        let (kind, value) = match self.0 {
            Ending::Unknown => (1, 0),
            Ending::Code(code) => (2, code),
            Ending::Signal(signo) => (3, signo),
        };
        (kind << 32) | u64::from(value.cast_unsigned())
    }

    pub(super) fn from_wire(wire: u64) -> Self {
        let value = (wire as u32).cast_signed();
        Self(match wire >> 32 {
            2 => Ending::Code(value),
            3 => Ending::Signal(value),
            _ => Ending::Unknown,
        })
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ending::Code(code) => write!(f, "exit code {code}"),
            Ending::Signal(signo) => match signal_name(signo) {
                Some(name) => write!(f, "signal {signo} ({name})"),
                None => write!(f, "signal {signo}"),
            },
            Ending::Unknown => f.write_str("unknown exit status"),
        }
    }
}

fn signal_name(signo: i32) -> Option<&'static str> {
    Some(match signo {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_way_to_another_process() {
        for ending in
            [Ending::Code(0), Ending::Code(3), Ending::Code(-1), Ending::Signal(9), Ending::Unknown]
        {
            let status = ExitStatus(ending);
            assert_ne!(status.to_wire(), 0);
            assert_eq!(ExitStatus::from_wire(status.to_wire()), status);
        }
    }

    #[test]
    fn is_shown_in_words() {
        assert_eq!(ExitStatus(Ending::Code(3)).to_string(), "exit code 3");
        assert_eq!(ExitStatus(Ending::Signal(9)).to_string(), "signal 9 (SIGKILL)");
        assert_eq!(ExitStatus(Ending::Signal(40)).to_string(), "signal 40");
        assert_eq!(ExitStatus::UNKNOWN.to_string(), "unknown exit status");
    }
}
