//! Pools of real processes, by every start method.

#![allow(clippy::disallowed_types, reason = "no model runs these tests")]

#[path = "pool/calls.rs"]
mod calls;
mod common;
#[path = "pool/descriptors.rs"]
mod descriptors;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use manycore::channel::{OwnedPayload, Payload};
use manycore::pool::{Batch, Encoded, JobHandle, JobOptions, Lost, Outcome, Source};
use manycore::{Pool, TaskError};

/// Where this binary begins when it was started as a worker.
#[test]
fn entry() {
    manycore::init();
    common::entry();
    if std::env::var_os("POOL_TEST_PARENT").is_some() {
        busy_parent();
    }
}

fn typed(method: StartMethod, workers: usize) -> Pool {
    Pool::builder().workers(workers).start_method(method).worker_args(ENTRY).build().unwrap()
}

fn callback(f: impl FnOnce() + Send + 'static) -> JobOptions {
    JobOptions { callback: Some(Box::new(f)), ..JobOptions::default() }
}

/// Numbers as a source, one or more a task.
struct Numbers {
    next: u64,
    end: u64,
    body: fn(u64) -> Vec<u8>,
}

impl Source for Numbers {
    fn next(&mut self, limit: usize) -> Option<Batch> {
        assert!(limit > 0);
        (self.next < self.end).then(|| {
            let bytes = (self.body)(self.next);
            self.next += 1;
            Batch { items: 1, body: Ok(Box::new(OwnedPayload::from_body(bytes))) }
        })
    }

    fn remaining(&self) -> usize {
        (self.end - self.next) as usize
    }
}

fn word(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn numbers(count: u64) -> Box<Numbers> {
    Box::new(Numbers { next: 0, end: count, body: word })
}

// ---- the typed face

fn uneven(x: u64) -> u64 {
    spin(Duration::from_micros(x * 37 % 400));
    x * x
}

#[test]
fn a_map_keeps_the_order() {
    each("order", |method, _| {
        let pool = typed(method, 3);
        let results = pool.map(uneven, 0..3000).unwrap();
        assert!(results.iter().copied().eq((0..3000).map(|x| x * x)));
        assert_eq!(pool.map(uneven, []).unwrap(), []);
        assert_eq!(pool.map(uneven, [7]).unwrap(), [49]);
    });
}

fn increment(x: u32) -> u32 {
    x + 1
}

#[test]
fn tiny_tasks_by_the_hundred_thousand() {
    each("tiny", |method, test| {
        let pool = typed(method, 2);
        assert!(pool.map(increment, 0..100_000).unwrap().into_iter().eq(1..=100_000));
        drop(pool);
        test.alive();
        let pool = Bytes::new(method, 2);
        let options = JobOptions { chunk: Some(1), ..JobOptions::default() };
        let job = pool.raw.submit(pool.function("echo"), numbers(100_000), options).unwrap();
        job.wait(None).unwrap();
        let all = job.take_all().into_iter().map(|settled| number(&returned(settled)));
        assert!(all.eq(0..100_000));
        pool.finish();
    });
}

fn sized(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7) as u8).collect()
}

fn reversed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

#[test]
fn values_of_every_size_go_both_ways() {
    each("sizes", |method, test| {
        let pool = typed(method, 2);
        for len in [0, 1, 1000, 32 << 10, 33 << 10, 300_000, 1 << 20, 20_000_000] {
            test.alive();
            let results = pool.map(reversed, (0..3).map(|i| sized(len + i))).unwrap();
            for (i, result) in results.into_iter().enumerate() {
                assert!(result == reversed(sized(len + i)), "{len}");
            }
        }
    });
}

fn logged((path, number): (String, u64)) -> u64 {
    log(std::path::Path::new(&path), &[0; 1]);
    assert!(number % 100 != 13, "number {number} is unlucky");
    number
}

#[test]
fn a_panic_is_reported_and_all_others_run() {
    each("panics", |method, _| {
        let dir = Dir::new();
        let path = dir.0.join("log");
        let pool = typed(method, 2);
        let inputs = (0..1000).map(|number| (path.to_str().unwrap().to_owned(), number));
        match pool.map(logged, inputs) {
            Err(TaskError::Panicked(message)) => assert_eq!(message, "number 13 is unlucky"),
            other => panic!("{other:?}"),
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1000);
        assert_eq!(pool.map(increment, [1]).unwrap(), [2]);
    });
}

fn fatal(x: u64) -> u64 {
    if x == 5 {
        std::process::abort();
    }
    x
}

