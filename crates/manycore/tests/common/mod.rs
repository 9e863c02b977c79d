//! Pools over plain bytes for tests: worker processes that re-run the test binary, a watchdog, and
//! a check that nothing is left behind.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use manycore::StartMethod;
use manycore::channel::{Message, Payload};
use manycore::memory::{Block, Descriptor};
use manycore::pool::{
    FaceError, Function, JobHandle, JobOptions, Order, Outcome, RawPool, Seat, Settings, Settled,
    Spawner, Task, Worker,
};
use manycore::process::{
    Child, Command, ForkServer, Forked, Served, exit_at_once, fork, lifeline, serve,
};

pub(crate) const METHODS: [StartMethod; 3] =
    [StartMethod::Fork, StartMethod::Spawn, StartMethod::ForkServer];

/// The arguments with which this binary becomes a worker.
pub(crate) const ENTRY: [&str; 4] = ["--exact", "entry", "--nocapture", "--test-threads=1"];

const SEAT: &str = "POOL_TEST_SEAT";
const SERVER: &str = "POOL_TEST_SERVER";

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Held by a test: it runs alone, has 60 s without a sign of life, and leaves nothing behind.
pub(crate) struct Test {
    watchdog: Watchdog,
    before: Left,
    _alone: MutexGuard<'static, ()>,
}

impl Test {
    pub(crate) fn begin(name: &str) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // What a process makes once, with its first pool.
        let watchdog = Watchdog::new(name);
        Bytes::new(StartMethod::Fork, 1).finish();
        while Left::look().threads > 1 {
            thread::yield_now();
        }
        let before = Left::look();
        Self { watchdog, before, _alone: alone }
    }

    /// The time starts again.
    pub(crate) fn alive(&self) {
        self.watchdog.feed();
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.watchdog.feed();
        // The supervisor's thread ends a moment after its pool; the watchdog limits this.
        loop {
            let now = Left::look();
            if now.fits(&self.before) {
                return;
            }
            if self.watchdog.is_old(Duration::from_secs(20)) {
                panic!("left behind: {now:?}; before: {:?}", self.before);
            }
            thread::yield_now();
        }
    }
}

/// What a pool must not leave behind.
#[derive(Debug, PartialEq)]
struct Left {
    fds: usize,
    threads: usize,
    children: Vec<String>,
}

impl Left {
    /// Descriptors can be fewer: before the test the watching thread may have been about to close
    /// some.
    fn fits(&self, before: &Self) -> bool {
        self.fds <= before.fds
            && (self.threads, &self.children) == (before.threads, &before.children)
    }

    fn look() -> Self {
        let mut children = Vec::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.extend(list.split_whitespace().map(str::to_owned));
        }
        Self { fds: entries("/proc/self/fd"), threads: threads(), children }
    }
}

/// Without those of the harness, which come and go.
fn threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("manycore") || name.starts_with("mine")).count()
}

pub(crate) fn entries(path: impl AsRef<Path>) -> usize {
    std::fs::read_dir(path).map_or(0, |entries| entries.count())
}

pub(crate) fn mappings(pid: u32) -> usize {
    std::fs::read_to_string(format!("/proc/{pid}/maps")).map_or(0, |maps| maps.lines().count())
}

struct Watchdog {
    shared: Arc<(Mutex<Option<Instant>>, Condvar)>,
}

impl Watchdog {
    fn new(name: &str) -> Self {
        let shared = Arc::new((Mutex::new(Some(Instant::now())), Condvar::new()));
        let (seen, name) = (Arc::clone(&shared), name.to_owned());
        thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(&seen, &name))
            .unwrap();
        Self { shared }
    }

    fn feed(&self) {
        *self.shared.0.lock().unwrap() = Some(Instant::now());
    }

    fn is_old(&self, age: Duration) -> bool {
        self.shared.0.lock().unwrap().is_some_and(|fed| fed.elapsed() > age)
    }
}

