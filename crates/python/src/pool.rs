//! The parent's side of a pool: jobs in, results out.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use manycore::channel::{Message, Payload};
use manycore::pool::{
    Batch, Encoded, FaceError, Function, JobHandle, JobOptions, Lost, Outcome, RawPool, Seat,
    Settings, Settled, Source, Spawner,
};
use manycore::process::{self, Forked};
use pyo3::exceptions::{PyBaseException, PyException, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::{MutexExt, OnceLockExt, PyOnceLock};
use pyo3::types::{PyDict, PyList, PyRange, PySlice, PyTuple};

use crate::arguments::{Args, Kwds};
use crate::by_value::Peer;
use crate::error::{
    EngineError, PoolBroken, ProcessError, TimeoutError, WorkerDied, deadline, wait,
};
use crate::pickle::{self, Pickled};
use crate::process::Child;
use crate::scalar::{self, Reader};
use crate::unchecked::{self, view_bytes};
use crate::worker::{BY_NAME, Mode, is_by_name};

/// A pool's engine. The Python class has the API; this has the work.
#[pyclass(frozen, module = "manycore._engine", name = "Pool")]
pub(crate) struct Pool {
    raw: RawPool,
    /// The workers, as those who read what is pickled.
    peer: Peer,
    /// The function of the last call, if pickle knows it by its name: it need not be pickled
    /// again to know what it is.
    last: Mutex<Option<(Py<PyAny>, Arc<Function>)>>,
}

/// Starts workers through a Python object: see `Staff` in the stub file.
struct Staff {
    staff: Py<PyAny>,
}

type Started = Result<Arc<process::Child>, FaceError>;
type Seats<'a> = &'a mut dyn FnMut() -> manycore::Result<Seat>;

/// The numbers by which a worker finds its seat.
fn numbers(seat: &Seat) -> [RawFd; 3] {
    seat.fds().map(|fd| fd.as_raw_fd())
}

impl Staff {
    /// Starts some workers in whatever way the staff does.
    fn start_some(&self, py: Python<'_>, count: usize, seats: Seats<'_>) -> PyResult<Vec<Started>> {
        let batch = self.staff.bind(py).call_method1(intern!(py, "prepare"), (count,))?;
        if batch.call_method0(intern!(py, "prepare_forks"))?.is_truthy()? {
            return fork_all(&batch, count, seats);
        }
        let seats = (0..count).map(|_| seats()).collect::<Result<Vec<_>, _>>();
        let seats = seats.map_err(EngineError)?;
        let fds: Vec<_> = seats.iter().map(numbers).collect();
        let started = batch.call_method1(intern!(py, "start"), (fds,))?;
        started.try_iter()?.map(|one| Ok(child_or_error(&one?))).collect()
    }
}

/// Forks one worker right after the other. Whatever this process touches after a fork is copied, so
/// no Python runs in between but what others have registered for a fork.
fn fork_all(batch: &Bound<'_, PyAny>, count: usize, seats: Seats<'_>) -> PyResult<Vec<Started>> {
    let py = batch.py();
    let mut children = Vec::new();
    let mut failure: Option<PyErr> = None;
    while children.len() < count && failure.is_none() {
        match seats().and_then(|seat| Ok((unchecked::fork(py)?, seat))) {
            Ok((Forked::Parent(child), _)) => children.push(Child::new(child)),
            Ok((Forked::Child, seat)) => become_worker(batch, children.len(), &seat),
            Err(error) => failure = Some(EngineError(error).into()),
        }
    }
    let running: Vec<_> = children.iter().map(Child::share).collect();
    let started = batch.call_method1(intern!(py, "forked"), (children,));
    let started = started.inspect_err(|_| py.detach(|| discard(&running)))?;
    let failure = failure.map(|error| Err(error.into()));
    started.try_iter()?.map(|one| Ok(child_or_error(&one?))).chain(failure.map(Ok)).collect()
}

/// Ends workers that nobody has taken note of: Ctrl-C has come, as early as in the first of the
/// forks, and is an exception in the first Python code after them.
fn discard(children: &[Arc<process::Child>]) {
    for child in children {
        // What cannot be ended has ended.
        let _ = child.signal(process::SIGKILL);
        while child.wait(None).is_err_and(|error| error.is_interrupted()) {}
    }
}

/// In a forked child. The seat is open as long as the worker is there.
fn become_worker(batch: &Bound<'_, PyAny>, number: usize, seat: &Seat) -> ! {
    let py = batch.py();
    if let Err(error) = batch.call_method1(intern!(py, "become"), (number, numbers(seat))) {
        error.print(py);
    }
    process::exit_at_once(1)
}

fn child_or_error(one: &Bound<'_, PyAny>) -> Started {
    match one.cast::<Child>() {
        Ok(child) => Ok(child.get().share()),
        Err(_) => Err(PyErr::from_value(one.clone()).into()),
    }
}

impl Spawner for Staff {
    fn start(&self, seat: Seat) -> Started {
        let mut seat = Some(seat);
        let mut take = || Ok(seat.take().expect("one worker has one seat"));
        self.start_all(1, &mut take).pop().unwrap_or_else(|| Err("no worker was started".into()))
    }

    fn start_all(&self, count: usize, seats: Seats<'_>) -> Vec<Started> {
        let started = Python::try_attach(|py| self.start_some(py, count, seats));
        match started {
            None => vec![Err("the interpreter is shutting down".into())],
            Some(Err(error)) => vec![Err(error.into())],
            Some(Ok(started)) => started,
        }
    }

    fn ended(&self, child: &process::Child) {
        // Without an interpreter there is nobody left to tell.
        let _ = Python::try_attach(|py| {
            let result = self.staff.call_method1(py, intern!(py, "ended"), (child.pid(),));
            if let Err(error) = result {
                error.write_unraisable(py, Some(self.staff.bind(py)));
            }
        });
    }

    fn over(&self) {
        let _ = Python::try_attach(|py| {
            if let Err(error) = self.staff.call_method0(py, intern!(py, "over")) {
                error.write_unraisable(py, Some(self.staff.bind(py)));
            }
        });
    }
}

#[pymethods]
impl Pool {
    #[new]
    #[pyo3(signature = (staff, processes, max_tasks_per_worker, peer, on_demand=false))]
    fn new(
        staff: Py<PyAny>,
        processes: usize,
        max_tasks_per_worker: Option<u64>,
        peer: Py<PyAny>,
        on_demand: bool,
    ) -> PyResult<Self> {
        let settings = Settings { workers: processes, max_tasks_per_worker };
        let make = if on_demand { RawPool::on_demand } else { RawPool::new };
        // Workers are started by Python code on this thread: the GIL stays with it.
        let raw = make(settings, Staff { staff }).map_err(face_error)?;
        Ok(Self { raw, peer: Peer::new(peer), last: Mutex::new(None) })
    }

    /// Calls the function in a worker and waits for the result.
    fn apply(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        args: Args<'_>,
        kwds: Kwds<'_>,
    ) -> PyResult<Py<PyAny>> {
        let handle = self.send_call(function, &args.0, &kwds.0, JobOptions::default());
        let handle = handle.map_err(Unsent::into_error)?;
        wait(py, None, |deadline| handle.wait(deadline))?;
        let mut interrupt = None;
        let value = one_value(py, handle.take(), &mut interrupt);
        interrupt.map_or(value, Err)
    }

    /// Starts one call. `callback` is called when it has its outcome.
    fn call(
        &self,
        function: &Bound<'_, PyAny>,
        args: Args<'_>,
        kwds: Kwds<'_>,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<Job> {
        let options = JobOptions { callback: callback.map(run_callback), ..JobOptions::default() };
        self.start_call(function, &args.0, &kwds.0, options)
    }

    /// Starts one call for an executor, whose futures are looked at in their own time.
    fn call_soon(
        &self,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwds: &Bound<'_, PyDict>,
    ) -> PyResult<Job> {
        self.raw.grow().map_err(face_error)?;
        let options = JobOptions { urgent: true, ..JobOptions::default() };
        self.start_call(function, args, kwds, options)
    }

    /// Cancels all calls that wait for a worker to have time.
    fn cancel_waiting(&self) -> PyResult<()> {
        Ok(self.raw.cancel_waiting().map_err(EngineError)?)
    }

    /// Settles everything and tells the workers to leave.
    fn abandon(&self) -> PyResult<()> {
        Ok(self.raw.abandon().map_err(EngineError)?)
    }

    /// Whether the workers cannot work.
    fn has_failed(&self) -> bool {
        self.raw.has_failed()
    }

    /// Starts a job over a sequence: with `mode` "map", "starmap" or "item".
    fn submit(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        items: Py<PyAny>,
        mode: &str,
        chunk: Option<usize>,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<Job> {
        let mode = parse_mode(mode)?;
        let (function, tag) = match self.function(function, mode) {
            Ok(function) => function,
            Err(error) => {
                let callback = callback.map(run_callback);
                let options = JobOptions { callback, ..JobOptions::default() };
                return Ok(Job::new(py, self.fail(error, options)?, false, self));
            }
        };
        let len = items.bind(py).len()?;
        let peer = self.peer.share(py);
        let lists = mode != Mode::Item;
        let source = Box::new(Sequence { items, position: 0, len, mode, peer });
        let callback = callback.map(run_callback);
        let options = JobOptions { callback, chunk, tag, ..JobOptions::default() };
        let handle = py.detach(|| self.raw.submit(function, source, options));
        let mut job = Job::new(py, handle.map_err(EngineError)?, lists, self);
        job.gathered = lists.then(|| Mutex::new(Gathered::new(len)));
        Ok(job)
    }

    /// Opens a job to which items are pushed one by one.
    fn open(&self, function: &Bound<'_, PyAny>, mode: &str) -> PyResult<Job> {
        let (py, mode) = (function.py(), parse_mode(mode)?);
        let (function, tag) = self.function(function, mode)?;
        let options = JobOptions { tag, ..JobOptions::default() };
        let handle = self.raw.open(function, options).map_err(EngineError)?;
        Ok(Job::new(py, handle, mode != Mode::Item, self))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        Ok(py.detach(|| self.raw.close()).map_err(EngineError)?)
    }

    /// Ends the workers, and waits until the pool's own thread has done with Python: after this
    /// the interpreter may go.
    fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.raw.terminate()).map_err(EngineError)?;
        wait(py, None, |deadline| match self.raw.join(deadline) {
            // In a callback this is that thread itself.
            Err(error) if error.is_misuse() => Ok(()),
            result => result,
        })
        .map(drop)
    }

    /// Waits at most `timeout` seconds for the end; whether it has come.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let ended = wait(py, deadline(timeout)?, |deadline| self.raw.join(deadline))?;
        Ok(ended.is_some())
    }

    fn pids(&self) -> Vec<u32> {
        self.raw.pids()
    }

    /// How many bytes the present workers were sent, as tasks and functions.
    fn bytes_sent(&self) -> u64 {
        self.raw.bytes_sent()
    }

    /// The last function may know this pool, and so may what the workers are known to have.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.peer.traverse(&visit)?;
        match self.last.try_lock().ok().as_deref() {
            Some(Some((function, _))) => visit.call(function),
            _ => Ok(()),
        }
    }
}

