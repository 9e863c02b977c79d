//! A worker as the parent sees it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::job::Job;
use crate::channel::link::ParentEnd;
use crate::channel::{Head, Kind, Message, OwnedPayload, Payload};
use crate::memory::Descriptor;
use crate::process::Child;
use crate::process::watch::Watch;
use crate::{Error, Result};

/// A task on its way: made, and without outcome.
#[derive(Clone)]
pub(super) struct Unit {
    pub(super) job: Arc<Job>,
    pub(super) index: u64,
    pub(super) items: usize,
    pub(super) first_item: u64,
    /// Its number among its worker's tasks; 0 before it has a worker.
    pub(super) number: u64,
    /// How many workers have ended by themselves when they should have started it.
    pub(super) refusals: u32,
    /// What goes with its payload, once that is in its worker's ring.
    pub(super) descriptors: Vec<Descriptor>,
}

impl Unit {
    /// Makes the next task of a job, if it takes more.
    pub(super) fn next(job: &Arc<Job>, items: usize) -> Option<Self> {
        let (index, first_item) = job.make_task(items)?;
        let (job, descriptors) = (Arc::clone(job), Vec::new());
        Some(Self { job, index, items, first_item, number: 0, refusals: 0, descriptors })
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
    /// Tasks were taken back from it, and perhaps it has not seen that yet.
    stuck: bool,
    /// The oldest task when it was last looked at, and since when it is that.
    oldest: (u64, Instant),
    /// There was no room for a task, and nothing has come from any worker since then.
    pub(super) blocked: bool,
    /// Its tasks without outcome, in the order in which it runs them.
    pub(super) units: VecDeque<Unit>,
    known: HashSet<u32>,
    /// How many tasks it was given, and how many it may get.
    last: u64,
    taken_back: u64,
    most: u64,
    _watch: Watch,
}

impl Member {
    pub(super) fn new(
        end: ParentEnd,
        child: Arc<Child>,
        serial: u64,
        most: u64,
        watch: Watch,
    ) -> Self {
        Self {
            end,
            child,
            serial,
            ready: false,
            leaving: false,
            stuck: false,
            oldest: (0, Instant::now()),
            blocked: false,
            units: VecDeque::new(),
            known: HashSet::new(),
            last: 0,
            taken_back: 0,
            most,
            _watch: watch,
        }
    }

    /// Whether it has been given all the tasks that it may get.
    pub(super) fn is_spent(&self) -> bool {
        self.last - self.taken_back >= self.most
    }

    /// Since when it has been at its oldest task, as far as these looks have seen it.
    pub(super) fn at_oldest_since(&mut self, now: Instant) -> Option<Instant> {
        let oldest = self.units.front()?.number;
        if self.oldest.0 != oldest {
            self.oldest = (oldest, now);
        }
        Some(self.oldest.1)
    }

    /// Takes back the tasks that it has not started. After an error it may skip tasks that nobody
    /// else has.
    pub(super) fn take_back(&mut self) -> Result<Vec<(Unit, OwnedPayload)>> {
        let Some(payloads) = self.end.take_back(self.last)? else { return Ok(Vec::new()) };
        self.stuck = true;
        let mut payloads = payloads.into();
        let units = std::mem::take(&mut self.units);
        let (units, unstarted) = part(units, &mut payloads);
        self.units = units.into();
        self.taken_back += unstarted.len() as u64;
        Ok(unstarted)
    }

    /// Whether it has tasks that another worker might do before it.
    pub(super) fn has_more(&self) -> bool {
        self.units.len() > 1 && !self.is_stuck()
    }

    /// Whether it can be given one more task when it should have fewer than `window`.
    pub(super) fn is_open(&self, window: usize) -> bool {
        self.ready
            && !self.leaving
            && !self.blocked
            && !self.is_stuck()
            && self.units.len() < window
            && !self.is_spent()
    }

    /// Whether it is at a long task, or has not run for long: then it gets no more.
    fn is_stuck(&self) -> bool {
        self.stuck && !self.end.has_settled_claims()
    }

    /// Whether it has nothing to do and could be given a task.
    pub(super) fn is_idle(&self) -> bool {
        self.is_open(1)
    }

    /// Sends a task; gives it back if there is no room now, or if the worker is gone.
    pub(super) fn send(
        &mut self,
        mut unit: Unit,
        payload: &Payload<'_>,
    ) -> Result<std::result::Result<(), Unit>> {
        if self.try_send(&unit, payload)? {
            self.last += 1;
            unit.number = self.last;
            unit.job.set_sent(true);
            unit.descriptors = payload.descriptors.to_vec();
            self.units.push_back(unit);
            self.stuck = false;
            return Ok(Ok(()));
        }
        self.blocked = true;
        Ok(Err(unit))
    }

    fn try_send(&mut self, unit: &Unit, payload: &Payload<'_>) -> Result<bool> {
        match self.send_records(unit, payload) {
            // The worker has died and the supervisor does not know yet.
            Err(error) if error.is_closed() => Ok(false),
            sent => sent,
        }
    }

    fn send_records(&mut self, unit: &Unit, payload: &Payload<'_>) -> Result<bool> {
        let job = &unit.job;
        if !self.known.contains(&job.function) && !self.define(job)? {
            return Ok(false);
        }
        let head = Head {
            tag: job.tag,
            urgent: job.urgent,
            function: job.function,
            task: self.last + 1,
            value: job.number,
            ..Head::new(Kind::Task)
        };
        self.end.send(head, payload)
    }

    /// Makes a job's function known to the worker; false if there is no room now.
    fn define(&mut self, job: &Job) -> Result<bool> {
        let function = job.function().ok_or_else(|| Error::misuse("the job has ended"))?;
        let sent = function.define(|head, payload| self.end.send(head, payload))?;
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
        let mut payloads = self.end.unstarted().unwrap_or_default().into();
        part(std::mem::take(&mut self.units), &mut payloads)
    }
}

/// Parts tasks into those without one of these payloads and those with one. Both are in order;
/// there may be payloads of other tasks.
fn part(
    units: VecDeque<Unit>,
    payloads: &mut VecDeque<(Head, OwnedPayload)>,
) -> (Vec<Unit>, Vec<(Unit, OwnedPayload)>) {
    let (mut started, mut unstarted) = (Vec::new(), Vec::new());
    for mut unit in units {
        while payloads.front().is_some_and(|(head, _)| head.task < unit.number) {
            payloads.pop_front();
        }
        let mine = payloads.front().is_some_and(|(head, _)| head.task == unit.number);
        match if mine { payloads.pop_front() } else { None } {
            Some((_, payload)) => {
                unit.job.set_sent(false);
                let descriptors = std::mem::take(&mut unit.descriptors);
                unstarted.push((unit, payload.with_descriptors(descriptors)));
            }
            None => started.push(unit),
        }
    }
    (started, unstarted)
}
