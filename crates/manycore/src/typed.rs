//! The typed face: plain functions over serde types.

mod shared;
mod sharing;

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::channel::{Message, OwnedPayload, Payload};
use crate::pool::{
    Batch, Encoded, FaceError, JobOptions, Lost, Order, Outcome, RawPool, Seat, Settings, Source,
    Spawner, Task, Worker,
};
use crate::process::{
    Child, Command, ForkServer, Forked, Served, exit_at_once, fork, lifeline, serve,
};
use crate::{Error, Result};

pub use shared::Shared;

/// How the worker processes of a [`Pool`] come to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartMethod {
    /// A copy of this process. The fastest; wrong if other threads may hold locks that the
    /// function needs.
    Fork,
    /// This program started anew; its `main` has to call [`init`] first thing.
    #[default]
    Spawn,
    /// A copy of a process that was started anew and does nothing else; needs [`init`] as well.
    ForkServer,
}

/// Makes a [`Pool`].
#[derive(Clone, Debug)]
pub struct Builder {
    workers: usize,
    method: StartMethod,
    args: Vec<OsString>,
    max_tasks: Option<u64>,
}

impl Builder {
    /// How many workers; one for each processor that this process may use by default.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// How the workers come to be.
    #[must_use]
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = method;
        self
    }

    /// The arguments with which this program is started for a worker (none by default).
    #[must_use]
    pub fn worker_args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Replaces each worker after so many tasks.
    #[must_use]
    pub fn max_tasks_per_worker(mut self, tasks: u64) -> Self {
        self.max_tasks = Some(tasks);
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    ///
    /// There are to be no workers, or one could not be started.
    pub fn build(self) -> std::result::Result<Pool, FaceError> {
        let settings = Settings { workers: self.workers, max_tasks_per_worker: self.max_tasks };
        let spawner = Starter::new(self.method, self.args)?;
        Ok(Pool { raw: RawPool::new(settings, spawner)? })
    }
}

/// Worker processes that run plain functions.
///
/// Inputs and results are copied, but for a [`Block`](crate::memory::Block), which is the same
/// memory at both ends, a [`Descriptor`](crate::memory::Descriptor), which is the same open file, and
/// a [`Shared`] value, of which each process has one.
///
/// ```no_run
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///     manycore::init(); // in a worker, this is where it works and ends
///     let pool = manycore::Pool::builder().workers(2).build()?;
///     assert_eq!(pool.map(square, 1..4)?, [1, 4, 9]);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Pool {
    raw: RawPool,
}

impl Pool {
    /// A pool to be made.
    #[must_use]
    pub fn builder() -> Builder {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Builder { workers, method: StartMethod::default(), args: Vec::new(), max_tasks: None }
    }

    /// Calls `function` for every input in the workers; the results in the order of the inputs.
    ///
    /// # Errors
    ///
    /// The first input, in their order, whose call did not return: it panicked, its worker died,
    /// or its values could not be encoded. All others have run by then.
    pub fn map<A, R>(
        &self,
        function: fn(A) -> R,
        inputs: impl IntoIterator<Item = A>,
    ) -> std::result::Result<Vec<R>, TaskError>
    where
        A: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + 'static,
    {
        let inputs: Vec<A> = inputs.into_iter().collect();
        let mut results = Vec::with_capacity(inputs.len());
        let source = Box::new(Inputs { items: inputs.into_iter() });
        let function = self.raw.function(&Call::new(function).encode())?;
        let job = self.raw.submit(function, source, JobOptions::default())?;
        while let Err(error) = job.wait(None) {
            if !error.is_interrupted() {
                return Err(error.into());
            }
        }
        for settled in job.take_all() {
            let part: Vec<R> = decode(&returned(settled.outcome)?)?;
            results.extend(part);
        }
        Ok(results)
    }

    /// The workers' process ids.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.raw.pids()
    }
}

