//! A job: the tasks of one call, and their outcomes.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::functions::{Function, Times};
use super::{Lost, Source};
use crate::channel::Message;
use crate::primitive::{AtomicBool, AtomicU64, Ordering, fixed};

/// How a task ended.
#[derive(Debug)]
pub enum Outcome {
    /// It returned, with the face's encoding of the result.
    Returned(Message),
    /// It raised, with the face's encoding of the exception.
    Raised(Message),
    /// Its input could not be encoded; the face's own error.
    Unsent(Box<dyn Any + Send>),
    /// The worker refused to start; the face's encoding of the reason.
    Refused(Arc<Message>),
    /// It will never end by itself.
    Lost(Lost),
}

/// One task's outcome, with its place in the job.
#[derive(Debug)]
pub struct Settled {
    /// Which task of the job, from 0.
    pub index: u64,
    /// How many items the task had, and the number of the first of them.
    pub items: usize,
    /// Counted from 0 over the job; for a call, over the pool's calls.
    pub first_item: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// Runs when a job is complete, on the supervisor's thread, before anybody sees it complete.
pub type Callback = Box<dyn FnOnce() + Send>;

/// What a job is made of besides its tasks.
#[derive(Default)]
pub struct JobOptions {
    /// Runs when the job is complete.
    pub callback: Option<Callback>,
    /// How many items make a task of a [`Source`]; `None` sizes them by measured time.
    pub chunk: Option<usize>,
    /// Opaque to the engine: tells the worker's face what to do with the task.
    pub tag: u8,
    /// The worker tells the parent of the result at once, although nobody waits for it. A job with
    /// a callback is urgent in any case.
    pub urgent: bool,
}

static JOBS: fixed::AtomicU64 = fixed::AtomicU64::new(1);

pub(super) struct Job {
    /// Tells the jobs of this process apart.
    pub(super) number: u64,
    /// The number of its function.
    pub(super) function: u32,
    pub(super) tag: u8,
    pub(super) chunk: Option<usize>,
    pub(super) urgent: bool,
    /// Its tasks wait here and not with a worker: each is wanted as soon as it can be had, and
    /// until then somebody may cancel it.
    pub(super) waits_here: bool,
    /// What is known of its function's times.
    times: Arc<Times>,
    kind: JobKind,
    /// Running mean of a task's time, in nanoseconds; 0 before the first. A call has that of its
    /// function.
    task_time: AtomicU64,
    /// Time and number of the items measured so far, of which older ones count less.
    ran: AtomicU64,
    measured: AtomicU64,
    /// The items of the largest task that was measured.
    largest: AtomicU64,
    /// What earlier jobs of the function have found for an item; 0 if nothing.
    expected: u64,
    /// Set once everything is settled and the callback has run.
    complete: AtomicBool,
    /// A worker has the task that was placed last. Read without the pool's lock: a hint.
    sent: AtomicBool,
    state: Mutex<JobState>,
    /// Tasks come by [`super::JobHandle::push`].
    pub(super) open: bool,
    pub(super) source: Mutex<Option<Box<dyn Source>>>,
    /// A thread asks the source for a batch. Read and set with the pool's lock.
    pulling: AtomicBool,
    /// Something has happened to the job since the pool's lock was taken.
    stirred: AtomicBool,
}

/// Where a job's tasks come from, as far as their times are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobKind {
    /// One task with one item.
    Call,
    /// Tasks that are sized by the time of their items.
    Sized,
    /// Tasks as the caller made them.
    Chunked,
}

struct JobState {
    /// Tasks made so far.
    made: u64,
    /// Items in them.
    items: u64,
    unsettled: u64,
    /// No more tasks will be made.
    input_ended: bool,
    /// Outcomes not yet taken, in the order of their arrival.
    settled: Outcomes,
    callback: Option<Callback>,
    /// It has a callback, or had one.
    armed: bool,
    /// Until every task is settled: it keeps descriptors open.
    function: Option<Arc<Function>>,
}

/// Outcomes in the order in which they came. Most jobs have one, for which nothing is allocated.
#[derive(Default)]
struct Outcomes {
    first: Option<Settled>,
    rest: VecDeque<Settled>,
}

impl Outcomes {
    fn push(&mut self, settled: Settled) {
        if self.is_empty() {
            self.first = Some(settled);
        } else {
            self.rest.push_back(settled);
        }
    }

