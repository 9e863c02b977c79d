//! A meeting point: nobody goes on before all have come.

use std::time::Instant;

use super::owner;
use super::patience::{Patience, Slept};
use super::shared::{Layout, Shared};
use crate::memory::Block;
use crate::primitive::{AtomicU32, AtomicU64, Ordering, futex};
use crate::{Error, Result};

#[repr(C)]
pub(super) struct RawBarrier {
    /// The whole state in one word, so that a death between two instructions leaves no half of
    /// a change. See [`State`].
    state: AtomicU64,
    /// What the waiters sleep on; changes after every end of a phase.
    bell: AtomicU32,
    /// How many must come. Written once.
    parties: AtomicU32,
    /// The process that runs the action, while one does: its tag.
    actor: AtomicU32,
}

// SAFETY: repr(C), nothing but atomics; zeroed it is a barrier that nobody can pass.
unsafe impl Layout for RawBarrier {}

/// | bits | meaning |
/// |---|---|
/// | 0 to 19 | how many have come in this phase; all of them: one runs the action |
/// | 20 | broken: nobody may come until a reset |
/// | 21 to 42 | how the last 22 phases ended, the latest lowest; 1: broken |
/// | 43 to 63 | the number of the phase, wrapping |
///
/// | from | to | when |
/// |---|---|---|
/// | phase `p`, `k` have come | `p`, `k + 1` | somebody comes |
/// | `p`, `k` | `p`, `k - 1` | somebody gives up at a signal |
/// | `p`, all but one, or all | `p + 1`, 0, ended well | the last comes, or its action is done |
/// | `p`, `k` | `p + 1`, 0, ended broken, broken | abort, timeout, the action failed or its process died |
/// | `p`, `k` | `p + 1`, 0, ended broken | reset |
/// | broken | not broken | reset |
///
/// A waiter of phase `p` sleeps until the number is another one and then finds in the history
/// how `p` ended, even if later phases have ended before it woke.
#[derive(Clone, Copy, Debug)]
struct State(u64);

const COUNT: u64 = (1 << 20) - 1;
const BROKEN: u64 = 1 << 20;
const HISTORY_SHIFT: u32 = 21;
const HISTORY_LEN: u32 = 22;
const HISTORY: u64 = ((1 << HISTORY_LEN) - 1) << HISTORY_SHIFT;
const PHASE_SHIFT: u32 = HISTORY_SHIFT + HISTORY_LEN;

impl State {
    fn count(self) -> u32 {
        (self.0 & COUNT) as u32
    }

    fn is_broken(self) -> bool {
        self.0 & BROKEN != 0
    }

    fn phase(self) -> u32 {
        (self.0 >> PHASE_SHIFT) as u32
    }

    /// The phase is over and the next begins.
    fn ended(self, well: bool) -> Self {
        let history = (self.0 & HISTORY) << 1 | u64::from(!well) << HISTORY_SHIFT;
        let phase = (self.0 >> PHASE_SHIFT).wrapping_add(1) << PHASE_SHIFT;
        Self(phase | history & HISTORY)
    }

    fn broken(self) -> Self {
        Self(self.ended(false).0 | BROKEN)
    }

    /// How `phase` ended; `None` if it is not over.
    fn outcome(self, phase: u32) -> Option<Result<()>> {
        const PHASES: u32 = 1 << (u64::BITS - PHASE_SHIFT);
        let ago = self.phase().wrapping_sub(phase) % PHASES;
        let broke = |ago| ago <= HISTORY_LEN && self.0 >> (HISTORY_SHIFT + ago - 1) & 1 == 1;
        match ago {
            0 => None,
            ago if broke(ago) => Some(Err(broken_error())),
            _ => Some(Ok(())),
        }
    }
}

#[cold]
fn broken_error() -> Error {
    Error::misuse("the barrier is broken")
}

impl RawBarrier {
    #[cfg(loom)]
    pub(super) fn with(parties: u32) -> Self {
        Self {
            state: AtomicU64::new(0),
            bell: AtomicU32::new(0),
            parties: AtomicU32::new(parties),
            actor: AtomicU32::new(0),
        }
    }

    fn load(&self) -> State {
        // Acquire, partner: the Release in `update`.
        State(self.state.load(Ordering::Acquire))
    }

