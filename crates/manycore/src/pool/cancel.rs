//! Tasks that are given up before a worker has them.

use std::sync::Arc;

use super::Lost;
use super::inner::{Inner, Queued, State};
use super::job::{Callback, Job, Outcome};
use crate::channel::OwnedPayload;

impl State {
    /// Takes the task of a call out of the queue and settles it.
    fn cancel(&mut self, job: &Arc<Job>) -> Option<OwnedPayload> {
        let at = self.find(job)?;
        let Some(Queued::Task(unit, payload)) = self.queue.remove(at) else { return None };
        self.settle(&unit, Outcome::Lost(Lost::Cancelled));
        Some(payload)
    }

    /// Does so with the tasks of all calls, but for as many as there are workers about to come:
    /// those were started for them.
    fn cancel_waiting(&mut self) -> Vec<OwnedPayload> {
        let mut kept = self.coming();
        let mut payloads = Vec::new();
        for queued in std::mem::take(&mut self.queue) {
            match queued {
                Queued::Task(unit, payload) if kept == 0 => {
                    self.settle(&unit, Outcome::Lost(Lost::Cancelled));
                    payloads.push(payload);
                }
                queued => {
                    kept -= usize::from(matches!(queued, Queued::Task(..)));
                    self.queue.push_back(queued);
                }
            }
        }
        payloads
    }

    /// Where the task of a call waits. Those who cancel many begin at the one end or the other.
    fn find(&self, job: &Arc<Job>) -> Option<usize> {
        if job.is_sent() {
            return None;
        }
        let is_its = |queued: &Queued| matches!(queued, Queued::Task(unit, _) if Arc::ptr_eq(&unit.job, job));
        let last = self.queue.len().checked_sub(1)?;
        let from_both_ends = (0..=last).map(|n| if n % 2 == 0 { n / 2 } else { last - n / 2 });
        from_both_ends.into_iter().find(|at| is_its(&self.queue[*at]))
    }
}

impl Inner {
    /// Cancels a call that waits for a worker; false if it does not wait.
    pub(super) fn cancel(&self, job: &Arc<Job>) -> bool {
        let mut state = self.lock();
        let payload = state.cancel(job);
        self.release(state);
        payload.is_some()
    }

    /// Cancels every task that waits for a worker to have time.
    pub(super) fn cancel_waiting(&self) {
        let mut state = self.lock();
        let payloads = state.cancel_waiting();
        self.release(state);
        drop(payloads);
    }

    /// Gives a job its callback; false if it is complete.
    pub(super) fn arm(&self, job: &Arc<Job>, callback: Callback) -> bool {
        let mut callback = Some(callback);
        let state = self.lock();
        let armed = job.arm(&mut callback);
        drop(state);
        armed
    }
}
