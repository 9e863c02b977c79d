//! Results in, tasks out: what any thread of the parent may do that holds the lock.

use std::sync::Arc;

use super::inner::{Inner, Phase, Queued, State};
use super::job::{Job, Outcome, Settled};
use super::member::Unit;
use super::{AHEAD, BATCH, Batch, Settings};
use crate::Result;
use crate::channel::{Kind, Message, Payload};
use crate::primitive::Ordering;
use crate::process::SIGKILL;

/// The most tasks that a worker is given ahead.
const MOST_AHEAD: u64 = 64;

/// The most that a self-sized batch grows from one to the next, and where it starts.
const FIRST_BATCH: usize = 8;

impl State {
    /// Takes in what the workers have sent; true if anything came.
    pub(super) fn collect(&mut self) -> bool {
        let mut came = false;
        for place in 0..self.places.len() {
            while let Some(message) = self.receive(place) {
                came = true;
                self.accept(place, message);
            }
        }
        came
    }

    fn receive(&mut self, place: usize) -> Option<Message> {
        let member = self.places[place].as_mut()?;
        match member.end.receive() {
            Ok(message) => message,
            Err(_) => {
                self.distrust(place);
                None
            }
        }
    }

    /// Ends a worker whose link holds nonsense; the supervisor does the rest when it is dead.
    fn distrust(&mut self, place: usize) {
        if let Some(member) = &self.places[place] {
            // It may have ended already.
            let _ = member.child.signal(SIGKILL);
        }
    }

    fn accept(&mut self, place: usize, message: Message) {
        match message.head.kind {
            Kind::Ready => {
                self.false_starts = 0;
                self.hire_failures = 0;
                if let Some(member) = &mut self.places[place] {
                    member.ready = true;
                }
            }
            Kind::Refused => self.refused = Some(Arc::new(message)),
            Kind::Returned | Kind::Raised => self.accept_reply(place, message),
            _ => self.distrust(place),
        }
    }

    fn accept_reply(&mut self, place: usize, message: Message) {
        let Some(member) = &mut self.places[place] else { return };
        let Some(unit) = member.take_unit(&message) else { return self.distrust(place) };
        unit.job.measure(message.head.value, unit.items);
        let raised = message.head.kind == Kind::Raised;
        let outcome = if raised { Outcome::Raised(message) } else { Outcome::Returned(message) };
        self.settle(&unit, outcome);
    }

    /// Sends a task to the worker with the least to do; gives it back if none has room.
    pub(super) fn send(
        &mut self,
        settings: &Settings,
        unit: Unit,
        payload: &Payload<'_>,
    ) -> Result<std::result::Result<(), Unit>> {
        let Some(place) = self.pick(settings, window(&unit.job)) else { return Ok(Err(unit)) };
        let Some(member) = &mut self.places[place] else { return Ok(Err(unit)) };
        let sent = member.send(unit, payload)?;
        if settings.max_tasks_per_worker.is_some_and(|most| member.given() >= most) {
            member.dismiss();
        }
        Ok(sent)
    }

    /// The place of the worker that should get the next task: the first with the fewest, so that
    /// a lone caller meets a worker that is still awake.
    fn pick(&self, settings: &Settings, window: usize) -> Option<usize> {
        let most = settings.max_tasks_per_worker.unwrap_or(u64::MAX);
        let open = |place: &usize| {
            self.places[*place].as_ref().is_some_and(|member| {
                member.ready
                    && !member.leaving
                    && member.units.len() < window
                    && member.given() < most
            })
        };
        let load = |place: &usize| self.places[*place].as_ref().map_or(0, |m| m.units.len());
        (0..self.places.len()).filter(open).min_by_key(load)
    }

    /// Whether there is something to take in, or something to send and room for it.
    pub(super) fn has_work(&self, settings: &Settings) -> bool {
        let job = match self.queue.front() {
            Some(Queued::Task(unit, _)) => Some(&unit.job),
            Some(Queued::Source(job)) => Some(job),
            None => None,
        };
        self.members().any(|member| member.end.has_message())
            || job.is_some_and(|job| self.pick(settings, window(job)).is_some())
    }

    /// Sends queued tasks while there is room. Gives the job whose source has to be asked next;
    /// that is done without the lock.
    pub(super) fn dispatch(&mut self, settings: &Settings) -> Option<Arc<Job>> {
        loop {
            match self.queue.front()? {
                Queued::Source(job) => {
                    let wanted = self.pick(settings, window(job)).is_some();
                    return wanted.then(|| Arc::clone(job));
                }
                Queued::Task(..) => {
                    if !self.dispatch_task(settings) {
                        return None;
                    }
                }
            }
        }
    }

