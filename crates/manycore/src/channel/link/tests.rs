use std::io::Read;
use std::os::fd::AsFd;

use super::*;
use crate::memory::Descriptor;
use crate::sys::fork::IdleCopy;
use crate::sys::memory;

fn link() -> (ParentEnd, WorkerEnd) {
    let (parent, seat) = ParentEnd::new(&Hall::new().unwrap()).unwrap();
    (parent, WorkerEnd::new(seat).unwrap())
}

fn copies_of(open: &OwnedFd, count: usize) -> Vec<Descriptor> {
    (0..count).map(|_| Descriptor::copy_of(open.as_fd()).unwrap()).collect()
}

fn payload(descriptors: &[Descriptor]) -> Payload<'_> {
    Payload { descriptors, ..Payload::default() }
}

/// Sends one message for each descriptor until there is no room; how many went.
fn send_until_full(parent: &mut ParentEnd, descriptors: &[Descriptor]) -> usize {
    let mut send = |one| parent.send(Head::new(Kind::Define), &payload(one)).unwrap();
    descriptors.chunks(1).take_while(|one| send(one)).count()
}

#[test]
fn a_full_socket_is_taken_in_by_who_reads_the_ring() {
    let open = memory::create(1).unwrap();
    let (mut parent, mut worker) = link();
    let all = copies_of(&open, 2000);
    let mut sent = send_until_full(&mut parent, &all);
    assert!(sent > 10 && sent < all.len(), "{sent} went");
    assert_eq!(send_until_full(&mut parent, &all[sent..]), 0);
    let mut received = 0;
    while sent < all.len() {
        while let Some(message) = worker.receive().unwrap() {
            assert!(message.descriptors()[0].descriptor().is_ok());
            received += 1;
        }
        assert_eq!(received, sent);
        // Without the request nobody would tell the parent that there is room.
        let told = parent.receive().unwrap().expect("a word that there is room");
        assert_eq!(told.head.kind, Kind::TakenIn);
        sent += send_until_full(&mut parent, &all[sent..]);
    }
}

#[test]
fn a_worker_goes_on_when_its_parent_has_read() {
    let open = memory::create(1).unwrap();
    let (mut parent, mut worker) = link();
    let all = copies_of(&open, 2000);
    let mut sent = 0;
    while sent < all.len() {
        let released = worker.released();
        while sent < all.len()
            && worker.send(Head::new(Kind::Ready), &payload(&all[sent..=sent])).unwrap()
        {
            sent += 1;
        }
        while parent.receive().unwrap().is_some() {}
        assert_ne!(worker.released(), released, "what a worker without room waits for");
    }
}

#[test]
fn what_is_under_way_when_a_link_ends_is_open_nowhere() {
    let (mut parent, mut worker) = link();
    let pipes = [(); 2].map(|()| std::io::pipe().unwrap());
    let (readers, writers): (Vec<_>, Vec<_>) = pipes.into_iter().unzip();
    let copies: Vec<_> =
        writers.iter().map(|writer| Descriptor::copy_of(writer.as_fd()).unwrap()).collect();
    drop(writers);
    assert!(parent.send(Head::new(Kind::Define), &payload(&copies[..1])).unwrap());
    assert!(worker.send(Head::new(Kind::Ready), &payload(&copies[1..])).unwrap());
    let child = IdleCopy::make();
    drop((parent, worker, copies));
    for mut reader in readers {
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
    assert!(child.end(), "the pipes hung up only with the child");
}

#[test]
fn descriptors_that_end_are_forgotten_once_they_were_named() {
    let open = memory::create(1).unwrap();
    let (mut parent, mut worker) = link();
    let (kept, gone) = (copies_of(&open, 1), copies_of(&open, 1));
    assert!(parent.send(Head::new(Kind::Define), &payload(&gone)).unwrap());
    assert!(parent.send(Head::new(Kind::Define), &payload(&kept)).unwrap());
    drop(gone);
    assert!(parent.has_ended_descriptors());
    parent.release_descriptors();
    assert!(!parent.has_ended_descriptors());
    let first = worker.receive().unwrap().unwrap();
    let id = first.descriptors()[0].id();
    assert!(worker.receive().unwrap().is_some() && worker.receive().unwrap().is_none());
    // Whoever has the message has the descriptor.
    assert!(first.descriptors()[0].descriptor().is_ok());
    assert!(worker.receiver.mail.descriptor(id).is_err());
    assert!(worker.receiver.mail.descriptor(kept[0].id()).is_ok());
}

/// What a task with this number carries; some lie in slabs.
fn body_of(task: u64) -> Vec<u8> {
    vec![task as u8; if task.is_multiple_of(16) { 80_000 } else { 9000 }]
}

/// Sends at most as many tasks after `last` as there is room for; the last one that went, or `last`.
fn send_tasks(parent: &mut ParentEnd, last: u64, most: usize) -> u64 {
    let fits = |task: &u64| {
        let head = Head { task: *task, ..Head::new(Kind::Task) };
        let body: &[&[u8]] = &[&body_of(*task)];
        parent.send(head, &Payload { body, ..Payload::default() }).unwrap()
    };
    (last + 1..).take_while(fits).take(most).last().unwrap_or(last)
}

fn body_is_of(message: &Message) -> bool {
    message.body().to_vec() == body_of(message.head.task)
}

#[test]
fn tasks_that_were_taken_back_keep_their_room_until_the_worker_has_passed_them() {
    let (mut parent, mut worker) = link();
    let last = send_tasks(&mut parent, 0, usize::MAX);
    assert!(last > 10, "{last}");
    assert_eq!(worker.receive().unwrap().map(|it| it.head.task), Some(1));
    let back = parent.take_back(last).unwrap().unwrap();
    assert!(back.iter().map(|(head, _)| head.task).eq(2..=last));
    // The worker has given back the room of one task.
    let next = send_tasks(&mut parent, last, usize::MAX);
    assert_eq!(next, last + 1);
    let message = worker.receive().unwrap().unwrap();
    assert!(message.head.task == next && body_is_of(&message));
    assert!(worker.receive().unwrap().is_none());
}

#[test]
fn each_task_is_started_or_taken_back_while_the_worker_goes_on() {
    const COUNT: u64 = 20_000;
    let (mut parent, mut worker) = link();
    let worker = std::thread::spawn(move || {
        let mut started = Vec::new();
        while started.last() != Some(&COUNT) {
            let Some(message) = worker.receive().unwrap() else {
                std::hint::spin_loop();
                continue;
            };
            assert!(body_is_of(&message), "task {}", message.head.task);
            started.push(message.head.task);
        }
        started
    });
    let (mut last, mut back) = (0, Vec::new());
    while last < COUNT - 1 {
        last = send_tasks(&mut parent, last, 40.min(COUNT - 1 - last) as usize);
        for (head, payload) in parent.take_back(last).unwrap().unwrap_or_default() {
            payload.with(|it| assert!(it.body[0] == body_of(head.task)));
            back.push(head.task);
        }
    }
    while send_tasks(&mut parent, last, 1) == last {}
    let mut all = worker.join().unwrap();
    all.append(&mut back);
    all.sort_unstable();
    let wrong = all.iter().zip(1..).find(|(task, due)| **task != *due);
    assert!(all.len() as u64 == COUNT && wrong.is_none(), "{} tasks, {wrong:?}", all.len());
}
