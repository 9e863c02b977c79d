//! A worker as the parent sees it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::functions::Function;
use super::job::Job;
use crate::Result;
use crate::channel::link::ParentEnd;
use crate::channel::{Head, Kind, Message, OwnedPayload, Payload};
use crate::process::Child;
use crate::process::watch::Watch;

/// A task on its way: made, and without outcome.
pub(super) struct Unit {
    pub(super) job: Arc<Job>,
    pub(super) index: u64,
    pub(super) items: usize,
    pub(super) first_item: u64,
    /// Its number among its worker's tasks; 0 before it has a worker.
    pub(super) number: u64,
}

impl Unit {
    /// Makes the next task of a job.
    pub(super) fn next(job: &Arc<Job>, items: usize) -> Self {
        let (index, first_item) = job.make_task(items);
        Self { job: Arc::clone(job), index, items, first_item, number: 0 }
    }
}

/// A worker process and its link.
pub(super) struct Member {
    pub(super) end: ParentEnd,
    pub(super) child: Arc<Child>,
    /// Tells workers apart that had the same place one after the other.
    pub(super) serial: u64,
    /// It has said that it takes tasks.
    pub(super) ready: bool,
    /// It was told to leave.
    pub(super) leaving: bool,
    /// Its tasks without outcome, in the order in which it runs them.
    pub(super) units: VecDeque<Unit>,
    known: HashSet<u32>,
    last: u64,
    _watch: Watch,
}

impl Member {
    pub(super) fn new(end: ParentEnd, child: Arc<Child>, serial: u64, watch: Watch) -> Self {
        Self {
            end,
            child,
            serial,
            ready: false,
            leaving: false,
            units: VecDeque::new(),
            known: HashSet::new(),
            last: 0,
            _watch: watch,
        }
    }

    /// How many tasks it was given in all.
    pub(super) fn given(&self) -> u64 {
        self.last
    }

    /// Sends a task; gives it back if there is no room now.
    pub(super) fn send(
        &mut self,
        mut unit: Unit,
        payload: &Payload<'_>,
    ) -> Result<std::result::Result<(), Unit>> {
        let job = Arc::clone(&unit.job);
        if !self.define(&job.function)? {
            return Ok(Err(unit));
        }
        let head = Head {
            tag: job.tag,
            urgent: job.urgent,
            function: job.function.number,
            task: self.last + 1,
            value: job.number,
            ..Head::new(Kind::Task)
        };
        if !self.end.send(head, payload)? {
            return Ok(Err(unit));
        }
        self.last += 1;
        unit.number = self.last;
        self.units.push_back(unit);
        Ok(Ok(()))
    }

    /// Makes the function known to the worker; false if there is no room now.
    fn define(&mut self, function: &Function) -> Result<bool> {
        if self.known.contains(&function.number) {
            return Ok(true);
        }
        let head = Head { function: function.number, ..Head::new(Kind::Define) };
        let sent = self.end.send(head, &Payload { body: &[&function.body], buffers: &[] })?;
        if sent {
            self.known.insert(function.number);
        }
        Ok(sent)
    }

    /// Tells the worker that a function will not come again. If there is no room it keeps it.
    pub(super) fn forget(&mut self, function: u32) {
        if self.known.remove(&function) {
            let head = Head { function, ..Head::new(Kind::Forget) };
            // An error here is the same as no room: the worker keeps a function too many.
            let _ = self.end.send(head, &Payload::default());
        }
    }

    /// Tells the worker to leave after what it was given.
    pub(super) fn dismiss(&mut self) {
        if !self.leaving {
            self.leaving =
                matches!(self.end.send(Head::new(Kind::Exit), &Payload::default()), Ok(true));
        }
    }

    /// The unit that a reply is about: the oldest, if the reply names it.
    pub(super) fn take_unit(&mut self, reply: &Message) -> Option<Unit> {
        let named = self.units.front().is_some_and(|unit| unit.number == reply.head.task);
        if named { self.units.pop_front() } else { None }
    }

    /// Parts the tasks of a dead worker into those that it had started and those that it had
    /// not, with their payloads.
    pub(super) fn part_units(&mut self) -> (Vec<Unit>, Vec<(Unit, OwnedPayload)>) {
        let mut payloads: VecDeque<_> = self.end.unstarted().unwrap_or_default().into();
        let mut started = Vec::new();
        let mut unstarted = Vec::new();
        for unit in self.units.drain(..) {
            match payloads.front() {
                Some((head, _)) if head.task == unit.number => {
                    let (_, payload) = payloads.pop_front().unwrap_or_else(|| unreachable!());
                    unstarted.push((unit, payload));
                }
                _ => started.push(unit),
            }
        }
        (started, unstarted)
    }
}