fn watch(shared: &(Mutex<Option<Instant>>, Condvar), name: &str) {
    let limit = Duration::from_secs(60);
    let mut fed = shared.0.lock().unwrap();
    while let Some(last) = *fed {
        if last.elapsed() > limit {
            eprintln!("{name}: no progress for {limit:?}, pid {}", std::process::id());
            if std::env::var_os("POOL_TEST_STAY").is_some() {
                thread::sleep(Duration::from_secs(100_000));
            }
            std::process::abort();
        }
        fed = shared.1.wait_timeout(fed, limit).unwrap().0;
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.shared.1.notify_all();
    }
}

/// Runs a test for every start method.
pub(crate) fn each(name: &str, run: impl Fn(StartMethod, &Test)) {
    for method in METHODS {
        let test = Test::begin(&format!("{name} {method:?}"));
        eprintln!("{name} {method:?}");
        run(method, &test);
    }
}

/// How workers behave when they start.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    Willing = 0,
    Exits = 1,
    Refuses = 2,
}

/// A pool over bytes; derefs to it.
pub(crate) struct Bytes {
    pub(crate) raw: RawPool,
    pub(crate) staff: Arc<Staff>,
}

/// The workers that were started.
#[derive(Default)]
pub(crate) struct Staff {
    pub(crate) children: Mutex<Vec<Arc<Child>>>,
    pub(crate) started: AtomicUsize,
    pub(crate) ended: AtomicUsize,
    pub(crate) over: AtomicUsize,
}

impl Staff {
    /// A worker that has not ended, by chance.
    pub(crate) fn any(&self, chance: u64) -> Option<Arc<Child>> {
        let mut children = self.children.lock().unwrap();
        children.retain(|child| !matches!(child.try_wait(), Ok(Some(_))));
        let count = children.len() as u64;
        (count > 0).then(|| Arc::clone(&children[(chance % count) as usize]))
    }
}

impl Bytes {
    pub(crate) fn new(method: StartMethod, workers: usize) -> Self {
        Self::with(method, workers, None, Mood::Willing)
    }

    pub(crate) fn with(method: StartMethod, workers: usize, most: Option<u64>, mood: Mood) -> Self {
        let (starter, settings, staff) = plan(method, workers, most, mood);
        Self { raw: RawPool::new(settings, starter).unwrap(), staff }
    }

    /// A pool that has no workers yet.
    pub(crate) fn on_demand(method: StartMethod, workers: usize, most: Option<u64>) -> Self {
        let (starter, settings, staff) = plan(method, workers, most, Mood::Willing);
        Self { raw: RawPool::on_demand(settings, starter).unwrap(), staff }
    }

    pub(crate) fn function(&self, name: &str) -> Arc<Function> {
        self.raw.function(name.as_bytes()).unwrap()
    }

    pub(crate) fn function_with(&self, name: &[u8], descriptors: &[Descriptor]) -> Arc<Function> {
        let payload = Payload { body: &[name], descriptors, ..Payload::default() };
        self.raw.function_of(&payload).unwrap()
    }

    pub(crate) fn call(&self, name: &str, body: &[u8]) -> JobHandle {
        self.call_with(name, body, JobOptions::default())
    }

    pub(crate) fn call_with(&self, name: &str, body: &[u8], options: JobOptions) -> JobHandle {
        let payload = Payload { body: &[body], ..Payload::default() };
        self.raw.call(self.function(name), &payload, options).unwrap()
    }

    /// Closes, and waits for the end.
    pub(crate) fn finish(self) {
        self.raw.close().unwrap();
        self.join();
    }

    pub(crate) fn join(&self) {
        self.raw.join(None).unwrap();
    }
}

fn plan(
    method: StartMethod,
    workers: usize,
    most: Option<u64>,
    mood: Mood,
) -> (Starter, Settings, Arc<Staff>) {
    let staff = Arc::new(Staff::default());
    let starter = Starter { kind: Kind::new(method), mood, staff: Arc::clone(&staff) };
    (starter, Settings { workers, max_tasks_per_worker: most }, staff)
}

/// The body of the one result of a job.
pub(crate) fn result(handle: &JobHandle) -> Vec<u8> {
    handle.wait(None).unwrap();
    returned(handle.take().expect("an outcome"))
}

pub(crate) fn returned(settled: Settled) -> Vec<u8> {
    match settled.outcome {
        Outcome::Returned(message) => message.body().to_vec(),
        other => panic!("not returned: {other:?}"),
    }
}

