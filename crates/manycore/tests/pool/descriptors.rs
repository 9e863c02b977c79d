//! Descriptors in messages.

use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use manycore::channel::Payload;
use manycore::memory::{Block, Descriptor};
use manycore::pool::{JobHandle, JobOptions, Lost, Outcome};
use manycore::process::SIGKILL;
use manycore::{Pool, Shared};

use crate::common::*;

/// A block and its place in messages.
fn block() -> (Block, Descriptor, Vec<u8>) {
    let block = Block::new(64).unwrap();
    let (descriptor, offset, _) = block.share_descriptor().unwrap();
    let place = [descriptor.id(), offset as u64].map(u64::to_le_bytes).concat();
    (block, descriptor, place)
}

fn call(pool: &Bytes, name: &str, body: &[u8], descriptors: &[Descriptor]) -> JobHandle {
    let payload = Payload { body: &[body], descriptors, ..Payload::default() };
    pool.raw.call(pool.function(name), &payload, JobOptions::default()).unwrap()
}

fn add((block, number): (Block, u64)) -> (u64, Block) {
    (cell(&block).fetch_add(number, Ordering::Relaxed), block)
}

fn write(writer: Descriptor) -> Descriptor {
    std::fs::File::from(writer.as_fd().try_clone_to_owned().unwrap()).write_all(b"x").unwrap();
    writer
}

#[test]
fn typed_values_share_memory_and_files() {
    each("typed sharing", |method, _| {
        let pool = Pool::builder().workers(2).start_method(method).worker_args(ENTRY);
        let pool = pool.build().unwrap();
        let block = Block::new(64).unwrap();
        let results = pool.map(add, (1..=1000).map(|n| (block.clone(), n))).unwrap();
        assert_eq!(cell(&block).load(Ordering::Relaxed), 500_500);
        drop(block);
        assert_eq!(cell(&results[17].1).load(Ordering::Relaxed), 500_500);
        let (reader, writer) = pipe();
        drop(pool.map(write, (0..100).map(|_| writer.clone())).unwrap());
        drop(writer);
        assert_eq!(read(reader).len(), 100);
    });
}

static DECODED: AtomicUsize = AtomicUsize::new(0);

/// Counts how often it is decoded.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(from = "Vec<u64>", into = "Vec<u64>")]
#[derive(Clone)]
struct Table(Vec<u64>);

impl From<Vec<u64>> for Table {
    fn from(items: Vec<u64>) -> Self {
        DECODED.fetch_add(1, Ordering::Relaxed);
        Self(items)
    }
}

impl From<Table> for Vec<u64> {
    fn from(table: Table) -> Self {
        table.0
    }
}

fn look_up((table, place): (Shared<Table>, usize)) -> (u64, usize, Shared<Table>) {
    (table.0[place], DECODED.load(Ordering::Relaxed), table)
}

fn pid((): ()) -> u32 {
    std::process::id()
}

#[test]
fn a_shared_value_is_decoded_once_in_each_process() {
    each("typed shared", |method, _| {
        let pool = Pool::builder().workers(2).start_method(method).worker_args(ENTRY);
        let pool = pool.build().unwrap();
        let table = Shared::new(Table((0..100_000).collect())).unwrap();
        let first = pool.pids()[0];
        // A worker that has run a task has mapped all that it has for itself.
        while !pool.map(pid, vec![(); 10]).unwrap().contains(&first) {}
        let before = memory_of(first);
        let inputs = (0..1000).map(|place| (table.clone(), place * 100));
        let results = pool.map(look_up, inputs).unwrap();
        for (place, (item, decoded, again)) in results.iter().enumerate() {
            assert_eq!((*item, *decoded), (place as u64 * 100, 1));
            assert_eq!(again.0.len(), 100_000);
        }
        drop((results, table));
        while memory_of(first) != before {
            thread::yield_now();
        }
    });
}

/// The reading end of a pipe, and the only writing end.
fn pipe() -> (PipeReader, Descriptor) {
    let (reader, writer) = std::io::pipe().unwrap();
    let copy = Descriptor::copy_of(writer.as_fd()).unwrap();
    drop(OwnedFd::from(writer));
    (reader, copy)
}