#[test]
fn a_death_names_the_item() {
    each("death", |method, _| {
        let pool = typed(method, 2);
        match pool.map(fatal, 0..50) {
            Err(TaskError::Lost(Lost::Died(death))) => {
                assert_eq!((death.item, death.status.signal()), (5, Some(libc::SIGABRT)));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.map(increment, 0..10).unwrap().len(), 10);
    });
}

// ---- bytes

#[test]
fn slabs_are_recycled() {
    each("slabs", |method, test| {
        let pool = Bytes::new(method, 2);
        let mut chance = Chance(88_172_645_463_325_252);
        let data = sized(21 << 20);
        let mut round = |largest: u64| {
            let body = &data[..(chance.next() % 50_000) as usize];
            let first = &data[..(chance.next() % largest) as usize];
            let second = &data[..(chance.next() % 100_000) as usize];
            let buffers: &[&[u8]] = &[first, second, &[]];
            let payload = Payload { body: &[body], buffers, ..Payload::default() };
            let job = pool.raw.call(pool.function("echo"), &payload, JobOptions::default());
            let job = job.unwrap();
            job.wait(None).unwrap();
            let Outcome::Returned(message) = job.take().unwrap().outcome else { panic!() };
            assert!(message.body().to_vec() == body);
            let buffers: Vec<Vec<u8>> = message.buffers().map(|view| view.to_vec()).collect();
            assert!(buffers == [first, second, &[]]);
        };
        for _ in 0..30 {
            round(20 << 20);
        }
        test.alive();
        for _ in 0..300 {
            round(2 << 20);
        }
        test.alive();
        let measure = || {
            let mut sizes = vec![entries("/proc/self/fd"), mappings(std::process::id())];
            for pid in pool.raw.pids() {
                sizes.extend([entries(format!("/proc/{pid}/fd")), mappings(pid)]);
            }
            sizes
        };
        let before = measure();
        for _ in 0..1000 {
            round(2 << 20);
        }
        let after = measure();
        // Mappings that lie side by side can merge and part, and the allocator has some.
        for (before, after) in before.iter().zip(&after) {
            assert!(*after <= before + 24, "before {before:?}, after {after:?}");
        }
        assert_eq!(before[0], after[0]);
        pool.finish();
    });
}

#[test]
fn leases_outlive_their_worker_and_the_pool() {
    each("leases", |method, _| {
        let pool = Bytes::new(method, 1);
        let data = sized(3_000_000);
        let payload = Payload { buffers: &[&data], ..Payload::default() };
        let job = pool.raw.call(pool.function("echo"), &payload, JobOptions::default()).unwrap();
        job.wait(None).unwrap();
        let Outcome::Returned(message) = job.take().unwrap().outcome else { panic!() };
        drop(job);
        pool.finish();
        let view = message.buffers().next().unwrap();
        drop(message);
        assert!(view.is_leased() && view.to_vec() == data);
    });
}

#[test]
fn a_flood_of_calls() {
    each("flood", |method, _| {
        let pool = Bytes::new(method, 2);
        let jobs: Vec<JobHandle> = (0..20_000).map(|n| pool.call("echo", &word(n))).collect();
        for (n, job) in jobs.iter().enumerate() {
            assert_eq!(number(&result(job)), n as u64);
        }
        let jobs: Vec<JobHandle> = (0..20_000).map(|n| pool.call("echo", &word(n))).collect();
        for (n, job) in jobs.iter().enumerate().rev() {
            assert_eq!(number(&result(job)), n as u64);
        }
        pool.finish();
    });
}

#[test]
fn a_flood_of_tasks_that_fill_the_rings() {
    each("full rings", |method, test| {
        let pool = Bytes::with(method, 2, Some(700), Mood::Willing);
        let body = |n: u64| [word(n), vec![n as u8; 30_000]].concat();
        let source = Numbers { next: 0, end: 4000, body };
        let options = JobOptions { chunk: Some(1), ..JobOptions::default() };
        let job = pool.raw.submit(pool.function("echo"), Box::new(source), options).unwrap();
        job.wait(None).unwrap();
        for (n, settled) in job.take_all().into_iter().enumerate() {
            assert!(returned(settled) == body(n as u64));
        }
        test.alive();
        let jobs: Vec<JobHandle> = (0..2000).map(|n| pool.call("echo", &body(n))).collect();
        for (n, job) in jobs.iter().enumerate() {
            assert!(result(job) == body(n as u64));
        }
        pool.finish();
    });
}

#[test]
fn many_functions_come_and_go() {
    each("functions", |method, _| {
        let pool = Bytes::new(method, 2);
        for n in 0..500 {
            assert_eq!(number(&result(&pool.call(&format!("echo {n}"), &word(n)))), n);
        }
        let big = format!("echo {}", "x".repeat(1 << 20));
        assert_eq!(result(&pool.call(&big, b"big")), b"big");
        assert_eq!(result(&pool.call("echo 3", b"again")), b"again");
        pool.finish();
    });
}

#[test]
fn exceptions_have_their_tag() {
    each("raise", |method, _| {
        let pool = Bytes::new(method, 1);
        let job = pool.call("raise", b"why");
        job.wait(None).unwrap();
        match job.take().unwrap().outcome {
            Outcome::Raised(message) => {
                assert_eq!((message.body().to_vec(), message.tag()), (b"why".to_vec(), 7));
            }
            other => panic!("{other:?}"),
        }
        pool.finish();
    });
}

// ---- callbacks

#[test]
fn a_callback_runs_before_its_job_is_complete() {
    each("callback", |method, _| {
        let pool = Bytes::new(method, 2);
        for n in 0..500 {
            let ran = Arc::new(AtomicUsize::new(0));
            let run = Arc::clone(&ran);
            let options = callback(move || {
                spin(Duration::from_micros(n % 50));
                run.store(1, Ordering::Relaxed);
            });
            let job = pool.call_with("echo", &word(n), options);
            job.wait(None).unwrap();
            assert_eq!(ran.load(Ordering::Relaxed), 1);
            assert_eq!(number(&result(&job)), n);
        }
        pool.finish();
    });
}

#[test]
fn a_job_goes_on_when_the_thread_that_attended_does_not_come_back() {
    each("gone", |method, test| {
        let pool = Bytes::new(method, 2);
        for n in 0..200 {
            let (sender, receiver) = mpsc::channel();
            let chunk = Some(1);
            let options = JobOptions { chunk, ..callback(move || sender.send(()).unwrap()) };
            // More than the workers are given ahead.
            let job = pool.raw.submit(pool.function("echo"), numbers(300), options).unwrap();
            assert_eq!(number(&result(&pool.call("echo", &word(n)))), n);
            receiver.recv().unwrap();
            assert_eq!(job.take_all().len(), 300);
            test.alive();
        }
        pool.finish();
    });
}

#[test]
fn callbacks_arrive_although_nobody_waits() {
    each("unattended", |method, _| {
        let pool = Bytes::new(method, 2);
        let (sender, receiver) = mpsc::channel();
        for n in 0..2000 {
            let sender = sender.clone();
            let options = callback(move || sender.send(n).unwrap());
            pool.call_with("echo", &word(n), options);
            if n % 3 == 0 {
                // One at a time, so that the workers go to sleep in between.
                while receiver.recv().unwrap() != n {}
            }
        }
        drop(sender);
        for _ in receiver {}
        // A source that only the supervisor asks.
        let (sender, receiver) = mpsc::channel();
        let options = callback(move || sender.send(()).unwrap());
        let job = pool.raw.submit(pool.function("echo"), numbers(500), options).unwrap();
        job.start();
        receiver.recv().unwrap();
        job.wait(None).unwrap();
        assert_eq!(job.take_all().len(), 500);
        pool.finish();
    });
}

#[test]
fn results_can_be_polled() {
    each("polled", |method, _| {
        let dir = Dir::new();
        let gate = Gate::new(&dir, "gate");
        let pool = Bytes::new(method, 1);
        for n in 0..50 {
            let first = pool.call("echo", &word(n));
            let _second = pool.call("echo", &word(n));
            while !first.is_complete() {
                thread::yield_now();
            }
        }
        // The worker has something to do after it has replied, so it says nothing more.
        let first = pool.call("echo", b"first");
        let second = pool.call(&gate.function(), b"second");
        while !first.is_complete() {
            thread::yield_now();
        }
        gate.open();
        assert_eq!(result(&second), b"second");
        pool.finish();
    });
}

#[test]
fn a_callback_may_use_the_pool() {
    each("nested callbacks", |method, test| {
        let pool = Arc::new(Bytes::new(method, 2));
        for n in 0..100 {
            test.alive();
            let (inner, seen) = (Arc::clone(&pool), Arc::new(Mutex::new(Vec::new())));
            let (sink, nested_sink) = (Arc::clone(&seen), Arc::clone(&seen));
            let options = callback(move || {
                // A job of its own, with a callback too, one that dies, and one over a source.
                let nested = callback(move || nested_sink.lock().unwrap().push("nested"));
                assert_eq!(number(&result(&inner.call_with("echo", &word(n), nested))), n);
                sink.lock().unwrap().push("outer");
                let fault = inner.call("fault", &[]);
                fault.wait(None).unwrap();
                assert!(matches!(fault.take().unwrap().outcome, Outcome::Lost(Lost::Died(_))));
                let function = inner.function("echo");
                let job = inner.raw.submit(function, numbers(50), JobOptions::default()).unwrap();
                job.wait(None).unwrap();
                assert_eq!(job.take_all().len(), 50);
                let late = inner.call("echo", b"late");
                let deadline = Some(Instant::now());
                match late.wait(deadline) {
                    Ok(()) => {}
                    Err(error) => assert!(error.is_timeout()),
                }
                assert!(inner.raw.join(None).unwrap_err().is_misuse());
            });
            let job = pool.call_with("echo", &word(n), options);
            if n % 2 == 0 {
                job.wait(None).unwrap();
            } else {
                // Other threads use the pool meanwhile.
                while !job.is_complete() {
                    assert_eq!(result(&pool.call("echo", b"other")), b"other");
                }
            }
            assert_eq!(*seen.lock().unwrap(), ["nested", "outer"]);
        }
        while Arc::strong_count(&pool) > 1 {
            thread::yield_now();
        }
        let pool = Arc::into_inner(pool).unwrap();
        pool.finish();
    });
}

#[test]
fn a_callback_may_wait_for_a_job_with_one_that_queues_behind_it() {
    each("callback order", |method, _| {
        let pool = Bytes::new(method, 1);
        let dir = Dir::new();
        let gate = Gate::new(&dir, "gate");
        let (sender, receiver) = mpsc::channel::<JobHandle>();
        // Both callbacks are due at once, and the first waits for the second's job.
        let first = pool.call_with(
            &gate.function(),
            b"1",
            callback(move || receiver.recv().unwrap().wait(None).unwrap()),
        );
        let ran = Arc::new(AtomicUsize::new(0));
        let run = Arc::clone(&ran);
        let second = pool.call_with(
            "echo",
            b"2",
            callback(move || {
                run.fetch_add(1, Ordering::Relaxed);
            }),
        );
        sender.send(second).unwrap();
        gate.open();
        first.wait(None).unwrap();
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        pool.finish();
    });
}

#[test]
fn a_callback_may_terminate() {
    each("terminating callback", |method, _| {
        let pool = Arc::new(Bytes::new(method, 2));
        let dir = Dir::new();
        let gate = Gate::new(&dir, "gate");
        let inner = Arc::clone(&pool);
        let first = pool.call_with(
            "echo",
            b"first",
            callback(move || {
                inner.raw.terminate().unwrap();
            }),
        );
        let rest: Vec<_> = (0..50)
            .filter_map(|_| {
                let payload = Payload { body: &[b"stuck"], ..Payload::default() };
                let function = pool.raw.function(gate.function().as_bytes()).unwrap();
                pool.raw.call(function, &payload, JobOptions::default()).ok()
            })
            .collect();
        first.wait(None).unwrap();
        for job in rest {
            job.wait(None).unwrap();
            assert!(matches!(job.take().unwrap().outcome, Outcome::Lost(Lost::Terminated)));
        }
        pool.join();
    });
}

#[test]
fn a_panicking_callback_harms_nobody() {
    each("panicking callback", |method, _| {
        let pool = Bytes::new(method, 1);
        let job = pool.call_with("echo", b"a", callback(|| panic!("a panic of the test")));
        assert_eq!(result(&job), b"a");
        assert_eq!(result(&pool.call("echo", b"b")), b"b");
        pool.finish();
    });
}

// ---- open jobs and sources

#[test]
fn tasks_are_pushed_from_another_thread() {
    each("push", |method, _| {
        let pool = Bytes::new(method, 2);
        let job = pool.raw.open(pool.function("echo"), JobOptions::default()).unwrap();
        let mut seen = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..5000_u64 {
                    if n % 100 == 99 {
                        job.push_error(Box::new(n));
                    } else {
                        job.push(&Payload { body: &[&word(n)], ..Payload::default() }).unwrap();
                    }
                    job.wait_room(40, None).unwrap();
                }
                job.end();
            });
            while job.wait_settled(None).unwrap() {
                let settled = job.take().unwrap();
                seen.push(settled.index);
                match settled.outcome {
                    Outcome::Unsent(error) => {
                        assert_eq!(*error.downcast::<u64>().unwrap(), settled.index);
                    }
                    Outcome::Returned(m) => assert_eq!(number(&m.body().to_vec()), settled.index),
                    other => panic!("{other:?}"),
                }
            }
        });
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..5000));
        assert!(job.is_complete());
        assert!(job.push(&Payload::default()).unwrap_err().is_misuse());
        pool.finish();
    });
}

