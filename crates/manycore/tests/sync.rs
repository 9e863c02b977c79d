//! Locks and signals between threads and processes, and what deaths and signals do to them.
#![allow(clippy::disallowed_types, reason = "tests count with plain atomics")]

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use manycore::memory::Block;
use manycore::sync::{Barrier, Condition, Doorbell, Event, Mutex, RecursiveMutex, Semaphore};

mod children {
    /// A forked child; killed and reaped when dropped.
    pub(crate) struct Child(i32);

    /// Runs `f` in a forked child, which ends with 0 unless `f` panics.
    pub(crate) fn fork(f: impl FnOnce()) -> Child {
        // SAFETY: the child runs `f`, which does not depend on other threads, and ends without
        // returning into the test harness.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: plain system calls; the last ends this process at once.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
                // SAFETY: as above.
                unsafe { libc::_exit(if result.is_ok() { 0 } else { 101 }) }
            }
            -1 => panic!("{}", std::io::Error::last_os_error()),
            pid => Child(pid),
        }
    }

    impl Child {
        pub(crate) fn pid(&self) -> u32 {
            self.0 as u32
        }

        pub(crate) fn kill(&self) {
            // SAFETY: a plain system call on a child that is not reaped yet.
            unsafe { libc::kill(self.0, libc::SIGKILL) };
        }

        /// Waits for its end and leaves it a zombie.
        pub(crate) fn wait(&self) {
            // SAFETY: the all-zero siginfo is valid, and the call gets a pointer to a local.
            unsafe {
                let mut info = std::mem::zeroed();
                let flags = libc::WEXITED | libc::WNOWAIT;
                assert_eq!(libc::waitid(libc::P_PID, self.pid(), &raw mut info, flags), 0);
            }
        }

        /// Waits for its end; its wait status.
        pub(crate) fn reap(self) -> i32 {
            let mut status = 0;
            // SAFETY: a plain system call with a pointer to a local.
            assert_eq!(unsafe { libc::waitpid(self.0, &raw mut status, 0) }, self.0);
            std::mem::forget(self);
            status
        }
    }

    impl Drop for Child {
        fn drop(&mut self) {
            self.kill();
            let mut status = 0;
            // SAFETY: a plain system call with a pointer to a local.
            unsafe { libc::waitpid(self.0, &raw mut status, 0) };
        }
    }
}

use children::fork;

/// Ends the whole run, loudly, should a test hang.
fn watchdog() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        thread::spawn(|| {
            thread::sleep(Duration::from_secs(100));
            eprintln!("a test hangs");
            std::process::abort();
        });
    });
}

fn after(millis: u64) -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(millis))
}

fn long() -> Option<Instant> {
    after(30_000)
}

/// Waits until `ready`: for states that nobody announces, such as that another thread sleeps.
fn until(ready: impl Fn() -> bool) {
    watchdog();
    while !ready() {
        thread::sleep(Duration::from_micros(200));
    }
}

/// Whether thread `tid` of process `pid` sleeps in the kernel.
fn sleeps(pid: u32, tid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
}

fn my_tid() -> u32 {
    // SAFETY: a plain system call.
    unsafe { libc::gettid() as u32 }
}

/// Runs `sleep` in a thread, and once that sleeps in the kernel `then` with its thread id.
fn once_asleep<T: Send>(sleep: impl FnOnce() -> T + Send, then: impl FnOnce(u32)) -> T {
    let tid = AtomicU32::new(0);
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            tid.store(my_tid(), Ordering::SeqCst);
            sleep()
        });
        until(|| tid.load(Ordering::SeqCst) != 0);
        let tid = tid.load(Ordering::SeqCst);
        until(|| sleeps(std::process::id(), tid));
        then(tid);
        sleeper.join().unwrap()
    })
}

/// Runs `sleep` in a thread and sends signals to it until it ends or `enough`: one that comes
/// just before the thread sleeps does not end the sleep.
fn interrupted<T: Send>(sleep: impl FnOnce() -> T + Send, enough: impl Fn() -> bool) -> T {
    let done = AtomicBool::new(false);
    let sleep = || {
        let result = sleep();
        done.store(true, Ordering::SeqCst);
        result
    };
    once_asleep(sleep, |tid| {
        until(|| {
            let over = done.load(Ordering::SeqCst) || enough();
            if !over {
                interrupt(tid);
            }
            over
        });
    })
}

