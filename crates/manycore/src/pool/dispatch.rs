//! Results in, tasks out: what any thread of the parent may do that holds the lock.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::inner::{Inner, Phase, Queued, State};
use super::job::{Job, Outcome};
use super::member::{Member, Unit};
use super::{AHEAD, BATCH, Batch, Encoded, Source};
use crate::Result;
use crate::channel::{Kind, Message, Payload};
use crate::process::SIGKILL;

/// The most tasks that a worker is given ahead.
const MOST_AHEAD: u64 = 64;

/// What it takes a worker to wake up.
const WAKE: Duration = Duration::from_micros(50);

/// Tasks behind one that takes longer than this are taken back for workers without any.
const STUCK: Duration = Duration::from_millis(1);

/// How often the supervisor looks for such tasks: it has to be woken for that, and nobody waits.
const WATCH: Duration = Duration::from_millis(5);

/// The most tasks that an awake worker is given rather than wake another: they may be longer than
/// those before.
const FEW: u64 = 16;

/// A self-sized batch has at most so many items before the first time is measured: they may be long.
const FIRST_BATCH: usize = 1;

/// A self-sized batch has at most so many times the items of the largest that was measured: what
/// a small one took says little about its items.
const GROWTH: u64 = 32;

/// Work for which a batch of its own pays, even if the others then wait a little at the end.
const LEAST: Duration = Duration::from_micros(50);

impl State {
    /// Takes in what the workers have sent.
    pub(super) fn collect(&mut self) {
        let mut came = false;
        for place in 0..self.places.len() {
            while let Some(message) = self.receive(place) {
                came = true;
                self.accept(place, message);
            }
        }
        if came {
            self.members_mut().for_each(|member| member.blocked = false);
        }
        self.release_descriptors();
    }

    /// Tells the workers of descriptors that have ended, and lets go of the functions that were
    /// sent with them: such a function cannot come again.
    pub(super) fn release_descriptors(&mut self) {
        if self.has_ended_descriptors() {
            self.functions.expire();
        }
        self.members_mut().for_each(|member| member.end.release_descriptors());
    }