#[test]
fn a_dropped_open_job_does_not_hold_up_the_end() {
    each("dropped", |method, _| {
        let pool = Bytes::new(method, 1);
        let job = pool.raw.open(pool.function("echo"), JobOptions::default()).unwrap();
        job.push(&Payload::default()).unwrap();
        pool.raw.close().unwrap();
        job.push(&Payload::default()).unwrap();
        drop(job);
        pool.join();
    });
}

/// A source that does what it is told before each batch.
struct Told<F>(F);

impl<F: FnMut(usize) -> Option<Batch> + Send> Source for Told<F> {
    fn next(&mut self, limit: usize) -> Option<Batch> {
        (self.0)(limit)
    }

    fn remaining(&self) -> usize {
        100
    }
}

fn one(bytes: &[u8]) -> Option<Batch> {
    let body: Box<dyn Encoded> = Box::new(OwnedPayload::from_body(bytes.to_vec()));
    Some(Batch { items: 1, body: Ok(body) })
}

#[test]
fn a_source_may_use_the_pool_and_may_panic() {
    each("told", |method, _| {
        let pool = Arc::new(Bytes::new(method, 1));
        let inner = Arc::clone(&pool);
        let mut left = 20;
        let source = Told(move |_| {
            left -= 1;
            assert_eq!(result(&inner.call("echo", b"nested")), b"nested");
            assert!(left > 0, "a panic of the test");
            one(b"outer")
        });
        let submitted =
            pool.raw.submit(pool.function("echo"), Box::new(source), JobOptions::default());
        let job = submitted.unwrap();
        job.wait(None).unwrap();
        let mut all = job.take_all();
        assert!(matches!(all.pop().unwrap().outcome, Outcome::Unsent(_)));
        assert_eq!(all.len(), 19);
        assert!(all.into_iter().all(|settled| returned(settled) == b"outer"));
        pool.raw.close().unwrap();
        pool.join();
    });
}

