//! Messages over pipes and sockets.
#![allow(clippy::disallowed_types, reason = "no model looks at a test")]

mod support;

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use manycore::channel::stream::{
    Arrival, End, Framed, HANDED, Header, PREFIX, Stream, poll, recv, recv_body, recv_len, send,
    send_rest,
};
use manycore::{Error, Result};
use support::{fork, soon, watchdog};

fn put(fd: impl AsFd, parts: &[&[u8]]) -> Result<()> {
    send(fd.as_fd(), parts, &mut || Ok(()))
}

fn take(fd: impl AsFd) -> Result<Vec<u8>> {
    recv(fd.as_fd(), None, &mut || Ok(()))
}

fn nonblocking(fd: BorrowedFd<'_>) {
    // SAFETY: a plain system call on an open descriptor.
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
}

fn pair() -> (PipeReader, PipeWriter) {
    pipe().unwrap()
}

#[test]
fn bytes_on_the_wire_are_those_of_the_standard_library() {
    let (mut reader, writer) = pair();
    put(&writer, &[b"spam"]).unwrap();
    put(&writer, &[]).unwrap();
    put(&writer, &[b"", b"e", b"ggs"]).unwrap();
    drop(writer);
    let mut wire = Vec::new();
    reader.read_to_end(&mut wire).unwrap();
    assert_eq!(wire, b"\0\0\0\x04spam\0\0\0\0\0\0\0\x04eggs");
}

#[test]
fn messages_of_all_sizes_arrive_whole() {
    let _watchdog = watchdog("a stream");
    let sizes = [0, 1, 4, 16_380, 16_384, 16_385, 65_536, 1 << 20, 5_000_001];
    for (reader, writer) in [true, false].map(ends) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for size in sizes {
                    let message: Vec<u8> = (0..size).map(|i| i as u8).collect();
                    let parts: Vec<&[u8]> = message.chunks(1 + size / 3000).collect();
                    put(&writer, &parts).unwrap();
                }
                drop(writer);
            });
            for size in sizes {
                let message = take(&reader).unwrap();
                assert_eq!(message.len(), size);
                assert!(message.iter().enumerate().all(|(i, byte)| *byte == i as u8));
            }
            assert!(take(&reader).unwrap_err().is_closed());
        });
    }
}

fn ends(is_pipe: bool) -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    if is_pipe {
        let (reader, writer) = pair();
        (reader.into(), writer.into())
    } else {
        let (reader, writer) = UnixStream::pair().unwrap();
        (reader.into(), writer.into())
    }
}

