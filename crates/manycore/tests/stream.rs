//! Messages over pipes and sockets.
#![allow(clippy::disallowed_types, reason = "no model looks at a test")]

mod support;

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use manycore::channel::stream::{poll, recv, recv_body, recv_len, send};
use manycore::{Error, Result};
use support::{soon, watchdog};

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
