//! The queue between processes: order, limits, memory.
#![allow(clippy::disallowed_types, reason = "no model looks at a test")]

mod support;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use manycore::channel::{Queue, QueueParts, Took};
use manycore::process::Command;
use support::{Child, Numbers, check, fork, item, log_memory, soon, watchdog};

fn own(fd: BorrowedFd<'_>) -> std::io::Result<OwnedFd> {
    fd.try_clone_to_owned()
}

/// Puts without waiting if that is possible.
fn put(queue: &Queue, item: &[u8]) {
    if !queue.put_now(&[item]).unwrap() {
        queue.put(&[item], None).unwrap();
    }
}

/// Gets without waiting if that is possible, and long items in two steps.
fn get(queue: &Queue) -> Vec<u8> {
    const SHORT: usize = 300;
    let mut bytes = Vec::new();
    let mut took = queue.take_now(&mut bytes, SHORT).unwrap();
    loop {
        match took {
            Took::Item => return bytes,
            Took::Long(long) => {
                assert_eq!(bytes.len(), SHORT);
                let len = long.len() as usize;
                let mut whole = Vec::with_capacity(len);
                let (first, second) = whole.spare_capacity_mut()[..len].split_at_mut(len / 3);
                if queue.take_long(&long, &mut [first, second]).unwrap() {
                    // SAFETY: all of it was filled.
                    unsafe { whole.set_len(len) };
                    assert_eq!(whole[..SHORT], bytes);
                    return whole;
                }
            }
            Took::Nothing => {}
        }
        took = queue.take(&mut bytes, SHORT, None).unwrap();
    }
}

/// Another process's view of the queue, in this one.
fn attach(queue: &Queue) -> Queue {
    Queue::attach(queue.share().unwrap().try_map(own).unwrap()).unwrap()
}

#[test]
fn items_come_out_in_the_order_they_went_in() {
    let queue = Queue::new(0).unwrap();
    for len in [0, 1, 7, 8, 100, 4087, 4088, 4089, 1 << 20, (2 << 20) - 8, 2 << 20, 9 << 20, 3] {
        queue.put(&[&item(0, len as u32, len)], None).unwrap();
    }
    assert_eq!(queue.len(), 13);
    for len in [0, 1, 7, 8, 100, 4087, 4088, 4089, 1 << 20, (2 << 20) - 8, 2 << 20, 9 << 20, 3] {
        let bytes = queue.get(None).unwrap();
        assert_eq!((check(&bytes), bytes.len()), ((0, len as u32), len + 8));
    }
    assert!(queue.is_empty());
}

#[test]
fn parts_are_put_together() {
    let queue = Queue::new(0).unwrap();
    queue.put(&[b"ab", b"", b"cde"], None).unwrap();
    queue.put(&[], None).unwrap();
    let big = vec![1; 3 << 20];
    queue.put(&[&big, b"", &big[..5]], None).unwrap();
    queue.put(&[b"in the log", &[], b" as well"], None).unwrap();
    let many: Vec<&[u8]> = (0..5000).map(|_| &b"x"[..]).collect();
    queue.put(&many, None).unwrap();
    assert_eq!(queue.get(None).unwrap(), b"abcde");
    assert_eq!(queue.get(None).unwrap(), b"");
    assert_eq!(queue.get(None).unwrap(), vec![1; (3 << 20) + 5]);
    assert_eq!(queue.get(None).unwrap(), b"in the log as well");
    assert_eq!(queue.get(None).unwrap(), vec![b'x'; 5000]);
}

#[test]
fn any_mixture_keeps_its_order() {
    for seed in 0..8 {
        let queue = Queue::new(0).unwrap();
        let mut numbers = Numbers::new(seed);
        let (mut put, mut got) = (0, 0);
        let backlog = [3, 30, 300][seed as usize % 3];
        let mut buffer = Vec::new();
        while got < 1500 {
            if put - got < numbers.below(backlog) as u32 {
                let len = match numbers.below(20) {
                    0 => numbers.below(5 << 20),
                    1..5 => numbers.below(300 << 10),
                    _ => numbers.below(200),
                };
                queue.put(&[&item(0, put, len as usize)], None).unwrap();
                put += 1;
            } else if put > got {
                queue.get_into(&mut buffer, None).unwrap();
                assert_eq!(check(&buffer), (0, got));
                got += 1;
            }
            assert_eq!(queue.len(), (put - got) as usize);
        }
    }
}

