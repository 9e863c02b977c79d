//! What an executor needs besides: workers on demand, calls that are cancelled, callbacks that come
//! later than their job.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;

use manycore::pool::{JobHandle, JobOptions, Lost, Outcome};

use crate::common::*;
use crate::{number, word};

fn urgent() -> JobOptions {
    JobOptions { urgent: true, ..JobOptions::default() }
}

fn soon(pool: &Bytes, name: &str, body: &[u8]) -> JobHandle {
    pool.raw.grow().unwrap();
    pool.call_with(name, body, urgent())
}

fn started(pool: &Bytes) -> usize {
    pool.staff.started.load(Ordering::SeqCst)
}

fn is_cancelled(job: &JobHandle) -> bool {
    job.wait(None).unwrap();
    job.is_cancelled() && matches!(job.take().unwrap().outcome, Outcome::Lost(Lost::Cancelled))
}

#[test]
fn workers_come_when_they_are_needed() {
    each("on demand", |method, test| {
        let dir = Dir::new();
        let gate = Gate::new(&dir, "gate");
        let pool = Bytes::on_demand(method, 3, None);
        assert_eq!(started(&pool), 0);
        for n in 0..20 {
            assert_eq!(number(&result(&soon(&pool, "echo", &word(n)))), n);
        }
        assert_eq!(started(&pool), 1);
        let stuck: Vec<_> = (0..5).map(|_| soon(&pool, &gate.function(), b"x")).collect();
        assert_eq!(started(&pool), 3);
        gate.wait_for(3);
        test.alive();
        // One that dies is replaced, and no more.
        pool.staff.any(0).unwrap().signal(libc::SIGKILL).unwrap();
        gate.wait_for(4);
        assert_eq!(started(&pool), 4);
        gate.open();
        let died = |job: &JobHandle| {
            job.wait(None).unwrap();
            matches!(job.take().unwrap().outcome, Outcome::Lost(Lost::Died(_)))
        };
        assert_eq!(stuck.iter().filter(|job| died(job)).count(), 1);
        let staff = std::sync::Arc::clone(&pool.staff);
        pool.finish();
        assert_eq!(staff.over.load(Ordering::SeqCst), 1);
        assert_eq!(staff.ended.load(Ordering::SeqCst), 4);
    });
}

#[test]
fn a_pool_that_never_had_a_worker_ends() {
    each("no demand", |method, _| {
        let pool = Bytes::on_demand(method, 2, None);
        pool.finish();
        let pool = Bytes::on_demand(method, 2, None);
        pool.raw.terminate().unwrap();
        pool.join();
    });
}

#[test]
fn threads_that_call_at_once_get_no_more_workers_than_there_are_places() {
    each("crowd", |method, _| {
        let pool = Bytes::on_demand(method, 3, Some(5));
        thread::scope(|scope| {
            for from in [0, 1000, 2000, 3000] {
                let pool = &pool;
                scope.spawn(move || {
                    let jobs: Vec<_> =
                        (from..from + 20).map(|n| (n, soon(pool, "echo", &word(n)))).collect();
                    for (n, job) in jobs {
                        assert_eq!(number(&result(&job)), n);
                    }
                });
            }
        });
        assert!(pool.raw.pids().len() <= 3);
        let staff = std::sync::Arc::clone(&pool.staff);
        pool.finish();
        // Each does at most five of the eighty.
        assert!(staff.started.load(Ordering::SeqCst) >= 16);
    });
}

#[test]
fn a_call_that_waits_can_be_cancelled() {
    each("cancel", |method, _| {
        let dir = Dir::new();
        let gate = Gate::new(&dir, "gate");
        let pool = Bytes::new(method, 1);
        let stuck = pool.call(&gate.function(), b"x");
        let jobs: Vec<_> = (0..9).map(|n| pool.call("echo", &word(n))).collect();
        gate.wait_for(1);
        assert!(stuck.is_sent() && !stuck.cancel() && !stuck.is_cancelled());
        // From either end and from the middle.
        for n in [0, 8, 4, 7, 1] {
            assert!(!jobs[n].is_sent() && jobs[n].cancel());
            assert!(!jobs[n].cancel());
            assert!(is_cancelled(&jobs[n]));
        }
        gate.open();
        for n in [2, 3, 5, 6] {
            assert_eq!(number(&result(&jobs[n])), n as u64);
            assert!(!jobs[n].cancel());
        }
        pool.finish();
    });
}

