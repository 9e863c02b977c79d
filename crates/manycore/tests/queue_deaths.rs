//! What the deaths of its users do to the queue: nothing.

mod support;

use std::thread;
use std::time::Duration;

use manycore::channel::Queue;
use support::{Numbers, check, fork, item, log_memory, watchdog};

/// Kills children that put and get for all they are worth, at any time, while the parent does the
/// same and must never wait for ever.
#[test]
fn killing_anybody_at_any_time_leaves_the_queue_whole() {
    let _watchdog = watchdog("a queue whose users were killed");
    let rounds = 12;
    for maxsize in [0, 1, 3] {
        let queue = Queue::new(maxsize).unwrap();
        let mut numbers = Numbers::new(maxsize.into());
        for round in 0..rounds {
            let putter = fork(|| put_for_ever(&queue, 1));
            let getter = fork(|| {
                loop {
                    check(&queue.get(None).unwrap());
                }
            });
            thread::sleep(Duration::from_micros(500 + numbers.below(8_000)));
            let (first, second) = if round % 2 == 0 { (putter, getter) } else { (getter, putter) };
            first.kill();
            second.kill();
            // Both sides still work, and what comes out is whole and in order.
            thread::scope(|scope| {
                scope.spawn(|| queue.put(&[&item(2, round, 1000)], None).unwrap());
                let mut last = None;
                loop {
                    match check(&queue.get(None).unwrap()) {
                        (2, number) => break assert_eq!(number, round),
                        (_, number) => assert!(last.replace(number) < Some(number)),
                    }
                }
            });
            assert!(queue.is_empty());
        }
    }
}

fn put_for_ever(queue: &Queue, maker: u32) {
    let mut numbers = Numbers::new(7);
    for number in 0.. {
        let len = if numbers.below(50) == 0 { 3 << 20 } else { numbers.below(300) };
        queue.put(&[&item(maker, number, len as usize)], None).unwrap();
    }
}

/// Single-steps a child through `f` of `queue` and kills it after `steps` instructions. Whether it
/// had come to the end of `f` before.
fn kill_after(steps: u32, f: impl Fn(&Queue), queue: &Queue) -> bool {
    // SAFETY: a plain system call; the parent, which traces us, goes on with us after it.
    let stop = || assert_eq!(unsafe { libc::raise(libc::SIGSTOP) }, 0);
    let mut child = fork(|| {
        // SAFETY: a plain system call.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) }, 0);
        // What happens only once, as the linker's work, is of no interest.
        let warm = Queue::new(1).unwrap();
        warm.put(&[b"first"], None).unwrap();
        f(&if warm.is_full() && queue.is_full() { warm } else { small_queue() });
        stop();
        f(queue);
        stop();
    });
    assert!(libc::WIFSTOPPED(child.wait()), "the child has failed");
    let done = (0..steps).any(|_| {
        // SAFETY: the child is stopped and traced by this thread.
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child.pid(), 0, 0) };
        let status = child.wait();
        assert!(libc::WIFSTOPPED(status), "the child has failed");
        libc::WSTOPSIG(status) == libc::SIGSTOP
    });
    child.kill();
    done
}

/// Kills a child after 1, 2, 3 … instructions of `f`, each time with a queue that `prepare` has
/// made, and looks with `verify` what is left of it. Steps by `stride` instructions.
fn kill_everywhere(
    stride: u32,
    prepare: impl Fn() -> Queue,
    f: impl Fn(&Queue),
    verify: impl Fn(&Queue),
) {
    let mut steps = 0;
    loop {
        let queue = prepare();
        let done = kill_after(steps, &f, &queue);
        verify(&queue);
        if done {
            return;
        }
        steps += stride;
    }
}

/// A queue for one item with a warm ring.
fn small_queue() -> Queue {
    let queue = Queue::new(1).unwrap();
    queue.put(&[b"warm"], None).unwrap();
    queue.get(None).unwrap();
    queue
}

/// How far apart the kills are. 1 is every instruction: seconds in a release build, and hours
/// without optimisation.
fn stride() -> u32 {
    let usual = if cfg!(debug_assertions) { 401 } else { 7 };
    std::env::var("MANYCORE_TEST_STRIDE").map_or(usual, |stride| stride.parse().unwrap())
}

#[test]
fn a_putter_killed_at_any_instruction_leaves_no_half_item_and_no_sleeper() {
    let _watchdog = watchdog("a queue whose putter was killed");
    let put = |queue: &Queue| queue.put(&[b"half?"], None).unwrap();
    kill_everywhere(stride(), small_queue, put, |queue| {
        assert!(queue.len() <= 1);
        thread::scope(|scope| {
            scope.spawn(|| queue.put(&[b"next"], None).unwrap());
            let first = queue.get(None).unwrap();
            if first != b"next" {
                assert_eq!(first, b"half?");
                assert_eq!(queue.get(None).unwrap(), b"next");
            }
        });
        assert!(queue.is_empty());
    });
}