#[test]
fn a_bounded_queue_is_full_and_has_room_again() {
    let _watchdog = watchdog("a bounded queue");
    let queue = Queue::new(2).unwrap();
    assert_eq!(queue.maxsize(), 2);
    queue.put(&[b"1"], None).unwrap();
    assert!(!queue.is_full());
    queue.put(&[b"2"], soon(0)).unwrap();
    assert!(queue.is_full());
    assert!(queue.put(&[b"3"], soon(0)).unwrap_err().is_timeout());
    assert!(queue.put(&[b"3"], soon(10)).unwrap_err().is_timeout());
    thread::scope(|scope| {
        scope.spawn(|| queue.put(&[b"3"], None).unwrap());
        thread::sleep(Duration::from_millis(20));
        assert_eq!((queue.len(), queue.get(None).unwrap()), (2, b"1".to_vec()));
    });
    assert_eq!(queue.get(soon(0)).unwrap(), b"2");
    assert_eq!(queue.get(None).unwrap(), b"3");
    assert!(!Queue::new(0).unwrap().is_full());
}

#[test]
fn an_empty_queue_lets_wait() {
    let _watchdog = watchdog("an empty queue");
    let queue = Queue::new(0).unwrap();
    assert!(queue.get(soon(0)).unwrap_err().is_timeout());
    let before = Instant::now();
    assert!(queue.get(soon(30)).unwrap_err().is_timeout());
    assert!(before.elapsed() >= Duration::from_millis(30));
    for _ in 0..20 {
        thread::scope(|scope| {
            let bytes = scope.spawn(|| queue.get(None).unwrap());
            thread::sleep(Duration::from_millis(3));
            queue.put(&[b"wake up"], None).unwrap();
            assert_eq!(bytes.join().unwrap(), b"wake up");
        });
    }
}

#[test]
fn a_signal_ends_a_wait_and_loses_nothing() {
    extern "C" fn nothing(_: libc::c_int) {}
    let _watchdog = watchdog("an interrupted get");
    // SAFETY: the handler does nothing; without SA_RESTART a wait ends.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut());
    }
    let queue = &Queue::new(0).unwrap();
    thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let getter = scope.spawn(move || {
            // SAFETY: asks for the id of this thread.
            tell.send(unsafe { libc::pthread_self() }).unwrap();
            let error = queue.get(None).unwrap_err();
            assert!(error.is_interrupted());
            drop(tell);
            // More signals may come, until the other side has seen that one was enough.
            loop {
                match queue.get(None) {
                    Err(error) => assert!(error.is_interrupted()),
                    Ok(bytes) => break bytes,
                }
            }
        });
        let id = told.recv().unwrap();
        while told.recv_timeout(Duration::from_millis(2)) == Err(RecvTimeoutError::Timeout) {
            // SAFETY: the thread is not joined yet, so its id is valid.
            unsafe { libc::pthread_kill(id, libc::SIGUSR2) };
        }
        queue.put(&[b"after"], None).unwrap();
        assert_eq!(getter.join().unwrap(), b"after");
    });
}

#[test]
fn a_child_that_has_put_much_may_end_at_once() {
    let _watchdog = watchdog("a child");
    let queue = Queue::new(0).unwrap();
    fork(|| (0..100).for_each(|i| queue.put(&[&item(1, i, 1 << 20)], None).unwrap())).join();
    assert_eq!(queue.len(), 100);
    for i in 0..100 {
        assert_eq!(check(&queue.get(soon(0)).unwrap()), (1, i));
    }
    assert!(log_memory(&queue) <= 8 << 20, "{} bytes", log_memory(&queue));
}

