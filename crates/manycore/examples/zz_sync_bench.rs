//! tmp
use manycore::sync::*;
use std::time::Instant;
fn time(name: &str, mut f: impl FnMut()) {
    let n = 5_000_000u32;
    let mut best = f64::MAX;
    for _ in 0..7 {
        let t = Instant::now();
        for _ in 0..n {
            f();
        }
        best = best.min(t.elapsed().as_nanos() as f64 / n as f64);
    }
    println!("{name}: {best:.1} ns");
}
fn main() {
    let m = Mutex::new().unwrap();
    time("mutex lock+unlock", || {
        m.lock(None).unwrap();
        m.unlock().unwrap();
    });
    time("mutex lock_or_recover+unlock", || {
        m.lock_or_recover(None).unwrap();
        m.unlock().unwrap();
    });
    let r = RecursiveMutex::new().unwrap();
    time("recursive lock+unlock", || {
        r.lock(None).unwrap();
        r.unlock().unwrap();
    });
    r.lock(None).unwrap();
    time("recursive nested lock+unlock", || {
        r.lock(None).unwrap();
        r.unlock().unwrap();
    });
    let s = Semaphore::new(1, None).unwrap();
    time("semaphore acquire+release", || {
        s.acquire(None).unwrap();
        s.release(1).unwrap();
    });
    let e = Event::new().unwrap();
    time("event set+clear", || {
        e.set();
        e.clear();
    });
    let d = Doorbell::new();
    time("doorbell ring nobody", || d.ring());
    let c = Condition::new().unwrap();
    time("condition notify nobody", || {
        std::hint::black_box(c.notify(1));
    });
    let st = std::sync::Mutex::new(());
    time("std::sync::Mutex", || {
        drop(std::hint::black_box(st.lock().unwrap()));
    });
    // contention: 2 threads, empty critical sections
    let m = Mutex::new().unwrap();
    for (label, th) in [("contended 2 threads per op", 2), ("4 threads", 4)] {
        let t = Instant::now();
        std::thread::scope(|sc| {
            for _ in 0..th {
                sc.spawn(|| {
                    for _ in 0..1_000_000 {
                        m.lock(None).unwrap();
                        m.unlock().unwrap();
                    }
                });
            }
        });
        println!("{label}: {:.0} ns", t.elapsed().as_nanos() as f64 / (th as f64 * 1e6));
    }
    let t = Instant::now();
    std::thread::scope(|sc| {
        for _ in 0..2 {
            sc.spawn(|| {
                for _ in 0..1_000_000 {
                    drop(std::hint::black_box(st.lock().unwrap()));
                }
            });
        }
    });
    println!("std contended 2: {:.0} ns", t.elapsed().as_nanos() as f64 / 2e6);
}
