//! How much memory is left, and what sets the limit.
//!
//! The kernel gives more pages than there are and then kills a process; so whoever wants much asks
//! first.

use std::fs;
use std::path::{Path, PathBuf};

/// What is left below a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) left: u64,
    pub(crate) limit: u64,
    /// What sets the limit.
    pub(crate) source: String,
}

/// The narrowest room that this process is in; `None` if the system does not say.
pub(crate) fn narrowest() -> Option<Room> {
    system().into_iter().chain(groups()).min_by_key(|room| room.left)
}

fn system() -> Option<Room> {
    parse_system(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_system(meminfo: &str) -> Option<Room> {
    let kib = |name: &str| value(meminfo, name).map(|kib| kib.saturating_mul(1024));
    let swap = kib("SwapFree:").unwrap_or(0);
    Some(Room {
        left: kib("MemAvailable:")?.saturating_add(swap),
        limit: kib("MemTotal:")?.saturating_add(kib("SwapTotal:").unwrap_or(0)),
        source: "this system".to_owned(),
    })
}

/// The number after a name in a file of the kernel's.
fn value(text: &str, name: &str) -> Option<u64> {
    let mut words = text.lines().map(str::split_whitespace);
    let mut words = words.find(|line| line.clone().next() == Some(name))?;
    words.nth(1)?.parse().ok()
}

/// The limits of the control groups that this process is in, and of those around them.
fn groups() -> Vec<Room> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut rooms = Vec::new();
    for (root, path) in own.lines().filter_map(parse_group) {
        // In a container the path may be that outside, and the root what it means here.
        let inner = root.join(path.trim_start_matches('/'));
        let inside = inner.ancestors().take_while(|directory| directory.starts_with(&root));
        rooms.extend(inside.filter_map(group));
    }
    rooms
}

/// Where the groups of a line of `/proc/self/cgroup` are, and which one it names.
fn parse_group(line: &str) -> Option<(PathBuf, &str)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let root = match controllers {
        "" => "/sys/fs/cgroup",
        list if list.split(',').any(|name| name == "memory") => "/sys/fs/cgroup/memory",
        _ => return None,
    };
    Some((PathBuf::from(root), path))
}

fn group(directory: &Path) -> Option<Room> {
    let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    // The second of each pair is of the first version of control groups.
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let stat = read("memory.stat").unwrap_or_default();
    let find = |one, other| value(&stat, one).or_else(|| value(&stat, other)).unwrap_or(0);
    // The kernel takes back what it only caches.
    let cached = find("file", "total_cache").saturating_sub(find("shmem", "total_shmem"));
    let left = limit.saturating_sub(used.saturating_sub(cached));
    Some(Room { left, limit, source: directory.display().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_is_left() {
        let room = narrowest().unwrap();
        assert!(0 < room.left && room.left <= room.limit, "{room:?}");
        let text = "MemTotal: 100 kB\nMemAvailable:  40 kB\nSwapTotal: 8 kB\nSwapFree: 2 kB\n";
        let source = "this system".to_owned();
        let room = Room { left: 42 << 10, limit: 108 << 10, source };
        assert_eq!(parse_system(text), Some(room));
        assert_eq!(parse_system("MemTotal: 100 kB"), None);
    }

    #[test]
    fn both_versions_of_groups_are_found() {
        let second = ("/sys/fs/cgroup".into(), "/user/it");
        let first = ("/sys/fs/cgroup/memory".into(), "/it");
        assert_eq!(parse_group("0::/user/it"), Some(second));
        assert_eq!(parse_group("4:memory:/it"), Some(first.clone()));
        assert_eq!(parse_group("4:hugetlb,memory:/it"), Some(first));
        assert_eq!(parse_group("1:cpu:/"), None);
        assert_eq!(parse_group("nonsense"), None);
    }

    #[test]
    fn a_group_s_caches_count_as_left() {
        let directory = std::env::temp_dir().join(format!("room-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
        write("memory.current", "700\n");
        write("memory.stat", "anon 300\nfile 400\nshmem 100\n");
        assert_eq!(group(&directory), None);
        write("memory.max", "max\n");
        assert_eq!(group(&directory), None);
        write("memory.max", "1000\n");
        let room = group(&directory).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!((room.left, room.limit), (600, 1000));
    }
}
