//! The supervisor: one thread a pool that sees deaths, starts replacements, runs callbacks, and
//! attends when nobody waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::inner::{Failure, Inner, Phase, Queued, State};
use super::job::{Job, Outcome};
use super::member::Member;
use super::{Death, FaceError, Lost};
use crate::process::ExitStatus;
use crate::sys::thread as threads;
use crate::{Error, Result};

/// The stack of the supervisor: a forked worker goes on with it, and runs the user's tasks there.
const STACK: usize = 16 << 20;

/// So many workers in a row may exit before they are ready; the next one fails the pool.
const FALSE_STARTS: u32 = 5;

/// The same for workers that were killed, which need not be their own fault.
const KILLED_STARTS: u32 = 100;

/// So many workers may end by themselves instead of starting a task; then it is settled, or it
/// would end one worker after the other for ever.
const REFUSALS: u32 = 3;

/// So many attempts to start a worker may fail while the pool has none.
const HIRE_FAILURES: u32 = 8;

/// Starts the supervisor of a pool; it ends when the pool has ended.
pub(super) fn start(inner: &Arc<Inner>) -> Result<()> {
    let inner = Arc::clone(inner);
    threads::start(c"manycore-pool", STACK, move || supervise(&inner))
}

fn supervise(inner: &Arc<Inner>) {
    inner.lock().supervisor = Some(thread::current().id());
    while !inner.end_if_over() {
        inner.supervise_once();
        inner.run_callbacks();
        let deadline = inner.supervisor_deadline();
        // A timeout means that it is time to try again to start a worker; a signal that was
        // meant for another thread is no reason either to stop.
        let _ = inner.hall.back().park(|| inner.needs_attention(), deadline);
    }
}

impl Inner {
    fn supervise_once(&self) {
        self.absence.set_watched(false);
        self.bury();
        self.heed_refusal();
        self.rehire();
        if self.is_left_alone() {
            self.release_descriptors();
        } else {
            self.pump();
        }
    }

    /// Whether another thread attends, or has just done so.
    fn is_left_alone(&self) -> bool {
        self.hall.is_attended() || self.absence.end().is_some()
    }

    /// A callback waits on the supervisor's thread, so it supervises meanwhile. Of the other
    /// callbacks only that of the awaited job is run: another might wait for this one.
    pub(super) fn wait_in_callback(
        &self,
        deadline: Option<Instant>,
        job: Option<&Arc<Job>>,
        ready: &mut impl FnMut() -> bool,
    ) -> Result<()> {
        let Some(job) = job else {
            return Err(Error::misuse("a callback cannot wait for the end of its pool"));
        };
        self.lock().supervisor_waits += 1;
        let result = self.supervise_until(deadline, job, ready);
        self.lock().supervisor_waits -= 1;
        result
    }

    fn supervise_until(
        &self,
        deadline: Option<Instant>,
        job: &Arc<Job>,
        ready: &mut impl FnMut() -> bool,
    ) -> Result<()> {
        loop {
            self.supervise_once();
            if let Some(callback) = self.take_callback(Some(job)) {
                self.run_callback(&callback);
            }
            if ready() {
                return Ok(());
            }
            let own = self.supervisor_deadline();
            let stir = || ready() || self.needs_attention_for(Some(job));
            match self.hall.back().park(stir, deadline.into_iter().chain(own).min()) {
                Err(error) if error.is_timeout() && !has_passed(deadline) => {}
                result => result?,
            }
        }
    }

    /// When the supervisor has something to do, even if nobody rings for it.
    fn supervisor_deadline(&self) -> Option<Instant> {
        let mut state = self.lock();
        let attended = self.hall.is_attended();
        let absence = if attended { None } else { self.absence.end() };
        self.absence.set_watched(absence.is_some());
        let watch = state.watch(attended || absence.is_some());
        state.hire_deadline().into_iter().chain(watch).chain(absence).min()
    }

    fn needs_attention(&self) -> bool {
        self.needs_attention_for(None) || self.lock().is_over()
    }

    fn needs_attention_for(&self, job: Option<&Arc<Job>>) -> bool {
        if !self.deaths.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return true;
        }
        let state = self.lock();
        state.next_callback(job).is_some()
            || state.refused.is_some()
            || state.has_ended_descriptors()
            || (!self.is_left_alone() && state.has_work())
    }

    /// Sees to the workers that have died.
    fn bury(&self) {
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
        let (started, mut unstarted) = member.part_units();
        if let (true, Some((unit, _))) = (status.code().is_some(), unstarted.first_mut()) {
            // It may have been this task's message that it could not take.
            unit.refusals += u32::from(started.is_empty());
        }
        let item = u64::from(member.end.item());
        for unit in started {
            let item = unit.first_item + item;
            let death = Death { pid: member.child.pid(), status, item };
            state.settle(&unit, Outcome::Lost(Lost::Died(death)));
        }
        for (unit, payload) in unstarted.into_iter().rev() {
            if unit.refusals >= REFUSALS {
                let death = Death { pid: member.child.pid(), status, item: unit.first_item };
                state.settle(&unit, Outcome::Lost(Lost::Died(death)));
                continue;
            }
            state.queue.push_front(Queued::Task(unit, payload));
        }
        state.news = true;
        self.release(state);
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
    fn rehire(&self) {
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
        while let Some(job) = self.take_callback(None) {
            self.run_callback(&job);
        }
    }

    fn take_callback(&self, only: Option<&Arc<Job>>) -> Option<Arc<Job>> {
        let mut state = self.lock();
        let at = state.next_callback(only)?;
        state.callbacks.remove(at)
    }

    fn run_callback(&self, job: &Arc<Job>) {
        if let Some(callback) = job.take_callback() {
            // A panic has been reported; the pool goes on.
            let _ = catch_unwind(AssertUnwindSafe(callback));
        }
        let mut state = self.lock();
        job.set_complete();
        state.stir(job);
        self.release(state);
    }

    /// Marks the pool as ended if nothing is left of it.
    fn end_if_over(&self) -> bool {
        let mut state = self.lock();
        if !state.is_over() {
            self.release(state);
            return false;
        }
        drop(state);
        // The state of a pool that is over stays so, but for a terminate of what has gone.
        self.spawner.over();
        state = self.lock();
        state.phase = Phase::Ended;
        state.news = true;
        self.release(state);
        true
    }
}

impl State {
    fn wants_workers(&self) -> bool {
        self.lacks_workers() && self.hire_at.is_none_or(|at| at <= Instant::now())
    }

    /// When to start workers, if it is not the time yet.
    fn hire_deadline(&self) -> Option<Instant> {
        self.hire_at.filter(|_| self.lacks_workers())
    }

    /// The callback that is to run next: any, or that of one job.
    fn next_callback(&self, only: Option<&Arc<Job>>) -> Option<usize> {
        self.callbacks.iter().position(|job| only.is_none_or(|only| Arc::ptr_eq(only, job)))
    }

    fn lacks_workers(&self) -> bool {
        let work = match self.phase {
            Phase::Running => true,
            Phase::Closing => !self.is_idle(),
            _ => false,
        };
        work && self.vacant().is_some()
    }

    fn is_over(&self) -> bool {
        let done = match self.phase {
            Phase::Closing => self.is_idle(),
            Phase::Terminated => true,
            _ => false,
        };
        done && self.callbacks.is_empty()
            && self.reserved.is_empty()
            && self.members().next().is_none()
    }
}

fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}
