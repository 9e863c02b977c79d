//! The worker's side: take orders, send replies.

use std::time::{Duration, Instant};

use super::functions::Definition;
use crate::channel::link::{Seat, WorkerEnd};
use crate::channel::{Head, Kind, Message, Payload};
use crate::sync::LookOut;
use crate::sys::fork;
use crate::{Error, Result};

/// How long an idle worker looks for the next task before it sleeps. Waking a sleeper costs some
/// 20 to 30 µs, so that is about what a look-out may cost.
const LOOK_OUT: Duration = Duration::from_micros(60);

/// A worker process's end of its pool.
pub struct Worker {
    end: WorkerEnd,
    look_out: LookOut,
    /// Of the process that took the seat: a copy that a task forks must leave the rings alone.
    generation: u64,
}

/// What the pool wants from a worker.
#[derive(Debug)]
pub enum Order {
    /// Keep this function under its number.
    Define {
        /// The number by which tasks will name it.
        function: u32,
        /// What it is.
        definition: Definition,
    },
    /// No task will name this function any more.
    Forget {
        /// Its number.
        function: u32,
    },
    /// Run this and reply.
    Run(Task),
    /// Leave.
    Exit,
}

/// A task as the worker sees it.
#[derive(Debug)]
pub struct Task {
    /// What it runs on, as the face encoded it.
    pub body: Message,
    /// The number of the function to run.
    pub function: u32,
    /// Tells the jobs of the parent apart.
    pub job: u64,
    number: u64,
    urgent: bool,
    taken: Instant,
}

impl Worker {
    /// Takes the seat in this process.
    ///
    /// # Errors
    ///
    /// The descriptors are not those of a seat.
    pub fn new(seat: Seat) -> Result<Self> {
        let (end, look_out) = (WorkerEnd::new(seat)?, LookOut::new());
        Ok(Self { end, look_out, generation: fork::generation() })
    }

    /// Tells the pool that tasks can come.
    ///
    /// # Errors
    ///
    /// As [`Self::reply`].
    pub fn ready(&mut self) -> Result<()> {
        self.send(Head::new(Kind::Ready), &Payload::default())
    }

    /// Tells the pool that this worker cannot work, with the face's reason; the pool fails.
    ///
    /// # Errors
    ///
    /// As [`Self::reply`].
    pub fn refuse(&mut self, reason: &Payload<'_>) -> Result<()> {
        self.send(Head::new(Kind::Refused), reason)
    }

    /// The next order, if there is one. A task counts as started from here on.
    ///
    /// # Errors
    ///
    /// The ring does not hold what a pool writes; or this is a fork of the worker
    /// ([`Error::is_inherited`]), which should end.
    pub fn try_next(&mut self) -> Result<Option<Order>> {
        self.check_process()?;
        match self.end.receive()? {
            Some(message) => order(message).map(Some),
            None => Ok(None),
        }
    }

    /// Waits until there may be an order.
    ///
    /// # Errors
    ///
    /// A signal arrived ([`Error::is_interrupted`]).
    pub fn wait(&mut self) -> Result<()> {
        let end = &self.end;
        // The attendant may take a nap because this worker had enough to do.
        end.hall().front().ring();
        if self.look_out.until(LOOK_OUT, || end.has_message()) {
            return Ok(());
        }
        self.rest(|end| end.has_message())
    }

    /// Says which item of its task the worker is at, for the report of its death.
    pub fn at_item(&self, item: u32) {
        self.end.at_item(item);
    }

    /// Sends a task's result, or its exception if `raised`. Waits while there is no room.
    ///
    /// # Errors
    ///
    /// A signal arrived ([`Error::is_interrupted`]) before the reply was sent: reply again. Or
    /// the system is out of memory for a large reply.
    pub fn reply(&mut self, task: &Task, raised: bool, tag: u8, body: &Payload<'_>) -> Result<()> {
        let kind = if raised { Kind::Raised } else { Kind::Returned };
        let ran = u64::try_from(task.taken.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let head =
            Head { tag, task: task.number, value: ran, function: task.function, ..Head::new(kind) };
        self.send(head, body)?;
        if task.urgent && !self.end.hall().is_attended() {
            self.end.hall().back().ring();
        }
        Ok(())
    }

    fn check_process(&self) -> Result<()> {
        if self.generation == fork::generation() {
            return Ok(());
        }
        Err(Error::inherited("worker's seat", std::os::unix::process::parent_id()))
    }

    fn send(&mut self, head: Head, payload: &Payload<'_>) -> Result<()> {
        self.check_process()?;
        loop {
            let released = self.end.released();
            if self.end.send(head, payload)? {
                return Ok(());
            }
            self.rest(|end| end.released() != released)?;
        }
    }

    /// Sleeps until `ready`. Before that the supervisor is told if nobody else attends: this
    /// worker needs something from the parent.
    fn rest(&self, ready: impl Fn(&WorkerEnd) -> bool) -> Result<()> {
        let hall = self.end.hall();
        if !hall.is_attended() {
            hall.back().ring();
        }
        self.end.bell().park(|| ready(&self.end), None)
    }
}

fn order(message: Message) -> Result<Order> {
    let Head { kind, function, task, urgent, value, .. } = message.head;
    match kind {
        Kind::Define => Ok(Order::Define { function, definition: Definition::new(message)? }),
        Kind::Forget => Ok(Order::Forget { function }),
        Kind::Task => {
            let taken = Instant::now();
            Ok(Order::Run(Task {
                body: message,
                function,
                job: value,
                number: task,
                urgent,
                taken,
            }))
        }
        Kind::Exit => Ok(Order::Exit),
        _ => Err(Error::corrupt("an order to a worker")),
    }
}