#[test]
fn a_slow_source_holds_nobody_up() {
    each("slow source", |method, _| {
        let pool = Bytes::new(method, 1);
        let (sender, receiver) = mpsc::channel::<()>();
        let (asked, was_asked) = mpsc::channel();
        let source = Told(move |_| {
            asked.send(()).unwrap();
            receiver.recv().ok().and_then(|()| one(b"slow"))
        });
        thread::scope(|scope| {
            let slow = scope.spawn(|| {
                let function = pool.function("echo");
                let job = pool.raw.submit(function, Box::new(source), JobOptions::default());
                let job = job.unwrap();
                job.wait(None).unwrap();
                job.take_all().len()
            });
            was_asked.recv().unwrap();
            for n in 0..20 {
                assert_eq!(number(&result(&pool.call("echo", &word(n)))), n);
            }
            sender.send(()).unwrap();
            drop(sender);
            assert_eq!(slow.join().unwrap(), 1);
        });
        pool.finish();
    });
}

#[test]
fn terminate_while_a_source_is_asked() {
    each("asked", |method, test| {
        for _ in 0..20 {
            test.alive();
            let pool = Bytes::new(method, 1);
            let (go, gone) = mpsc::channel::<()>();
            let (asked, was_asked) = mpsc::channel();
            let source = Told(move |_| {
                asked.send(()).unwrap();
                gone.recv().ok().and_then(|()| one(b"late"))
            });
            let ran = Arc::new(AtomicUsize::new(0));
            let run = Arc::clone(&ran);
            let options = callback(move || {
                run.fetch_add(1, Ordering::Relaxed);
            });
            thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    let function = pool.function("echo");
                    let job = pool.raw.submit(function, Box::new(source), options).unwrap();
                    job.wait(None).unwrap();
                    (job.take_all().len(), job.is_complete())
                });
                was_asked.recv().unwrap();
                pool.raw.terminate().unwrap();
                go.send(()).unwrap();
                assert_eq!(waiter.join().unwrap(), (1, true));
            });
            pool.join();
            assert_eq!(ran.load(Ordering::Relaxed), 1);
        }
    });
}