/// Why a call in a worker gave no result.
#[derive(Debug)]
pub enum TaskError {
    /// The function panicked, with this message.
    Panicked(String),
    /// The worker died, or the pool ended.
    Lost(Lost),
    /// A value could not be encoded or decoded.
    Encoding(String),
    /// The engine failed.
    Engine(Error),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "the function panicked: {message}"),
            Self::Lost(lost) => lost.fmt(f),
            Self::Encoding(reason) => write!(f, "a value could not travel: {reason}"),
            Self::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TaskError {}

impl From<Error> for TaskError {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<postcard::Error> for TaskError {
    fn from(error: postcard::Error) -> Self {
        Self::Encoding(error.to_string())
    }
}

fn returned(outcome: Outcome) -> std::result::Result<Message, TaskError> {
    match outcome {
        Outcome::Returned(message) => Ok(message),
        Outcome::Raised(message) => Err(TaskError::Panicked(decode(&message)?)),
        Outcome::Lost(lost) => Err(TaskError::Lost(lost)),
        Outcome::Unsent(error) => Err(match error.downcast::<TaskError>() {
            Ok(error) => *error,
            Err(error) => match error.downcast::<Error>() {
                Ok(error) => TaskError::Engine(*error),
                Err(_) => TaskError::Encoding("unknown reason".to_owned()),
            },
        }),
        Outcome::Refused(message) => Err(TaskError::Panicked(decode(&message)?)),
    }
}

fn decode<T: DeserializeOwned>(message: &Message) -> std::result::Result<T, TaskError> {
    Ok(sharing::decode(message)?)
}

/// The inputs of a map, encoded as they are asked for.
struct Inputs<A> {
    items: std::vec::IntoIter<A>,
}

impl<A: Serialize + Send> Source for Inputs<A> {
    fn next(&mut self, limit: usize) -> Option<Batch> {
        let batch: Vec<A> = self.items.by_ref().take(limit).collect();
        if batch.is_empty() {
            return None;
        }
        let body: std::result::Result<Box<dyn Encoded>, Box<dyn std::any::Any + Send>> =
            match sharing::encode(&batch) {
                Ok(payload) => Ok(Box::new(payload)),
                Err(error) => Err(Box::new(TaskError::from(error))),
            };
        Some(Batch { items: batch.len(), body })
    }

    fn remaining(&self) -> usize {
        self.items.len()
    }
}

impl Encoded for OwnedPayload {
    fn visit(&self, f: &mut dyn FnMut(&Payload<'_>)) {
        self.with(|payload| f(payload));
    }
}

/// A function as it travels: two code addresses, counted from one place that every copy of this
/// program has. The same program is laid out the same way in each of its processes, wherever it is loaded.
#[derive(Clone, Copy)]
struct Call {
    runner: usize,
    function: usize,
}

type Runner = fn(usize, &Message, &Worker) -> std::result::Result<OwnedPayload, String>;

/// A static, since that has one address; a function may have one in each crate that uses it.
static ANCHOR: u8 = 0;

fn anchor() -> usize {
    (&raw const ANCHOR).addr()
}

impl Call {
    fn new<A, R>(function: fn(A) -> R) -> Self
    where
        A: DeserializeOwned + 'static,
        R: Serialize + 'static,
    {
        let runner: Runner = run::<A, R>;
        Self {
            runner: (runner as usize).wrapping_sub(anchor()),
            function: (function as usize).wrapping_sub(anchor()),
        }
    }