#[test]
fn long_items_stay_in_warm_memory_while_somebody_reads() {
    let _watchdog = watchdog("long items");
    let queue = Queue::new(0).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| (0..300).for_each(|i| queue.put(&[&item(0, i, 1 << 20)], None).unwrap()));
        (0..300).for_each(|i| assert_eq!(check(&queue.get(None).unwrap()), (0, i)));
    });
    // Nobody reads: a put does not wait for long.
    for i in 0..20 {
        queue.put(&[&item(0, i, 1 << 20)], None).unwrap();
    }
    assert!(log_memory(&queue) >= 12 << 20);
    (0..20).for_each(|i| assert_eq!(check(&queue.get(soon(0)).unwrap()), (0, i)));
}

#[test]
fn memory_is_given_back_behind_the_readers() {
    let queue = Queue::new(0).unwrap();
    let bytes = item(0, 0, 3 << 20);
    for _ in 0..5 {
        queue.put(&[&bytes], None).unwrap();
    }
    // The log never runs empty, so it never starts again at its beginning.
    for _ in 0..100 {
        queue.put(&[&bytes], None).unwrap();
        assert!(queue.get(None).unwrap() == bytes);
        assert!(log_memory(&queue) <= 40 << 20, "{} bytes", log_memory(&queue));
    }
}

#[test]
fn another_program_attaches_the_queue() {
    let _watchdog = watchdog("another program");
    let (there, back) = (Queue::new(0).unwrap(), Queue::new(1).unwrap());
    let fds = [there.share().unwrap(), back.share().unwrap()];
    let fds = fds.iter().flat_map(|parts| [parts.segment, parts.log, parts.lamp]);
    let numbers: Vec<_> = fds.clone().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["entry", "--exact", "--nocapture"]).env("QUEUE_TEST_FDS", numbers.join(" "));
    for fd in fds {
        command.fd(fd);
    }
    let child = command.spawn().unwrap();
    for i in 0..1000 {
        there.put(&[&item(0, i, if i % 100 == 0 { 3 << 20 } else { 10 })], None).unwrap();
    }
    for i in 0..1000 {
        assert_eq!(check(&back.get(None).unwrap()), (0, i));
    }
    assert_eq!(child.wait(None).unwrap().exitcode(), 0);
}

/// What the program of the test above does.
#[test]
fn entry() {
    let Ok(fds) = std::env::var("QUEUE_TEST_FDS") else { return };
    let own = |number: &str| {
        let fd: RawFd = number.parse().unwrap();
        // SAFETY: the parent gave us the descriptor, open.
        unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().unwrap()
    };
    let fds: Vec<_> = fds.split(' ').map(own).collect();
    let mut fds = fds.into_iter();
    let mut attach = || {
        let mut next = || fds.next().unwrap();
        Queue::attach(QueueParts { segment: next(), log: next(), lamp: next() }).unwrap()
    };
    let (there, back) = (attach(), attach());
    for _ in 0..1000 {
        back.put(&[&there.get(None).unwrap()], None).unwrap();
    }
}

#[test]
fn descriptors_of_something_else_are_refused() {
    let queue = Queue::new(0).unwrap();
    let parts = queue.share().unwrap();
    let swapped = QueueParts { segment: parts.log, log: parts.segment, ..parts };
    assert!(Queue::attach(swapped.try_map(own).unwrap()).is_err());
    let block = manycore::memory::Block::new(16 << 20).unwrap();
    let foreign = QueueParts { segment: block.share().unwrap().0, ..parts };
    assert!(Queue::attach(foreign.try_map(own).unwrap()).is_err());
}