/// Sends a signal whose handler does nothing to a thread of this process.
fn interrupt(tid: u32) {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: the handler does nothing; the signal goes to a thread of ours that still runs.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, libc::SIGUSR1);
    }
}

/// Numbers in shared memory that start at 0.
struct Numbers(Block);

impl Numbers {
    fn new() -> Self {
        Self(Block::new(64).unwrap())
    }

    fn at(&self, index: usize) -> &AtomicU64 {
        // SAFETY: any bits are such an array, and nobody uses the block as something else.
        unsafe { &self.0.get::<[AtomicU64; 8]>()[index] }
    }

    fn get(&self, index: usize) -> u64 {
        self.at(index).load(Ordering::SeqCst)
    }

    fn add(&self, index: usize) {
        self.at(index).fetch_add(1, Ordering::SeqCst);
    }

    /// Adds one in a way that loses additions unless others keep out.
    fn add_racily(&self, index: usize) {
        let seen = self.at(index).load(Ordering::Relaxed);
        self.at(index).store(seen + 1, Ordering::Relaxed);
    }
}

// ----- mutex

#[test]
fn mutex_excludes_threads_and_processes() {
    watchdog();
    let mutex = Mutex::new().unwrap();
    let numbers = Numbers::new();
    let work = || {
        for _ in 0..20_000 {
            mutex.lock(None).unwrap();
            numbers.add_racily(0);
            mutex.unlock().unwrap();
        }
    };
    let children = [fork(work), fork(work)];
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    assert!(children.map(|child| child.reap()) == [0, 0]);
    assert_eq!(numbers.get(0), 80_000);
    assert!(mutex.unlock().unwrap_err().is_misuse());
    assert!(!mutex.is_locked());
}

#[test]
fn mutex_is_tried_timed_and_unlocked_by_anybody() {
    let mutex = Mutex::new().unwrap();
    assert_eq!(mutex.owner(), None);
    assert!(mutex.try_lock().unwrap());
    assert!(!mutex.try_lock().unwrap());
    assert_eq!(mutex.owner(), Some(std::process::id()));
    assert!(mutex.lock(after(5)).unwrap_err().is_timeout());
    assert!(mutex.lock(Some(Instant::now())).unwrap_err().is_timeout());
    let same = Mutex::from_block(mutex.block().clone()).unwrap();
    assert_eq!(fork(|| same.unlock().unwrap()).reap(), 0);
    assert!(!mutex.is_locked());
    assert!(Mutex::from_block(Block::new(2).unwrap()).is_err());
}

#[test]
fn mutex_wait_is_interrupted_and_taken_up_again() {
    watchdog();
    let mutex = Mutex::new().unwrap();
    mutex.lock(None).unwrap();
    let first = interrupted(|| mutex.lock(long()), || false);
    assert!(first.unwrap_err().is_interrupted());
    once_asleep(|| mutex.lock(long()), |_| mutex.unlock().unwrap()).unwrap();
}

#[test]
fn a_long_wait_comes_up_now_and_then_as_if_for_a_signal() {
    watchdog();
    let mutex = Mutex::new().unwrap();
    mutex.lock(None).unwrap();
    // No signal: one that came between two sleeps would have ended none.
    assert!(mutex.lock(long()).unwrap_err().is_interrupted());
}

#[test]
fn a_dead_holder_is_reported_then_taken_over() {
    watchdog();
    let mutex = Mutex::new().unwrap();
    let child = fork(|| mutex.lock(None).unwrap());
    // Not reaped: a zombie counts as dead.
    child.wait();
    assert_eq!(mutex.owner(), Some(child.pid()));
    assert_eq!(mutex.lock(long()).unwrap_err().dead_owner(), Some(child.pid()));
    assert!(mutex.is_locked());
    let pid = child.pid();
    assert_eq!(child.reap(), 0);
    assert_eq!(mutex.lock(None).unwrap_err().dead_owner(), Some(pid));
    assert!(mutex.lock_or_recover(None).unwrap());
    assert_eq!(mutex.owner(), Some(std::process::id()));
    mutex.unlock().unwrap();
    assert!(!mutex.lock_or_recover(None).unwrap());
}

