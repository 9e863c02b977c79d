//! The supervisor: one thread a pool that sees deaths, starts replacements, runs callbacks, and
//! attends when nobody waits.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::inner::{Failure, Inner, Phase, Queued, State};
use super::job::Outcome;
use super::member::{Member, Unit};
use super::{Death, FaceError, Lost};
use crate::process::ExitStatus;
use crate::sys::thread;
use crate::{Error, Result};

/// The stack of the supervisor: a forked worker goes on with it, and runs the user's tasks there.
const STACK: usize = 16 << 20;

/// So many workers in a row may exit before they are ready; the next one fails the pool.
const FALSE_STARTS: u32 = 5;

/// The same for workers that were killed, which need not be their own fault.
const KILLED_STARTS: u32 = 100;

/// So many attempts to start a worker may fail while the pool has none.
const HIRE_FAILURES: u32 = 8;

/// Starts the supervisor of a pool; it ends when the pool has ended.
pub(super) fn start(inner: &Arc<Inner>) -> Result<()> {
    let inner = Arc::clone(inner);
    thread::start("manycore-pool", STACK, move || supervise(&inner))
}

fn supervise(inner: &Arc<Inner>) {
    while !inner.end_if_over() {
        inner.bury();
        inner.heed_refusal();
        inner.rehire();
        inner.run_callbacks();
        if !inner.hall.is_attended() {
            inner.pump();
        }
        let deadline = inner.lock().hire_at;
        // A timeout means that it is time to try again to start a worker; a signal that was
        // meant for another thread is no reason either to stop.
        let _ = inner.hall.back().park(|| inner.needs_attention(), deadline);
    }
    inner.wake_all();
}

impl Inner {
    fn needs_attention(&self) -> bool {
        if !self.deaths.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return true;
        }
        let state = self.lock();
        !state.callbacks.is_empty()
            || state.refused.is_some()
            || state.is_over()
            || (!self.hall.is_attended() && state.members().any(|m| m.end.has_message()))
    }

    /// Sees to the workers that have died.
    fn bury(self: &Arc<Self>) {
        let deaths = std::mem::take(&mut *self.deaths.lock().unwrap_or_else(PoisonError::into_inner));
        for (place, serial) in deaths {
            let Some((member, status)) = self.remove(place, serial) else { continue };
            self.spawner.ended(&member.child);
            self.judge(&member, status);
            drop(member);
        }
    }

    /// Takes a dead worker out, settles what it had started and queues the rest again.
    fn remove(&self, place: usize, serial: u64) -> Option<(Member, ExitStatus)> {
        let mut state = self.lock();
        // What it sent before it died counts.
        state.collect();
        let of_this = |member: &&Member| member.serial == serial;
        state.places[place].as_ref().filter(of_this)?;
        let mut member = state.places[place].take()?;
        let status = member.child.try_wait().ok().flatten().unwrap_or_default();
        let death = |unit: &Unit, item| Death {
            pid: member.child.pid(),
            status,
            item: unit.first_item + item,
        };
        let item = u64::from(member.end.item());
        let lost = |unit: &Unit| Outcome::Lost(Lost::Died(death(unit, item)));
        let pid_and_units = |member: &mut Member| member.part_units();
        let _ = pid_and_units;
        let mut parted = None;
        std::mem::swap(&mut parted, &mut None);
        let _: Option<()> = parted;
        let _ = lost;
        drop(state);
        Some((member, status))
    }
}
