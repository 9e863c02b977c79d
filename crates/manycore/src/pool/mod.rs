#![doc = include_str!("README.md")]

mod attend;
mod cancel;
mod dispatch;
mod functions;
mod inner;
mod job;
mod member;
mod staffing;
mod supervisor;
mod worker;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::functions::{Definition, Function};
pub use self::job::{Callback, JobOptions, Outcome, Settled};
pub use self::worker::{Order, Task, Worker};
pub use crate::channel::link::Seat;

use self::inner::Inner;
use self::job::Job;
use crate::channel::Payload;
use crate::process::{Child, ExitStatus};
use crate::{Error, Result};

/// A face's own error on its way through the engine.
pub type FaceError = Box<dyn std::error::Error + Send + Sync>;

/// Starts worker processes: the face knows how.
pub trait Spawner: Send + Sync + 'static {
    /// Starts a process that calls [`Worker::new`] with this seat. Runs on the thread that makes
    /// the pool and, for replacements, on the supervisor's.
    ///
    /// # Errors
    ///
    /// The process could not be started; the pool tries again later.
    fn start(&self, seat: Seat) -> std::result::Result<Arc<Child>, FaceError>;

    /// Starts up to `count` workers, each with a seat from `seats`, and says what became of them,
    /// in the order of their seats. After a failure it need not go on; if there was no seat, that
    /// is the last.
    ///
    /// For those who can start several for less: between two forks of a process each page that it
    /// writes to is copied again.
    fn start_all(
        &self,
        count: usize,
        seats: &mut dyn FnMut() -> Result<Seat>,
    ) -> Vec<std::result::Result<Arc<Child>, FaceError>> {
        let mut started = Vec::new();
        while started.len() < count && !started.last().is_some_and(std::result::Result::is_err) {
            started.push(match seats() {
                Ok(seat) => self.start(seat),
                Err(error) => Err(error.into()),
            });
        }
        started
    }

    /// A worker has ended and been waited for.
    fn ended(&self, child: &Child) {
        let _ = child;
    }

    /// Nothing is left of the pool. The last call, on the supervisor's thread, before
    /// [`RawPool::join`] returns.
    fn over(&self) {}
}

/// What a pool is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many workers; at least 1.
    pub workers: usize,
    /// Replace a worker after so many tasks.
    pub max_tasks_per_worker: Option<u64>,
}

/// A batch of items from a [`Source`].
pub struct Batch {
    /// How many items; at least 1.
    pub items: usize,
    /// Their encoding, or the face's own error, which becomes the task's outcome.
    pub body: std::result::Result<Box<dyn Encoded>, Box<dyn Any + Send>>,
}

/// Bytes ready to be sent.
pub trait Encoded: Send {
    /// Calls `f` once with the bytes.
    fn visit(&self, f: &mut dyn FnMut(&Payload<'_>));
}

/// Where the items of a job come from. It is asked by whichever thread finds room for them: one
/// that waits for any job of the pool, or the supervisor. It may use the pool; it should not wait
/// for what callbacks do, which would run on the supervisor's thread.
pub trait Source: Send {
    /// The next batch of at most `limit` items; `None` when there are no more.
    fn next(&mut self, limit: usize) -> Option<Batch>;

    /// How many items are left.
    fn remaining(&self) -> usize;
}

/// Why a task has neither a result nor an exception of its own.
#[derive(Clone, Debug)]
pub enum Lost {
    /// The worker died while it ran the task.
    Died(Death),
    /// The pool was terminated first.
    Terminated,
    /// It was cancelled before a worker had it.
    Cancelled,
    /// The pool cannot go on.
    Failed(Arc<str>),
}

/// The death of a worker in the middle of a task.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    /// The worker's process id.
    pub pid: u32,
    /// How it ended.
    pub status: ExitStatus,
    /// The item that it was at, counted from 0 over the whole job; for a call, which of the
    /// pool's calls it was.
    pub item: u64,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Died(Death { pid, status, item }) => {
                write!(f, "worker {pid} died while it ran task {item}: {status}")
            }
            Self::Terminated => f.write_str("the pool was terminated before the task ended"),
            Self::Cancelled => f.write_str("the task was cancelled"),
            Self::Failed(reason) => write!(f, "the pool has failed: {reason}"),
        }
    }
}

/// A pool of worker processes that moves opaque bytes: the faces stand on it.
pub struct RawPool {
    inner: Arc<Inner>,
}

impl RawPool {
    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// The settings are wrong, or a worker could not be started; those that were are ended.
    pub fn new(settings: Settings, spawner: impl Spawner) -> std::result::Result<Self, FaceError> {
        let workers = settings.workers;
        Self::with_staff(settings, spawner, workers)
    }

    /// A pool without workers. [`Self::grow`] starts them, one by one.
    ///
    /// # Errors
    ///
    /// The settings are wrong, or the system has no shared memory or thread to give.
    pub fn on_demand(
        settings: Settings,
        spawner: impl Spawner,
    ) -> std::result::Result<Self, FaceError> {
        Self::with_staff(settings, spawner, 0)
    }