#[test]
fn many_put_and_many_get() {
    const EACH: u32 = 2000;
    let _watchdog = watchdog("many processes");
    for maxsize in [0, 1, 5] {
        let queue = Queue::new(maxsize).unwrap();
        let seen = Queue::new(0).unwrap();
        let putter = |maker: u32| {
            let mut numbers = Numbers::new(maker.into());
            for number in 0..EACH {
                let len = if numbers.below(100) == 0 { 3 << 20 } else { numbers.below(500) };
                put(&queue, &item(maker, number, len as usize));
            }
        };
        let getter = || {
            let mut next = [0; 3];
            loop {
                let bytes = get(&queue);
                if bytes.is_empty() {
                    return;
                }
                let (maker, number) = check(&bytes);
                assert!(number >= next[maker as usize], "order");
                next[maker as usize] = number + 1;
                seen.put(&[&bytes[..8]], None).unwrap();
            }
        };
        let getters = [0; 3].map(|_| fork(getter));
        let putters = [0, 1, 2].map(|maker| fork(|| putter(maker)));
        putters.into_iter().for_each(Child::join);
        getters.iter().for_each(|_| queue.put(&[], None).unwrap());
        getters.into_iter().for_each(Child::join);
        assert_eq!((queue.len(), seen.len()), (0, 3 * EACH as usize));
        let mut all: Vec<_> = (0..3 * EACH).map(|_| check(&seen.get(None).unwrap())).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 3 * EACH as usize);
    }
}

#[test]
fn threads_put_and_get_at_once() {
    let _watchdog = watchdog("threads");
    let queue = Queue::new(3).unwrap();
    thread::scope(|scope| {
        for maker in 0..3 {
            let queue = &queue;
            scope.spawn(move || {
                (0..10_000).for_each(|i| put(queue, &item(maker, i, 9)));
            });
            scope.spawn(move || {
                (0..10_000).for_each(|_| assert!(check(&get(queue)).0 < 3));
            });
        }
    });
    assert!(queue.is_empty());
}

#[test]
fn long_items_stay_until_there_is_a_place_for_them() {
    let queue = Queue::new(0).unwrap();
    let mut beginning = Vec::new();
    assert!(matches!(queue.take_now(&mut beginning, 4), Ok(Took::Nothing)));
    for len in [100, 3 << 20, 40_000] {
        put(&queue, &vec![7; len]);
        put(&queue, b"next");
        let Took::Long(long) = queue.take_now(&mut beginning, 4).unwrap() else {
            panic!("it is longer than 4 bytes");
        };
        assert_eq!((long.len(), &beginning[..]), (len as u64, &[7; 4][..]));
        let mut short = vec![std::mem::MaybeUninit::uninit(); len - 1];
        assert!(queue.take_long(&long, &mut [&mut short]).unwrap_err().is_misuse());
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.get(None).unwrap(), vec![7; len]);
        let mut room = vec![std::mem::MaybeUninit::uninit(); len];
        assert!(!queue.take_long(&long, &mut [&mut room]).unwrap(), "it was taken");
        assert_eq!(get(&queue), b"next");
    }
}

#[test]
fn exhausted_memory_is_an_error_and_the_queue_stays_whole() {
    let _watchdog = watchdog("exhausted memory");
    let queue = Queue::new(0).unwrap();
    queue.put(&[b"before"], None).unwrap();
    fork(|| {
        let limit = libc::rlimit { rlim_cur: 20 << 20, rlim_max: 20 << 20 };
        // SAFETY: plain calls; the signal would end the process instead of failing the write.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
        }
        let error = queue.put(&[&vec![1; 50 << 20]], None).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
        queue.put(&[&item(0, 1, 10 << 20)], None).unwrap();
        assert!(queue.put(&[&item(0, 2, 12 << 20)], None).is_err());
        queue.put(&[&item(0, 3, 100)], None).unwrap();
    })
    .join();
    assert_eq!(queue.get(soon(0)).unwrap(), b"before");
    assert_eq!(check(&queue.get(soon(0)).unwrap()), (0, 1));
    assert_eq!(check(&queue.get(soon(0)).unwrap()), (0, 3));
    assert!(queue.get(soon(0)).unwrap_err().is_timeout());
    assert!(log_memory(&queue) <= 8 << 20);
}

#[test]
fn a_child_of_a_busy_process_uses_the_queue() {
    let _watchdog = watchdog("a child of a busy process");
    let queue = Queue::new(4).unwrap();
    let busy = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            while busy.load(Ordering::Relaxed) {
                queue.put(&[&item(0, 0, 100)], None).unwrap();
            }
        });
        for _ in 0..30 {
            fork(|| assert_eq!(check(&queue.get(None).unwrap()), (0, 0))).join();
        }
        busy.store(false, Ordering::Relaxed);
        while queue.get(soon(20)).is_ok() {}
    });
}