// ---- waiting

#[test]
fn deadlines_pass_and_nothing_is_lost() {
    each("deadlines", |method, _| {
        let dir = Dir::new();
        let gate = Gate::new(&dir, "gate");
        let pool = Bytes::new(method, 1);
        let job = pool.call(&gate.function(), b"x");
        for wait in [0, 1, 5] {
            let deadline = Some(Instant::now() + Duration::from_millis(wait));
            assert!(job.wait(deadline).unwrap_err().is_timeout());
            assert!(job.wait_settled(deadline).unwrap_err().is_timeout());
            assert!(job.wait_room(1, deadline).unwrap_err().is_timeout());
            assert!(pool.raw.join(deadline).unwrap_err().is_timeout());
        }
        thread::scope(|scope| {
            let attends = scope.spawn(|| job.wait(None).unwrap());
            for wait in [0, 1, 5] {
                let deadline = Some(Instant::now() + Duration::from_millis(wait));
                assert!(job.wait(deadline).unwrap_err().is_timeout());
            }
            gate.open();
            attends.join().unwrap();
        });
        assert_eq!(result(&job), b"x");
        // What is there already is had without a wait.
        assert!(job.wait(Some(Instant::now())).is_ok());
        pool.finish();
    });
}

#[test]
fn attendance_is_handed_over() {
    each("hand-over", |method, test| {
        let dir = Dir::new();
        let pool = Bytes::new(method, 4);
        for round in 0..20 {
            test.alive();
            let gates: Vec<Gate> =
                (0..4).map(|n| Gate::new(&dir, &format!("gate-{round}-{n}"))).collect();
            let jobs: Vec<JobHandle> =
                gates.iter().map(|gate| pool.call(&gate.function(), b"x")).collect();
            thread::scope(|scope| {
                let waiters: Vec<_> = jobs.iter().map(|job| scope.spawn(|| result(job))).collect();
                // In another order than that in which they began to wait.
                let mut waiters: Vec<_> = waiters.into_iter().map(Some).collect();
                for n in [round % 4, (round + 2) % 4, (round + 1) % 4, (round + 3) % 4] {
                    gates[n].open();
                    assert_eq!(waiters[n].take().unwrap().join().unwrap(), b"x");
                }
            });
        }
        pool.finish();
    });
}

#[test]
fn short_calls_from_four_threads() {
    each("four threads", |method, test| {
        let pool = Bytes::new(method, 2);
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let pool = &pool;
                scope.spawn(move || {
                    for n in 0..2000 {
                        if n % 500 == 0 {
                            test.alive();
                        }
                        let value = thread << 32 | n;
                        assert_eq!(number(&result(&pool.call("echo", &word(value)))), value);
                    }
                });
            }
        });
        pool.finish();
    });
}

#[test]
fn many_threads_with_deadlines() {
    each("impatient", |method, test| {
        let pool = Bytes::new(method, 2);
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let pool = &pool;
                scope.spawn(move || {
                    let mut chance = Chance(thread + 1);
                    for n in 0..500 {
                        if n % 100 == 0 {
                            test.alive();
                        }
                        let job = pool.call("echo", &word(n));
                        loop {
                            let wait = Duration::from_micros(chance.next() % 60);
                            match job.wait(Some(Instant::now() + wait)) {
                                Ok(()) => break,
                                Err(error) => assert!(error.is_timeout()),
                            }
                        }
                        assert_eq!(number(&result(&job)), n);
                    }
                });
            }
        });
        pool.finish();
    });
}

// ---- lives and deaths of workers

