//! The supervisor: one thread a pool that sees deaths, starts replacements, runs callbacks, and
//! attends when nobody waits.

use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::inner::{Failure, Inner, Phase, Queued, State};
use super::job::Outcome;
use super::member::Member;
use super::{Death, FaceError, Lost};
use crate::process::ExitStatus;
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
    thread::Builder::new()
        .name("manycore-pool".to_owned())
        .stack_size(STACK)
        .spawn(move || supervise(&inner))
        .map(drop)
        .map_err(|error| Error::os("start a thread", error))
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
            || (!self.hall.is_attended() && state.has_work(&self.settings))
    }

    /// Sees to the workers that have died.
    fn bury(self: &Arc<Self>) {
        let deaths =
            std::mem::take(&mut *self.deaths.lock().unwrap_or_else(PoisonError::into_inner));
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
        state.places[place].as_ref().filter(|member| member.serial == serial)?;
        let mut member = state.places[place].take()?;
        let status = member.child.try_wait().ok().flatten().unwrap_or(ExitStatus::UNKNOWN);
        let (started, unstarted) = member.part_units();
        let item = u64::from(member.end.item());
        for unit in started {
            let item = unit.first_item + item;
            let death = Death { pid: member.child.pid(), status, item };
            state.settle(&unit, Outcome::Lost(Lost::Died(death)));
        }
        for (unit, payload) in unstarted.into_iter().rev() {
            state.queue.push_front(Queued::Task(unit, payload));
        }
        drop(state);
        self.wake_all();
        Some((member, status))
    }

    /// Fails the pool if its workers end before they have taken a task, again and again.
    fn judge(&self, member: &Member, status: ExitStatus) {
        let mut state = self.lock();
        if member.ready || !matches!(state.phase, Phase::Running | Phase::Closing) {
            return;
        }
        state.false_starts += 1;
        let limit = if status.code().is_some() { FALSE_STARTS } else { KILLED_STARTS };
        let failed = state.false_starts > limit;
        drop(state);
        if failed {
            let reason = format!("workers end before they can take a task: {status}");
            self.fail(Failure::Start(reason.into()));
        }
    }

    fn heed_refusal(&self) {
        let refused = self.lock().refused.take();
        if let Some(reason) = refused {
            self.fail(Failure::Refused(reason));
        }
    }

    /// Starts workers in the places of those that have gone, as long as there is work for them.
    fn rehire(self: &Arc<Self>) {
        if !self.lock().wants_workers() {
            return;
        }
        match self.hire_all() {
            Ok(()) => self.lock().hire_at = None,
            Err(error) => self.hire_later(&error),
        }
    }

    fn hire_later(&self, error: &FaceError) {
        let mut state = self.lock();
        state.hire_failures += 1;
        let deserted = state.members().next().is_none();
        if deserted && state.hire_failures >= HIRE_FAILURES {
            drop(state);
            self.fail(Failure::Start(format!("no worker can be started: {error}").into()));
            return;
        }
        let wait = Duration::from_millis(10 << state.hire_failures.min(7));
        state.hire_at = Some(Instant::now() + wait);
    }

    fn run_callbacks(&self) {
        loop {
            let Some(job) = self.lock().callbacks.pop_front() else { return };
            if let Some(callback) = job.take_callback() {
                callback();
            }
            job.set_complete();
            self.wake_all();
        }
    }

    /// Marks the pool as ended if nothing is left of it.
    fn end_if_over(&self) -> bool {
        let mut state = self.lock();
        let over = state.is_over();
        if over {
            state.phase = Phase::Ended;
        }
        over
    }
}

impl State {
    fn wants_workers(&self) -> bool {
        let due = self.hire_at.is_none_or(|at| at <= Instant::now());
        let vacant = self.places.iter().any(Option::is_none);
        let work = match self.phase {
            Phase::Running => true,
            Phase::Closing => !self.is_idle(),
            _ => false,
        };
        due && vacant && work
    }

    fn is_over(&self) -> bool {
        let done = match self.phase {
            Phase::Closing => self.is_idle(),
            Phase::Terminated => true,
            _ => false,
        };
        done && self.callbacks.is_empty() && self.members().next().is_none()
    }
}