    fn pop(&mut self) -> Option<Settled> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    fn first(&self) -> Option<&Settled> {
        self.first.as_ref().or_else(|| self.rest.front())
    }

    fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    fn drain(&mut self) -> impl Iterator<Item = Settled> {
        self.first.take().into_iter().chain(self.rest.drain(..))
    }
}

impl JobState {
    /// Whether everything is settled; then the function goes.
    fn is_over(&mut self) -> bool {
        let over = self.input_ended && self.unsettled == 0;
        if over {
            self.function = None;
        }
        over
    }
}

impl Job {
    pub(super) fn new(
        function: &Arc<Function>,
        source: Option<Box<dyn Source>>,
        open: bool,
        options: JobOptions,
    ) -> Self {
        let kind = match (&source, open, options.chunk) {
            (None, false, _) => JobKind::Call,
            (Some(_), _, None) => JobKind::Sized,
            _ => JobKind::Chunked,
        };
        let state = JobState {
            made: 0,
            items: 0,
            unsettled: 0,
            input_ended: false,
            settled: Outcomes::default(),
            armed: options.callback.is_some(),
            callback: options.callback,
            function: Some(Arc::clone(function)),
        };
        Self {
            // Relaxed: only that no two are the same matters.
            number: JOBS.fetch_add(1, Ordering::Relaxed),
            function: function.number,
            tag: options.tag,
            chunk: options.chunk,
            urgent: options.urgent || state.armed,
            waits_here: options.urgent,
            times: Arc::clone(&function.times),
            kind,
            task_time: AtomicU64::new(0),
            ran: AtomicU64::new(0),
            measured: AtomicU64::new(0),
            largest: AtomicU64::new(0),
            expected: function.times.item.load(Ordering::Relaxed),
            complete: AtomicBool::new(false),
            sent: AtomicBool::new(false),
            state: Mutex::new(state),
            open,
            source: Mutex::new(source),
            pulling: AtomicBool::new(false),
            stirred: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, JobState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the next task of the job: its index and its first item's number. `None` if the job
    /// gets no more tasks.
    pub(super) fn make_task(&self, items: usize) -> Option<(u64, u64)> {
        let mut state = self.lock();
        if state.input_ended {
            return None;
        }
        let task = (state.made, state.items);
        state.made += 1;
        state.items += items as u64;
        state.unsettled += 1;
        Some(task)
    }

    /// Takes a task back that was just made and is sent nowhere.
    pub(super) fn unmake_task(&self, items: usize) {
        let mut state = self.lock();
        state.made -= 1;
        state.items -= items as u64;
        state.unsettled -= 1;
    }

    /// Stores an outcome; true if the job is complete but for its callback.
    pub(super) fn settle(&self, settled: Settled) -> bool {
        let mut state = self.lock();
        state.settled.push(settled);
        state.unsettled -= 1;
        state.is_over()
    }

    /// No more tasks come; true if the job is complete but for its callback.
    pub(super) fn end_input(&self) -> bool {
        let mut state = self.lock();
        let first = !state.input_ended;
        state.input_ended = true;
        first && state.is_over()
    }

    /// The function, while there are tasks to come or to settle.
    pub(super) fn function(&self) -> Option<Arc<Function>> {
        self.lock().function.clone()
    }

    /// Whether a thread asks the source now.
    pub(super) fn is_pulled(&self) -> bool {
        self.pulling.load(Ordering::Relaxed)
    }

    /// Relaxed: it is set with the pool's lock; the thread that unsets it looks for more to do
    /// afterwards, with the lock.
    pub(super) fn set_pulled(&self, pulling: bool) {
        self.pulling.store(pulling, Ordering::Relaxed);
    }

    /// Says that those who wait for this job should look. Relaxed, as [`Self::has_stirred`]:
    /// both only with the pool's lock.
    pub(super) fn stir(&self) {
        self.stirred.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_stirred(&self) -> bool {
        self.stirred.load(Ordering::Relaxed)
    }

    pub(super) fn calm(&self) {
        self.stirred.store(false, Ordering::Relaxed);
    }

    pub(super) fn take_callback(&self) -> Option<Callback> {
        self.lock().callback.take()
    }

    pub(super) fn has_callback(&self) -> bool {
        self.lock().callback.is_some()
    }

    /// Takes the callback for a job that is not complete and never had one; false if it is
    /// complete. Called with the pool's lock, so that the job does not become so meanwhile.
    pub(super) fn arm(&self, callback: &mut Option<Callback>) -> bool {
        if self.is_complete() {
            return false;
        }
        let mut state = self.lock();
        if !state.armed {
            state.armed = true;
            state.callback = callback.take();
        }
        true
    }

    pub(super) fn set_sent(&self, sent: bool) {
        self.sent.store(sent, Ordering::Relaxed);
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether the first outcome that was not taken is that the task was cancelled.
    pub(super) fn is_cancelled(&self) -> bool {
        let state = self.lock();
        let first = state.settled.first().map(|settled| &settled.outcome);
        matches!(first, Some(Outcome::Lost(Lost::Cancelled)))
    }

    pub(super) fn set_complete(&self) {
        // Release: pairs with the acquire load in `is_complete`; what the callback did is seen.
        self.complete.store(true, Ordering::Release);
    }

    pub(super) fn is_complete(&self) -> bool {
        // Acquire: pairs with the release store in `set_complete`.
        self.complete.load(Ordering::Acquire)
    }

    pub(super) fn has_settled(&self) -> bool {
        !self.lock().settled.is_empty()
    }

    pub(super) fn take_settled(&self) -> Option<Settled> {
        self.lock().settled.pop()
    }

    pub(super) fn take_all(&self) -> Vec<Settled> {
        let mut all: Vec<_> = self.lock().settled.drain().collect();
        all.sort_unstable_by_key(|settled| settled.index);
        all
    }

    pub(super) fn unsettled(&self) -> u64 {
        self.lock().unsettled
    }

    /// Takes note of how long a task ran. What a task costs besides its items is in there too, so
    /// large tasks say more about an item than small ones, and count for more.
    pub(super) fn measure(&self, nanoseconds: u64, items: usize) {
        let items = items as u64;
        mean(self.own_task_time(), nanoseconds);
        add(&self.ran, nanoseconds);
        add(&self.measured, items.saturating_mul(FINE));
        if items > self.largest() {
            self.largest.store(items, Ordering::Relaxed);
        }
        if let (JobKind::Sized, Some(time)) = (self.kind, self.item_time()) {
            self.times.item.store(time, Ordering::Relaxed);
        }
    }

    fn own_task_time(&self) -> &AtomicU64 {
        if self.kind == JobKind::Call { &self.times.call } else { &self.task_time }
    }

    /// How long a task takes, in nanoseconds; 0 before the first was measured.
    pub(super) fn task_time(&self) -> u64 {
        // Relaxed: a hint.
        self.own_task_time().load(Ordering::Relaxed)
    }

    /// How long an item takes, in nanoseconds; `None` before the first measurement.
    pub(super) fn item_time(&self) -> Option<u64> {
        // Relaxed, here and below: hints.
        let ran = self.ran.load(Ordering::Relaxed);
        let ran = ran.saturating_mul(FINE);
        ran.checked_div(self.measured.load(Ordering::Relaxed)).map(|time| time.max(1))
    }

    /// Whether the job's tasks are sized by measured time.
    pub(super) fn sizes_batches(&self) -> bool {
        self.kind == JobKind::Sized
    }

    /// How long one took in earlier jobs of the same function.
    pub(super) fn expected_time(&self) -> Option<u64> {
        Some(self.expected).filter(|time| *time > 0)
    }

    /// The items of the largest task that was measured; 0 before.
    pub(super) fn largest(&self) -> u64 {
        self.largest.load(Ordering::Relaxed)
    }
}

/// Items are summed up in this fraction, so that few of them can fade, too.
const FINE: u64 = 256;

/// Adds to a sum in which older values count less. As for [`mean`], Relaxed loses nothing.
fn add(sum: &AtomicU64, value: u64) {
    let old = sum.load(Ordering::Relaxed);
    sum.store((old - old / 8).saturating_add(value), Ordering::Relaxed);
}

/// Moves a running mean towards `value`. Only the thread that holds the pool's lock does this, so
/// Relaxed loads and stores lose nothing.
fn mean(mean: &AtomicU64, value: u64) {
    let old = mean.load(Ordering::Relaxed);
    let new = if old == 0 { value } else { old - old / 8 + value / 8 };
    mean.store(new.max(1), Ordering::Relaxed);
}