#[test]
fn those_who_sleep_find_out_that_the_holder_was_killed() {
    watchdog();
    let mutex = Mutex::new().unwrap();
    let holder = fork(|| {
        mutex.lock(None).unwrap();
        thread::sleep(Duration::from_secs(60));
    });
    until(|| mutex.is_locked());
    let found = once_asleep(|| mutex.lock(None), |_| holder.kill());
    assert_eq!(found.unwrap_err().dead_owner(), Some(holder.pid()));
    // A deadline shorter than the first look around does not hide it.
    assert_eq!(mutex.lock(after(10)).unwrap_err().dead_owner(), Some(holder.pid()));
    mutex.unlock().unwrap();
    mutex.lock(None).unwrap();
}

#[test]
fn a_holder_that_lives_is_not_taken_for_dead() {
    watchdog();
    let mutex = Mutex::new().unwrap();
    let holder = fork(|| {
        mutex.lock(None).unwrap();
        thread::sleep(Duration::from_millis(150));
        mutex.unlock().unwrap();
    });
    until(|| mutex.is_locked());
    assert!(!mutex.lock_or_recover(None).unwrap());
    assert_eq!(holder.reap(), 0);
}

#[test]
fn a_mutex_survives_deaths_at_any_instruction() {
    watchdog();
    let mutex = Mutex::new().unwrap();
    let numbers = Numbers::new();
    let work = || loop {
        mutex.lock_or_recover(None).unwrap();
        numbers.add_racily(0);
        numbers.add_racily(1);
        mutex.unlock().unwrap();
    };
    for round in 0..15 {
        let victims = [fork(work), fork(work)];
        let seen = numbers.get(0);
        until(|| numbers.get(0) > seen + 100 + 37 * round);
        victims[0].kill();
        mutex.lock_or_recover(None).unwrap();
        mutex.unlock().unwrap();
        let seen = numbers.get(0);
        until(|| numbers.get(0) > seen + 100);
    }
    mutex.lock_or_recover(None).unwrap();
    // A victim between the two additions leaves them unequal by one.
    assert!(numbers.get(0) - numbers.get(1) <= 30);
}

// ----- recursive mutex

#[test]
fn recursive_mutex_counts_for_its_thread_alone() {
    watchdog();
    let mutex = RecursiveMutex::new().unwrap();
    assert!(mutex.unlock().unwrap_err().is_misuse());
    mutex.lock(None).unwrap();
    assert!(mutex.try_lock().unwrap());
    mutex.lock(None).unwrap();
    assert_eq!((mutex.count(), mutex.is_owned()), (3, true));
    assert_eq!(mutex.owner(), Some(std::process::id()));
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(!mutex.is_owned());
            assert!(!mutex.try_lock().unwrap());
            assert!(mutex.unlock().unwrap_err().is_misuse());
            assert!(mutex.lock(after(2)).unwrap_err().is_timeout());
        });
    });
    // The copy of the thread that holds it does not.
    let child = fork(|| {
        assert!(!mutex.is_owned());
        assert!(mutex.unlock().unwrap_err().is_misuse());
        mutex.lock(None).unwrap();
        mutex.lock(None).unwrap();
        mutex.unlock().unwrap();
        mutex.unlock().unwrap();
    });
    for left in [2, 1, 0] {
        mutex.unlock().unwrap();
        assert!(left == 0 || mutex.count() == left);
    }
    assert_eq!(child.reap(), 0);
    assert_eq!((mutex.count(), mutex.owner()), (0, None));
}

#[test]
fn recursive_mutex_reports_a_dead_holder() {
    watchdog();
    let mutex = RecursiveMutex::new().unwrap();
    let child = fork(|| (0..3).for_each(|_| mutex.lock(None).unwrap()));
    child.wait();
    assert_eq!(mutex.lock(None).unwrap_err().dead_owner(), Some(child.pid()));
    assert!(!mutex.is_owned());
}

#[test]
fn recursive_mutex_excludes() {
    watchdog();
    let mutex = RecursiveMutex::new().unwrap();
    let numbers = Numbers::new();
    let work = || {
        for _ in 0..10_000 {
            mutex.lock(None).unwrap();
            mutex.lock(None).unwrap();
            numbers.add_racily(0);
            mutex.unlock().unwrap();
            numbers.add_racily(0);
            mutex.unlock().unwrap();
        }
    };
    let child = fork(work);
    thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    assert_eq!(child.reap(), 0);
    assert_eq!(numbers.get(0), 60_000);
}