    fn dispatch_task(&mut self, settings: &Settings) -> bool {
        let Some(Queued::Task(unit, payload)) = self.queue.pop_front() else { return false };
        let (job, index, items) = (Arc::clone(&unit.job), unit.index, unit.items);
        match payload.with(|payload| self.send(settings, unit, payload)) {
            Ok(Ok(())) => true,
            Ok(Err(unit)) => {
                self.queue.push_front(Queued::Task(unit, payload));
                false
            }
            Err(error) => {
                let outcome = Outcome::Unsent(Box::new(error));
                if job.settle(Settled { index, items, outcome }) {
                    self.complete(&job);
                }
                true
            }
        }
    }

    /// In a pool that closes: sends the workers home when nothing is left to do.
    pub(super) fn dismiss_if_done(&mut self) {
        if matches!(self.phase, Phase::Closing) && self.is_idle() {
            self.members_mut().for_each(super::member::Member::dismiss);
        }
    }

    fn forget_functions(&mut self) {
        while let Some(function) = self.functions.evict() {
            self.members_mut().for_each(|member| member.forget(function));
        }
    }
}

/// How many tasks a worker may have without outcome: one, and as many more as it does in [`AHEAD`].
/// A job that was not measured yet gets one at a time: its tasks may be long, and a task that
/// waits behind a long one would keep an idle worker from it.
fn window(job: &Job) -> usize {
    // Relaxed: a hint.
    let time = job.task_time.load(Ordering::Relaxed);
    let ahead = if time == 0 { 0 } else { (AHEAD.as_nanos() as u64 / time).min(MOST_AHEAD) };
    1 + ahead as usize
}

/// How many items the next task of a job should have.
fn batch(job: &Job, remaining: usize, workers: usize) -> usize {
    if let Some(chunk) = job.chunk {
        return chunk;
    }
    let time = job.item_time.load(Ordering::Relaxed);
    // At least a few tasks for each worker are left, so that the last ones end together.
    let fair = (remaining / (workers * 3)).max(1);
    if time == 0 {
        return fair.min(FIRST_BATCH);
    }
    fair.min((BATCH.as_nanos() as u64 / time).max(1) as usize)
}

impl Inner {
    /// Takes in results and sends tasks until neither is possible now; wakes those who wait.
    pub(super) fn pump(&self) {
        let mut came = false;
        loop {
            let mut state = self.lock();
            came |= state.collect();
            let pull = state.dispatch(&self.settings);
            state.forget_functions();
            state.dismiss_if_done();
            drop(state);
            match pull {
                Some(job) if self.pull(&job) => came = true,
                _ => break,
            }
        }
        if came {
            self.wake_all();
            self.ring_if_needed();
        }
    }

    /// Asks a job's source for its next batch and sends it; false if another thread is at it.
    fn pull(&self, job: &Arc<Job>) -> bool {
        let Ok(mut slot) = job.source.try_lock() else { return false };
        let Some(source) = slot.as_mut() else {
            self.exhausted(job);
            return true;
        };
        let limit = batch(job, source.remaining(), self.settings.workers);
        match source.next(limit) {
            Some(batch) => self.send_batch(job, batch),
            None => {
                let source = slot.take();
                drop(slot);
                self.exhausted(job);
                drop(source);
            }
        }
        true
    }

    fn send_batch(&self, job: &Arc<Job>, batch: Batch) {
        let unit = Unit::next(job, batch.items);
        match batch.body {
            Err(error) => self.lock().settle(&unit, Outcome::Unsent(error)),
            Ok(body) => {
                let mut unit = Some(unit);
                body.visit(&mut |payload| {
                    if let Some(unit) = unit.take() {
                        self.send_or_queue(unit, payload);
                    }
                });
            }
        }
    }

    fn send_or_queue(&self, unit: Unit, payload: &Payload<'_>) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Running | Phase::Closing) {
            let fate = state.fate();
            return state.settle(&unit, fate);
        }
        let (job, index, items) = (Arc::clone(&unit.job), unit.index, unit.items);
        match state.send(&self.settings, unit, payload) {
            Ok(Ok(())) => {}
            Ok(Err(unit)) => state.queue.push_front(Queued::Task(unit, payload.to_owned())),
            Err(error) => {
                let settled = Settled { index, items, outcome: Outcome::Unsent(Box::new(error)) };
                if job.settle(settled) {
                    state.complete(&job);
                }
            }
        }
    }

    /// Takes a job out of the queue whose source has no more.
    fn exhausted(&self, job: &Arc<Job>) {
        let mut state = self.lock();
        state
            .queue
            .retain(|queued| !matches!(queued, Queued::Source(other) if Arc::ptr_eq(other, job)));
        if job.end_input() {
            state.complete(job);
        }
    }
}
