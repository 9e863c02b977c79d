//! Waiting: the thread that waits for a result is the one that collects it.
//!
//! At most one thread attends to the pool: it takes in results, sends tasks, and sleeps on the
//! front bell. Others who wait sleep on a word of their own; the attendant wakes them when
//! something came, and when it leaves, one of them takes over. When nobody attends, the
//! supervisor does.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::inner::{Inner, State};
use crate::primitive::{AtomicU32, Ordering};
use crate::sync::spin_until;
use crate::sys::futex::{self, Wake};
use crate::{Error, Result};

/// How long the attendant looks out for the next result before it sleeps.
const LOOK_OUT: Duration = Duration::from_micros(60);

/// Where a thread sleeps that waits while another attends.
#[derive(Default)]
pub(super) struct Waiter {
    /// 1 once it has been woken.
    woken: AtomicU32,
}

impl Waiter {
    fn wake(&self) {
        // Release: pairs with the acquire load in `sleep`.
        self.woken.store(1, Ordering::Release);
        futex::wake(&self.woken, 1);
    }

    fn sleep(&self, deadline: Option<Instant>) -> Result<()> {
        // Acquire: pairs with the release store in `wake`.
        while self.woken.load(Ordering::Acquire) == 0 {
            match futex::wait(&self.woken, 0, deadline) {
                Wake::Woken => {}
                Wake::TimedOut => return Err(Error::timed_out()),
                Wake::Interrupted => return Err(Error::interrupted()),
            }
        }
        Ok(())
    }
}

/// The right to attend; given back on drop.
struct Attendance<'a> {
    inner: &'a Inner,
    /// False if the thread attends already: the face called back into the pool.
    outermost: bool,
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        if self.outermost {
            self.inner.leave();
        }
    }
}

impl Inner {
    /// Waits until `ready`, and attends to the pool meanwhile if nobody else does.
    pub(super) fn wait(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        while !ready() {
            match self.try_attend() {
                Some(attendance) => {
                    let result = self.attend(deadline, &mut ready);
                    drop(attendance);
                    return result;
                }
                None => self.wait_for_attendant(deadline, &mut ready)?,
            }
        }
        Ok(())
    }

    fn try_attend(&self) -> Option<Attendance<'_>> {
        let me = thread::current().id();
        let mut state = self.lock();
        match state.attendant {
            None => {
                state.attendant = Some(me);
                self.hall.set_attended(true);
                Some(Attendance { inner: self, outermost: true })
            }
            Some(attendant) if attendant == me => {
                Some(Attendance { inner: self, outermost: false })
            }
            Some(_) => None,
        }
    }

    fn attend(&self, deadline: Option<Instant>, ready: &mut impl FnMut() -> bool) -> Result<()> {
        loop {
            self.pump();
            if ready() {
                return Ok(());
            }
            let mut stir = || ready() || self.has_work();
            if !spin_until(LOOK_OUT, &mut stir) {
                self.hall.front().park(stir, deadline)?;
            }
        }
    }

    /// Whether pumping would do something now.
    pub(super) fn has_work(&self) -> bool {
        self.lock().has_work(&self.settings)
    }

    fn wait_for_attendant(
        &self,
        deadline: Option<Instant>,
        ready: &mut impl FnMut() -> bool,
    ) -> Result<()> {
        let waiter = Arc::new(Waiter::default());
        {
            let mut state = self.lock();
            if state.attendant.is_none() {
                return Ok(());
            }
            state.waiters.push(Arc::clone(&waiter));
        }
        // What became ready before the waiter was known has woken nobody.
        let result = if ready() { Ok(()) } else { waiter.sleep(deadline) };
        self.lock().waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
        result
    }

    /// Gives the attendance to somebody who waits, or to the supervisor.
    fn leave(&self) {
        let mut state = self.lock();
        state.attendant = None;
        let heir = state.waiters.first().cloned();
        self.hall.set_attended(false);
        // A worker that saw the pool attended has not rung the back bell; see `is_attended`.
        let unattended = heir.is_none() && self.needs_supervisor(&state);
        drop(state);
        if let Some(heir) = heir {
            heir.wake();
        } else if unattended {
            self.hall.back().ring();
        }
    }

    fn needs_supervisor(&self, state: &State) -> bool {
        crate::primitive::fence(Ordering::SeqCst);
        !state.callbacks.is_empty() || state.has_work(&self.settings)
    }

    /// Wakes everybody who waits for an outcome or for the pool's end.
    pub(super) fn wake_all(&self) {
        let state = self.lock();
        for waiter in &state.waiters {
            waiter.wake();
        }
        let attended_by_other =
            state.attendant.is_some_and(|other| other != thread::current().id());
        drop(state);
        if attended_by_other {
            self.hall.front().ring();
        }
    }
}