    fn with_staff(
        settings: Settings,
        spawner: impl Spawner,
        wanted: usize,
    ) -> std::result::Result<Self, FaceError> {
        if settings.workers == 0 {
            return Err(Error::misuse("Number of processes must be at least 1").into());
        }
        let inner = Arc::new(Inner::new(settings, Box::new(spawner), wanted)?);
        let pool = Self { inner };
        let hired = pool.inner.hire_all();
        if hired.is_err() {
            pool.inner.terminate();
        }
        // Also after a failure: it sees to those that were started.
        supervisor::start(&pool.inner)?;
        hired.map(|()| pool)
    }

    /// The function with this encoding, under the number that workers know it by.
    ///
    /// # Errors
    ///
    /// The pool belongs to another process.
    pub fn function(&self, body: &[u8]) -> Result<Arc<Function>> {
        self.function_of(&Payload { body: &[body], ..Payload::default() })
    }

    /// As [`Self::function`], for an encoding that may have buffers, and name descriptors. These
    /// are kept open as long as somebody has the function.
    ///
    /// A large one is copied to memory that all workers share. If it comes again, that costs a
    /// comparison of the bytes.
    ///
    /// # Errors
    ///
    /// As [`Self::function`]; or there is no memory for a large one.
    pub fn function_of(&self, payload: &Payload<'_>) -> Result<Arc<Function>> {
        self.inner.check_process()?;
        self.inner.function(payload)
    }

    /// Opens a job to which tasks are given one by one.
    ///
    /// # Errors
    ///
    /// The pool does not run ([`Error::is_misuse`]) or belongs to another process.
    pub fn open(&self, function: Arc<Function>, options: JobOptions) -> Result<JobHandle> {
        self.inner.check_running()?;
        let job = Arc::new(Job::new(&function, None, true, options));
        self.inner.open(&job);
        Ok(JobHandle { job, inner: Arc::clone(&self.inner) })
    }

    /// Starts a job of one task.
    ///
    /// # Errors
    ///
    /// As [`Self::open`]; or the payload cannot be sent.
    pub fn call(
        &self,
        function: Arc<Function>,
        payload: &Payload<'_>,
        options: JobOptions,
    ) -> Result<JobHandle> {
        self.inner.check_running()?;
        let job = Arc::new(Job::new(&function, None, false, options));
        self.inner.call(&job, payload)?;
        Ok(JobHandle { job, inner: Arc::clone(&self.inner) })
    }

    /// Makes a job over all that `source` has. It goes on while somebody waits for it, and after
    /// [`JobHandle::start`] by itself.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn submit(
        &self,
        function: Arc<Function>,
        source: Box<dyn Source>,
        options: JobOptions,
    ) -> Result<JobHandle> {
        self.inner.check_running()?;
        let job = Arc::new(Job::new(&function, Some(source), false, options));
        self.inner.add_source(&job);
        Ok(JobHandle { job, inner: Arc::clone(&self.inner) })
    }

    /// Starts one more worker if there is none for the next task, and fewer than the settings say.
    ///
    /// # Errors
    ///
    /// The worker could not be started, and there is no other; or the pool belongs to another
    /// process.
    pub fn grow(&self) -> std::result::Result<(), FaceError> {
        self.inner.check_process()?;
        self.inner.grow()
    }

    /// Whether the pool has failed: its workers cannot work.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.inner.check_process().is_ok() && self.inner.has_failed()
    }

    /// Cancels every task that waits for a worker to have time. Those for which a worker starts
    /// just now stay, and those of a [`Source`].
    ///
    /// # Errors
    ///
    /// The pool belongs to another process.
    pub fn cancel_waiting(&self) -> Result<()> {
        self.inner.check_process()?;
        self.inner.cancel_waiting();
        Ok(())
    }

    /// As [`Self::terminate`], but only tells the workers to leave; the caller ends those that do
    /// not.
    ///
    /// # Errors
    ///
    /// The pool belongs to another process.
    pub fn abandon(&self) -> Result<()> {
        self.inner.check_process()?;
        self.inner.abandon();
        Ok(())
    }

    /// No more jobs; the workers leave when the last task has ended.
    ///
    /// # Errors
    ///
    /// The pool belongs to another process.
    pub fn close(&self) -> Result<()> {
        self.inner.check_process()?;
        self.inner.close();
        Ok(())
    }

    /// Ends the workers now and settles every task that has no outcome yet.
    ///
    /// # Errors
    ///
    /// The pool belongs to another process.
    pub fn terminate(&self) -> Result<()> {
        self.inner.check_process()?;
        self.inner.terminate();
        Ok(())
    }

    /// Waits until all workers have gone, after a close or a terminate.
    ///
    /// # Errors
    ///
    /// The deadline has passed or a signal arrived; call again.
    pub fn join(&self, deadline: Option<Instant>) -> Result<()> {
        self.inner.check_process()?;
        self.inner.wait(deadline, None, || self.inner.has_ended())
    }

    /// How many bytes were put where the present workers read them: tasks, and functions. A
    /// function that all workers share counts once.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        if self.inner.check_process().is_err() {
            return 0;
        }
        let state = self.inner.lock();
        let sent = state.members().map(|member| member.end.bytes_sent());
        sent.sum::<u64>() + state.functions.written()
    }

    /// The workers' process ids; none in a fork of the pool's process.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        if self.inner.check_process().is_err() {
            return Vec::new();
        }
        self.inner.lock().members().map(|member| member.child.pid()).collect()
    }
}