/// All that comes until nobody has the writing end any more.
fn read(mut reader: PipeReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_descriptor_crosses_once_for_all_tasks() {
    each("crosses once", |method, _| {
        let pool = Bytes::new(method, 1);
        let (block, descriptor, place) = block();
        let first = result(&call(&pool, "count", &place, std::slice::from_ref(&descriptor)));
        let jobs: Vec<_> = (0..5000)
            .map(|_| call(&pool, "count", &place, std::slice::from_ref(&descriptor)))
            .collect();
        jobs.iter().for_each(|job| job.wait(None).unwrap());
        let last = result(&call(&pool, "count", &place, std::slice::from_ref(&descriptor)));
        assert_eq!(first, last, "descriptors and mappings of the worker");
        assert_eq!(cell(&block).load(Ordering::Relaxed), 5002);
        pool.finish();
    });
}

#[test]
fn a_function_has_descriptors() {
    each("function", |method, _| {
        let pool = Bytes::new(method, 2);
        let (block, descriptor, place) = block();
        let (id, offset) = (number(&place[..8]), number(&place[8..]));
        let name = format!("count-in {id} {offset}");
        let descriptors = [descriptor];
        for _ in 0..200 {
            let function = pool.function_with(name.as_bytes(), &descriptors);
            let job = pool.raw.call(function, &Payload::default(), JobOptions::default()).unwrap();
            job.wait(None).unwrap();
        }
        assert_eq!(cell(&block).load(Ordering::Relaxed), 200);
        pool.finish();
    });
}

#[test]
fn an_outcome_keeps_nothing_open() {
    each("outcome", |method, _| {
        let pool = Bytes::new(method, 1);
        let (readers, jobs): (Vec<_>, Vec<_>) = (0..10u8)
            .map(|n| {
                let (reader, writer) = pipe();
                let name = [b"echo ", writer.id().to_string().as_bytes()].concat();
                let function = pool.function_with(&name, &[writer]);
                let payload = Payload { body: &[&[n]], ..Payload::default() };
                (reader, pool.raw.call(function, &payload, JobOptions::default()).unwrap())
            })
            .unzip();
        jobs.iter().for_each(|job| job.wait(None).unwrap());
        // The outcomes are there, and nobody has taken them.
        readers.into_iter().for_each(|reader| assert!(read(reader).is_empty()));
        let all = jobs.iter().map(|job| returned(job.take().unwrap()));
        assert!(all.eq((0..10u8).map(|n| vec![n])));
        pool.finish();
    });
}

/// How many pieces of shared memory a process has open, and how many it has mapped.
fn memory_of(pid: u32) -> (usize, usize) {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let target = |fd: &std::fs::DirEntry| std::fs::read_link(fd.path()).unwrap_or_default();
    let open = fds.map(|fd| target(&fd)).filter(|to| to.to_string_lossy().contains("memfd:"));
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    (open.count(), maps.lines().filter(|line| line.contains("memfd:")).count())
}

#[test]
fn an_idle_worker_lets_go_of_what_has_ended() {
    each("lets go", |method, _| {
        let pool = Bytes::new(method, 1);
        result(&pool.call("echo", b"x"));
        let pid = pool.raw.pids()[0];
        let before = memory_of(pid);
        // One that travels with a task, and one with a function.
        for in_function in [false, true] {
            let block = Block::new(1 << 20).unwrap();
            let (descriptor, offset, _) = block.share_descriptor().unwrap();
            let place = [descriptor.id(), offset as u64].map(u64::to_le_bytes).concat();
            if in_function {
                let name = format!("count-in {} {offset}", descriptor.id());
                let function = pool.function_with(name.as_bytes(), &[descriptor]);
                let job = pool.raw.call(function, &Payload::default(), JobOptions::default());
                result(&job.unwrap());
            } else {
                result(&call(&pool, "count", &place, &[descriptor]));
            }
            assert_ne!(memory_of(pid), before);
            drop(block);
            // Nobody uses the pool meanwhile; the watchdog ends this.
            while memory_of(pid) != before {
                thread::yield_now();
            }
        }
        pool.finish();
    });
}

#[test]
fn a_task_that_is_sent_again_has_its_descriptors() {
    each("sent again", |method, test| {
        for round in 0..10 {
            let dir = Dir::new();
            let pool = Bytes::new(method, 1);
            // Short tasks, so that the worker is given some ahead.
            (0..10).for_each(|_| drop(result(&pool.call("echo", b"x"))));
            let gate = Gate::new(&dir, "gate");
            let stuck = pool.call(&gate.function(), b"stuck");
            gate.wait_for(5);
            let (readers, jobs): (Vec<_>, Vec<_>) = (0..30u8)
                .map(|n| {
                    let (reader, writer) = pipe();
                    (reader, call(&pool, "write", &[n], &[writer]))
                })
                .unzip();
            pool.staff.any(round).unwrap().signal(SIGKILL).unwrap();
            for (n, (reader, job)) in readers.into_iter().zip(&jobs).enumerate() {
                result(job);
                assert_eq!(read(reader), [n as u8]);
            }
            stuck.wait(None).unwrap();
            let outcome = stuck.take().unwrap().outcome;
            assert!(matches!(outcome, Outcome::Lost(Lost::Died(_))), "{outcome:?}");
            pool.finish();
            test.alive();
        }
    });
}

#[test]
fn workers_killed_at_any_time_lose_no_descriptor() {
    each("killed", |method, test| {
        let pool = Bytes::new(method, 2);
        let mut chance = Chance(0x1234_5678_9abc_def1 ^ method as u64);
        for round in 0..60 {
            let (block, descriptor, place) = block();
            let (readers, jobs): (Vec<_>, Vec<_>) = (0..40u8)
                .map(|n| {
                    let (reader, writer) = pipe();
                    drop(call(&pool, "count", &place, std::slice::from_ref(&descriptor)));
                    (reader, call(&pool, "write", &[n], &[writer]))
                })
                .unzip();
            spin(std::time::Duration::from_micros(chance.next() % 600));
            let killed = pool.staff.any(round).inspect(|child| child.signal(SIGKILL).unwrap());
            for (n, (reader, job)) in readers.into_iter().zip(&jobs).enumerate() {
                job.wait(None).unwrap();
                let written = read(reader);
                match job.take().unwrap().outcome {
                    Outcome::Returned(_) => assert_eq!(written, [n as u8]),
                    // It may have written before it died.
                    Outcome::Lost(Lost::Died(_)) => assert!(written.len() <= 1),
                    other => panic!("{other:?}"),
                }
            }
            drop(block);
            // A replacement that is forked meanwhile would have the ends of the next pipes.
            let pids = || pool.raw.pids();
            while pids().len() < 2 || killed.iter().any(|it| pids().contains(&it.pid())) {
                thread::yield_now();
            }
            test.alive();
        }
        pool.finish();
    });
}

#[test]
fn nothing_stays_open_after_terminate() {
    each("terminate", |method, _| {
        let dir = Dir::new();
        let pool = Bytes::new(method, 2);
        let gate = Gate::new(&dir, "gate");
        let stuck = [0, 1].map(|_| pool.call(&gate.function(), b"stuck"));
        gate.wait_for(10);
        let (readers, jobs): (Vec<_>, Vec<_>) = (0..100)
            .map(|_| {
                let (reader, writer) = pipe();
                (reader, call(&pool, "write", b"never", &[writer]))
            })
            .unzip();
        pool.raw.terminate().unwrap();
        for job in jobs.iter().chain(&stuck) {
            job.wait(None).unwrap();
            let outcome = job.take().unwrap().outcome;
            assert!(matches!(outcome, Outcome::Lost(Lost::Terminated)), "{outcome:?}");
        }
        pool.join();
        drop(pool);
        readers.into_iter().for_each(|reader| assert!(read(reader).is_empty()));
    });
}

#[test]
fn a_result_has_descriptors() {
    each("result", |method, _| {
        let pool = Bytes::new(method, 1);
        for n in 0..300u64 {
            let job = pool.call("give", &n.to_le_bytes());
            job.wait(None).unwrap();
            let Outcome::Returned(message) = job.take().unwrap().outcome else { panic!("{n}") };
            let block = block_in(&message, &message.body().to_vec());
            drop(message);
            assert_eq!(cell(&block).load(Ordering::Relaxed), n);
            // And back to where it came from.
            let (descriptor, offset, _) = block.share_descriptor().unwrap();
            let place = [descriptor.id(), offset as u64].map(u64::to_le_bytes).concat();
            result(&call(&pool, "count", &place, &[descriptor]));
            assert_eq!(cell(&block).load(Ordering::Relaxed), n + 1);
        }
        pool.finish();
    });
}

#[test]
fn many_descriptors_go_with_one_task() {
    each("many", |method, _| {
        let pool = Bytes::new(method, 1);
        let null: PathBuf = "/dev/null".into();
        let null = std::fs::File::open(null).unwrap();
        let copy = || Descriptor::copy_of(null.as_fd()).unwrap();
        let many: Vec<_> = (0..700).map(|_| copy()).collect();
        assert_eq!(number(&result(&call(&pool, "came", b"", &many))), 700);
        // The same one twice, among others that are known already.
        let twice = copy();
        let again: Vec<_> = many.iter().chain([&twice, &twice]).cloned().collect();
        assert_eq!(number(&result(&call(&pool, "came", b"", &again))), 702);
        pool.finish();
    });
}

#[test]
fn a_descriptor_that_was_lost_is_sent_again() {
    each("lost", |method, _| {
        let pool = Bytes::new(method, 1);
        let (_block, descriptor, place) = block();
        let (reader, writer) = pipe();
        result(&call(&pool, "count", &place, &[descriptor]));
        result(&pool.call("room", &0u64.to_le_bytes()));
        let came = |descriptor: &Descriptor| {
            number(&result(&call(&pool, "came", b"", std::slice::from_ref(descriptor))))
        };
        assert_eq!([came(&writer), came(&writer)], [0, 0]);
        result(&pool.call("room", &10u64.to_le_bytes()));
        // The first one may still name what was lost.
        came(&writer);
        assert_eq!(came(&writer), 1);
        drop(writer);
        assert!(read(reader).is_empty());
        pool.finish();
    });
}