impl Pool {
    fn function(&self, function: &Bound<'_, PyAny>, mode: Mode) -> PyResult<(Arc<Function>, u8)> {
        if let Some(known) = self.last_function(function) {
            return Ok((known, mode.to_tag() | BY_NAME));
        }
        let (pickled, by_reference) = self.peer.dump_once(function)?;
        let by_name = by_reference && is_by_name(function);
        let interned = self.intern(function.py(), &pickled).map_err(EngineError)?;
        if by_name {
            let last = (function.clone().unbind(), Arc::clone(&interned));
            // What was there is dropped after the lock: that may run Python code.
            let _before = self.lock_last().replace(last);
        }
        Ok((interned, mode.to_tag() | if by_name { BY_NAME } else { 0 }))
    }

    fn intern(&self, py: Python<'_>, pickled: &Pickled) -> manycore::Result<Arc<Function>> {
        pickled.with_detached(py, |payload| self.raw.function_of(payload))
    }

    fn last_function(&self, function: &Bound<'_, PyAny>) -> Option<Arc<Function>> {
        let last = self.lock_last();
        last.as_ref().filter(|(known, _)| known.is(function)).map(|(_, known)| Arc::clone(known))
    }

    fn lock_last(&self) -> MutexGuard<'_, Option<(Py<PyAny>, Arc<Function>)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_call(
        &self,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwds: &Bound<'_, PyDict>,
        options: JobOptions,
    ) -> PyResult<Job> {
        let handle = match self.send_call(function, args, kwds, options) {
            Err(Unsent::Pickle(error, options)) => self.fail(error, options)?,
            Err(Unsent::Engine(error)) => return Err(error),
            Ok(handle) => handle,
        };
        Ok(Job::new(function.py(), handle, false, self))
    }

    fn send_call(
        &self,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        kwds: &Bound<'_, PyDict>,
        options: JobOptions,
    ) -> Result<JobHandle, Unsent> {
        let py = function.py();
        let mode = if kwds.is_empty() { Mode::Args } else { Mode::Call };
        let pickled = self.function(function, mode).and_then(|(function, tag)| {
            let pickled = match mode {
                Mode::Args => self.peer.dump(args),
                _ => self.peer.dump(PyTuple::new(py, [args.as_any(), kwds.as_any()])?.as_any()),
            };
            Ok((function, tag, pickled?))
        });
        let (function, tag, pickled) = match pickled {
            Ok(pickled) => pickled,
            Err(error) => return Err(Unsent::Pickle(error, options)),
        };
        let options = JobOptions { tag, ..options };
        let call = |payload: &Payload<'_>| self.raw.call(function, payload, options);
        let called = pickled.with_detached(py, call);
        called.map_err(|error| Unsent::Engine(EngineError(error).into()))
    }

    /// A job whose outcome is that it could not be sent.
    fn fail(&self, error: PyErr, options: JobOptions) -> PyResult<JobHandle> {
        let function = self.raw.function(&[]).map_err(EngineError)?;
        let handle = self.raw.open(function, options).map_err(EngineError)?;
        handle.push_error(Box::new(error));
        handle.end();
        Ok(handle)
    }
}

