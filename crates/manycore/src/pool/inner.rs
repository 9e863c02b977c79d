//! What the threads of a pool share.

use std::any::Any;
use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::attend::{Absence, Waiter};
use super::functions::{self, Function, Functions};
use super::job::{Job, Outcome, Settled};
use super::member::{Member, Unit};
use super::{Lost, Settings, Spawner};
use crate::channel::hall::Hall;
use crate::channel::{Message, OwnedPayload, Payload, SealedMessage};
use crate::process::{Child, SIGKILL, SIGTERM};
use crate::sync::LookOut;
use crate::sys::fork;
use crate::{Error, Result};

/// How long a worker may take to end after SIGTERM before it gets SIGKILL.
pub(super) const GRACE: Duration = Duration::from_millis(500);

pub(super) struct Inner {
    pub(super) hall: Hall,
    /// Of whoever attends.
    pub(super) look_out: LookOut,
    /// Whether the thread that attended last is likely to be back.
    pub(super) absence: Absence,
    /// How many threads can run at once.
    pub(super) processors: usize,
    pub(super) settings: Settings,
    pub(super) spawner: Box<dyn Spawner>,
    state: Mutex<State>,
    /// Workers that have ended: place and serial. Written by the watching thread.
    pub(super) deaths: Arc<Mutex<Vec<(usize, u64)>>>,
    owner: u32,
    generation: u64,
}

/// Where a pool is in its life.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Running,
    /// No more jobs.
    Closing,
    /// The workers cannot work; every task ends with the reason.
    Failed(Failure),
    Terminated,
    /// The workers have gone.
    Ended,
}

/// Why a pool has failed.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// A worker has said why it cannot work.
    Refused(Arc<Message>),
    /// Workers could not be started, or died before they took a task.
    Start(Arc<str>),
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) places: Vec<Option<Member>>,
    /// The place where the search for a worker begins.
    pub(super) first: usize,
    /// A worker had to be woken since a turn was last considered.
    pub(super) roused: bool,
    /// What waits for a worker, in order.
    pub(super) queue: VecDeque<Queued>,
    pub(super) functions: Functions,
    /// Jobs that may still get tasks by [`super::JobHandle::push`].
    pub(super) open: Vec<Arc<Job>>,
    /// Why a worker cannot work; the supervisor then fails the pool.
    pub(super) refused: Option<Arc<Message>>,
    /// Complete jobs whose callback has to run first.
    pub(super) callbacks: VecDeque<Arc<Job>>,
    /// Threads that sleep while another attends. Whoever takes one out has to wake it.
    pub(super) waiters: VecDeque<Arc<Waiter>>,
    pub(super) attendant: Option<ThreadId>,
    /// The supervisor's thread, and how many waits it is in: those of callbacks.
    pub(super) supervisor: Option<ThreadId>,
    pub(super) supervisor_waits: u32,
    /// Something has happened since the lock was taken that somebody may wait for.
    pub(super) news: bool,
    /// Workers in a row that died before they were ready.
    pub(super) false_starts: u32,
    /// When to try again to start a worker.
    pub(super) hire_at: Option<Instant>,
    pub(super) hire_failures: u32,
    /// The supervisor looks by itself whether a worker is stuck that has more than one task.
    pub(super) watched: bool,
    /// How many places are to have a worker.
    pub(super) wanted: usize,
    /// Places for which a thread starts a worker now.
    pub(super) reserved: Vec<usize>,
    /// Jobs of one task so far.
    calls: u64,
    pub(super) serial: u64,
}

pub(super) enum Queued {
    /// A task with its bytes.
    Task(Unit, OwnedPayload),
    /// A job whose source has more.
    Source(Arc<Job>),
}