    pub(super) fn has_ended_descriptors(&self) -> bool {
        self.members().any(|member| member.end.has_ended_descriptors())
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
            // It unblocks the worker, as every message does.
            Kind::TakenIn => {}
            _ => self.distrust(place),
        }
    }

    fn accept_reply(&mut self, place: usize, message: Message) {
        let Some(member) = &mut self.places[place] else { return };
        let Some(unit) = member.take_unit(&message) else { return self.distrust(place) };
        if member.is_spent() {
            // Its ring may have been too full for this before.
            member.dismiss();
        }
        unit.job.measure(message.head.value, unit.items);
        let raised = message.head.kind == Kind::Raised;
        let outcome = if raised { Outcome::Raised(message) } else { Outcome::Returned(message) };
        self.settle(&unit, outcome);
    }

    /// Sends a task, or puts it in the queue.
    pub(super) fn place_task(&mut self, unit: Unit, payload: &Payload<'_>) -> Result<()> {
        let unit = if self.queue.is_empty() {
            match self.send(unit, payload)? {
                Ok(()) => return Ok(()),
                Err(unit) => unit,
            }
        } else {
            unit
        };
        self.queue.push_back(Queued::Task(unit, payload.to_owned()?));
        // A source that could go on is left to others: this one is in a hurry.
        self.news |= self.dispatch().is_some();
        Ok(())
    }

    /// Sends a task to the worker with the least to do; gives it back if none has room.
    fn send(&mut self, unit: Unit, payload: &Payload<'_>) -> Result<std::result::Result<(), Unit>> {
        let Some(place) = self.pick(&unit.job) else { return Ok(Err(unit)) };
        let Some(member) = &mut self.places[place] else { return Ok(Err(unit)) };
        self.roused |= member.end.is_parked();
        let sent = member.send(unit, payload)?;
        if member.is_spent() {
            member.dismiss();
        }
        Ok(sent)
    }

    /// As [`Self::send`]; what cannot be sent at all is settled.
    fn send_or_settle(
        &mut self,
        unit: Unit,
        payload: &Payload<'_>,
    ) -> std::result::Result<(), Unit> {
        let spare = unit.clone();
        self.send(unit, payload).unwrap_or_else(|error| {
            self.settle(&spare, Outcome::Unsent(Box::new(error)));
            Ok(())
        })
    }

    /// The place of the worker that should get the next task: the first with the fewest, so that
    /// a lone caller meets a worker that is still awake. Of short tasks one that is awake has
    /// done a few before one that sleeps has woken up. The first worker is none of these: it is
    /// the one to be awake.
    fn pick(&self, job: &Job) -> Option<usize> {
        let (window, few) = (window(job), few(job));
        let load = |place: usize, member: &Member| {
            let wake = few > 0 && place != self.first && member.end.is_parked();
            member.units.len() + if wake { few } else { 0 }
        };
        let open = |place: usize| Some((place, self.places[place].as_ref()?));
        (self.first..self.places.len())
            .chain(0..self.first)
            .filter_map(open)
            .filter(|(_, member)| member.is_open(window))
            .min_by_key(|(place, member)| load(*place, member))
            .map(|(place, _)| place)
    }

    /// Begins with another worker from now on: the first may be the one that shares a processor
    /// with the thread that waits for it. One that was woken just now began on the processor of who
    /// woke it, and may find another; the next worker would only have to be woken, too.
    pub(super) fn turn(&mut self) {
        if !std::mem::take(&mut self.roused) {
            self.first = (self.first + 1) % self.places.len();
        }
    }

    /// Sends queued tasks while there is room. Gives the job whose source has to be asked next;
    /// that is done without the lock.
    fn dispatch(&mut self) -> Option<Arc<Job>> {
        loop {
            let at = self.next_queued()?;
            match &self.queue[at] {
                Queued::Source(job) => {
                    let wanted = self.pick(job).is_some();
                    return wanted.then(|| Arc::clone(job));
                }
                Queued::Task(..) => {
                    if !self.dispatch_task(at) {
                        return None;
                    }
                }
            }
        }
    }

    /// What is next in the queue. A source that another thread is asking is passed over: it may
    /// take its time, and that thread goes on with it.
    fn next_queued(&self) -> Option<usize> {
        let pulled = |queued: &Queued| matches!(queued, Queued::Source(job) if job.is_pulled());
        self.queue.iter().position(|queued| !pulled(queued))
    }

    fn is_source_next(&self) -> bool {
        self.next_queued().is_some_and(|at| matches!(self.queue[at], Queued::Source(_)))
    }

    fn dispatch_task(&mut self, at: usize) -> bool {
        let Some(Queued::Task(unit, payload)) = self.queue.remove(at) else { return false };
        let sent = payload.with(|payload| self.send_or_settle(unit, payload));
        match sent {
            Ok(()) => true,
            Err(unit) => {
                self.queue.insert(at, Queued::Task(unit, payload));
                false
            }
        }
    }

    /// Gives tasks behind a long one to workers without any. Says when to look again, if that
    /// may become necessary.
    pub(super) fn rebalance(&mut self) -> Option<Instant> {
        if !self.is_uneven() {
            return None;
        }
        let now = Instant::now();
        let mut next = None;
        for place in 0..self.places.len() {
            let Some(member) = self.places[place].as_mut().filter(|it| it.has_more()) else {
                continue;
            };
            let Some(stuck) = member.at_oldest_since(now).map(|since| since + STUCK) else {
                continue;
            };
            if stuck > now {
                next = next.into_iter().chain([stuck]).min();
                continue;
            }
            match member.take_back() {
                Ok(unstarted) => {
                    for (unit, payload) in unstarted.into_iter().rev() {
                        self.queue.push_front(Queued::Task(unit, payload));
                    }
                }
                // What it holds is settled by its death.
                Err(_) => self.distrust(place),
            }
            if self.places[place].as_ref().is_some_and(Member::has_more) {
                // It has yet to see what was taken back before.
                next = next.into_iter().chain([now + STUCK]).min();
            }
        }
        next
    }

    /// Whether a worker has more than one task and another has none.
    pub(super) fn is_uneven(&self) -> bool {
        self.members().any(Member::has_more) && self.members().any(Member::is_idle)
    }

    /// When the supervisor is to look whether a worker is stuck, if that may be. While a thread
    /// attends it only looks whether that still does.
    pub(super) fn watch(&mut self, attended: bool) -> Option<Instant> {
        self.watched = if attended { self.is_uneven() } else { self.rebalance().is_some() };
        self.watched.then(|| Instant::now() + WATCH)
    }

    /// Whether the supervisor has to be told to do so.
    pub(super) fn needs_watch(&self) -> bool {
        self.attendant.is_none() && !self.watched && self.is_uneven()
    }

    /// Whether there is something to take in or to send.
    pub(super) fn has_work(&self) -> bool {
        self.members().any(|member| member.end.has_message()) || self.can_dispatch()
    }

    pub(super) fn can_dispatch(&self) -> bool {
        let job = match self.next_queued().map(|at| &self.queue[at]) {
            Some(Queued::Source(job)) => job,
            Some(Queued::Task(unit, _)) => &unit.job,
            None => return false,
        };
        self.pick(job).is_some()
    }

    /// In a pool that closes: sends the workers home when nothing is left to do, and says so.
    pub(super) fn dismiss_if_done(&mut self) -> bool {
        let done = matches!(self.phase, Phase::Closing) && self.is_idle();
        if done {
            self.members_mut().for_each(Member::dismiss);
        }
        done
    }

    fn forget_functions(&mut self) {
        while let Some(function) = self.functions.evict() {
            self.members_mut().for_each(|member| member.forget(function));
        }
    }
}