#[test]
fn a_worker_for_every_task() {
    each("one task each", |method, test| {
        let count = 500;
        let pool = Bytes::with(method, 2, Some(1), Mood::Willing);
        let options = JobOptions { chunk: Some(1), ..JobOptions::default() };
        let job = pool.raw.submit(pool.function("pid"), numbers(count), options).unwrap();
        for _ in 0..count {
            test.alive();
            assert!(job.wait_settled(None).unwrap());
            assert_eq!(returned(job.take().unwrap()).len(), 4);
        }
        assert!(pool.staff.started.load(Ordering::SeqCst) >= count as usize);
        pool.raw.close().unwrap();
        pool.join();
        let staff = &pool.staff;
        assert_eq!(staff.started.load(Ordering::SeqCst), staff.ended.load(Ordering::SeqCst));
    });
}

#[test]
fn a_worker_killed_while_idle_is_replaced() {
    each("killed idle", |method, test| {
        let pool = Bytes::new(method, 2);
        for n in 0..30 {
            test.alive();
            assert_eq!(number(&result(&pool.call("echo", &word(n)))), n);
            let victim = pool.staff.any(n).unwrap();
            victim.signal(libc::SIGKILL).unwrap();
            if n % 2 == 0 {
                victim.wait(None).unwrap();
            }
            let body = vec![n as u8; if n % 3 == 0 { 500_000 } else { 10 }];
            let job = pool.call("echo", &body);
            job.wait(None).unwrap();
            match job.take().unwrap().outcome {
                Outcome::Returned(message) => assert!(message.body().to_vec() == body),
                // It had taken the task before the signal came.
                Outcome::Lost(Lost::Died(death)) => assert_eq!(death.pid, victim.pid()),
                other => panic!("{other:?}"),
            }
        }
        pool.finish();
    });
}

#[test]
fn a_worker_killed_in_a_task_costs_that_task_only() {
    each("killed busy", |method, test| {
        let dir = Dir::new();
        for round in 0..10 {
            test.alive();
            let gate = Gate::new(&dir, &format!("gate-{round}"));
            let pool = Bytes::new(method, 1);
            let stuck = pool.call(&gate.function(), b"x");
            let rest: Vec<JobHandle> = (0..100).map(|n| pool.call("echo", &word(n))).collect();
            gate.wait_for(1);
            pool.staff.any(0).unwrap().signal(libc::SIGKILL).unwrap();
            stuck.wait(None).unwrap();
            match stuck.take().unwrap().outcome {
                Outcome::Lost(Lost::Died(death)) => assert_eq!(death.status.signal(), Some(9)),
                other => panic!("{other:?}"),
            }
            for (n, job) in rest.iter().enumerate() {
                assert_eq!(number(&result(job)), n as u64);
            }
            pool.finish();
        }
    });
}

/// A task's body: how long it works, its number, and ballast.
fn work_item(number: u64, ballast: usize) -> Vec<u8> {
    [&[(number % 200) as u8], &word(number)[..7], &vec![number as u8; ballast]].concat()
}

fn storm(method: StartMethod, test: &Test, ballast: usize, kills: usize, seed: u64) {
    let dir = Dir::new();
    let log = dir.0.join("log");
    let pool = Bytes::new(method, 3);
    let function = format!("log {}", log.display());
    let stop = AtomicUsize::new(0);
    let mut number = 0;
    let mut died = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut chance = Chance(seed);
            for _ in 0..kills {
                test.alive();
                spin(Duration::from_micros(chance.next() % 3000));
                if let Some(child) = pool.staff.any(chance.next()) {
                    child.signal(libc::SIGKILL).unwrap();
                }
            }
            stop.store(1, Ordering::Relaxed);
        });
        while stop.load(Ordering::Relaxed) == 0 {
            let first = number;
            let single: Vec<JobHandle> = (0..20)
                .map(|_| {
                    number += 1;
                    pool.call(&function, &work_item(number, ballast))
                })
                .collect();
            let job = pool.raw.open(pool.function(&function), JobOptions::default()).unwrap();
            for _ in 0..50 {
                number += 1;
                let body = work_item(number, ballast);
                job.push(&Payload { body: &[&body], ..Payload::default() }).unwrap();
            }
            job.end();
            job.wait(None).unwrap();
            let mut outcomes: Vec<_> = Vec::new();
            for (n, single) in single.iter().enumerate() {
                single.wait(None).unwrap();
                outcomes.push((first + 1 + n as u64, single.take().unwrap()));
                assert!(single.take().is_none());
            }
            let all = job.take_all();
            assert!(all.iter().map(|settled| settled.index).eq(0..50));
            outcomes.extend(all.into_iter().map(|settled| (first + 21 + settled.index, settled)));
            for (number, settled) in outcomes {
                match settled.outcome {
                    Outcome::Returned(m) => {
                        assert!(m.body().to_vec() == work_item(number, ballast));
                    }
                    Outcome::Lost(Lost::Died(_)) => died += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
    });
    // Every task was begun once, but for those whose worker died before it could note that.
    let log = std::fs::read(&log).unwrap_or_default();
    let mut begun: HashMap<u64, usize> = HashMap::new();
    for entry in log.chunks_exact(8) {
        *begun.entry(u64::from_le_bytes(entry.try_into().unwrap()) >> 8).or_default() += 1;
    }
    assert!(begun.values().all(|times| *times == 1), "a task was run twice");
    let silent = number as usize - begun.len();
    assert!(silent <= died, "{silent} tasks were never begun, only {died} lost");
    assert!(died <= kills, "{died} tasks lost by {kills} kills");
    pool.finish();
}

