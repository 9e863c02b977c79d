//! Squares in worker processes: `cargo run --example squares`.

use manycore::Pool;

fn square(x: u64) -> u64 {
    x * x
}

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    manycore::init();
    let pool = Pool::builder().workers(2).build()?;
    println!("workers {:?}", pool.pids());
    println!("{:?}", pool.map(square, 0..20)?);
    Ok(())
}
