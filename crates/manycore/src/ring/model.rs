//! Loom tries every order of the two sides' steps.

use loom::thread;

use super::{Consumer, Memory, Producer};

#[test]
fn every_record_arrives_whole_and_in_order() {
    loom::model(|| {
        let memory = Memory::heap(16);
        let mut producer = Producer::new(memory.clone());
        let mut consumer = Consumer::new(memory);
        let writer = thread::spawn(move || {
            for word in [1_u8, 2, 3] {
                while !producer.push(&[&[word]]) {
                    thread::yield_now();
                }
            }
        });
        let mut out = Vec::new();
        for word in [1_u8, 2, 3] {
            while !consumer.pop(&mut out).unwrap() {
                thread::yield_now();
            }
            assert_eq!(out, [word]);
        }
        writer.join().unwrap();
    });
}

/// A consumer may die between any two of its steps; here it stops after a peek, and the heir
/// finds the record whole although the producer went on writing.
#[test]
fn a_record_that_was_only_looked_at_stays_whole() {
    loom::model(|| {
        let memory = Memory::heap(16);
        let mut producer = Producer::new(memory.clone());
        let mut consumer = Consumer::new(memory.clone());
        assert!(producer.push(&[&[1]]));
        let writer = thread::spawn(move || {
            producer.push(&[&[2]]);
            producer.push(&[&[3]]);
        });
        let mut out = Vec::new();
        assert!(consumer.peek(&mut out).unwrap());
        drop(consumer);
        writer.join().unwrap();
        let mut heir = Consumer::new(memory);
        for word in [1_u8, 2] {
            assert!(heir.pop(&mut out).unwrap());
            assert_eq!(out, [word]);
        }
        assert!(!heir.pop(&mut out).unwrap(), "the third had no room");
    });
}