#[test]
fn the_long_form_of_a_length_is_understood() {
    let (reader, mut writer) = pair();
    writer.write_all(b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x02ab").unwrap();
    assert_eq!(take(&reader).unwrap(), b"ab");
    writer.write_all(b"\xff\xff\xff\xff\0\0\0\x01\0\0\0\0").unwrap();
    assert_eq!(recv_len(reader.as_fd(), None, &mut || Ok(())).unwrap(), 1 << 32);
}

#[test]
fn length_and_body_can_be_received_one_by_one() {
    let (reader, writer) = pair();
    put(&writer, &[b"abcdef"]).unwrap();
    let mut body = vec![0; recv_len(reader.as_fd(), Some(6), &mut || Ok(())).unwrap()];
    recv_body(reader.as_fd(), &mut body, &mut || Ok(())).unwrap();
    assert_eq!(body, b"abcdef");
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let (reader, mut writer) = pair();
    writer.write_all(b"\xff\xff\xff\xfe").unwrap();
    assert_eq!(
        take(&reader).unwrap_err().to_string(),
        "the length of a message does not follow the protocol"
    );
    put(&writer, &[b"abcdef"]).unwrap();
    let error = recv(reader.as_fd(), Some(5), &mut || Ok(())).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    take_all(&reader, 6);
    writer.write_all(b"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff").unwrap();
    assert_eq!(take(&reader).unwrap_err().raw_os_error(), Some(libc::ENOMEM));
}

fn take_all(mut reader: &PipeReader, len: usize) {
    reader.read_exact(&mut vec![0; len]).unwrap();
}

#[test]
fn an_end_inside_a_message_is_no_clean_end() {
    for cut in [&b"\0"[..], b"\0\0\0\x05", b"\0\0\0\x05abc"] {
        let (reader, mut writer) = pair();
        writer.write_all(cut).unwrap();
        drop(writer);
        let error = take(&reader).unwrap_err();
        assert!(!error.is_closed(), "{error}");
        assert!(error.to_string().contains("ends too early"), "{error}");
    }
}

#[test]
fn a_peer_that_is_gone_is_told_apart() {
    let (reader, writer) = pair();
    drop(reader);
    assert_eq!(put(&writer, &[b"x"]).unwrap_err().raw_os_error(), Some(libc::EPIPE));
    let (ours, theirs) = UnixStream::pair().unwrap();
    put(&ours, &[b"never read"]).unwrap();
    drop(theirs);
    assert!(take(&ours).unwrap_err().is_closed());
    assert_eq!(put(&ours, &[b"x"]).unwrap_err().raw_os_error(), Some(libc::EPIPE));
}

#[test]
fn a_nonblocking_descriptor_fails_only_between_messages() {
    let _watchdog = watchdog("a non-blocking descriptor");
    let (reader, mut writer) = pair();
    nonblocking(reader.as_fd());
    nonblocking(writer.as_fd());
    assert_eq!(take(&reader).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
    // Half a message is there, the rest comes later.
    writer.write_all(b"\0\0").unwrap();
    std::thread::scope(|scope| {
        let message = scope.spawn(|| take(&reader).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        writer.write_all(b"\0\x02a").unwrap();
        std::thread::sleep(Duration::from_millis(20));
        writer.write_all(b"b").unwrap();
        assert_eq!(message.join().unwrap(), b"ab");
    });
    // More than the pipe has room for.
    std::thread::scope(|scope| {
        scope.spawn(|| put(&writer, &[&vec![7; 1 << 20]]).unwrap());
        poll(&[reader.as_fd()], None).unwrap();
        assert_eq!(take(&reader).unwrap(), vec![7; 1 << 20]);
    });
    let error = (0..100_000).find_map(|_| put(&writer, &[&[0; 1000]]).err()).unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
}

#[test]
fn poll_tells_which_are_ready() {
    let _watchdog = watchdog("poll");
    let pairs = [pair(), pair(), pair()];
    let fds = pairs.each_ref().map(|(reader, _)| reader.as_fd());
    assert!(poll(&fds, soon(10)).unwrap_err().is_timeout());
    assert!(poll(&[], soon(10)).unwrap_err().is_timeout());
    put(&pairs[2].1, &[b"x"]).unwrap();
    assert_eq!(poll(&fds, None).unwrap(), [2]);
    put(&pairs[0].1, &[b"x"]).unwrap();
    assert_eq!(poll(&fds, soon(0)).unwrap(), [0, 2]);
    let (reader, writer) = pair();
    drop(writer);
    assert_eq!(poll(&[fds[1], reader.as_fd()], None).unwrap(), [1]);
}

/// Runs `f` in a thread that a signal without effect interrupts every millisecond.
fn with_signals<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing; without SA_RESTART a system call ends with EINTR.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
    }
    std::thread::scope(|scope| {
        let (id, its_id) = std::sync::mpsc::channel();
        let worker = scope.spawn(move || {
            // SAFETY: asks for the id of this thread.
            id.send(unsafe { libc::pthread_self() }).unwrap();
            f()
        });
        let id = its_id.recv().unwrap();
        while !worker.is_finished() {
            // SAFETY: the thread is not joined yet, so its id is valid.
            unsafe { libc::pthread_kill(id, libc::SIGUSR1) };
            std::thread::sleep(Duration::from_millis(1));
        }
        worker.join().unwrap()
    })
}

#[test]
fn signals_in_the_middle_lose_nothing() {
    let _watchdog = watchdog("an interrupted stream");
    let interrupts = AtomicU32::new(0);
    let count = || {
        interrupts.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let (reader, writer) = pair();
    let message: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            with_signals(|| {
                for _ in 0..5 {
                    send(writer.as_fd(), &[&message[..9], &message[9..]], &mut || count()).unwrap();
                }
            });
        });
        with_signals(|| {
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(5));
                assert!(recv(reader.as_fd(), None, &mut || count()).unwrap() == message);
            }
        });
    });
    assert!(interrupts.load(Ordering::Relaxed) > 0);
}

#[test]
fn an_interrupt_can_end_the_call() {
    let _watchdog = watchdog("an interrupted stream");
    let (reader, _writer) = pair();
    let enough = || Err(Error::interrupted());
    let error = with_signals(|| recv(reader.as_fd(), None, &mut || enough()).unwrap_err());
    assert!(error.is_interrupted());
}

/// Sends as the binding does.
fn say(stream: &Stream, fd: BorrowedFd<'_>, message: &[u8]) {
    let mut bytes = [&[0; PREFIX][..], message].concat();
    let mut framed = Framed::new(&mut bytes).unwrap();
    if !stream.send_now(fd, &mut framed).unwrap() {
        send_rest(fd, &framed, &mut || Ok(())).unwrap();
    }
}