#[test]
fn workers_killed_at_random() {
    each("storm", |method, test| storm(method, test, 0, 300, 0x9e37_79b9_7f4a_7c15));
}

#[test]
fn workers_killed_at_random_with_slabs() {
    each("storm with slabs", |method, test| storm(method, test, 60_000, 100, 0xdead_beef_1234));
}

#[test]
fn workers_that_never_start_fail_the_pool() {
    each("false starts", |method, _| {
        for mood in [Mood::Exits, Mood::Refuses] {
            let pool = Bytes::with(method, 2, None, mood);
            let ran = Arc::new(AtomicUsize::new(0));
            for round in 0..3 {
                let run = Arc::clone(&ran);
                let options = callback(move || {
                    run.fetch_add(1, Ordering::Relaxed);
                });
                let job = pool.call_with("echo", b"x", options);
                job.wait(None).unwrap();
                match (mood, job.take().unwrap().outcome) {
                    (Mood::Exits, Outcome::Lost(Lost::Failed(reason))) => {
                        assert!(reason.contains("exit code 3"), "{reason}");
                    }
                    (Mood::Refuses, Outcome::Refused(reason)) => {
                        assert_eq!(reason.body().to_vec(), b"no mood");
                    }
                    (_, other) => panic!("{other:?}"),
                }
                let source =
                    pool.raw.submit(pool.function("echo"), numbers(5), JobOptions::default());
                let source = source.unwrap();
                source.wait(None).unwrap();
                assert!(!source.take_all().is_empty());
                let open = pool.raw.open(pool.function("echo"), JobOptions::default()).unwrap();
                open.wait(None).unwrap();
                assert_eq!(ran.load(Ordering::Relaxed), round + 1);
            }
            assert!(pool.staff.started.load(Ordering::SeqCst) < 20);
            pool.finish();
        }
    });
}

#[test]
fn the_last_task_of_a_spent_worker_may_be_its_death() {
    each("spent", |method, test| {
        let pool = Bytes::with(method, 2, Some(2), Mood::Willing);
        for n in 0..40 {
            test.alive();
            let fault = pool.call("fault", &[]);
            let jobs: Vec<JobHandle> = (0..5).map(|n| pool.call("echo", &word(n))).collect();
            for (n, job) in jobs.iter().enumerate() {
                assert_eq!(number(&result(job)), n as u64, "round {n}");
            }
            fault.wait(None).unwrap();
            assert!(matches!(fault.take().unwrap().outcome, Outcome::Lost(Lost::Died(_))), "{n}");
        }
        pool.finish();
    });
}

#[test]
fn a_fork_of_a_worker_leaves_its_rings_alone() {
    each("fork in a worker", |method, _| {
        let pool = Bytes::new(method, 1);
        for _ in 0..20 {
            assert_eq!(result(&pool.call("fork", &[])), [0]);
        }
        pool.finish();
    });
}

#[test]
fn a_worker_that_cannot_take_a_task_is_replaced() {
    each("deaf", |method, _| {
        let pool = Bytes::new(method, 1);
        result(&pool.call("deaf", &[]));
        // The worker cannot have the slab, its heir can.
        let body = vec![1; 1 << 20];
        assert!(result(&pool.call("echo", &body)) == body);
        pool.finish();
    });
}

// ---- ends

#[test]
fn terminate_settles_everything() {
    each("terminate", |method, test| {
        let dir = Dir::new();
        for round in 0..10 {
            test.alive();
            let gate = Gate::new(&dir, &format!("gate-{round}"));
            let pool = Bytes::new(method, 2);
            let calls: Vec<JobHandle> =
                (0..500).map(|_| pool.call(&gate.function(), b"x")).collect();
            let function = pool.function(&gate.function());
            let source = pool.raw.submit(function, numbers(100), JobOptions::default()).unwrap();
            let open = pool.raw.open(pool.function("echo"), JobOptions::default()).unwrap();
            open.push(&Payload::default()).unwrap();
            let ran = Arc::new(AtomicUsize::new(0));
            let run = Arc::clone(&ran);
            let last =
                pool.call_with("echo", b"y", callback(move || run.store(1, Ordering::Relaxed)));
            thread::scope(|scope| {
                let waiter = scope.spawn(|| calls[499].wait(None).unwrap());
                let joiner = scope.spawn(|| pool.join());
                pool.raw.terminate().unwrap();
                waiter.join().unwrap();
                joiner.join().unwrap();
            });
            for job in calls {
                job.wait(None).unwrap();
                assert!(matches!(job.take().unwrap().outcome, Outcome::Lost(Lost::Terminated)));
            }
            for job in [&source, &open] {
                job.wait(None).unwrap();
                assert!(!job.take_all().is_empty());
            }
            last.wait(None).unwrap();
            assert_eq!(ran.load(Ordering::Relaxed), 1);
            assert!(pool.raw.pids().is_empty());
            let payload = Payload::default();
            assert!(open.push(&payload).unwrap_err().is_misuse());
            let options = JobOptions::default();
            assert!(pool.raw.call(pool.function("echo"), &payload, options).is_err());
        }
    });
}