/// How many tasks a worker may have without outcome: one, and as many more as it does in [`AHEAD`].
/// A job that was not measured yet gets one at a time: its tasks may be long, and a task that
/// waits behind a long one would keep an idle worker from it. While batches grow it is two.
fn window(job: &Job) -> usize {
    if job.waits_here {
        return 1;
    }
    let time = job.task_time();
    if time == 0 {
        return if job.expected_time().is_some() { 2 } else { 1 };
    }
    let ahead = (AHEAD.as_nanos() as u64).checked_div(time).unwrap_or(0);
    1 + ahead.min(if grows(job) { 1 } else { MOST_AHEAD }) as usize
}

/// Whether the batches of a job that sizes them are still small for what has been measured.
fn grows(job: &Job) -> bool {
    let wanted = job.item_time().map_or(0, |time| BATCH.as_nanos() as u64 / time);
    job.sizes_batches() && wanted > GROWTH * job.largest()
}

/// How many tasks a worker does while another wakes up.
fn few(job: &Job) -> usize {
    let time = job.task_time();
    let few = (WAKE.as_nanos() as u64).checked_div(time).unwrap_or(0);
    few.min(FEW) as usize
}

/// How many items the next task of a job should have.
fn batch(job: &Job, remaining: usize, workers: usize) -> usize {
    if let Some(chunk) = job.chunk {
        return chunk.max(1);
    }
    // At least a few tasks for each worker are left, so that the last ones end together.
    let fair = remaining / (workers * 3);
    let size = match job.item_time() {
        None => first_batch(job, fair),
        Some(time) => {
            let most = items_in(BATCH, time).min((GROWTH * job.largest()) as usize);
            fair.max(items_in(LEAST, time)).min(most)
        }
    };
    size.max(1)
}

/// The size of a batch before the first is measured. What was measured in earlier jobs may be
/// wrong for this one, so what is sent on its word is little of the job and of little time.
fn first_batch(job: &Job, fair: usize) -> usize {
    job.expected_time().map_or(FIRST_BATCH, |time| (fair / 8).min(items_in(LEAST, time)))
}

fn items_in(span: Duration, item_time: u64) -> usize {
    usize::try_from(span.as_nanos() as u64 / item_time).unwrap_or(usize::MAX)
}

impl Inner {
    /// Lets go of descriptors that have ended, while somebody attends who may sleep for long.
    pub(super) fn release_descriptors(&self) {
        let mut state = self.lock();
        if state.has_ended_descriptors() {
            state.release_descriptors();
            state.forget_functions();
        }
        self.release(state);
    }

