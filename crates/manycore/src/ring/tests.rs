use std::thread;

use super::{Consumer, Memory, Producer};
use crate::memory::Segment;

fn ring(capacity: usize) -> (Producer, Consumer, Segment) {
    let segment = Segment::new(Memory::size(capacity)).unwrap();
    let memory = Memory::new(segment.clone(), 0, capacity);
    (Producer::new(memory.clone()), Consumer::new(memory), segment)
}

#[test]
fn records_of_every_length_arrive_in_order() {
    let (mut producer, mut consumer, _segment) = ring(1024);
    let mut out = Vec::new();
    for round in 0..5000_usize {
        let len = round * 7 % (producer.longest() + 1);
        let record: Vec<u8> = (0..len).map(|i| (i + round) as u8).collect();
        let (left, right) = record.split_at(len / 3);
        assert!(producer.push(&[left, right]));
        assert!(consumer.pop(&mut out).unwrap());
        assert_eq!(out, record);
        assert!(!consumer.pop(&mut out).unwrap());
        assert_eq!(producer.released() % 8, 0);
    }
}

#[test]
fn a_full_ring_refuses_and_takes_again_after_a_release() {
    let (mut producer, mut consumer, _segment) = ring(256);
    let mut pushed = 0_u64;
    while producer.push(&[&pushed.to_le_bytes()]) {
        pushed += 1;
    }
    assert_eq!(pushed, 16);
    let mut out = Vec::new();
    assert!(consumer.peek(&mut out).unwrap());
    assert!(!producer.push(&[&pushed.to_le_bytes()]), "a record only looked at keeps its place");
    consumer.release();
    assert!(producer.push(&[&pushed.to_le_bytes()]));
}

#[test]
fn what_was_not_released_is_there_for_an_heir() {
    let (mut producer, mut consumer, segment) = ring(256);
    for word in [1_u8, 2, 3] {
        assert!(producer.push(&[&[word]]));
    }
    let mut out = Vec::new();
    assert!(consumer.pop(&mut out).unwrap());
    assert!(consumer.peek(&mut out).unwrap());
    drop(consumer);
    let mut heir = Consumer::new(Memory::new(segment, 0, 256));
    assert!(heir.pop(&mut out).unwrap());
    assert_eq!(out, [2]);
}

#[test]
fn nonsense_in_the_ring_is_an_error() {
    let (mut producer, mut consumer, segment) = ring(256);
    let mut out = Vec::new();
    assert!(producer.push(&[b"whole"]));
    let data = segment.as_ptr().wrapping_add(segment.len() - 256).cast::<u32>();
    for length in [6 << 8, 0x7fff_ffff, u32::MAX] {
        // SAFETY: the place is inside the segment, aligned, and no other thread looks at it.
        unsafe { data.write(length) };
        assert!(consumer.peek(&mut out).is_err(), "length {length}");
    }
}

#[test]
fn a_record_beyond_the_end_of_the_ring_is_an_error() {
    let (mut producer, mut consumer, segment) = ring(256);
    let mut out = Vec::new();
    for _ in 0..3 {
        assert!(producer.push(&[&[7; 60]]));
        assert!(consumer.pop(&mut out).unwrap());
    }
    for _ in 0..3 {
        assert!(producer.push(&[&[7; 60]]));
    }
    // The record at 192 has 64 bytes to the end of the data; so many are published after it.
    let data = segment.as_ptr().wrapping_add(segment.len() - 64).cast::<u32>();
    // SAFETY: the place is inside the segment, aligned, and no other thread looks at it.
    unsafe { data.write(100) };
    assert!(consumer.peek(&mut out).is_err());
}

#[test]
fn two_threads_pass_a_million_records() {
    let (mut producer, mut consumer, _segment) = ring(4096);
    let writer = thread::spawn(move || {
        for number in 0..1_000_000_u64 {
            let bytes = number.to_le_bytes();
            let len = 1 + number as usize % 8;
            while !producer.push(&[&bytes, &bytes[..len]]) {
                thread::yield_now();
            }
        }
    });
    let mut out = Vec::new();
    for number in 0..1_000_000_u64 {
        while !consumer.pop(&mut out).unwrap() {
            thread::yield_now();
        }
        assert_eq!(out[..8], number.to_le_bytes());
        assert_eq!(out.len(), 9 + number as usize % 8);
    }
    writer.join().unwrap();
}
