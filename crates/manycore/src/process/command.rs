//! A program to start.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::Child;
use crate::sys::process::{self as sys, Reserved};
use crate::{Error, Result};

/// A program to start in a process of its own, with what it is to get.
///
/// It inherits the environment, the dispositions of signals and the working directory, but no
/// blocked signals ([`Command::defer_interrupts`] blocks one), and of the engine's descriptors only
/// those named with [`Command::fd`].
#[derive(Debug)]
pub struct Command<'fd> {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    fds: Vec<BorrowedFd<'fd>>,
    blocked: Option<i32>,
}

impl<'fd> Command<'fd> {
    /// The program with this path, as exec takes it: PATH is not searched.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            fds: Vec::new(),
            blocked: None,
        }
    }

    /// Adds an argument. The first one is the program's path already.
    pub fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the environment, in place of one of the same name.
    pub fn env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> &mut Self {
        let name = name.into();
        self.env.retain(|(other, _)| *other != name);
        self.env.push((name, value.into()));
        self
    }

    /// Has the program find `fd` open, under the same number.
    pub fn fd(&mut self, fd: BorrowedFd<'fd>) -> &mut Self {
        self.fds.push(fd);
        self
    }

    /// Has the program begin with SIGINT blocked. Ctrl-C, which goes to all processes of a
    /// terminal, then meets it when it says that it is ready for that.
    pub fn defer_interrupts(&mut self) -> &mut Self {
        self.blocked = Some(libc::SIGINT);
        self
    }

    /// Starts the program.
    ///
    /// # Errors
    ///
    /// The system's error if it cannot be executed: `ENOENT` if there is none. Nothing has been
    /// started then.
    pub fn spawn(&self) -> Result<Child> {
        let program = string(&self.program)?;
        let mut args = vec![program.clone()];
        for arg in &self.args {
            args.push(string(arg)?);
        }
        let env = self.env.iter().map(|(name, value)| entry(name, value));
        let env = env.collect::<Result<Vec<_>>>()?;
        let fds: Vec<RawFd> = self.fds.iter().map(AsRawFd::as_raw_fd).collect();
        let reserved = Reserved::new()?;
        Child::started(sys::spawn(&program, &args, &env, &fds, self.blocked)?, reserved)
    }
}

fn string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| Error::misuse("a program's text contains a zero byte"))
}

fn entry(name: &OsStr, value: &OsStr) -> Result<CString> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return Err(Error::misuse("illegal environment variable name"));
    }
    let mut entry = name.to_owned();
    entry.push("=");
    entry.push(value);
    string(&OsString::from_vec(entry.into_vec()))
}
