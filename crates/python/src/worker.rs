//! The life of a pool worker.

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;

use manycore::channel::Payload;
use manycore::pool::{Definition, Order, Seat, Task, Worker};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::error::EngineError;
use crate::pickle::Pickled;
use crate::scalar::{ListWriter, Reader, Steps};
use crate::unchecked::{call, call_one, take_fd, view_bytes};
use crate::{by_value, pickle, shared};

/// How a task's payload is to be understood.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `(args, kwds)`: one call.
    Call,
    /// `args`: one call without keywords.
    Args,
    /// `x`: one call with one argument.
    Item,
    /// A sequence: a call for each `x`; the result is a list.
    Map,
    /// A sequence of argument tuples; the result is a list.
    Starmap,
}

/// Set in a tag if the function is known by its name only, so that unpickling it once is enough.
/// Any other function may have state, and each job starts with that of its call.
pub(crate) const BY_NAME: u8 = 0x80;

impl Mode {
    pub(crate) fn from_tag(tag: u8) -> Self {
        match tag & !BY_NAME {
            0 => Self::Call,
            1 => Self::Item,
            2 => Self::Map,
            3 => Self::Starmap,
            _ => Self::Args,
        }
    }

    pub(crate) fn to_tag(self) -> u8 {
        match self {
            Self::Call => 0,
            Self::Item => 1,
            Self::Map => 2,
            Self::Starmap => 3,
            Self::Args => 4,
        }
    }
}

/// Works until the pool sends this process home.
///
/// `prepare` is called first; what it raises fails the pool. `report(exception)` turns an
/// exception into what the parent gets for it, and `unsendable(error, result)` makes the
/// exception for a result that cannot be pickled.
#[pyfunction]
pub(crate) fn serve_pool(
    py: Python<'_>,
    fds: [RawFd; 3],
    prepare: &Bound<'_, PyAny>,
    report: &Bound<'_, PyAny>,
    unsendable: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let [link, socket, hall] = fds;
    let fds = [take_fd(link)?, take_fd(socket)?, take_fd(hall)?];
    let worker = Worker::new(Seat::from_fds(fds)).map_err(EngineError)?;
    let hooks = Hooks { report, unsendable };
    let mut serving = Serving { worker, functions: HashMap::new(), large: VecDeque::new(), hooks };
    if let Err(error) = prepare.call0() {
        return serving.refuse(py, error);
    }
    serving.ready(py)?;
    serving.serve(py)
}

struct Hooks<'a, 'py> {
    report: &'a Bound<'py, PyAny>,
    unsendable: &'a Bound<'py, PyAny>,
}

struct Serving<'a, 'py> {
    worker: Worker,
    functions: HashMap<u32, Function>,
    /// The large functions of which there is an object, the one that was made last at the end.
    large: VecDeque<u32>,
    hooks: Hooks<'a, 'py>,
}

/// A function as it came, and as an object once it was needed.
struct Function {
    definition: Definition,
    object: Option<(u64, Py<PyAny>)>,
}

/// So many objects of large functions are kept: calls of two may take turns.
const LARGE_OBJECTS: usize = 2;

impl Function {
    /// The object, if it is there and as fresh as the task needs it.
    fn known(&self, py: Python<'_>, task: &Task) -> Option<Py<PyAny>> {
        let (job, object) = self.object.as_ref()?;
        let fits = *job == task.job || task.body.tag() & BY_NAME != 0;
        fits.then(|| object.clone_ref(py))
    }

    fn make(&mut self, py: Python<'_>, task: &Task) -> PyResult<Py<PyAny>> {
        // That of the call before goes first: both may be large.
        self.object = None;
        let message = self.definition.open().map_err(EngineError)?;
        let object = shared::in_partial(pickle::load_and_keep(py, &message)?.into_bound(py))?;
        let object = object.unbind();
        self.object = Some((task.job, object.clone_ref(py)));
        Ok(object)
    }
}