    fn encode(self) -> Vec<u8> {
        [self.runner.to_le_bytes(), self.function.to_le_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (runner, function) = bytes.split_at_checked(size_of::<usize>())?;
        let word = |bytes: &[u8]| bytes.try_into().ok().map(usize::from_le_bytes);
        Some(Self { runner: word(runner)?, function: word(function)? })
    }

    /// Runs the function on an encoded batch.
    fn run(self, batch: &Message, worker: &Worker) -> std::result::Result<OwnedPayload, String> {
        let address = self.runner.wrapping_add(anchor());
        // SAFETY: the parent made this number from a `Runner` of the program that this process
        // runs too: it is a fork of it, or was started from the same file.
        let runner: Runner = unsafe { std::mem::transmute::<usize, Runner>(address) };
        runner(self.function.wrapping_add(anchor()), batch, worker)
    }
}

fn run<A, R>(
    function: usize,
    batch: &Message,
    worker: &Worker,
) -> std::result::Result<OwnedPayload, String>
where
    A: DeserializeOwned,
    R: Serialize,
{
    // SAFETY: `Call::new` made the number from a function of this type, in the same program.
    let function: fn(A) -> R = unsafe { std::mem::transmute::<usize, fn(A) -> R>(function) };
    let inputs: Vec<A> = sharing::decode_and_keep(batch).map_err(|error| error.to_string())?;
    let mut results = Vec::with_capacity(inputs.len());
    let mut first_panic = None;
    for (item, input) in inputs.into_iter().enumerate() {
        worker.at_item(item as u32);
        match catch_unwind(AssertUnwindSafe(|| function(input))) {
            Ok(result) => results.push(result),
            // The others are to run all the same: which share a batch is nobody's business.
            Err(panic) => {
                first_panic.get_or_insert_with(|| panic_message(&*panic));
            }
        }
    }
    match first_panic {
        Some(message) => Err(message),
        None => sharing::encode(&results).map_err(|error| error.to_string()),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is no text".to_owned())
}

/// What a worker does for its whole life.
fn work(seat: Seat) -> Result<()> {
    let mut worker = Worker::new(seat)?;
    let mut functions = std::collections::HashMap::new();
    retry(|| worker.ready())?;
    loop {
        match worker.try_next()? {
            None => retry(|| worker.wait())?,
            Some(Order::Define { function, definition }) => {
                functions.insert(function, definition.open()?.body().to_vec());
            }
            Some(Order::Forget { function }) => drop(functions.remove(&function)),
            Some(Order::Run(task)) => {
                let function = functions.get(&task.function);
                let call = function.and_then(|bytes| Call::decode(bytes));
                let call = call.ok_or_else(|| Error::corrupt("the number of a function"))?;
                run_task(&mut worker, &task, call)?;
            }
            Some(Order::Exit) => return Ok(()),
        }
    }
}

fn run_task(worker: &mut Worker, task: &Task, call: Call) -> Result<()> {
    let (raised, payload) = match call.run(&task.body, worker) {
        Ok(payload) => (false, payload),
        Err(message) => (true, sharing::encode(&message).unwrap_or_default()),
    };
    let sent = payload.with(|payload| retry(|| worker.reply(task, raised, 0, payload)));
    sent.or_else(|error| {
        // No memory for a large result, most likely; there is room for the reason.
        let reason = postcard::to_stdvec(&error.to_string()).unwrap_or_default();
        retry(|| worker.reply(task, true, 0, &Payload { body: &[&reason], ..Payload::default() }))
    })
}

fn retry(mut call: impl FnMut() -> Result<()>) -> Result<()> {
    loop {
        match call() {
            Err(error) if error.is_interrupted() => {}
            result => return result,
        }
    }
}

/// The environment variable that tells a process of this program that it is a worker, and the
/// numbers of its descriptors: lifeline, then the seat's.
const SEAT: &str = "MANYCORE_RUST_SEAT";

/// The same for a fork server: lifeline, control.
const SERVER: &str = "MANYCORE_RUST_FORK_SERVER";

/// To be called first thing in `main` by programs that use [`StartMethod::Spawn`] or
/// [`StartMethod::ForkServer`]: in a process that was started as a worker it does the work and
/// never returns; in any other it does nothing.
pub fn init() {
    if let Some([line, link, socket, hall]) = inherited(SEAT) {
        end_with(watch(&line).and_then(|()| work(Seat::from_fds([link, socket, hall]))));
    }
    if let Some([line, control]) = inherited(SERVER) {
        end_with(watch(&line).and_then(|()| serve_forks(control)));
    }
}

/// Takes over the descriptors whose numbers the variable holds.
fn inherited<const N: usize>(variable: &str) -> Option<[OwnedFd; N]> {
    let numbers = std::env::var(variable).ok()?;
    // SAFETY: this is the beginning of `main`; no other thread runs that could look at the
    // environment. The variable must not reach the programs that this one starts.
    unsafe { std::env::remove_var(variable) };
    let numbers: Vec<RawFd> = numbers.split(',').filter_map(|word| word.parse().ok()).collect();
    let numbers: [RawFd; N] = numbers.try_into().ok()?;
    // SAFETY: the process that started this one left these descriptors open for it, and nobody
    // else here knows their numbers.
    Some(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}

fn watch(line: &OwnedFd) -> Result<()> {
    use std::os::fd::AsFd;
    lifeline::watch(line.as_fd(), Duration::ZERO)
}

fn serve_forks(control: OwnedFd) -> Result<()> {
    // SAFETY: this process has one thread, and the copy only works and ends.
    match unsafe { serve(control, &mut || fork()) }? {
        Served::Ended => Ok(()),
        Served::Child { fds, .. } => {
            let fds: [OwnedFd; 4] =
                fds.try_into().map_err(|_| Error::corrupt("the seat of a worker"))?;
            let [line, link, socket, hall] = fds;
            watch(&line)?;
            work(Seat::from_fds([link, socket, hall]))
        }
    }
}

fn end_with(result: Result<()>) -> ! {
    if let Err(error) = &result {
        eprintln!("manycore worker: {error}");
    }
    exit_at_once(i32::from(result.is_err()))
}

/// Starts workers by one of the three methods.
enum Starter {
    Fork,
    Spawn { args: Vec<OsString> },
    Server(ForkServer),
}

impl Starter {
    fn new(method: StartMethod, args: Vec<OsString>) -> Result<Self> {
        match method {
            StartMethod::Fork => Ok(Self::Fork),
            StartMethod::Spawn => Ok(Self::Spawn { args }),
            StartMethod::ForkServer => start_server(&args).map(Self::Server),
        }
    }
}

fn start_server(args: &[OsString]) -> Result<ForkServer> {
    let line = lifeline::line()?;
    ForkServer::start(|control| {
        let mut command = Command::new("/proc/self/exe");
        command.args(args.iter().cloned());
        command.env(SERVER, format!("{},{control}", line.as_raw_fd()));
        command
    })
}

impl Spawner for Starter {
    fn start(&self, seat: Seat) -> std::result::Result<Arc<Child>, FaceError> {
        let line = lifeline::line()?;
        let child = match self {
            Self::Fork => start_by_fork(seat, line)?,
            Self::Spawn { args } => start_anew(&seat, line, args)?,
            Self::Server(server) => {
                let [link, socket, hall] = seat.fds();
                server.fork(&[], &[line, link, socket, hall])?
            }
        };
        Ok(Arc::new(child))
    }
}

fn start_by_fork(seat: Seat, line: BorrowedFd<'_>) -> Result<Child> {
    // SAFETY: the copy works and ends; that the functions it runs keep away from other threads'
    // locks is what `StartMethod::Fork` asks of its user.
    match unsafe { fork() }? {
        Forked::Parent(child) => Ok(child),
        Forked::Child => end_with(lifeline::watch(line, Duration::ZERO).and_then(|()| work(seat))),
    }
}

fn start_anew(seat: &Seat, line: BorrowedFd<'_>, args: &[OsString]) -> Result<Child> {
    let [link, socket, hall] = seat.fds();
    let numbers = [line, link, socket, hall].map(|fd| fd.as_raw_fd().to_string());
    let mut command = Command::new("/proc/self/exe");
    command.args(args.iter().cloned()).env(SEAT, numbers.join(","));
    command.fd(line).fd(link).fd(socket).fd(hall);
    command.spawn()
}