/// Figures, not a test: `cargo test --release -p manycore --test queue -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures"]
fn figures() {
    let queue = Queue::new(0).unwrap();
    let mut buffer = Vec::new();
    let measure = |what: &str, bytes: usize, count: u32, f: &mut dyn FnMut()| {
        let before = Instant::now();
        f();
        let each = before.elapsed() / count;
        let rate = bytes as f64 / each.as_secs_f64() / 1e9;
        println!("{what:50} {each:>10.1?} {rate:6.2} GB/s");
    };
    for bytes in [8, 100, 1000, 64 << 10, 1 << 20, 16 << 20] {
        let data = vec![1; bytes];
        let count = (4_000_000_000 / (bytes + 4000)).clamp(50, 200_000) as u32;
        let what = format!("{bytes} bytes, put and get in one thread");
        for _ in 0..2 {
            measure(&what, bytes, count, &mut || {
                for _ in 0..count {
                    queue.put(&[&data], None).unwrap();
                    queue.get_into(&mut buffer, None).unwrap();
                }
            });
        }
        let what = format!("{bytes} bytes, one process to another");
        let child = fork(|| (0..2 * count).for_each(|_| queue.put(&[&data], None).unwrap()));
        for _ in 0..2 {
            measure(&what, bytes, count, &mut || {
                (0..count).for_each(|_| queue.get_into(&mut buffer, None).unwrap());
            });
        }
        child.join();
        drop(attach(&queue));
    }
    let data = [1; 100];
    let count = 500_000;
    measure("100 bytes, all put, then all got: put", 100, count, &mut || {
        (0..count).for_each(|_| queue.put(&[&data], None).unwrap());
    });
    measure("100 bytes, all put, then all got: get", 100, count, &mut || {
        (0..count).for_each(|_| queue.get_into(&mut buffer, None).unwrap());
    });
    let back = Queue::new(0).unwrap();
    let count = 20_000;
    let child =
        fork(|| (0..count).for_each(|_| back.put(&[&queue.get(None).unwrap()], None).unwrap()));
    measure("100 bytes, there and back", 100, count, &mut || {
        for _ in 0..count {
            queue.put(&[&data], None).unwrap();
            back.get_into(&mut buffer, None).unwrap();
        }
    });
    child.join();
}

fn is_readable(queue: &Queue) -> bool {
    let fd = queue.readable().unwrap().as_raw_fd();
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one `pollfd`, which is ours.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

#[test]
fn a_descriptor_tells_whether_there_are_items() {
    let queue = Queue::new(0).unwrap();
    queue.put(&[b"before anybody looks"], None).unwrap();
    let other = attach(&queue);
    assert!(is_readable(&other));
    queue.put(&[b"another"], None).unwrap();
    queue.get(None).unwrap();
    assert!(is_readable(&queue));
    other.get(None).unwrap();
    assert!(!is_readable(&queue) && !is_readable(&other));
    other.put(&[&[0; 9 << 20]], None).unwrap();
    assert!(is_readable(&queue));
}

/// Whoever changes the queue while others do leaves the descriptor as the queue is.
#[test]
fn the_descriptor_is_right_when_all_are_through() {
    let _watchdog = watchdog("the lamp");
    let queue = Queue::new(0).unwrap();
    let fd = queue.readable().unwrap().as_raw_fd();
    for round in 0..500 {
        let child = fork(|| {
            for _ in 0..10 {
                queue.put(&[b"x"], None).unwrap();
            }
        });
        // It only waits for the descriptor, so a change that it missed would end the test here.
        for _ in 0..10 {
            let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one `pollfd`, which is ours.
            assert_eq!(unsafe { libc::poll(&raw mut poll, 1, -1) }, 1);
            queue.get(Some(Instant::now())).unwrap();
        }
        child.join();
        assert!(!is_readable(&queue), "round {round}");
    }
}