#[test]
fn a_putter_killed_in_the_middle_of_a_large_item_leaves_no_memory() {
    let _watchdog = watchdog("a queue whose putter was killed in the middle of a large item");
    let chunk = vec![1; 4 << 20];
    let item = [&chunk[..]; 128];
    for backlog in [false, true] {
        let queue = loop {
            let queue = Queue::new(0).unwrap();
            if backlog {
                queue.put(&item[..2], None).unwrap();
            }
            let before = log_memory(&queue);
            let putter = fork(|| queue.put(&item, None).unwrap());
            while log_memory(&queue) < before + (32 << 20) {
                thread::yield_now();
            }
            putter.kill();
            // It may have been faster.
            if queue.len() == usize::from(backlog) {
                break queue;
            }
        };
        assert!(log_memory(&queue) >= 32 << 20);
        if backlog {
            assert_eq!(queue.get(None).unwrap().len(), 8 << 20);
        }
        queue.put(&[b"next"], None).unwrap();
        assert_eq!(queue.get(None).unwrap(), b"next");
        assert!(log_memory(&queue) <= 8 << 20, "{} bytes", log_memory(&queue));
        assert!(queue.is_empty());
    }
}

#[test]
fn a_getter_killed_at_any_instruction_leaves_the_rest_and_no_sleeper() {
    let _watchdog = watchdog("a queue whose getter was killed");
    let full = || {
        let queue = small_queue();
        queue.put(&[b"first"], None).unwrap();
        queue
    };
    let get = |queue: &Queue| assert_eq!(queue.get(None).unwrap(), b"first");
    kill_everywhere(stride(), full, get, |queue| {
        thread::scope(|scope| {
            scope.spawn(|| queue.put(&[b"next"], None).unwrap());
            let first = queue.get(None).unwrap();
            if first != b"next" {
                assert_eq!(first, b"first");
                assert_eq!(queue.get(None).unwrap(), b"next");
            }
        });
        assert!(queue.is_empty());
    });
}

/// As above, but those who wait have gone to sleep before the one who should wake them is killed.
/// The dangerous instant is between the change and the wake-up.
#[test]
fn sleepers_of_a_killed_process_are_woken_or_need_not_be() {
    let _watchdog = watchdog("sleepers of a killed process");
    let mut steps = 0;
    loop {
        let queue = small_queue();
        let done = thread::scope(|scope| {
            let getter = scope.spawn(|| {
                let first = queue.get(None).unwrap();
                if first != b"next" {
                    assert_eq!(first, b"half?");
                    assert_eq!(queue.get(None).unwrap(), b"next");
                }
            });
            thread::sleep(Duration::from_millis(2));
            let done = kill_after(steps, |queue| queue.put(&[b"half?"], None).unwrap(), &queue);
            // If the dead one's item is in the queue and nobody was told, this waits for room and
            // the getter for an item, both for ever.
            queue.put(&[b"next"], None).unwrap();
            getter.join().unwrap();
            done
        });
        assert!(queue.is_empty());
        if done {
            return;
        }
        steps += stride();
    }
}

/// As above for the other side: those who wait for room.
#[test]
fn sleepers_for_room_survive_the_death_of_a_getter() {
    let _watchdog = watchdog("sleepers for room");
    let mut steps = 0;
    loop {
        let queue = small_queue();
        queue.put(&[b"first"], None).unwrap();
        let done = thread::scope(|scope| {
            scope.spawn(|| queue.put(&[b"next"], None).unwrap());
            thread::sleep(Duration::from_millis(2));
            let done = kill_after(steps, |queue| drop(queue.get(None).unwrap()), &queue);
            let first = queue.get(None).unwrap();
            if first != b"next" {
                assert_eq!(first, b"first");
                assert_eq!(queue.get(None).unwrap(), b"next");
            }
            done
        });
        assert!(queue.is_empty());
        if done {
            return;
        }
        steps += stride();
    }
}

#[test]
fn a_killed_sleeper_takes_nobodys_wake_up() {
    let _watchdog = watchdog("sleepers");
    for round in 0..20 {
        let queue = Queue::new(0).unwrap();
        let sleepers = [0; 3].map(|_| fork(|| drop(queue.get(None).unwrap())));
        thread::sleep(Duration::from_millis(5));
        let [first, second, third] = sleepers;
        // Put and kill at nearly the same time: the first one may or may not take an item.
        queue.put(&[b"1"], None).unwrap();
        if round % 2 == 0 {
            thread::yield_now();
        }
        first.kill();
        queue.put(&[b"2"], None).unwrap();
        queue.put(&[b"3"], None).unwrap();
        second.join();
        third.join();
    }
}