impl fmt::Debug for RawPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawPool").field("pids", &self.pids()).finish_non_exhaustive()
    }
}

impl Drop for RawPool {
    fn drop(&mut self) {
        if self.inner.check_process().is_ok() && !self.inner.has_ended() {
            self.inner.terminate();
        }
    }
}

/// The caller's hold on a job.
pub struct JobHandle {
    job: Arc<Job>,
    inner: Arc<Inner>,
}

impl JobHandle {
    /// Has the supervisor ask the job's source, if nobody waits for the pool meanwhile.
    pub fn start(&self) {
        self.inner.hall.back().ring();
    }

    /// Adds a task to a job made by [`RawPool::open`].
    ///
    /// # Errors
    ///
    /// The pool was terminated or has failed meanwhile, or the payload cannot be sent.
    pub fn push(&self, payload: &Payload<'_>) -> Result<()> {
        self.inner.check_process()?;
        self.inner.push(&self.job, payload)
    }

    /// Settles the job's next task with the face's own error: its input could not be had.
    pub fn push_error(&self, error: Box<dyn Any + Send>) {
        if self.inner.check_process().is_err() {
            return;
        }
        self.inner.push_error(&self.job, error);
    }

    /// Says that a job made by [`RawPool::open`] gets no more tasks. So does a drop of the handle.
    pub fn end(&self) {
        if self.job.open && self.inner.check_process().is_ok() {
            self.inner.end_input(&self.job);
        }
    }

    /// Cancels a call that waits for a worker; false if it is too late for that.
    #[must_use]
    pub fn cancel(&self) -> bool {
        self.inner.check_process().is_ok() && self.inner.cancel(&self.job)
    }

    /// Whether a call was cancelled, and this outcome has not been taken.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.inner.check_process().is_ok() && self.job.is_cancelled()
    }

    /// Whether a worker has the task of a call, or had it.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.job.is_sent()
    }

    /// Gives the job its callback, unless it has or had one; false if the job is complete.
    #[must_use]
    pub fn on_complete(&self, callback: Callback) -> bool {
        self.inner.check_process().is_ok() && self.inner.arm(&self.job, callback)
    }

    /// Whether every task of the job has its outcome and the callback has run.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        if !self.job.is_complete() && self.inner.check_process().is_ok() {
            // Nobody is told of a result as long as nobody waits and its worker has more to do.
            self.inner.look();
        }
        self.job.is_complete()
    }

    /// Waits until the job is complete.
    ///
    /// # Errors
    ///
    /// The deadline has passed or a signal arrived; call again.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<()> {
        if self.job.is_complete() {
            return Ok(());
        }
        self.inner.check_process()?;
        self.inner.wait(deadline, Some(&self.job), || self.job.is_complete())
    }

    /// Waits until an outcome can be taken; false if the job is complete and all were taken.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    pub fn wait_settled(&self, deadline: Option<Instant>) -> Result<bool> {
        self.inner.check_process()?;
        let settled = || self.job.has_settled();
        // Another thread may take what this one was woken for.
        while !settled() && !self.job.is_complete() {
            let ready = || settled() || self.job.is_complete();
            self.inner.wait(deadline, Some(&self.job), ready)?;
        }
        Ok(settled())
    }

    /// Waits until fewer than `limit` tasks of the job are without outcome.
    ///
    /// # Errors
    ///
    /// As [`Self::wait`].
    pub fn wait_room(&self, limit: u64, deadline: Option<Instant>) -> Result<()> {
        self.inner.check_process()?;
        self.inner.wait(deadline, Some(&self.job), || self.job.unsettled() < limit)
    }

    /// Takes the outcome that arrived first and was not taken yet.
    #[must_use]
    pub fn take(&self) -> Option<Settled> {
        // In a fork the job's lock may never be given back.
        self.inner.check_process().ok()?;
        self.job.take_settled()
    }

    /// Takes all outcomes not taken yet, in the order of the tasks.
    #[must_use]
    pub fn take_all(&self) -> Vec<Settled> {
        if self.inner.check_process().is_err() {
            return Vec::new();
        }
        self.job.take_all()
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for JobHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle")
            .field("complete", &self.job.is_complete())
            .finish_non_exhaustive()
    }
}

/// Work that a worker is given ahead, in time: while it does that, the parent can attend.
const AHEAD: Duration = Duration::from_millis(3);

/// The work that one task of a self-sizing [`Source`] should hold.
const BATCH: Duration = Duration::from_millis(1);