/// Why a call was not sent.
enum Unsent {
    /// Function or arguments cannot be pickled: that is the call's outcome.
    Pickle(PyErr, JobOptions),
    Engine(PyErr),
}

impl Unsent {
    fn into_error(self) -> PyErr {
        match self {
            Self::Pickle(error, _) | Self::Engine(error) => error,
        }
    }
}

fn parse_mode(mode: &str) -> PyResult<Mode> {
    match mode {
        "item" => Ok(Mode::Item),
        "map" => Ok(Mode::Map),
        "starmap" => Ok(Mode::Starmap),
        _ => Err(pyo3::exceptions::PyValueError::new_err("mode must be item, map or starmap")),
    }
}

fn face_error(error: FaceError) -> PyErr {
    match error.downcast::<PyErr>() {
        Ok(error) => *error,
        Err(error) => match error.downcast::<manycore::Error>() {
            Ok(error) => EngineError(*error).into(),
            Err(error) => ProcessError::new_err(error.to_string()),
        },
    }
}

fn run_callback(callback: Py<PyAny>) -> Box<dyn FnOnce() + Send> {
    Box::new(move || {
        let _ = Python::try_attach(|py| {
            if let Err(error) = callback.call0(py) {
                error.write_unraisable(py, Some(callback.bind(py)));
            }
            drop(callback);
        });
    })
}