impl State {
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.places.iter().flatten()
    }

    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.places.iter_mut().flatten()
    }

    /// Whether no task is without outcome and none can come.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.open.is_empty()
            && self.members().all(|member| member.units.is_empty())
    }

    /// Stores an outcome, and sees to the job if that was its last.
    pub(super) fn settle(&mut self, unit: &Unit, outcome: Outcome) {
        self.stir(&unit.job);
        let Unit { index, items, first_item, .. } = *unit;
        let settled = Settled { index, items, first_item, outcome };
        if unit.job.settle(settled) {
            self.complete(&unit.job);
        }
    }

    /// Says that those who wait for this job should look, once the lock is released.
    pub(super) fn stir(&mut self, job: &Job) {
        job.stir();
        self.news = true;
    }

    pub(super) fn complete(&mut self, job: &Arc<Job>) {
        self.stir(job);
        if job.has_callback() {
            self.callbacks.push_back(Arc::clone(job));
        } else {
            job.set_complete();
        }
    }

    /// The outcome of every task that can get no other.
    pub(super) fn fate(&self) -> Outcome {
        match &self.phase {
            Phase::Failed(Failure::Refused(reason)) => Outcome::Refused(Arc::clone(reason)),
            Phase::Failed(Failure::Start(reason)) => {
                Outcome::Lost(Lost::Failed(Arc::clone(reason)))
            }
            _ => Outcome::Lost(Lost::Terminated),
        }
    }

    /// Settles everything that waits or runs. Gives the sources back: the face's own values are
    /// to be dropped without the lock.
    pub(super) fn settle_all(&mut self) -> Vec<Arc<Job>> {
        let running: Vec<Unit> =
            self.members_mut().flat_map(|member| member.units.drain(..)).collect();
        for unit in running {
            self.settle(&unit, self.fate());
        }
        let mut jobs = std::mem::take(&mut self.open);
        while let Some(queued) = self.queue.pop_front() {
            match queued {
                Queued::Task(unit, _) => self.settle(&unit, self.fate()),
                Queued::Source(job) => jobs.push(job),
            }
        }
        for job in &jobs {
            self.abandon(job);
        }
        jobs
    }

    /// Ends a job that may get more tasks: one task stands for all of them.
    pub(super) fn abandon(&mut self, job: &Arc<Job>) {
        let Some(unit) = Unit::next(job, 1) else { return };
        let over = job.end_input();
        debug_assert!(!over, "the task just made is unsettled");
        self.settle(&unit, self.fate());
    }
}

impl Inner {
    pub(super) fn new(
        settings: Settings,
        spawner: Box<dyn Spawner>,
        wanted: usize,
    ) -> Result<Self> {
        let state = State {
            phase: Phase::Running,
            places: (0..settings.workers).map(|_| None).collect(),
            first: 0,
            roused: false,
            queue: VecDeque::new(),
            functions: Functions::default(),
            open: Vec::new(),
            refused: None,
            callbacks: VecDeque::new(),
            waiters: VecDeque::new(),
            attendant: None,
            supervisor: None,
            supervisor_waits: 0,
            news: false,
            false_starts: 0,
            hire_at: None,
            hire_failures: 0,
            watched: false,
            wanted,
            reserved: Vec::new(),
            calls: 0,
            serial: 0,
        };
        Ok(Self {
            hall: Hall::new()?,
            look_out: LookOut::new(),
            absence: Absence::new(),
            processors: thread::available_parallelism().map_or(1, NonZero::get),
            settings,
            spawner,
            state: Mutex::new(state),
            deaths: Arc::default(),
            owner: fork::pid(),
            generation: fork::generation(),
        })
    }

    /// The lock of everything. It is held for moments only: never over a call of the face, a
    /// system call that can wait, or the drop of a face's value.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fork has copies of our handles but neither our threads nor our workers.
    pub(super) fn check_process(&self) -> Result<()> {
        if self.generation == fork::generation() {
            return Ok(());
        }
        Err(Error::inherited("pool", self.owner))
    }