// ----- semaphore

#[test]
fn semaphore_counts_to_its_limit() {
    let semaphore = Semaphore::new(2, Some(3)).unwrap();
    assert!(semaphore.try_acquire().unwrap());
    semaphore.acquire(None).unwrap();
    assert!(!semaphore.try_acquire().unwrap());
    assert!(semaphore.acquire(after(2)).unwrap_err().is_timeout());
    semaphore.release(3).unwrap();
    assert!(semaphore.release(1).unwrap_err().is_misuse());
    assert_eq!(semaphore.value(), 3);
    assert!(Semaphore::new(4, Some(3)).unwrap_err().is_misuse());
    let full = Semaphore::new(Semaphore::MAX, None).unwrap();
    assert!(full.release(1).unwrap_err().is_misuse());
}

#[test]
fn semaphore_hands_out_what_was_released_exactly() {
    watchdog();
    let semaphore = Semaphore::new(0, None).unwrap();
    let numbers = Numbers::new();
    let take = || {
        for _ in 0..6_000 {
            semaphore.acquire(None).unwrap();
            numbers.add(0);
        }
    };
    let child = fork(take);
    thread::scope(|scope| {
        scope.spawn(take);
        scope.spawn(take);
        for n in [1, 2, 3].iter().cycle().take(9_000) {
            semaphore.release(*n).unwrap();
        }
    });
    assert_eq!(child.reap(), 0);
    assert_eq!((numbers.get(0), semaphore.value()), (18_000, 0));
}

#[test]
fn semaphore_wakes_as_many_as_it_was_released_by() {
    watchdog();
    let semaphore = Semaphore::new(0, None).unwrap();
    let woken = AtomicUsize::new(0);
    thread::scope(|scope| {
        let tids = thread_ids(scope, 4, || {
            semaphore.acquire(None).unwrap();
            woken.fetch_add(1, Ordering::SeqCst);
        });
        until(|| tids().iter().all(|&tid| sleeps(std::process::id(), tid)));
        semaphore.release(1).unwrap();
        semaphore.release(1).unwrap();
        until(|| woken.load(Ordering::SeqCst) == 2);
        thread::sleep(Duration::from_millis(30));
        assert_eq!(woken.load(Ordering::SeqCst), 2);
        semaphore.release(2).unwrap();
    });
    assert_eq!(woken.load(Ordering::SeqCst), 4);
}

/// Starts `n` threads that run `work`; gives their ids once all have begun.
fn thread_ids<'s>(
    scope: &'s thread::Scope<'s, '_>,
    n: usize,
    work: impl Fn() + Send + Clone + 's,
) -> impl Fn() -> Vec<u32> {
    let (send, receive) = std::sync::mpsc::channel();
    for _ in 0..n {
        let (send, work) = (send.clone(), work.clone());
        scope.spawn(move || {
            send.send(my_tid()).unwrap();
            work();
        });
    }
    let ids: Vec<u32> = receive.iter().take(n).collect();
    move || ids.clone()
}

#[test]
fn killed_sleepers_do_not_keep_a_semaphore_from_others() {
    watchdog();
    let semaphore = Semaphore::new(0, None).unwrap();
    for _ in 0..10 {
        let victims: Vec<_> = (0..3).map(|_| fork(|| semaphore.acquire(None).unwrap())).collect();
        until(|| victims.iter().all(|child| sleeps(child.pid(), child.pid())));
        let survivor = || semaphore.acquire(long()).unwrap();
        once_asleep(survivor, |_| {
            // The wake-ups race with the deaths of those whom they may reach first.
            victims.iter().for_each(|child| child.kill());
            semaphore.release(4).unwrap();
        });
        drop(victims);
        while semaphore.try_acquire().unwrap() {}
    }
}

#[test]
fn semaphore_wait_is_interrupted() {
    let semaphore = Semaphore::new(0, None).unwrap();
    let error = interrupted(|| semaphore.acquire(None), || false).unwrap_err();
    assert!(error.is_interrupted());
    semaphore.release(1).unwrap();
    semaphore.acquire(None).unwrap();
}

// ----- event

