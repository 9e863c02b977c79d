//! Threads of the engine's own.
//!
//! Not those of `std`: a thread of `std` takes a lock of `std`'s own while it starts, and a process
//! that is forked at that moment has that lock locked for ever, so no thread of `std` would ever get
//! going in it. The C library looks after its locks when it forks.

use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{io, ptr};

use crate::{Error, Result};

type Main = Box<dyn FnOnce() + Send>;

struct Start {
    name: &'static CStr,
    main: Main,
}

/// Runs `main` in a new thread with a stack of `stack` bytes, which nobody waits for. It has the
/// caller's signal mask and a name of at most 15 bytes.
pub(crate) fn start(
    name: &'static CStr,
    stack: usize,
    main: impl FnOnce() + Send + 'static,
) -> Result<()> {
    let start = Box::new(Start { name, main: Box::new(main) });
    let start = Box::into_raw(start);
    let code = create(stack, start.cast());
    if code == 0 {
        return Ok(());
    }
    // SAFETY: no thread was made, so the box is still ours alone.
    drop(unsafe { Box::from_raw(start) });
    Err(Error::os("start a thread", io::Error::from_raw_os_error(code)))
}

fn create(stack: usize, start: *mut c_void) -> i32 {
    let mut attributes = MaybeUninit::uninit();
    let mut thread = MaybeUninit::uninit();
    // SAFETY: the attributes are initialised first and destroyed last, each call gets pointers to
    // values that live here, and `run` takes over `start` if and only if the thread is made.
    unsafe {
        let code = libc::pthread_attr_init(attributes.as_mut_ptr());
        if code != 0 {
            return code;
        }
        let attributes = attributes.assume_init_mut();
        libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED);
        let mut code = libc::pthread_attr_setstacksize(attributes, stack);
        if code == 0 {
            code = libc::pthread_create(thread.as_mut_ptr(), ptr::from_ref(attributes), run, start);
        }
        libc::pthread_attr_destroy(attributes);
        code
    }
}

extern "C" fn run(start: *mut c_void) -> *mut c_void {
    // SAFETY: `start` made this pointer from a box, and hands it to one thread only.
    let start = unsafe { Box::from_raw(start.cast::<Start>()) };
    // The name is for people; without it the thread works all the same.
    let _ = rustix::thread::set_name(start.name);
    // A panic has been reported; there is nobody to hand it to.
    let _ = catch_unwind(AssertUnwindSafe(start.main));
    ptr::null_mut()
}