    pub(super) fn check_running(&self) -> Result<()> {
        self.check_process()?;
        match self.lock().phase {
            // A failed pool takes jobs and ends them at once, with its reason.
            Phase::Running | Phase::Failed(_) => Ok(()),
            _ => Err(Error::misuse("Pool not running")),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.lock().phase, Phase::Failed(_))
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.lock().phase, Phase::Ended)
    }

    /// The function with this encoding. What takes long for a large one is done without the lock.
    pub(super) fn function(&self, payload: &Payload<'_>) -> Result<Arc<Function>> {
        let descriptors = payload.descriptors;
        if !functions::is_large(payload) {
            return Ok(self.lock().functions.intern(&payload.body.concat(), descriptors));
        }
        let known = self.lock().functions.large();
        let mut found = None;
        for message in known {
            if message.has_bytes_of(payload)? {
                found = Some(message);
                break;
            }
        }
        let message = match found {
            Some(message) => message,
            None => Arc::new(SealedMessage::private(payload)?),
        };
        Ok(self.lock().functions.intern_sealed(&message, descriptors))
    }

    /// Makes a job of one task and sends it, or keeps it until a worker has room.
    pub(super) fn call(&self, job: &Arc<Job>, payload: &Payload<'_>) -> Result<()> {
        let unit = Unit::next(job, 1).ok_or_else(|| Error::misuse("the job has ended"))?;
        job.end_input();
        let mut state = self.lock();
        // Calls are numbered over the whole pool, so that a report of a loss tells them apart.
        let unit = Unit { first_item: state.calls, ..unit };
        state.calls += 1;
        let placed = if matches!(state.phase, Phase::Running) {
            state.collect();
            state.place_task(unit, payload)
        } else {
            let fate = state.fate();
            state.settle(&unit, fate);
            Ok(())
        };
        self.release(state);
        placed
    }

    /// Opens a job, unless the pool has come to its end meanwhile.
    pub(super) fn open(&self, job: &Arc<Job>) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Running) {
            state.open.push(Arc::clone(job));
        } else {
            state.abandon(job);
        }
        self.release(state);
    }

    /// Adds a task to an open job.
    pub(super) fn push(&self, job: &Arc<Job>, payload: &Payload<'_>) -> Result<()> {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Running | Phase::Closing) {
            return Err(Error::misuse("Pool not running"));
        }
        let unit = Unit::next(job, 1).ok_or_else(|| Error::misuse("the job has ended"))?;
        state.collect();
        let placed = state.place_task(unit, payload);
        if placed.is_err() {
            job.unmake_task(1);
        }
        self.release(state);
        placed
    }

    pub(super) fn push_error(&self, job: &Arc<Job>, error: Box<dyn Any + Send>) {
        let mut state = self.lock();
        if let Some(unit) = Unit::next(job, 1) {
            state.settle(&unit, Outcome::Unsent(error));
        }
        self.release(state);
    }

    pub(super) fn end_input(&self, job: &Arc<Job>) {
        let mut state = self.lock();
        state.open.retain(|open| !Arc::ptr_eq(open, job));
        if job.end_input() {
            state.complete(job);
        }
        state.news = true;
        self.release(state);
    }

    /// Puts a job with a source in the queue.
    pub(super) fn add_source(&self, job: &Arc<Job>) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Running) {
            state.queue.push_back(Queued::Source(Arc::clone(job)));
            // Another thread that attends may sleep, and then neither the one that comes to wait
            // for this job nor the supervisor would ask the source.
            state.news |= state.attendant.is_some();
        } else {
            state.abandon(job);
        }
        self.release(state);
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Running) {
            state.phase = Phase::Closing;
            state.news = true;
        }
        let failed = matches!(state.phase, Phase::Failed(_));
        self.release(state);
        if failed {
            self.terminate();
        }
    }

    /// Fails the pool: every task ends with the reason, the workers are ended.
    pub(super) fn fail(&self, failure: Failure) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Running | Phase::Closing) {
            let closing = matches!(state.phase, Phase::Closing);
            state.phase = Phase::Failed(failure);
            let jobs = state.settle_all();
            if closing {
                state.phase = Phase::Terminated;
            }
            self.release(state);
            drop(jobs);
            self.end_workers();
        }
        self.hall.back().ring();
    }

    pub(super) fn terminate(&self) {
        self.settle_for_good();
        self.end_workers();
        self.hall.back().ring();
    }

    /// As `terminate`, but leaves it to the caller to end the workers that do not leave.
    pub(super) fn abandon(&self) {
        self.settle_for_good();
        // One that ends its task after all is ended when its reply comes.
        self.lock().members_mut().for_each(Member::dismiss);
        self.hall.back().ring();
    }

    /// Settles everything; nothing comes after it.
    fn settle_for_good(&self) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Ended) {
            state.phase = Phase::Terminated;
        }
        let jobs = state.settle_all();
        self.release(state);
        drop(jobs);
    }

    /// SIGTERM to all, and SIGKILL to those that are still there after the grace.
    fn end_workers(&self) {
        let children: Vec<_> =
            self.lock().members().map(|member| Arc::clone(&member.child)).collect();
        for child in &children {
            // A process that has ended already is no error.
            let _ = child.signal(SIGTERM);
        }
        let deadline = Instant::now() + GRACE;
        for child in &children {
            if !wait_until(child, deadline) {
                let _ = child.signal(SIGKILL);
            }
        }
        let deadline = Instant::now() + GRACE;
        for child in &children {
            wait_until(child, deadline);
        }
    }
}

/// Waits for the end of a process; false if it has not ended by the deadline, or cannot be waited
/// for.
pub(super) fn wait_until(child: &Child, deadline: Instant) -> bool {
    loop {
        match child.wait(Some(deadline)) {
            Ok(_) => return true,
            Err(error) if error.is_interrupted() => {}
            Err(_) => return false,
        }
    }
}