enum Kind {
    Fork,
    Spawn,
    Server(ForkServer),
}

impl Kind {
    fn new(method: StartMethod) -> Self {
        match method {
            StartMethod::Fork => Self::Fork,
            StartMethod::Spawn => Self::Spawn,
            StartMethod::ForkServer => {
                let line = lifeline::line().unwrap();
                let server = ForkServer::start(|control| {
                    let mut command = this_program();
                    command.env(SERVER, format!("{},{control}", line.as_raw_fd()));
                    command
                });
                Self::Server(server.unwrap())
            }
        }
    }
}

fn this_program<'fd>() -> Command<'fd> {
    let mut command = Command::new("/proc/self/exe");
    command.args(ENTRY);
    command
}

struct Starter {
    kind: Kind,
    mood: Mood,
    staff: Arc<Staff>,
}

impl Spawner for Starter {
    fn start(&self, seat: Seat) -> Result<Arc<Child>, FaceError> {
        let line = lifeline::line()?;
        let mood = self.mood;
        let child = match &self.kind {
            // SAFETY: the copy works on bytes and ends; of the locks of other threads it needs
            // only the allocator's, which survives a fork.
            Kind::Fork => match unsafe { fork() }? {
                Forked::Parent(child) => child,
                Forked::Child => {
                    lifeline::watch(line, Duration::ZERO).unwrap();
                    work(seat, mood as u8)
                }
            },
            Kind::Spawn => {
                let [link, socket, hall] = seat.fds();
                let fds = [line, link, socket, hall];
                let numbers = fds.map(|fd| fd.as_raw_fd().to_string()).join(",");
                let mut command = this_program();
                command.env(SEAT, format!("{numbers},{}", mood as u8));
                for fd in fds {
                    command.fd(fd);
                }
                command.spawn()?
            }
            Kind::Server(server) => {
                let [link, socket, hall] = seat.fds();
                server.fork(&[mood as u8], &[line, link, socket, hall])?
            }
        };
        let child = Arc::new(child);
        self.staff.started.fetch_add(1, Ordering::SeqCst);
        self.staff.children.lock().unwrap().push(Arc::clone(&child));
        Ok(child)
    }

    fn ended(&self, _child: &Child) {
        self.staff.ended.fetch_add(1, Ordering::SeqCst);
    }

    fn over(&self) {
        self.staff.over.fetch_add(1, Ordering::SeqCst);
    }
}

/// What `entry` does: acts if this process was started for something.
pub(crate) fn entry() {
    if let Some(numbers) = numbers(SEAT) {
        let [line, link, socket, hall, mood] = numbers.try_into().unwrap();
        lifeline::watch(open(line).as_fd(), Duration::ZERO).unwrap();
        work(Seat::from_fds([link, socket, hall].map(open)), mood as u8);
    }
    if let Some(numbers) = numbers(SERVER) {
        let [line, control] = numbers.try_into().unwrap();
        lifeline::watch(open(line).as_fd(), Duration::ZERO).unwrap();
        // SAFETY: the other thread of this process only waits for this one.
        match unsafe { serve(open(control), &mut || fork()) }.unwrap() {
            Served::Ended => exit_at_once(0),
            Served::Child { request, fds } => {
                let [line, link, socket, hall] = fds.try_into().unwrap();
                lifeline::watch(line.as_fd(), Duration::ZERO).unwrap();
                work(Seat::from_fds([link, socket, hall]), request[0]);
            }
        }
    }
}

fn numbers(variable: &str) -> Option<Vec<i32>> {
    let numbers = std::env::var(variable).ok()?;
    // SAFETY: the other thread of this process only waits for this one.
    unsafe { std::env::remove_var(variable) };
    Some(numbers.split(',').map(|number| number.parse().unwrap()).collect())
}

fn open(number: i32) -> OwnedFd {
    // SAFETY: the process that started this one left the descriptor open for it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn retry(mut f: impl FnMut() -> manycore::Result<()>) {
    while let Err(error) = f() {
        assert!(error.is_interrupted(), "{error}");
    }
}

