//! Blocks: where they come from, when their memory is used again, and when it is gone.

mod support;

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use manycore::memory::Block;
use support::{fork, watchdog};

fn bytes(block: &Block) -> &[u8] {
    // SAFETY: the tests use a block from one thread of one process at a time.
    unsafe { std::slice::from_raw_parts(block.as_ptr(), block.len()) }
}

fn fill(block: &Block, byte: u8) {
    // SAFETY: as for `bytes`; the range is the block's.
    unsafe { block.as_ptr().write_bytes(byte, block.len()) };
}

fn shared(block: &Block) -> (OwnedFd, usize, usize) {
    let (fd, offset, len) = block.share().unwrap();
    (fd.try_clone_to_owned().unwrap(), offset, len)
}

#[test]
fn blocks_are_zeroed_aligned_and_apart() {
    let mut blocks = Vec::new();
    for len in [1, 64, 65, 1000, 40_000, 65_535, 65_536, 1 << 20, 0] {
        for _ in 0..8 {
            let block = Block::new(len).unwrap();
            assert_eq!((block.len(), block.as_ptr() as usize % 64), (len, 0));
            assert!(bytes(&block).iter().all(|byte| *byte == 0));
            fill(&block, 0xff);
            blocks.push(block);
        }
    }
    let mut places: Vec<_> = blocks.iter().map(|b| (b.as_ptr() as usize, b.len().max(1))).collect();
    places.sort_unstable();
    assert!(places.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0));
}

#[test]
fn small_blocks_share_a_segment() {
    let blocks: Vec<_> = (0..100).map(|_| Block::new(64).unwrap()).collect();
    let segments: HashSet<_> = blocks.iter().map(|b| b.as_ptr() as usize - b.offset()).collect();
    assert!(segments.len() < 10, "{} segments", segments.len());
}

#[test]
fn memory_of_a_private_block_is_used_again_and_zero() {
    let _one_at_a_time = forks();
    let keeper = Block::new(1).unwrap();
    let mut places = HashSet::new();
    for _ in 0..10_000 {
        let block = Block::new(128).unwrap();
        assert!(bytes(&block).iter().all(|byte| *byte == 0));
        fill(&block, 1);
        places.insert(block.as_ptr() as usize);
    }
    // Other tests allocate at the same time, so not always the same place.
    assert!(places.len() < 5_000, "{} places", places.len());
    drop(keeper);
}

#[test]
fn memory_of_a_shared_block_is_not_used_again() {
    let _one_at_a_time = forks();
    let keeper = Block::new(1 << 10).unwrap();
    let mut places = HashSet::from([0]);
    let mut arena = 0;
    for _ in 0..50 {
        let block = Block::new(64).unwrap();
        block.share().unwrap();
        let start = block.as_ptr() as usize - block.offset();
        if arena != start {
            (arena, places) = (start, HashSet::new());
        }
        assert!(places.insert(block.offset()));
    }
    drop(keeper);
}

#[test]
fn memory_that_a_child_knows_is_not_used_again() {
    let _one_at_a_time = forks();
    let _watchdog = watchdog("a fork");
    let keeper = Block::new(64).unwrap();
    let block = Block::new(4096).unwrap();
    let place = block.as_ptr() as usize;
    let child = fork(|| std::thread::park_timeout(std::time::Duration::from_secs(60)));
    drop(block);
    let others: Vec<_> = (0..64).map(|_| Block::new(4096).unwrap()).collect();
    assert!(others.iter().all(|other| other.as_ptr() as usize != place));
    child.kill();
    drop(keeper);
}

#[test]
fn a_child_allocates_for_itself() {
    let _one_at_a_time = forks();
    let _watchdog = watchdog("a child");
    let inherited = Block::new(64).unwrap();
    let child = fork(|| {
        let own = Block::new(64).unwrap();
        assert_ne!(own.as_ptr() as usize & !0xffff, inherited.as_ptr() as usize & !0xffff);
        fill(&own, 7);
        fill(&inherited, 42);
        drop(inherited.clone());
    });
    child.join();
    assert_eq!(bytes(&inherited), [42; 64]);
    let more: Vec<_> = (0..100).map(|_| Block::new(64).unwrap()).collect();
    assert!(more.iter().all(|block| bytes(block).iter().all(|byte| *byte == 0)));
}

