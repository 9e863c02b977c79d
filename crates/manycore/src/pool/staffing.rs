//! Workers come: all at once, one by one on demand, and in the places of those that have gone.
//!
//! Any thread may start a worker. It reserves the place first, since the start takes its time and is
//! done without the lock.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::FaceError;
use super::inner::{GRACE, Inner, Phase, State, wait_until};
use super::member::Member;
use crate::Result;
use crate::channel::link::ParentEnd;
use crate::process::{Child, SIGKILL, watch};

/// So many workers at most are started together: each needs some descriptors until then.
const TOGETHER: usize = 16;

type Hired = std::result::Result<(), FaceError>;

impl State {
    /// A place that is to have a worker, has none, and for which nobody starts one.
    pub(super) fn vacant(&self) -> Option<usize> {
        (0..self.wanted).find(|place| self.places[*place].is_none() && !self.is_reserved(*place))
    }

    fn is_reserved(&self, place: usize) -> bool {
        self.reserved.contains(&place)
    }

    /// How many workers were started and have not said yet that they take tasks.
    pub(super) fn coming(&self) -> usize {
        let started = self.members().filter(|member| !member.ready).count();
        let about = self.reserved.iter().filter(|place| self.places[**place].is_none()).count();
        started + about
    }

    /// Whether one more task would have to wait although there is a place for another worker.
    fn is_short_of_workers(&self) -> bool {
        if self.wanted == self.places.len() || !matches!(self.phase, Phase::Running) {
            return false;
        }
        let busy = |member: &&Member| member.leaving || !member.units.is_empty();
        // Those that are about to come have nothing to do yet.
        let free = self.wanted - self.members().filter(busy).count();
        free <= self.queue.len()
    }
}

impl Inner {
    /// Starts a worker for every vacant place.
    pub(super) fn hire_all(&self) -> Hired {
        loop {
            let places = self.reserve(TOGETHER);
            if places.is_empty() {
                return Ok(());
            }
            self.hire(&places)?;
        }
    }

    /// Takes at most `limit` places for which this thread is to start workers.
    fn reserve(&self, limit: usize) -> Vec<usize> {
        let mut state = self.lock();
        let mut places = Vec::new();
        while places.len() < limit
            && let Some(place) = state.vacant()
        {
            state.reserved.push(place);
            places.push(place);
        }
        places
    }

    /// Starts one more worker if the next task would have to wait without it.
    pub(super) fn grow(&self) -> Hired {
        let mut state = self.lock();
        state.collect();
        let short = state.is_short_of_workers();
        state.wanted += usize::from(short);
        self.release(state);
        if !short {
            return Ok(());
        }
        let hired = self.hire(&self.reserve(1));
        // The supervisor tries again; meanwhile the others do the work, if there are any.
        if self.lock().members().next().is_some() { Ok(()) } else { hired }
    }

    /// Starts workers for places that this thread has reserved.
    fn hire(&self, places: &[usize]) -> Hired {
        let hired = self.start_workers(places);
        let mut state = self.lock();
        state.reserved.retain(|reserved| !places.contains(reserved));
        // It may have rung already, when the one who attends did not know it yet.
        state.news = true;
        let running = matches!(state.phase, Phase::Running);
        self.release(state);
        if !running {
            // A pool is not over as long as a place is reserved.
            self.hall.back().ring();
        }
        hired
    }

    fn start_workers(&self, places: &[usize]) -> Hired {
        let mut ends = VecDeque::new();
        let started = self.spawner.start_all(places.len(), &mut || {
            let (end, seat) = ParentEnd::new(&self.hall)?;
            ends.push_back(end);
            Ok(seat)
        });
        let mut hired = Ok(());
        for (place, child) in places.iter().zip(started) {
            let end = ends.pop_front();
            let entered = child.and_then(|child| {
                self.enter_or_discard(*place, end.ok_or("a worker without a seat")?, &child)
            });
            hired = hired.and(entered);
        }
        hired
    }

    fn enter_or_discard(&self, place: usize, end: ParentEnd, child: &Arc<Child>) -> Hired {
        self.enter(place, end, child).map_err(|error| {
            self.discard(child);
            error.into()
        })
    }

    /// Gives a worker its place.
    fn enter(&self, place: usize, end: ParentEnd, child: &Arc<Child>) -> Result<()> {
        let mut state = self.lock();
        state.serial += 1;
        let serial = state.serial;
        let watch = self.watch(child, place, serial)?;
        let most = self.settings.max_tasks_per_worker.unwrap_or(u64::MAX);
        state.places[place] = Some(Member::new(end, Arc::clone(child), serial, most, watch));
        if matches!(state.phase, Phase::Terminated | Phase::Failed(_)) {
            // Terminated while the worker started.
            let _ = child.signal(SIGKILL);
        }
        Ok(())
    }

    /// Ends a worker of whose death nobody would be told.
    fn discard(&self, child: &Child) {
        let _ = child.signal(SIGKILL);
        wait_until(child, Instant::now() + GRACE);
        self.spawner.ended(child);
    }

    fn watch(&self, child: &Child, place: usize, serial: u64) -> Result<watch::Watch> {
        // Not the whole pool: if the watching thread were the last to have it, it would have to
        // drop what belongs to the face.
        let (deaths, hall) = (Arc::clone(&self.deaths), self.hall.clone());
        let died = move || {
            deaths.lock().unwrap_or_else(PoisonError::into_inner).push((place, serial));
            hall.back().ring();
        };
        watch::on_exit(child, Box::new(died))
    }
}