    /// Changes the state as `f` says; if that ends a phase, wakes its waiters. The state before,
    /// as an error if `f` wanted no change.
    fn update(
        &self,
        mut f: impl FnMut(State) -> Option<State>,
    ) -> std::result::Result<State, State> {
        // AcqRel, partner: itself and `load`; what each did before it came is seen by all after.
        let before = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |seen| f(State(seen)).map(|s| s.0))
            .map(State)
            .map_err(State)?;
        if f(before).is_some_and(|after| after.phase() != before.phase()) {
            // Release, partner: the Acquire in `sleep`, which so sees the new state too.
            self.bell.fetch_add(1, Ordering::Release);
            futex::wake(&self.bell, u32::MAX);
        }
        Ok(before)
    }

    fn parties(&self) -> u32 {
        self.parties.load(Ordering::Relaxed)
    }

    /// Ends `phase`, unless it is over. Whether it did.
    fn end(&self, phase: u32, well: bool) -> bool {
        let end = |state: State| if well { state.ended(true) } else { state.broken() };
        self.update(|state| (state.phase() == phase).then(|| end(state))).is_ok()
    }

    /// Sleeps until `phase` is over.
    fn sleep(&self, phase: u32, deadline: Option<Instant>, patience: &mut Patience) -> Result<()> {
        loop {
            // Before the state, so that an end in between keeps us awake. Acquire, partner: the
            // Release in `update`.
            let bell = self.bell.load(Ordering::Acquire);
            if let Some(outcome) = self.load().outcome(phase) {
                return outcome;
            }
            let slept = patience.sleep(&self.bell, bell, deadline);
            if !matches!(slept, Ok(Slept::Woken)) {
                self.look(phase);
            }
            slept?;
        }
    }

    /// Breaks the phase if the process is dead that should run its action.
    fn look(&self, phase: u32) {
        let actor = self.actor.load(Ordering::Relaxed);
        let is_acting = |state: State| state.phase() == phase && state.count() == self.parties();
        if actor != 0 && is_acting(self.load()) && owner::is_dead(actor) {
            self.end(phase, false);
            self.retire(actor);
        }
    }

    /// Forgets who runs the action, unless it is somebody else's turn: after a reset the next
    /// phase may have its action while that of the last one still runs.
    fn retire(&self, actor: u32) {
        let _ = self.actor.compare_exchange(actor, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<u32> {
        let mut patience = Patience::steadfast();
        let (phase, index) = self.arrive(false, deadline, &mut patience, &mut || false)?;
        if index + 1 == self.parties() {
            return Ok(index);
        }
        self.meet(phase, index, deadline, &mut patience, &mut || false)
    }

    fn wait_with(
        &self,
        deadline: Option<Instant>,
        action: impl FnOnce() -> bool,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<u32> {
        let mut patience = Patience::new();
        let (phase, index) = self.arrive(true, deadline, &mut patience, go_on)?;
        if index + 1 == self.parties() {
            self.act(phase, action);
        }
        self.meet(phase, index, deadline, &mut patience, go_on)
    }

    pub(super) fn abort(&self) {
        let _ = self.update(|state| (!state.is_broken()).then(|| state.broken()));
    }

    /// Comes: the phase and the number in it. The last one ends the phase, unless it `acts`.
    fn arrive(
        &self,
        acts: bool,
        deadline: Option<Instant>,
        patience: &mut Patience,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(u32, u32)> {
        loop {
            let arrived = self.update(|state| match state.count() + 1 {
                _ if state.is_broken() => None,
                count if count > self.parties() => None,
                count if count == self.parties() && !acts => Some(state.ended(true)),
                _ => Some(State(state.0 + 1)),
            });
            match arrived {
                Ok(before) => return Ok((before.phase(), before.count())),
                Err(state) if state.is_broken() => return Err(broken_error()),
                // Complete, and its action runs: we belong to the next phase, however it ends.
                Err(state) => self.await_end(state.phase(), deadline, patience, go_on)?,
            }
        }
    }

    /// Waits for the end of a phase that the caller is no part of.
    fn await_end(
        &self,
        phase: u32,
        deadline: Option<Instant>,
        patience: &mut Patience,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        loop {
            match self.sleep(phase, deadline, patience) {
                Err(error) if error.is_interrupted() && go_on() => {}
                Err(error) if error.is_timeout() => {
                    self.abort();
                    return Err(error);
                }
                Err(error) if error.is_interrupted() => return Err(error),
                _ => return Ok(()),
            }
        }
    }

    /// Waits for the end of the phase in which the caller came as number `index`.
    fn meet(
        &self,
        phase: u32,
        index: u32,
        deadline: Option<Instant>,
        patience: &mut Patience,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<u32> {
        loop {
            match self.sleep(phase, deadline, patience) {
                Ok(()) => return Ok(index),
                Err(error) if error.is_interrupted() && go_on() => {}
                Err(error) if error.is_interrupted() => {
                    return self.withdraw(phase).map_or(Err(error), |ended| ended.map(|()| index));
                }
                // Over at the last moment: the next turn tells how.
                Err(error) if error.is_timeout() && !self.end(phase, false) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the caller out of the phase; if it is over, says how it ended.
    fn withdraw(&self, phase: u32) -> Option<Result<()>> {
        // Once all have come it is too late: the action runs and the phase ends without us.
        let left = self.update(|state| {
            let waits = state.phase() == phase && state.count() < self.parties();
            waits.then(|| State(state.0 - 1))
        });
        left.err().and_then(|state| state.outcome(phase))
    }

    fn act(&self, phase: u32, action: impl FnOnce() -> bool) {
        self.actor.store(owner::process(), Ordering::Relaxed);
        let mut acting = Acting { raw: self, phase, well: false };
        acting.well = action();
    }
}

/// A barrier between processes for a fixed number of parties, used again and again.
///
/// A party that is killed while it waits counts as having come.
#[derive(Clone, Debug)]
pub struct Barrier {
    raw: Shared<RawBarrier>,
}

/// The right to run a phase's action. Its end is the phase's, a broken one if the action panics.
struct Acting<'a> {
    raw: &'a RawBarrier,
    phase: u32,
    well: bool,
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        self.raw.retire(owner::process());
        self.raw.end(self.phase, self.well);
    }
}

impl Barrier {
    /// A barrier in a block of its own.
    ///
    /// # Errors
    ///
    /// [`Error::is_misuse`] if `parties` is 0 or above a million; the system is out of memory,
    /// descriptors or address space.
    pub fn new(parties: u32) -> Result<Self> {
        if parties == 0 || u64::from(parties) > COUNT {
            return Err(Error::misuse("the number of parties must be from 1 to 1048575"));
        }
        let raw = Shared::<RawBarrier>::new()?;
        raw.parties.store(parties, Ordering::Relaxed);
        Ok(Self { raw })
    }

    /// The barrier that another process has in `block`.
    ///
    /// # Errors
    ///
    /// The block is too short.
    pub fn from_block(block: Block) -> Result<Self> {
        Ok(Self { raw: Shared::from_block(block)? })
    }

    /// Where the barrier lies, to hand it to another process.
    #[must_use]
    pub fn block(&self) -> &Block {
        self.raw.block()
    }

    /// Waits until all have come. The order in which the caller came, from 0.
    ///
    /// A signal takes the caller out again, so that it comes anew when it calls again; then two
    /// may get the same number. [`wait_with`](Self::wait_with) avoids that.
    ///
    /// # Errors
    ///
    /// [`Error::is_timeout`], which breaks the barrier; [`Error::is_interrupted`];
    /// [`Error::is_misuse`] if the barrier is or was broken.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<u32> {
        self.raw.wait(deadline)
    }

    /// As [`wait`](Self::wait); in addition the one that comes last runs `action` before the
    /// others go on. If that gives false, or panics, or its process dies, the barrier is broken.
    ///
    /// At a signal, and from time to time, `go_on` is asked whether to wait on; if not, the
    /// caller is taken out.
    ///
    /// # Errors
    ///
    /// As for `wait`.
    pub fn wait_with(
        &self,
        deadline: Option<Instant>,
        action: impl FnOnce() -> bool,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<u32> {
        self.raw.wait_with(deadline, action, &mut go_on)
    }

    /// Breaks the barrier: all who wait, or come before a reset, fail.
    pub fn abort(&self) {
        self.raw.abort();
    }

    /// Makes the barrier a new one; all who wait fail.
    pub fn reset(&self) {
        let _ = self.raw.update(|state| match state.count() {
            0 => Some(State(state.0 & !BROKEN)),
            _ => Some(state.ended(false)),
        });
    }

    /// How many must come.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.raw.parties()
    }

    /// How many wait; 0 while an action runs.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        let count = self.raw.load().count();
        if count == self.parties() { 0 } else { count }
    }

    /// Whether the barrier is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.raw.load().is_broken()
    }
}