/// A list, tuple or range as the source of a job.
struct Sequence {
    items: Py<PyAny>,
    position: usize,
    len: usize,
    mode: Mode,
    peer: Peer,
}

impl Sequence {
    fn encode(&self, py: Python<'_>, to: usize) -> PyResult<Pickled> {
        let items = self.items.bind(py);
        if self.mode == Mode::Item {
            return self.peer.dump(&items.get_item(self.position)?);
        }
        if let Some(bytes) = dump_plain(items, self.position..to) {
            return Ok(bytes.into());
        }
        let part = PySlice::new(py, self.position as isize, to as isize, 1);
        self.peer.dump(&items.get_item(part)?)
    }
}

/// Pickles a part of a sequence without a pickler, if what is in it is plain.
fn dump_plain(items: &Bound<'_, PyAny>, part: Range<usize>) -> Option<Vec<u8>> {
    if let Ok(range) = items.cast_exact::<PyRange>() {
        return scalar::dump_range(range, part);
    }
    if let Ok(tuple) = items.cast_exact::<PyTuple>() {
        return scalar::dump_list(part.map(|at| tuple.get_item(at)));
    }
    let list = items.cast_exact::<PyList>().ok()?;
    scalar::dump_list(part.map(|at| list.get_item(at)))
}

impl Source for Sequence {
    fn next(&mut self, limit: usize) -> Option<Batch> {
        let to = self.len.min(self.position + limit);
        let items = to - self.position;
        if items == 0 {
            return None;
        }
        let body = Python::try_attach(|py| self.encode(py, to))?;
        self.position = to;
        let body: Result<Box<dyn Encoded>, Box<dyn Any + Send>> = match body {
            Ok(pickled) => Ok(Box::new(pickled)),
            Err(error) => Err(Box::new(error)),
        };
        Some(Batch { items, body })
    }