#[test]
fn a_pool_that_closes_may_cancel_what_waits() {
    each("cancel all", |method, _| {
        let dir = Dir::new();
        let gate = Gate::new(&dir, "gate");
        let pool = Bytes::new(method, 2);
        let stuck: Vec<_> = (0..2).map(|_| pool.call(&gate.function(), b"x")).collect();
        let (sender, receiver) = mpsc::channel();
        let jobs: Vec<_> = (0..50)
            .map(|n| {
                let sender = sender.clone();
                let callback = Box::new(move || sender.send(n).unwrap());
                let options = JobOptions { callback: Some(callback), ..JobOptions::default() };
                pool.call_with("echo", b"never", options)
            })
            .collect();
        drop(sender);
        gate.wait_for(2);
        pool.raw.close().unwrap();
        pool.raw.cancel_waiting().unwrap();
        assert!(receiver.into_iter().eq(0..50));
        assert!(jobs.iter().all(is_cancelled));
        gate.open();
        assert!(stuck.iter().all(|job| result(job) == b"x"));
        pool.join();
    });
}

#[test]
fn calls_for_which_workers_start_are_not_cancelled() {
    each("cancel early", |method, _| {
        let dir = Dir::new();
        let gate = Gate::new(&dir, "gate");
        let pool = Bytes::on_demand(method, 2, None);
        let jobs: Vec<_> = (0..10).map(|_| soon(&pool, &gate.function(), b"x")).collect();
        pool.raw.cancel_waiting().unwrap();
        gate.open();
        assert_eq!(jobs.iter().filter(|job| !is_cancelled(job)).count(), 2);
        pool.finish();
    });
}

#[test]
fn a_callback_may_come_later_than_its_job() {
    each("late callbacks", |method, _| {
        let dir = Dir::new();
        let pool = Bytes::new(method, 2);
        let (sender, receiver) = mpsc::channel();
        for n in 0..200 {
            let gate = Gate::new(&dir, &format!("gate-{n}"));
            let job = pool.call_with(&gate.function(), b"x", urgent());
            let callback = |number| {
                let sender = sender.clone();
                Box::new(move || sender.send(number).unwrap())
            };
            assert!(job.on_complete(callback(n)));
            // There is one already.
            assert!(job.on_complete(callback(1_000_000)));
            gate.open();
            assert_eq!(receiver.recv().unwrap(), n);
            assert_eq!(result(&job), b"x");
            assert!(!job.on_complete(callback(2_000_000)));
        }
        drop(sender);
        pool.finish();
        assert!(receiver.recv().is_err());
    });
}

#[test]
fn a_callback_races_with_its_job() {
    each("racing callbacks", |method, test| {
        let pool = Bytes::new(method, 2);
        let mut late = 0;
        for n in 0..3000_u64 {
            if n % 500 == 0 {
                test.alive();
            }
            let job = pool.call_with("echo", &word(n), urgent());
            spin(std::time::Duration::from_nanos(n % 64 * 500));
            let (sender, receiver) = mpsc::channel();
            if job.on_complete(Box::new(move || sender.send(()).unwrap())) {
                receiver.recv().unwrap();
            } else {
                late += 1;
            }
            assert_eq!(number(&result(&job)), n);
        }
        eprintln!("{late} of 3000 came too late");
        pool.finish();
    });
}

#[test]
fn an_abandoned_pool_ends_with_its_workers() {
    each("abandon", |method, _| {
        let dir = Dir::new();
        let gate = Gate::new(&dir, "gate");
        let pool = Bytes::new(method, 2);
        let jobs: Vec<_> = (0..10).map(|_| pool.call(&gate.function(), b"x")).collect();
        gate.wait_for(2);
        pool.raw.abandon().unwrap();
        for job in &jobs {
            job.wait(None).unwrap();
            assert!(matches!(job.take().unwrap().outcome, Outcome::Lost(Lost::Terminated)));
        }
        // The workers are still there, and leave when they can.
        assert!(
            !pool.staff.children.lock().unwrap().iter().any(|c| c.try_wait().unwrap().is_some())
        );
        gate.open();
        pool.join();
        assert_eq!(started(&pool), 2);
    });
}