impl<'py> Serving<'_, 'py> {
    fn serve(&mut self, py: Python<'py>) -> PyResult<()> {
        loop {
            match self.worker.try_next().map_err(EngineError)? {
                None => self.wait(py)?,
                Some(Order::Define { function, definition }) => {
                    self.functions.insert(function, Function { definition, object: None });
                }
                Some(Order::Forget { function }) => drop(self.functions.remove(&function)),
                Some(Order::Run(task)) => self.run(py, &task)?,
                Some(Order::Exit) => return Ok(()),
            }
        }
    }

    /// Waits for an order. Ctrl-C is the parent's business: here, between two tasks, it is
    /// nothing, and in a task it is that task's exception.
    fn wait(&mut self, py: Python<'_>) -> PyResult<()> {
        match py.detach(|| self.worker.wait()) {
            Err(error) if error.is_interrupted() => ignore_keyboard_interrupt(py),
            result => Ok(result.map_err(EngineError)?),
        }
    }

    fn ready(&mut self, py: Python<'_>) -> PyResult<()> {
        until_done(py, || self.worker.ready())
    }

    fn refuse(&mut self, py: Python<'py>, error: PyErr) -> PyResult<()> {
        let report = self.report(error, py)?;
        let payload = Payload { body: &[report.as_bytes()], ..Payload::default() };
        until_done(py, || self.worker.refuse(&payload))
    }

    fn run(&mut self, py: Python<'py>, task: &Task) -> PyResult<()> {
        let outcome = self.call(py, task).and_then(|pickled| {
            until_done(py, || pickled.with(|payload| self.worker.reply(task, false, 0, payload)))
        });
        match outcome {
            // There was no memory for a large result, but there is some for the reason.
            Err(error) => self.raise(py, task, error),
            Ok(()) => Ok(()),
        }
    }

    fn raise(&mut self, py: Python<'py>, task: &Task, error: PyErr) -> PyResult<()> {
        let report = self.report(error, py)?;
        let payload = Payload { body: &[report.as_bytes()], ..Payload::default() };
        until_done(py, || self.worker.reply(task, true, 0, &payload))
    }

    fn function(&mut self, py: Python<'py>, task: &Task) -> PyResult<Py<PyAny>> {
        let function = self.functions.get_mut(&task.function);
        let function = function.ok_or_else(|| {
            pyo3::exceptions::PyRuntimeError::new_err("the pool sent no function for the task")
        })?;
        if let Some(known) = function.known(py, task) {
            return Ok(known);
        }
        let object = function.make(py, task)?;
        if function.definition.is_large() {
            self.note_large(task.function);
        }
        Ok(object)
    }

    /// Lets go of objects that jobs before have left: each may have written to all its memory.
    fn note_large(&mut self, number: u32) {
        self.large.retain(|other| *other != number);
        self.large.push_back(number);
        if self.large.len() > LARGE_OBJECTS
            && let Some(oldest) = self.large.pop_front()
            && let Some(function) = self.functions.get_mut(&oldest)
        {
            function.object = None;
        }
    }

    /// Does a task; gives the pickle of what it comes to.
    fn call(&mut self, py: Python<'py>, task: &Task) -> PyResult<Pickled> {
        let function = self.function(py, task)?.into_bound(py);
        match Mode::from_tag(task.body.tag()) {
            Mode::Map => {
                self.call_each(py, task, |item| call_one(&function, &shared::object(item)?))
            }
            Mode::Starmap => self.call_each(py, task, |item| call_star(&function, item)),
            mode => {
                let argument = pickle::load_and_keep(py, &task.body)?.into_bound(py);
                self.encode(&call_once(&function, mode, argument)?)
            }
        }
    }

    /// Calls the function for each item of a batch.
    fn call_each(
        &self,
        py: Python<'py>,
        task: &Task,
        call: impl Fn(Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Pickled> {
        let body = task.body.body();
        if task.body.buffers().len() == 0 {
            let bytes = view_bytes(&body);
            if let Some(numbers) = Steps::of(py, bytes) {
                return self.call_all(py, numbers, call);
            }
            if let Some(items) = Reader::of(py, bytes) {
                return self.call_all(py, items, call);
            }
        }
        let items = pickle::load_and_keep(py, &task.body)?.into_bound(py);
        self.call_all(py, items.try_iter()?, call)
    }

    fn call_all(
        &self,
        py: Python<'py>,
        items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>,
        call: impl Fn(Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Pickled> {
        let mut results = Results::Plain(ListWriter::new(Vec::new()));
        for (number, item) in items.enumerate() {
            self.worker.at_item(number as u32);
            results.push(py, call(item?)?)?;
        }
        match results {
            Results::Plain(list) => Ok(list.finish().into()),
            Results::List(list) => self.encode(list.as_any()),
        }
    }

    fn encode(&self, result: &Bound<'py, PyAny>) -> PyResult<Pickled> {
        by_value::dump_result(result).or_else(|error| {
            let error = error.into_value(result.py());
            Err(PyErr::from_value(self.hooks.unsendable.call1((error, result))?))
        })
    }

    fn report(&self, error: PyErr, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(self.hooks.report.call1((error.into_value(py),))?.cast_into::<PyBytes>()?)
    }
}

/// The results of a batch, in the cheapest form that has taken them so far.
enum Results<'py> {
    /// Written as they come: nothing of them is kept.
    Plain(ListWriter<'py>),
    List(Bound<'py, PyList>),
}

impl<'py> Results<'py> {
    #[inline]
    fn push(&mut self, py: Python<'py>, result: Bound<'py, PyAny>) -> PyResult<()> {
        let taken = match self {
            Self::Plain(list) => list.push(&result),
            Self::List(list) => return list.append(result),
        };
        if taken { Ok(()) } else { self.push_other(py, result) }
    }

    /// Takes a result that is not plain.
    #[cold]
    fn push_other(&mut self, py: Python<'py>, result: Bound<'py, PyAny>) -> PyResult<()> {
        let list = match std::mem::replace(self, Self::List(PyList::empty(py))) {
            Self::Plain(list) => list.into_list(py)?,
            Self::List(list) => list,
        };
        list.append(result)?;
        *self = Self::List(list);
        Ok(())
    }
}

/// Calls a function once.
fn call_once<'py>(
    function: &Bound<'py, PyAny>,
    mode: Mode,
    argument: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    match mode {
        Mode::Item => call_one(function, &shared::object(argument)?),
        Mode::Args => function.call1(shared::in_tuple(argument.cast_into::<PyTuple>()?)?),
        _ => {
            let (args, kwds): (Bound<'_, PyTuple>, Bound<'_, PyDict>) = argument.extract()?;
            function.call(shared::in_tuple(args)?, Some(&shared::in_dict(kwds)?))
        }
    }
}

/// Calls a function with what an argument has.
fn call_star<'py>(
    function: &Bound<'py, PyAny>,
    argument: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    match argument.cast_into_exact::<PyTuple>() {
        Ok(arguments) => function.call1(shared::in_tuple(arguments)?),
        Err(other) => {
            let arguments = other.into_inner().try_iter()?.map(|item| shared::object(item?));
            call(function, &arguments.collect::<PyResult<Vec<_>>>()?)
        }
    }
}

/// Repeats a call of the engine that signals interrupt, and runs Python's handlers in between.
fn until_done(
    py: Python<'_>,
    mut call: impl FnMut() -> manycore::Result<()> + Send,
) -> PyResult<()> {
    loop {
        match py.detach(&mut call) {
            Err(error) if error.is_interrupted() => ignore_keyboard_interrupt(py)?,
            result => return Ok(result.map_err(EngineError)?),
        }
    }
}

fn ignore_keyboard_interrupt(py: Python<'_>) -> PyResult<()> {
    match py.check_signals() {
        Err(error) if error.is_instance_of::<PyKeyboardInterrupt>(py) => Ok(()),
        result => result,
    }
}

/// Whether pickle knows this function by its name only.
pub(crate) fn is_by_name(function: &Bound<'_, PyAny>) -> bool {
    let py = function.py();
    let class = function.get_type();
    let named = |name| class.name().is_ok_and(|class| class == name);
    if named("function") || named("type") {
        return true;
    }
    // A builtin is bound to its module; anything else is a method of an object.
    named("builtin_function_or_method")
        && function
            .getattr(intern!(py, "__self__"))
            .is_ok_and(|owner| owner.get_type().name().is_ok_and(|class| class == "module"))
}