#[test]
fn attaching_finds_the_mapping_that_is_there() {
    let blocks = [Block::new(64).unwrap(), Block::new(64).unwrap(), Block::new(1 << 20).unwrap()];
    for block in &blocks {
        let (fd, offset, len) = shared(block);
        let attached = Block::attach(fd, offset, len).unwrap();
        assert_eq!(attached.as_ptr(), block.as_ptr());
    }
}

#[test]
fn a_child_attaches_once_what_it_is_sent() {
    let _one_at_a_time = forks();
    let _watchdog = watchdog("a child");
    let blocks = [Block::new(64).unwrap(), Block::new(64).unwrap()];
    fork(|| {
        // As a spawned process would: nothing is left but the descriptors.
        let attach = |block| {
            let (fd, offset, len) = shared(block);
            Block::attach(fd, offset, len).unwrap()
        };
        let [one, two] = [attach(&blocks[0]), attach(&blocks[1])];
        assert_ne!(one.as_ptr(), blocks[0].as_ptr());
        if blocks[0].segment().as_ptr() == blocks[1].segment().as_ptr() {
            assert_eq!(one.segment().as_ptr(), two.segment().as_ptr());
        }
        fill(&one, 1);
        fill(&two, 2);
    })
    .join();
    assert_eq!((bytes(&blocks[0])[0], bytes(&blocks[1])[0]), (1, 2));
}

#[test]
fn an_arena_is_unmapped_with_its_last_block() {
    let _one_at_a_time = forks();
    let _watchdog = watchdog("a child");
    // In a child, where no other test allocates.
    fork(|| {
        let before = descriptors();
        for round in 0..3 {
            let blocks: Vec<_> = (0..5_000).map(|_| Block::new(200).unwrap()).collect();
            blocks.iter().step_by(2).for_each(|block| assert!(block.share().is_ok()));
            assert!(descriptors() > before, "round {round}");
            drop(blocks);
            assert_eq!(descriptors(), before, "round {round}");
        }
    })
    .join();
}

#[test]
fn a_part_keeps_the_whole() {
    let block = Block::new(256).unwrap();
    let part = block.part(64, 100).unwrap();
    assert_eq!(part.as_ptr() as usize, block.as_ptr() as usize + 64);
    assert_eq!(part.offset(), block.offset() + 64);
    drop(block);
    fill(&part, 3);
    assert!(part.part(64, 37).unwrap_err().is_misuse());
    assert!(part.part(8, 8).is_err());
    assert!(part.part(usize::MAX, 2).unwrap_err().is_misuse());
}

#[test]
fn what_cannot_be_is_refused() {
    assert!(Block::new(usize::MAX).unwrap_err().is_misuse());
    let (fd, offset, _) = shared(&Block::new(64).unwrap());
    assert!(Block::attach(fd, offset, 1 << 30).is_err());
    let (fd, offset, len) = shared(&Block::new(64).unwrap());
    assert!(Block::attach(fd, offset + 1, len).is_err());
}

#[test]
fn threads_allocate_at_once() {
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            scope.spawn(move || {
                let mut numbers = support::Numbers::new(thread.into());
                let mut blocks: Vec<Block> = Vec::new();
                for _ in 0..5_000 {
                    let block = Block::new(numbers.below(3_000) as usize).unwrap();
                    assert!(bytes(&block).iter().all(|byte| *byte == 0));
                    fill(&block, thread + 1);
                    blocks.push(block);
                    if blocks.len() > 50 {
                        let old = blocks.swap_remove(numbers.below(50) as usize);
                        assert!(bytes(&old).iter().all(|byte| *byte == thread + 1));
                    }
                }
            });
        }
    });
}

/// How many descriptors this process has open.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Tests that fork, or that must not be disturbed by a fork, run one at a time.
fn forks() -> std::sync::MutexGuard<'static, ()> {
    static FORKS: std::sync::Mutex<()> = std::sync::Mutex::new(());
    FORKS.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
