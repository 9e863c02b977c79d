//! Waiting: the thread that waits for a result is the one that collects it.
//!
//! At most one thread attends to the pool: it takes in results, sends tasks, and sleeps on the
//! front bell. Others who wait sleep on a word of their own; whoever takes in what they wait for
//! wakes them, and when the attendant leaves, one of them takes over. When nobody attends, the
//! supervisor does.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::inner::{Inner, State};
use super::job::Job;
use crate::primitive::{AtomicU32, Ordering, fence, fixed};
use crate::sys::futex::{self, Wake};
use crate::{Error, Result};

/// How long the attendant looks out for the next result before it sleeps.
const LOOK_OUT: Duration = Duration::from_micros(60);

/// How long the attendant lets short tasks gather before it takes in their results, where a
/// look-out would take a processor from a worker.
const NAP: Duration = Duration::from_micros(100);

/// So many batches at most are sent before the attendant looks whether it has what it wants.
const FILL: u32 = 64;

/// So long the supervisor leaves a pool alone that has just been attended: the thread that took a
/// result comes for the next one, and two at it would be in each other's way.
const ABSENCE: Duration = Duration::from_micros(200);

/// When the last attendant has left.
pub(super) struct Absence {
    made: Instant,
    /// Nanoseconds after `made`; 0 if there was none. Relaxed: a hint.
    since: fixed::AtomicU64,
    /// The supervisor sleeps no longer than until the absence is over, and looks then.
    is_watched: fixed::AtomicBool,
}

impl Absence {
    pub(super) fn new() -> Self {
        let since = fixed::AtomicU64::new(0);
        Self { made: Instant::now(), since, is_watched: fixed::AtomicBool::new(false) }
    }

    fn begin(&self) {
        let now = u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(0);
        self.since.store(now.max(1), Ordering::Relaxed);
    }

    /// When it is too long to go on waiting for the thread; `None` if it is already.
    pub(super) fn end(&self) -> Option<Instant> {
        let since = match self.since.load(Ordering::Relaxed) {
            0 => return None,
            since => Duration::from_nanos(since),
        };
        let end = self.made + since + ABSENCE;
        (end > Instant::now()).then_some(end)
    }

    /// SeqCst, as the look at it: the supervisor says so before its last look for work, and who
    /// leaves looks for work, and then at this.
    pub(super) fn set_watched(&self, watched: bool) {
        self.is_watched.store(watched, Ordering::SeqCst);
    }

    fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::SeqCst)
    }
}

/// Where a thread sleeps that waits while another attends.
pub(super) struct Waiter {
    /// 1 once it has been woken.
    woken: AtomicU32,
    /// The job that it waits for; `None` if it waits for the pool.
    job: Option<Arc<Job>>,
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

/// What a thread does while it waits.
enum Role<'a> {
    Attendant(Attendance<'a>),
    Waiter,
    /// It is in a callback.
    Supervisor,
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        if self.outermost {
            self.inner.leave();
        } else {
            // Back to the source that called into the pool.
            self.inner.lend();
            if self.inner.has_work() {
                self.inner.hall.back().ring();
            }
        }
    }
}

impl Inner {
    /// Waits until `ready`, and attends to the pool meanwhile if nobody else does. If `ready` asks
    /// about one job, that is `job`.
    pub(super) fn wait(
        &self,
        deadline: Option<Instant>,
        job: Option<&Arc<Job>>,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        while !ready() {
            let result = match self.role() {
                Role::Attendant(attendance) => {
                    let result = self.attend(deadline, &mut ready);
                    drop(attendance);
                    Some(result)
                }
                Role::Waiter => self.wait_for_attendant(deadline, job, &mut ready),
                Role::Supervisor => Some(self.wait_in_callback(deadline, job, &mut ready)),
            };
            if let Some(result) = result {
                return result;
            }
        }
        Ok(())
    }