    fn remaining(&self) -> usize {
        self.len - self.position
    }
}

/// One call of the user: its tasks and their outcomes.
#[pyclass(frozen, module = "manycore._engine")]
pub(crate) struct Job {
    handle: JobHandle,
    peer: Peer,
    /// A task is a batch of items, and its result is a list.
    lists: bool,
    /// The results of a job over a sequence, whose value is a list.
    gathered: Option<Mutex<Gathered>>,
    value: OnceLock<Value>,
    iteration: Mutex<Iteration>,
}

/// What a job has come to.
enum Value {
    Returned(Py<PyAny>),
    Raised(Py<PyBaseException>),
}

/// The results of a job over a sequence, as far as they have come.
struct Gathered {
    len: usize,
    /// One place for each item; `None` before the first result.
    list: Option<Py<PyList>>,
    /// The error of the first task that has one, and which that is.
    error: Option<(u64, Py<PyBaseException>)>,
}

impl Gathered {
    fn new(len: usize) -> Self {
        Self { len, list: None, error: None }
    }

    /// Takes all outcomes that are there.
    fn take_in(
        &mut self,
        py: Python<'_>,
        handle: &JobHandle,
        interrupt: &mut Option<PyErr>,
    ) -> PyResult<()> {
        while let Some(settled) = handle.take() {
            let index = settled.index;
            let list = self.list(py)?;
            if let Err(error) = put(&list, settled, interrupt)
                && self.error.as_ref().is_none_or(|(first, _)| index < *first)
            {
                self.error = Some((index, error.into_value(py)));
            }
        }
        Ok(())
    }

    fn list<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        if let Some(list) = &self.list {
            return Ok(list.bind(py).clone());
        }
        // Never with empty places: the collector shows every list to those who ask.
        let list = PyList::new(py, [py.None()])?.as_sequence().repeat(self.len)?;
        let list = list.cast_into::<PyList>()?;
        self.list = Some(list.clone().unbind());
        Ok(list)
    }

    fn value(&mut self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let list = self.list(py)?;
        // With an error, too: nobody will ask for the other results.
        self.list = None;
        match self.error.take() {
            Some((_, error)) => Err(PyErr::from_value(error.into_bound(py).into_any())),
            None => Ok(list.into_any().unbind()),
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.list)?;
        visit.call(self.error.as_ref().map(|(_, error)| error))
    }
}

/// Puts the results of a task into their places in the list of all.
fn put(list: &Bound<'_, PyList>, settled: Settled, interrupt: &mut Option<PyErr>) -> PyResult<()> {
    let (py, first) = (list.py(), settled.first_item as usize);
    if let Outcome::Returned(message) = &settled.outcome
        && message.buffers().len() == 0
        && let Some(results) = Reader::of(py, view_bytes(&message.body()))
    {
        for (at, result) in (first..).zip(results) {
            list.set_item(at, result?)?;
        }
        return Ok(());
    }
    let results = value_of(py, settled.outcome, interrupt)?;
    list.set_slice(first, first + settled.items, results.bind(py))
}

/// How far an iterator over the outcomes has come.
#[derive(Default)]
struct Iteration {
    next: u64,
    early: BTreeMap<u64, Settled>,
}

#[pymethods]
impl Job {
    /// Whether the outcome is there.
    fn ready(&self) -> bool {
        self.handle.is_complete()
    }

