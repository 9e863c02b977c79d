//! A pool of this program's own copies: what a task costs without Python.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use manycore::{Pool, StartMethod};

const METHODS: [StartMethod; 3] = [StartMethod::Fork, StartMethod::ForkServer, StartMethod::Spawn];
const TASKS: u64 = 10_000;

fn square(x: u64) -> u64 {
    x * x
}

/// Text, since serde takes a list of bytes one by one.
fn length(text: String) -> usize {
    text.len()
}

fn pool(method: StartMethod) -> Pool {
    Pool::builder().workers(2).start_method(method).build().unwrap()
}

fn one_task(criterion: &mut Criterion) {
    let pool = pool(StartMethod::Fork);
    criterion.bench_function("one task, there and back", |bencher| {
        bencher.iter(|| assert_eq!(pool.map(square, [7]).unwrap(), [49]));
    });
}

fn many_tasks(criterion: &mut Criterion) {
    let pool = pool(StartMethod::Fork);
    let squares: Vec<u64> = (0..TASKS).map(square).collect();
    let mut group = criterion.benchmark_group("map");
    group.throughput(Throughput::Elements(TASKS));
    group.bench_function(BenchmarkId::from_parameter(TASKS), |bencher| {
        bencher.iter(|| assert_eq!(pool.map(square, 0..TASKS).unwrap(), squares));
    });
    group.finish();
}

fn payload(criterion: &mut Criterion) {
    let pool = pool(StartMethod::Fork);
    let mut group = criterion.benchmark_group("one task with text");
    for size in [1 << 10, 64 << 10, 4 << 20] {
        let text = "a".repeat(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| assert_eq!(pool.map(length, [text.clone()]).unwrap(), [size]));
        });
    }
    group.finish();
}

fn start(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("start, one task, end");
    group.sample_size(20);
    for method in METHODS {
        group.bench_function(BenchmarkId::from_parameter(format!("{method:?}")), |bencher| {
            bencher.iter(|| assert_eq!(pool(method).map(square, [7]).unwrap(), [49]));
        });
    }
    group.finish();
}

criterion_group!(benches, one_task, many_tasks, payload, start);

fn main() {
    // In a worker this does not return.
    manycore::init();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