    fn role(&self) -> Role<'_> {
        let me = Some(thread::current().id());
        let mut state = self.lock();
        if state.supervisor == me {
            return Role::Supervisor;
        }
        let outermost = state.attendant.is_none();
        if !outermost && state.attendant != me {
            return Role::Waiter;
        }
        state.attendant = me;
        self.hall.set_attended(true);
        Role::Attendant(Attendance { inner: self, outermost })
    }

    fn attend(&self, deadline: Option<Instant>, ready: &mut impl FnMut() -> bool) -> Result<()> {
        loop {
            // The thread that takes one result will come for the next: meanwhile the workers
            // have to have enough to do.
            let more = (0..FILL).all(|_| self.step(true));
            if ready() {
                return Ok(());
            }
            if more {
                continue;
            }
            let rebalance = self.rebalance();
            let mut stir = || ready() || self.has_work();
            if !self.await_soon(deadline, &mut stir)? {
                let until = deadline.into_iter().chain(rebalance).min();
                match self.hall.front().park(stir, until) {
                    Err(error) if error.is_timeout() && until != deadline => {}
                    slept => slept?,
                }
            }
        }
    }

    /// As [`State::rebalance`].
    pub(super) fn rebalance(&self) -> Option<Instant> {
        self.lock().rebalance()
    }

    /// Waits for what is likely to come at once; whether it has come.
    fn await_soon(
        &self,
        deadline: Option<Instant>,
        stir: &mut impl FnMut() -> bool,
    ) -> Result<bool> {
        let outlook = self.lock().outlook(self.processors);
        match outlook {
            Outlook::Idle => {
                let came = self.look_out.until(LOOK_OUT, stir);
                if self.look_out.was_taken() {
                    self.lock().turn();
                }
                Ok(came)
            }
            Outlook::Busy => Ok(false),
            Outlook::BusyBriefly => {
                let soon = Instant::now() + NAP;
                let until = deadline.map_or(soon, |deadline| deadline.min(soon));
                match self.hall.front().nap(&mut *stir, until) {
                    Err(error) if error.is_timeout() && deadline != Some(until) => Ok(stir()),
                    slept => slept.map(|()| true),
                }
            }
        }
    }

    /// Takes in what has come, unless somebody attends.
    pub(super) fn look(&self) {
        if !self.hall.is_attended() && self.has_work() {
            self.pump();
        }
    }

    /// Whether a step would do something now.
    pub(super) fn has_work(&self) -> bool {
        self.lock().has_work()
    }

    /// Sleeps until there is a reason to look again. `None`: wait on, somebody has to attend.
    fn wait_for_attendant(
        &self,
        deadline: Option<Instant>,
        job: Option<&Arc<Job>>,
        ready: &mut impl FnMut() -> bool,
    ) -> Option<Result<()>> {
        let waiter = Arc::new(Waiter { woken: AtomicU32::new(0), job: job.cloned() });
        {
            let mut state = self.lock();
            state.attendant?;
            if let Some(job) = job {
                job.calm();
            }
            state.waiters.push_back(Arc::clone(&waiter));
        }
        // What became ready before the waiter was known has woken nobody.
        let slept = if ready() { Ok(()) } else { waiter.sleep(deadline) };
        let result = if ready() { Some(Ok(())) } else { slept.err().map(Err) };
        let mut state = self.lock();
        state.waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
        if result.is_some() {
            // It may have been woken to take over the attendance.
            self.pass_on(state);
        }
        result
    }

    /// Has the workers ring for the supervisor, although this thread attends.
    pub(super) fn lend(&self) {
        self.hall.set_attended(false);
        // As in `pass_on`: a look for work after this sees what came from workers that did not.
        fence(Ordering::SeqCst);
    }

    /// Gives the attendance back.
    fn leave(&self) {
        self.absence.begin();
        let mut state = self.lock();
        state.attendant = None;
        self.hall.set_attended(false);
        self.pass_on(state);
    }

    /// Sees to it that somebody attends: one of those who wait, or the supervisor.
    ///
    /// A thread that is woken here either attends or comes here itself, so as long as some wait
    /// and nobody attends there is one awake that will.
    fn pass_on(&self, mut state: MutexGuard<'_, State>) {
        if state.attendant.is_some() {
            return;
        }
        let heir = state.waiters.pop_front();
        // A worker that saw the pool attended has not rung the back bell; see `is_attended`.
        fence(Ordering::SeqCst);
        let unattended = heir.is_none()
            && (state.has_work() || state.needs_watch())
            && !self.absence.is_watched();
        drop(state);
        if let Some(heir) = heir {
            heir.wake();
        } else if unattended {
            self.hall.back().ring();
        }
    }

    /// Gives the lock back, and wakes those who wait for what happened under it.
    pub(super) fn release(&self, mut state: MutexGuard<'_, State>) {
        let mut back = !state.callbacks.is_empty() || state.refused.is_some();
        back |= state.needs_watch();
        let mut front = false;
        let mut woken = VecDeque::new();
        if std::mem::take(&mut state.news) {
            back |= state.dismiss_if_done() || state.supervisor_waits > 0;
            back |= state.attendant.is_none() && state.can_dispatch();
            front = state.attendant.is_some_and(|other| other != thread::current().id());
            if !state.waiters.is_empty() {
                woken = state.take_stirred();
            }
        }
        drop(state);
        for waiter in woken {
            waiter.wake();
        }
        if front {
            self.hall.front().ring();
        }
        if back {
            self.hall.back().ring();
        }
    }
}

/// What the attendant can expect of the time until the next result.
enum Outlook {
    /// There is a processor for it to look out on.
    Idle,
    /// The workers need all processors.
    Busy,
    /// They do, for tasks that take less than a [`NAP`].
    BusyBriefly,
}

impl State {
    fn outlook(&self, processors: usize) -> Outlook {
        let busy = || self.members().filter_map(|member| member.units.front());
        if busy().count() < processors {
            return Outlook::Idle;
        }
        let brief = |time: u64| time > 0 && u128::from(time) < NAP.as_nanos();
        if busy().any(|unit| brief(unit.job.task_time())) {
            Outlook::BusyBriefly
        } else {
            Outlook::Busy
        }
    }

    /// Takes out the waiters for whose jobs something has happened.
    fn take_stirred(&mut self) -> VecDeque<Arc<Waiter>> {
        let stirred = |waiter: &Waiter| waiter.job.as_ref().is_none_or(|job| job.has_stirred());
        let (woken, rest): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiters).into_iter().partition(|waiter| stirred(waiter));
        self.waiters = rest;
        woken.iter().filter_map(|waiter| waiter.job.as_ref()).for_each(|job| job.calm());
        woken
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_absence_comes_to_its_end() {
        let absence = Absence::new();
        assert_eq!(absence.end(), None);
        let before = Instant::now();
        absence.begin();
        while let Some(end) = absence.end() {
            assert!(end >= before + ABSENCE && end <= Instant::now() + ABSENCE);
        }
        assert!(before.elapsed() >= ABSENCE);
    }
}