#[test]
fn a_drop_ends_everything() {
    each("drop", |method, test| {
        let dir = Dir::new();
        for round in 0..10 {
            test.alive();
            let gate = Gate::new(&dir, &format!("gate-{round}"));
            let pool = Bytes::new(method, 2);
            let jobs: Vec<JobHandle> = (0..50).map(|_| pool.call(&gate.function(), b"x")).collect();
            drop(pool);
            for job in jobs {
                job.wait(None).unwrap();
                assert!(matches!(job.take().unwrap().outcome, Outcome::Lost(Lost::Terminated)));
            }
        }
    });
}

#[test]
fn close_lets_the_work_end() {
    each("close", |method, test| {
        for round in 0..10 {
            test.alive();
            let pool = Bytes::with(method, 2, (round % 2 == 0).then_some(100), Mood::Willing);
            let calls: Vec<JobHandle> = (0..300).map(|n| pool.call("echo", &word(n))).collect();
            let options = JobOptions { chunk: Some(1), ..JobOptions::default() };
            let source = pool.raw.submit(pool.function("echo"), numbers(300), options).unwrap();
            pool.raw.close().unwrap();
            let options = JobOptions::default();
            let refused = pool.raw.call(pool.function("echo"), &Payload::default(), options);
            assert!(refused.unwrap_err().is_misuse());
            pool.join();
            for (n, job) in calls.iter().enumerate() {
                assert!(job.is_complete());
                assert_eq!(number(&result(job)), n as u64);
            }
            assert_eq!(source.take_all().len(), 300);
        }
        // Nothing to do at all, and nobody who joins.
        let pool = Bytes::new(method, 3);
        pool.raw.close().unwrap();
        while !pool.raw.pids().is_empty() {
            thread::yield_now();
        }
        pool.join();
    });
}

#[test]
fn a_fork_of_the_parent_has_no_pool() {
    each("fork", |method, _| {
        let pool = Bytes::new(method, 1);
        let dir = Dir::new();
        let gate = Gate::new(&dir, "gate");
        let stuck = pool.call(&gate.function(), b"x");
        // SAFETY: the copy looks at its handles and ends without returning to the harness.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let function = || pool.raw.function(b"echo");
            let checks = [
                function().is_err_and(|error| error.is_inherited()),
                stuck.wait(None).is_err_and(|error| error.is_inherited()),
                stuck.wait_settled(None).is_err_and(|error| error.is_inherited()),
                stuck.wait_room(1, None).is_err_and(|error| error.is_inherited()),
                pool.raw.join(None).is_err_and(|error| error.is_inherited()),
                pool.raw.terminate().is_err_and(|error| error.is_inherited()),
                !stuck.is_complete() && stuck.take().is_none() && stuck.take_all().is_empty(),
                pool.raw.pids().is_empty(),
            ];
            drop(stuck);
            drop(pool);
            let fresh = Bytes::new(method, 1);
            let works = result(&fresh.call("echo", b"fresh")) == b"fresh";
            fresh.finish();
            let failed = checks.iter().position(|ok| !ok).map_or(0, |n| n as i32 + 1);
            // SAFETY: ends this process without running anything of the harness.
            unsafe { libc::_exit(if works { failed } else { 100 }) };
        }
        let mut status = 0;
        // SAFETY: a plain system call with a pointer to a local.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0, "exit code {}", status >> 8);
        gate.open();
        assert_eq!(result(&stuck), b"x");
        pool.finish();
    });
}

/// A parent with busy workers that tells who they are and waits to be killed.
fn busy_parent() -> ! {
    let method = METHODS[std::env::var("POOL_TEST_PARENT").unwrap().parse::<usize>().unwrap()];
    // SAFETY: the other thread of this process only waits for this one.
    unsafe { std::env::remove_var("POOL_TEST_PARENT") };
    let pool = Bytes::new(method, 2);
    let path = std::env::var("POOL_TEST_GATE").unwrap();
    let _busy: Vec<JobHandle> = (0..10).map(|_| pool.call(&format!("gate {path}"), b"x")).collect();
    let pids: Vec<String> = pool.raw.pids().iter().map(u32::to_string).collect();
    println!("\npids {}", pids.join(" "));
    loop {
        thread::park();
    }
}

#[test]
fn nothing_outlives_the_parent() {
    use std::io::BufRead;
    for (number, method) in METHODS.into_iter().enumerate() {
        let _test = Test::begin(&format!("parent {method:?}"));
        let dir = Dir::new();
        let gate = Gate::new(&dir, "gate");
        let mut parent = std::process::Command::new("/proc/self/exe")
            .args(ENTRY)
            .env("POOL_TEST_PARENT", number.to_string())
            .env("POOL_TEST_GATE", &gate.path)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Kept to the end: the workers write to it as well.
        let mut lines = std::io::BufReader::new(parent.stdout.take().unwrap()).lines();
        let pids = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("pids ").map(|(_, pids)| pids.to_owned()))
            .unwrap();
        let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
        gate.wait_for(2);
        parent.kill().unwrap();
        parent.wait().unwrap();
        while pids.iter().any(|pid| is_alive(*pid)) {
            thread::yield_now();
        }
    }
}
