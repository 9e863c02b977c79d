//! The ring between two processes: what a record costs.

use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use manycore::internals::{RingReader, RingWriter, ring};

const CAPACITY: usize = 256 << 10;
const SIZES: [usize; 3] = [8, 64, 4096];

/// One thread writes a record and reads it again: no cache line travels.
fn push_and_pop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring, push and pop");
    for size in SIZES {
        let (mut writer, mut reader) = ring(CAPACITY).unwrap();
        let (record, mut out) = (vec![7; size], Vec::new());
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                assert!(writer.push(&record));
                assert!(reader.pop(&mut out).unwrap());
            });
        });
        assert_eq!(out, record);
    }
    group.finish();
}

/// One thread writes, another reads, both as fast as they can.
fn stream(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring, from thread to thread");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_custom(|records| {
                let (writer, reader) = ring(CAPACITY).unwrap();
                let (ready, go) = sync_channel(0);
                let writing = thread::spawn(move || {
                    ready.send(()).unwrap();
                    write(writer, records, size);
                });
                go.recv().unwrap();
                let start = Instant::now();
                read(reader, records, size);
                let elapsed = start.elapsed();
                writing.join().unwrap();
                elapsed
            });
        });
    }
    group.finish();
}

fn write(mut ring: RingWriter, records: u64, size: usize) {
    let record = vec![7; size];
    for _ in 0..records {
        while !ring.push(&record) {
            thread::yield_now();
        }
    }
}

fn read(mut ring: RingReader, records: u64, size: usize) {
    let mut out = Vec::new();
    for _ in 0..records {
        while !ring.pop(&mut out).unwrap() {
            thread::yield_now();
        }
        assert_eq!(out.len(), size);
    }
}

criterion_group!(benches, push_and_pop, stream);
criterion_main!(benches);