    /// Waits at most `timeout` seconds; whether the outcome is there.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = deadline(timeout)?;
        match &self.gathered {
            Some(gathered) => self.wait_gathering(py, gathered, deadline),
            None => Ok(wait(py, deadline, |end| self.handle.wait(end))?.is_some()),
        }
    }

    /// Cancels a call that waits for a worker; whether it did.
    fn cancel(&self) -> bool {
        self.handle.cancel()
    }

    /// Whether a call was cancelled, and the value was not asked for.
    fn is_cancelled(&self) -> bool {
        self.handle.is_cancelled()
    }

    /// Whether a worker has the call, or had it.
    fn is_sent(&self) -> bool {
        self.handle.is_sent()
    }

    /// Has `callback` called when the job has its outcome; false if it has it already.
    fn on_complete(&self, callback: Py<PyAny>) -> bool {
        self.handle.on_complete(run_callback(callback))
    }

    /// Has the job go on when nobody waits for it.
    fn start(&self) {
        self.handle.start();
    }

    /// The value of a job that is ready; raises its exception. It may also raise what a signal
    /// does meanwhile, see [`Self::has_raised`].
    fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut interrupt = None;
        let value =
            self.value.get_or_init_py_attached(py, || match self.decode(py, &mut interrupt) {
                Ok(value) => Value::Returned(value),
                Err(error) => Value::Raised(error.into_value(py)),
            });
        if let Some(interrupt) = interrupt {
            return Err(interrupt);
        }
        match value {
            Value::Returned(value) => Ok(value.clone_ref(py)),
            Value::Raised(error) => Err(PyErr::from_value(error.bind(py).clone().into_any())),
        }
    }

    /// Whether this exception is what the job came to.
    fn has_raised(&self, error: &Bound<'_, PyAny>) -> bool {
        matches!(self.value.get(), Some(Value::Raised(own)) if own.is(error))
    }

    /// An exception knows the frames that it passed, and one of them has this job.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.peer.traverse(&visit)?;
        if let Some(Ok(gathered)) = self.gathered.as_ref().map(Mutex::try_lock) {
            gathered.traverse(&visit)?;
        }
        match self.value.get() {
            Some(Value::Returned(value)) => visit.call(value),
            Some(Value::Raised(error)) => visit.call(error),
            None => Ok(()),
        }
    }

    /// The next outcome's value: in the order of the tasks, or of their ends.
    fn next(&self, py: Python<'_>, timeout: Option<f64>, ordered: bool) -> PyResult<Py<PyAny>> {
        let deadline = deadline(timeout)?;
        loop {
            if let Some(settled) = self.try_next(ordered) {
                let mut interrupt = None;
                let value = value_of(py, settled.outcome, &mut interrupt);
                return interrupt.map_or(value, Err);
            }
            match wait(py, deadline, |deadline| self.handle.wait_settled(deadline))? {
                Some(true) => {}
                Some(false) => return Err(PyStopIteration::new_err(())),
                None => return Err(TimeoutError::new_err(())),
            }
        }
    }

    /// Pickles one more item and sends it; waits while too many are without outcome.
    fn push(&self, py: Python<'_>, item: &Bound<'_, PyAny>, limit: u64) -> PyResult<()> {
        match self.encode(item) {
            Err(error) => self.handle.push_error(Box::new(error)),
            Ok(pickled) => match pickled.with_detached(py, |payload| self.handle.push(payload)) {
                Err(error) if error.is_out_of_memory() => self.handle.push_error(Box::new(error)),
                pushed => pushed.map_err(EngineError)?,
            },
        }
        wait(py, None, |deadline| self.handle.wait_room(limit, deadline)).map(drop)
    }

    /// The input could not be had: that is the next item's outcome.
    fn push_error(&self, error: Bound<'_, PyAny>) {
        self.handle.push_error(Box::new(PyErr::from_value(error)));
    }

    /// No more items come.
    fn end(&self, py: Python<'_>) {
        py.detach(|| self.handle.end());
    }
}

impl Job {
    /// `lists`: a task is a batch of items, and its result is a list.
    fn new(py: Python<'_>, handle: JobHandle, lists: bool, pool: &Pool) -> Self {
        Self {
            handle,
            peer: pool.peer.share(py),
            lists,
            gathered: None,
            value: OnceLock::new(),
            iteration: Mutex::default(),
        }
    }

    /// Pickles a task that is pushed.
    fn encode(&self, item: &Bound<'_, PyAny>) -> PyResult<Pickled> {
        if self.lists
            && let Some(bytes) = dump_plain(item, 0..item.len()?)
        {
            return Ok(bytes.into());
        }
        self.peer.dump(item)
    }