    /// Takes in results and sends tasks until neither is possible now.
    pub(super) fn pump(&self) {
        while self.step(false) {}
    }

    /// Takes in results and sends tasks, up to one batch of a source; false if there is no more
    /// to send now. The attendant lends its place to the supervisor while it asks the source,
    /// which may take its time, or may itself wait for what only comes when results are taken in.
    pub(super) fn step(&self, attends: bool) -> bool {
        let mut state = self.lock();
        // Before the look for results: those of workers that have not rung for the supervisor
        // are taken in here, those of the others make it look.
        let lent = attends && state.is_source_next();
        if lent {
            self.lend();
        }
        state.collect();
        let pull = state.dispatch();
        state.forget_functions();
        if let Some(job) = &pull {
            job.set_pulled(true);
            if attends {
                self.rely_on_supervisor(&state, lent);
            }
        }
        self.release(state);
        if let Some(job) = &pull {
            self.pull(job);
        }
        if attends && (lent || pull.is_some()) {
            self.hall.set_attended(true);
        }
        pull.is_some()
    }

    /// Wakes the supervisor if there is work that nobody will ring for.
    fn rely_on_supervisor(&self, state: &State, lent: bool) {
        if !lent {
            self.lend();
        }
        let work = if lent { state.can_dispatch() } else { state.has_work() };
        if work {
            self.hall.back().ring();
        }
    }

    /// Asks a job's source for its next batch and sends it. Only the thread that has marked the
    /// job as pulled does so.
    fn pull(&self, job: &Arc<Job>) {
        let mut slot = job.source.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = slot.as_mut().map(|source| ask(source.as_mut(), job, self.settings.workers));
        let more = match asked {
            Some(Ok(Some(batch))) => self.send_batch(job, batch),
            Some(Err(panic)) => {
                self.send_batch(job, Batch { items: 1, body: Err(panic) });
                false
            }
            Some(Ok(None)) | None => false,
        };
        let source = if more { None } else { slot.take() };
        drop(slot);
        if !more {
            self.exhausted(job);
        }
        job.set_pulled(false);
        drop(source);
    }

    /// Sends a batch; false if the job takes no more.
    fn send_batch(&self, job: &Arc<Job>, batch: Batch) -> bool {
        let Some(unit) = Unit::next(job, batch.items) else { return false };
        let unsent = match batch.body {
            Err(error) => Some((unit, error)),
            Ok(body) => self.send_body(unit, &*body),
        };
        if let Some((unit, error)) = unsent {
            let mut state = self.lock();
            state.settle(&unit, Outcome::Unsent(error));
            self.release(state);
        }
        true
    }

    /// Sends a task; gives it back if the face does not give its bytes.
    fn send_body(&self, unit: Unit, body: &dyn Encoded) -> Option<(Unit, Box<dyn Any + Send>)> {
        let mut unit = Some(unit);
        let visited = catch_unwind(AssertUnwindSafe(|| {
            body.visit(&mut |payload| {
                if let Some(unit) = unit.take() {
                    self.send_or_queue(unit, payload);
                }
            });
        }));
        Some((unit?, visited.err().unwrap_or_else(|| Box::new("a batch without bytes"))))
    }

    fn send_or_queue(&self, unit: Unit, payload: &Payload<'_>) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Running | Phase::Closing) {
            let fate = state.fate();
            state.settle(&unit, fate);
        } else if let Err(unit) = state.send_or_settle(unit, payload) {
            match payload.to_owned() {
                Ok(payload) => state.queue.push_front(Queued::Task(unit, payload)),
                Err(error) => state.settle(&unit, Outcome::Unsent(Box::new(error))),
            }
        }
        self.release(state);
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
        self.release(state);
    }
}

/// Asks a source for a batch; the error is what it panicked with.
fn ask(
    source: &mut dyn Source,
    job: &Job,
    workers: usize,
) -> std::result::Result<Option<Batch>, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| {
        let limit = batch(job, source.remaining(), workers);
        source.next(limit)
    }))
}