#[test]
fn event_is_set_cleared_and_waited_for() {
    watchdog();
    let event = Event::new().unwrap();
    assert!(!event.is_set());
    assert!(event.wait(after(2)).unwrap_err().is_timeout());
    let child = fork(|| event.wait(None).unwrap());
    once_asleep(|| event.wait(None), |_| event.set()).unwrap();
    assert_eq!(child.reap(), 0);
    event.set();
    assert!(event.is_set());
    event.wait(Some(Instant::now())).unwrap();
    event.clear();
    assert!(!event.is_set());
    assert!(event.wait(after(2)).unwrap_err().is_timeout());
}

#[test]
fn a_clear_right_after_a_set_keeps_nobody_asleep() {
    watchdog();
    let event = Event::new().unwrap();
    for _ in 0..50 {
        let wait = || event.wait(None);
        once_asleep(wait, |_| {
            event.set();
            event.clear();
        })
        .unwrap();
    }
}

#[test]
fn an_interrupted_wait_misses_no_set() {
    let event = Event::new().unwrap();
    let rounds = event.rounds();
    let error = interrupted(|| event.wait_after(rounds, None), || false).unwrap_err();
    assert!(error.is_interrupted());
    event.set();
    event.clear();
    event.wait_after(rounds, None).unwrap();
}

// ----- condition

/// `n` threads wait; what each of them was told, `None` while it waits.
fn waiters<'s>(
    scope: &'s thread::Scope<'s, '_>,
    n: usize,
    condition: &'s Condition,
    mutex: &'s Mutex,
    told: &'s AtomicUsize,
) {
    let tids = thread_ids(scope, n, || {
        mutex.lock(None).unwrap();
        assert!(condition.wait(mutex, None).unwrap());
        told.fetch_add(1, Ordering::SeqCst);
        mutex.unlock().unwrap();
    });
    until(|| tids().iter().all(|&tid| sleeps(std::process::id(), tid)) && !mutex.is_locked());
}

#[test]
fn condition_tells_exactly_as_many_as_it_is_asked_to() {
    watchdog();
    let (condition, mutex) = (Condition::new().unwrap(), Mutex::new().unwrap());
    let told = AtomicUsize::new(0);
    thread::scope(|scope| {
        waiters(scope, 6, &condition, &mutex, &told);
        for (asked, expected, total) in [(1, 1, 1), (2, 2, 3), (0, 0, 3)] {
            mutex.lock(None).unwrap();
            assert_eq!(condition.notify(asked), expected);
            mutex.unlock().unwrap();
            until(|| told.load(Ordering::SeqCst) == total);
            thread::sleep(Duration::from_millis(30));
            assert_eq!(told.load(Ordering::SeqCst), total);
        }
        mutex.lock(None).unwrap();
        assert_eq!(condition.notify_all(), 3);
        assert_eq!(condition.notify(5), 0);
        mutex.unlock().unwrap();
    });
    assert_eq!(told.load(Ordering::SeqCst), 6);
    assert!(condition.wait(&mutex, None).unwrap_err().is_misuse());
    assert!(condition.sleep(None).unwrap_err().is_misuse());
}

#[test]
fn a_notification_is_not_for_those_who_come_after_it() {
    watchdog();
    let condition = Condition::new().unwrap();
    let steps = [Event::new().unwrap(), Event::new().unwrap()];
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            condition.enter().unwrap();
            steps[0].set();
            // Too slow to sleep before the notification, and before the other sleeps.
            steps[1].wait(None).unwrap();
            let notified = condition.sleep(None).unwrap();
            condition.leave(notified)
        });
        steps[0].wait(None).unwrap();
        assert_eq!(condition.notify(1), 1);
        condition.enter().unwrap();
        assert!(!condition.sleep(after(5)).unwrap());
        assert!(!condition.leave(false));
        steps[1].set();
        assert!(first.join().unwrap());
    });
}

#[test]
fn a_wait_that_timed_out_or_was_interrupted_says_whether_it_was_told() {
    let condition = Condition::new().unwrap();
    condition.enter().unwrap();
    assert!(!condition.sleep(Some(Instant::now())).unwrap());
    assert_eq!(condition.notify_all(), 1);
    assert!(condition.leave(false));
    condition.enter().unwrap();
    assert!(!condition.leave(false));
    assert_eq!(condition.notify_all(), 0);
    let wait = || {
        condition.enter().unwrap();
        (condition.sleep(None), condition.leave(false))
    };
    let slept = interrupted(wait, || false);
    assert!(slept.0.unwrap_err().is_interrupted() && !slept.1);
}