/// Receives as the binding does.
fn hear(stream: &Stream, fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let (mut header, mut room) = (Header::default(), [0; HANDED]);
    if !stream.recv_header_now(fd, &mut header)?
        && let Arrival::Handed(len) =
            stream.recv_header(fd, &mut header, &mut room, &mut || Ok(()))?
    {
        return Ok(room[..len].to_vec());
    }
    let mut body = vec![0; header.message_len(None)?];
    let done = stream.recv_body_now(fd, &mut body)?;
    recv_body(fd, &mut body[done..], &mut || Ok(()))?;
    Ok(body)
}

fn two_ends() -> (Stream, Stream) {
    let block = Stream::shared().unwrap();
    let end = |end| Stream::with_shared(&block, end).unwrap();
    (end(End::First), end(End::Second))
}

fn message(number: u32) -> Vec<u8> {
    number.to_ne_bytes().repeat(1 + number as usize % 90)
}

fn number(message: &[u8]) -> u32 {
    let number = u32::from_ne_bytes(*message.first_chunk().unwrap());
    assert_eq!(message, self::message(number));
    number
}

#[test]
fn messages_from_hand_to_hand_and_others_keep_their_order() {
    let _watchdog = watchdog("messages from hand to hand");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (here, there) = two_ends();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok(message) = hear(&there, theirs.as_fd()) {
                say(&there, theirs.as_fd(), &message);
            }
        });
        let mut next = 0;
        for round in 0..3000 {
            let count = if round % 2 == 0 { 1 } else { round % 5 };
            for i in next..next + count {
                // Now and then one that knows nothing of the other way.
                let message = message(i);
                if i % 7 == 3 {
                    put(&ours, &[&message]).unwrap()
                } else {
                    say(&here, ours.as_fd(), &message)
                }
            }
            for i in next..next + count {
                assert_eq!(number(&hear(&here, ours.as_fd()).unwrap()), i);
            }
            next += count;
        }
        ours.shutdown(std::net::Shutdown::Both).unwrap();
    });
}

#[test]
fn many_senders_and_receivers_of_one_connection_lose_nothing() {
    const EACH: u32 = 3000;
    let _watchdog = watchdog("many hands");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (here, there) = two_ends();
    let (ours, theirs) = (ours.as_fd(), theirs.as_fd());
    let (sum, turn) = (AtomicU32::new(0), std::sync::Mutex::new(()));
    std::thread::scope(|scope| {
        let senders = [0, 1].map(|_| {
            scope.spawn(|| (0..EACH).for_each(|i| say(&here, ours, &(i + 1).to_ne_bytes())))
        });
        let receivers = [0, 1].map(|_| {
            scope.spawn(|| {
                loop {
                    // Who has read a length has to read what follows, and nobody else.
                    let message = turn.lock().map(|_turn| hear(&there, theirs).unwrap()).unwrap();
                    let number = u32::from_ne_bytes(message.try_into().unwrap());
                    if number == 0 {
                        return;
                    }
                    sum.fetch_add(number, Ordering::Relaxed);
                }
            })
        });
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        receivers.iter().for_each(|_| say(&here, ours, &0u32.to_ne_bytes()));
        receivers.into_iter().for_each(|receiver| receiver.join().unwrap());
    });
    assert_eq!(sum.into_inner(), EACH * (EACH + 1));
}

/// What a receiver that is killed has not told of is lost with it: one message at the most.
#[test]
fn killed_receivers_take_no_other_messages_with_them() {
    let _watchdog = watchdog("killed receivers");
    for round in 0..40 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (told, teller) = pair();
        let (here, there) = two_ends();
        let receiver = fork(|| {
            loop {
                let message = hear(&there, theirs.as_fd()).unwrap();
                (&teller).write_all(&number(&message).to_ne_bytes()).unwrap();
            }
        });
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(20 * round));
                receiver.kill();
            });
            // So few that the socket has room for all of them.
            for i in 0..150 {
                say(&here, ours.as_fd(), &message(i));
                // The receiver has to wait now and then, or there is nothing to hand over.
                (0..i % 30 * 20).for_each(|_| std::hint::spin_loop());
            }
        });
        drop(teller);
        drop(ours);
        let mut bytes = Vec::new();
        (&told).read_to_end(&mut bytes).unwrap();
        let mut seen: Vec<u32> =
            bytes.as_chunks().0.iter().map(|bytes| u32::from_ne_bytes(*bytes)).collect();
        // It may have been killed in the middle of one on the descriptor; then none can follow.
        while let Ok(message) = hear(&there, theirs.as_fd()) {
            if message.len() < 4 || message[..4].repeat(message.len() / 4) != message {
                break;
            }
            seen.push(number(&message));
        }
        let missing = seen.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert!(missing <= 1 && seen.windows(2).all(|pair| (1..=2).contains(&(pair[1] - pair[0]))));
    }
}