/// The life of a worker.
fn work(seat: Seat, mood: u8) -> ! {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve_tasks(seat, mood)));
    exit_at_once(if done.is_ok() { 0 } else { 101 })
}

fn serve_tasks(seat: Seat, mood: u8) {
    if mood == Mood::Exits as u8 {
        exit_at_once(3);
    }
    let mut worker = Worker::new(seat).unwrap();
    if mood == Mood::Refuses as u8 {
        retry(|| worker.refuse(&Payload { body: &[b"no mood"], ..Payload::default() }));
        return;
    }
    let mut functions = std::collections::HashMap::new();
    retry(|| worker.ready());
    loop {
        match worker.try_next().unwrap() {
            None => retry(|| worker.wait()),
            Some(Order::Define { function, definition }) => {
                let body = definition.open().unwrap();
                let name = String::from_utf8(body.body().to_vec()).unwrap();
                functions.insert(function, (name, body));
            }
            Some(Order::Forget { function }) => drop(functions.remove(&function).unwrap()),
            Some(Order::Run(task)) => run(&mut worker, &task, &functions[&task.function]),
            Some(Order::Exit) => return,
        }
    }
}

fn run(worker: &mut Worker, task: &Task, (function, definition): &(String, Message)) {
    let body = task.body.body().to_vec();
    let (name, rest) = function.split_once(' ').unwrap_or((function, ""));
    let reply = |worker: &mut Worker, raised, body: &[u8]| {
        retry(|| worker.reply(task, raised, 7, &Payload { body: &[body], ..Payload::default() }));
    };
    match name {
        "echo" => {
            let views: Vec<Vec<u8>> = task.body.buffers().map(|view| view.to_vec()).collect();
            let buffers: Vec<&[u8]> = views.iter().map(Vec::as_slice).collect();
            retry(|| {
                worker.reply(
                    task,
                    false,
                    7,
                    &Payload { body: &[&body], buffers: &buffers, ..Payload::default() },
                )
            });
        }
        "pid" => reply(worker, false, &std::process::id().to_le_bytes()),
        "raise" => reply(worker, true, &body),
        "fault" => exit_at_once(9),
        // A copy of the worker that forgets that it is one.
        "fork" => {
            // SAFETY: the copy does no more than the worker would have done.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let error = worker.try_next().unwrap_err();
                let reply = worker.reply(task, false, 7, &Payload::default());
                let ok = error.is_inherited() && reply.is_err_and(|error| error.is_inherited());
                exit_at_once(if ok { 0 } else { 1 });
            }
            let mut status = 0;
            // SAFETY: a plain system call with a pointer to a local.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            let status = [status as u8];
            retry(|| {
                worker.reply(task, false, 7, &Payload { body: &[&status], ..Payload::default() })
            });
        }
        // From now on this worker can receive no descriptor.
        "deaf" => {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: a plain system call with a pointer to a local.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none) }, 0);
            retry(|| worker.reply(task, false, 7, &Payload::default()));
        }
        // Says that it runs, then waits until the file is not locked any more.
        "gate" => {
            log(&Path::new(rest).with_extension("log"), &body);
            Gate::pass(Path::new(rest));
            reply(worker, false, &body);
        }
        // Notes its execution, works for some time.
        "log" => {
            log(Path::new(rest), &body[..8]);
            spin(Duration::from_micros(u64::from(body[0])));
            reply(worker, false, &body);
        }
        // Counts in shared memory that came with the task, or with the function.
        "count" => {
            count(&task.body, &body);
            reply(worker, false, &footprint());
        }
        "count-in" => {
            let place = [function.rsplit(' ').nth(1), function.rsplit(' ').next()];
            let words = place.map(|word| word.unwrap().parse::<u64>().unwrap().to_le_bytes());
            count(definition, words.as_flattened());
            reply(worker, false, &footprint());
        }
        // Writes to the descriptor that came with the task.
        "write" => {
            let fd = task.body.descriptors()[0].descriptor().unwrap();
            let mut file = std::fs::File::from(fd.as_fd().try_clone_to_owned().unwrap());
            file.write_all(&body).unwrap();
            drop(file);
            reply(worker, false, &[]);
        }
        // Tells which descriptors have come.
        "came" => {
            let all = task.body.descriptors();
            let came = all.iter().filter(|received| received.descriptor().is_ok()).count();
            reply(worker, false, &(came as u64).to_le_bytes());
        }
        // Makes a block and gives it away.
        "give" => {
            let block = Block::new(64).unwrap();
            cell(&block).store(number(&body), Ordering::Relaxed);
            let (descriptor, offset, _) = block.share_descriptor().unwrap();
            let place = [descriptor.id(), offset as u64].map(u64::to_le_bytes);
            let body: &[&[u8]] = &[place.as_flattened()];
            let payload = Payload { body, descriptors: &[descriptor], ..Payload::default() };
            retry(|| worker.reply(task, false, 7, &payload));
        }
        // From now on this worker has room for so many descriptors more.
        "room" => {
            limit_descriptors(next_descriptor() + number(&body));
            reply(worker, false, &[]);
        }
        _ => panic!("no function {function}"),
    }
}