#[test]
fn a_notification_for_a_dead_waiter_goes_to_the_next() {
    watchdog();
    let (condition, mutex) = (Condition::new().unwrap(), Mutex::new().unwrap());
    let told = AtomicUsize::new(0);
    let victims = [(); 2].map(|()| {
        let child = fork(|| {
            mutex.lock(None).unwrap();
            let _ = condition.wait(&mutex, None);
        });
        until(|| sleeps(child.pid(), child.pid()) && !mutex.is_locked());
        child
    });
    thread::scope(|scope| {
        waiters(scope, 1, &condition, &mutex, &told);
        drop(victims);
        mutex.lock(None).unwrap();
        assert_eq!(condition.notify(1), 1);
        assert_eq!(condition.notify_all(), 0);
        mutex.unlock().unwrap();
    });
}

#[test]
fn condition_hands_a_turn_to_and_fro() {
    watchdog();
    let (condition, mutex) = (Condition::new().unwrap(), Mutex::new().unwrap());
    let numbers = Numbers::new();
    let play = |me: u64| {
        mutex.lock(None).unwrap();
        for _ in 0..3_000 {
            while numbers.get(0) % 2 != me {
                assert!(condition.wait(&mutex, None).unwrap());
            }
            numbers.add_racily(0);
            condition.notify(1);
        }
        mutex.unlock().unwrap();
    };
    let child = fork(|| play(1));
    play(0);
    assert_eq!(child.reap(), 0);
    assert_eq!(numbers.get(0), 6_000);
}

#[test]
fn a_condition_is_full_at_some_time_but_not_of_dead() {
    watchdog();
    let condition = Condition::new().unwrap();
    let child = fork(|| {
        (0..Condition::MAX_WAITERS).for_each(|_| condition.enter().unwrap());
        assert!(condition.enter().unwrap_err().is_misuse());
    });
    assert_eq!(child.reap(), 0);
    condition.enter().unwrap();
    assert_eq!(condition.notify(1), 1);
    assert!(condition.leave(false));
}

// ----- barrier

#[test]
fn barrier_lets_all_go_on_together_each_with_its_number() {
    watchdog();
    const ROUNDS: usize = 300;
    let barrier = Barrier::new(3).unwrap();
    let numbers = Numbers::new();
    let party = || {
        for round in 0..ROUNDS {
            numbers.add(0);
            let index = barrier.wait(None).unwrap() as usize;
            // Nobody is a round ahead: the next meeting needs us.
            assert!(numbers.get(0) as usize >= 3 * (round + 1));
            numbers.add(1 + index);
            barrier.wait(None).unwrap();
        }
    };
    let child = fork(party);
    thread::scope(|scope| {
        scope.spawn(party);
        scope.spawn(party);
    });
    assert_eq!(child.reap(), 0);
    for index in 1..=3 {
        assert_eq!(numbers.get(index) as usize, ROUNDS);
    }
    assert_eq!((barrier.waiting(), barrier.parties()), (0, 3));
}

#[test]
fn a_timeout_breaks_the_barrier_until_a_reset() {
    watchdog();
    let barrier = Barrier::new(3).unwrap();
    let other = once_asleep(
        || barrier.wait(None),
        |_| {
            assert_eq!(barrier.waiting(), 1);
            assert!(barrier.wait(after(5)).unwrap_err().is_timeout());
        },
    );
    assert!(other.unwrap_err().is_misuse());
    assert!(barrier.is_broken());
    assert!(barrier.wait(None).unwrap_err().is_misuse());
    barrier.reset();
    assert!(!barrier.is_broken());
    assert_eq!(barrier.waiting(), 0);
    assert!(Barrier::new(0).unwrap_err().is_misuse());
    assert_eq!(Barrier::new(1).unwrap().wait(None).unwrap(), 0);
}

#[test]
fn abort_and_reset_fail_those_who_wait() {
    watchdog();
    let barrier = Barrier::new(2).unwrap();
    let waited = once_asleep(|| barrier.wait(None), |_| barrier.reset());
    assert!(waited.unwrap_err().is_misuse());
    assert!(!barrier.is_broken());
    let waited = once_asleep(
        || barrier.wait(None),
        |_| {
            barrier.abort();
            barrier.reset();
        },
    );
    assert!(waited.unwrap_err().is_misuse());
    once_asleep(|| barrier.wait(None), |_| assert_eq!(barrier.wait(None).unwrap(), 1)).unwrap();
}