    fn decode(&self, py: Python<'_>, interrupt: &mut Option<PyErr>) -> PyResult<Py<PyAny>> {
        let Some(gathered) = &self.gathered else {
            return one_value(py, self.handle.take(), interrupt);
        };
        let mut gathered = gathered.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner);
        gathered.take_in(py, &self.handle, interrupt)?;
        gathered.value(py)
    }

    /// Waits for a job whose results are gathered in a list, and unpickles them as they come:
    /// the workers go on meanwhile.
    fn wait_gathering(
        &self,
        py: Python<'_>,
        gathered: &Mutex<Gathered>,
        deadline: Option<Instant>,
    ) -> PyResult<bool> {
        while let Some(more) = wait(py, deadline, |end| self.handle.wait_settled(end))? {
            if !more {
                return Ok(true);
            }
            // Another thread gathers them, or this one does already, and runs a signal's handler.
            let Ok(mut gathered) = gathered.try_lock() else {
                return Ok(wait(py, deadline, |end| self.handle.wait(end))?.is_some());
            };
            let mut interrupt = None;
            gathered.take_in(py, &self.handle, &mut interrupt)?;
            if let Some(interrupt) = interrupt {
                return Err(interrupt);
            }
        }
        Ok(false)
    }

    fn try_next(&self, ordered: bool) -> Option<Settled> {
        if !ordered {
            return self.handle.take();
        }
        let mut iteration = self.iteration.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(settled) = self.handle.take() {
            iteration.early.insert(settled.index, settled);
        }
        let next = iteration.next;
        let settled = iteration.early.remove(&next)?;
        iteration.next += 1;
        Some(settled)
    }
}

fn one_value(
    py: Python<'_>,
    settled: Option<Settled>,
    interrupt: &mut Option<PyErr>,
) -> PyResult<Py<PyAny>> {
    match settled {
        Some(settled) => value_of(py, settled.outcome, interrupt),
        None => Err(ProcessError::new_err("the task has no outcome".to_owned())),
    }
}

/// What a task came to. If a signal raises meanwhile, that is an `interrupt`.
fn value_of(
    py: Python<'_>,
    outcome: Outcome,
    interrupt: &mut Option<PyErr>,
) -> PyResult<Py<PyAny>> {
    match outcome {
        Outcome::Returned(message) => load_once_more(py, &message, interrupt),
        Outcome::Raised(message) => Err(reported(py, load_once_more(py, &message, interrupt)?)?),
        Outcome::Refused(message) => Err(reported(py, pickle::load(py, &message)?)?),
        Outcome::Unsent(error) => Err(unsent(error)),
        Outcome::Lost(lost) => Err(lost_error(&lost)),
    }
}

/// Unpickles what arrived. A signal that comes meanwhile and raises, as Ctrl-C does, must not cost
/// the user a result: then it is done once more, and the interrupt is raised afterwards. The next
/// one wins, or a load without end could not be interrupted.
fn load_once_more(
    py: Python<'_>,
    message: &Message,
    interrupt: &mut Option<PyErr>,
) -> PyResult<Py<PyAny>> {
    match pickle::load(py, message) {
        Err(error) if interrupt.is_none() && !error.is_instance_of::<PyException>(py) => {
            *interrupt = Some(error);
            pickle::load(py, message)
        }
        loaded => loaded,
    }
}

/// The exception that a worker has reported.
fn reported(py: Python<'_>, report: Py<PyAny>) -> PyResult<PyErr> {
    static REBUILD: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let rebuild = REBUILD.import(py, "manycore._worker", "rebuild_exception")?;
    Ok(PyErr::from_value(rebuild.call1((report,))?))
}

fn unsent(error: Box<dyn Any + Send>) -> PyErr {
    match error.downcast::<PyErr>() {
        Ok(error) => *error,
        Err(error) => match error.downcast::<manycore::Error>() {
            Ok(error) => EngineError(*error).into(),
            Err(_) => ProcessError::new_err("the task could not be sent".to_owned()),
        },
    }
}

fn lost_error(lost: &Lost) -> PyErr {
    let Lost::Died(death) = lost else { return PoolBroken::new_err(lost.to_string()) };
    let exitcode = death.status.exitcode();
    WorkerDied::new_err((lost.to_string(), death.pid, exitcode, death.item))
}