/// The block at a place, which is the name of a descriptor and an offset, in a message.
pub(crate) fn block_in(message: &Message, place: &[u8]) -> Block {
    let (id, offset) = (number(&place[..8]), number(&place[8..]));
    let received = message.descriptors().iter().find(|one| one.id() == id).expect("a name");
    received.block(offset as usize, 64).unwrap()
}

pub(crate) fn cell(block: &Block) -> &AtomicU64 {
    // SAFETY: these tests use each block's first word as this and nothing else.
    unsafe { block.get() }
}

fn count(message: &Message, place: &[u8]) {
    cell(&block_in(message, place)).fetch_add(1, Ordering::Relaxed);
}

/// The number that the next descriptor of this process gets.
fn next_descriptor() -> u64 {
    std::fs::File::open("/").map_or_else(|_| limits().rlim_cur, |file| file.as_raw_fd() as u64)
}

fn limits() -> libc::rlimit {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a plain system call with a pointer to a local.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) }, 0);
    limits
}

fn limit_descriptors(most: u64) {
    let limits = libc::rlimit { rlim_cur: most, ..limits() };
    // SAFETY: a plain system call with a pointer to a local.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits) }, 0);
}

/// How many descriptors and mappings this process has.
fn footprint() -> Vec<u8> {
    let counts = [entries("/proc/self/fd"), mappings(std::process::id())];
    counts.map(|count| (count as u64).to_le_bytes()).concat()
}

pub(crate) fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

pub(crate) fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Appends `bytes` in one piece.
pub(crate) fn log(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    assert_eq!(file.write(bytes).unwrap(), bytes.len());
}

/// A directory that goes with the test.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pooltest-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A gate that tasks cannot pass before it is opened.
pub(crate) struct Gate {
    pub(crate) path: PathBuf,
    file: std::fs::File,
}

impl Gate {
    pub(crate) fn new(dir: &Dir, name: &str) -> Self {
        let path = dir.0.join(name);
        let file = std::fs::File::create(&path).unwrap();
        flock(&file, libc::LOCK_EX);
        Self { path, file }
    }

    pub(crate) fn open(&self) {
        flock(&self.file, libc::LOCK_UN);
    }

    pub(crate) fn function(&self) -> String {
        format!("gate {}", self.path.display())
    }

    fn pass(path: &Path) {
        let file = std::fs::File::open(path).unwrap();
        flock(&file, libc::LOCK_SH);
    }

    /// Waits until so many bytes of tasks have come to the gate.
    pub(crate) fn wait_for(&self, bytes: usize) {
        let log = self.path.with_extension("log");
        while std::fs::metadata(&log).map_or(0, |m| m.len() as usize) < bytes {
            thread::yield_now();
        }
    }
}

fn flock(file: &std::fs::File, operation: i32) {
    // SAFETY: a plain system call on a descriptor that is open meanwhile.
    while unsafe { libc::flock(file.as_raw_fd(), operation) } != 0 {
        assert_eq!(std::io::Error::last_os_error().kind(), std::io::ErrorKind::Interrupted);
    }
}

/// A small generator of chance (xorshift).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