#[test]
fn the_last_runs_the_action_before_the_others_go_on() {
    watchdog();
    let barrier = Barrier::new(2).unwrap();
    let ran = AtomicBool::new(false);
    let act = || {
        assert_eq!(barrier.waiting(), 0);
        thread::sleep(Duration::from_millis(10));
        ran.store(true, Ordering::SeqCst);
        true
    };
    let party = || {
        let index = barrier.wait_with(None, act, || true).unwrap();
        assert!(ran.load(Ordering::SeqCst));
        index
    };
    thread::scope(|scope| {
        let other = scope.spawn(party);
        assert_eq!(party() + other.join().unwrap(), 1);
    });
    let fails = || barrier.wait_with(None, || false, || true);
    let other = once_asleep(fails, |_| assert!(fails().unwrap_err().is_misuse()));
    assert!(other.unwrap_err().is_misuse() && barrier.is_broken());
}

#[test]
fn an_action_that_panics_or_is_killed_breaks_the_barrier() {
    watchdog();
    let barrier = Barrier::new(2).unwrap();
    let panics = || barrier.wait_with(None, || panic!("as the test wants it"), || true);
    let other = once_asleep(
        || barrier.wait(None),
        |_| drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).unwrap_err()),
    );
    assert!(other.unwrap_err().is_misuse());
    barrier.reset();
    let killed = once_asleep(
        || barrier.wait(None),
        |_| {
            let dies = || -> bool { std::process::abort() };
            let child = fork(|| drop(barrier.wait_with(None, dies, || true)));
            assert_ne!(child.reap(), 0);
        },
    );
    assert!(killed.unwrap_err().is_misuse() && barrier.is_broken());
}

#[test]
fn a_signal_takes_a_party_out_or_lets_it_wait_on() {
    watchdog();
    let barrier = Barrier::new(2).unwrap();
    let error = interrupted(|| barrier.wait(None), || false).unwrap_err();
    assert!(error.is_interrupted());
    assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    let asked = AtomicUsize::new(0);
    let go_on = || {
        asked.fetch_add(1, Ordering::SeqCst);
        true
    };
    let enough = || {
        let enough = asked.load(Ordering::SeqCst) > 0;
        if enough {
            assert_eq!(barrier.waiting(), 1);
            assert_eq!(barrier.wait(None).unwrap(), 1);
        }
        enough
    };
    let index = interrupted(|| barrier.wait_with(None, || true, go_on), enough);
    assert_eq!(index.unwrap(), 0);
}

// ----- doorbell

#[test]
fn a_ring_ends_a_park() {
    watchdog();
    // Two threads hand a turn to each other; one lost ring and both sleep for ever.
    let bells = [Doorbell::new(), Doorbell::new()];
    let turn = AtomicUsize::new(0);
    let play = |me: usize| {
        for _ in 0..10_000 {
            let mine = || turn.load(Ordering::Relaxed) % 2 == me;
            while !mine() {
                bells[me].park(mine, None).unwrap();
            }
            turn.fetch_add(1, Ordering::Relaxed);
            bells[1 - me].ring();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| play(0));
        scope.spawn(|| play(1));
    });
    assert!(bells[0].park(|| false, after(5)).unwrap_err().is_timeout());
    bells[0].park(|| true, None).unwrap();
}

#[test]
fn a_spinning_ringer_meets_every_step_of_a_park() {
    watchdog();
    // The ringer comes at any instant between the sleeper's look and its sleep.
    let bell = Doorbell::new();
    let full = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20_000 {
                while !full.load(Ordering::Relaxed) {
                    bell.park(|| full.load(Ordering::Relaxed), None).unwrap();
                }
                full.store(false, Ordering::Relaxed);
            }
        });
        for _ in 0..20_000 {
            while full.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            full.store(true, Ordering::Relaxed);
            bell.ring();
        }
    });
}

#[test]
fn a_park_is_interrupted() {
    let bell = Doorbell::new();
    let error = interrupted(|| bell.park(|| false, None), || false).unwrap_err();
    assert!(error.is_interrupted());
}
