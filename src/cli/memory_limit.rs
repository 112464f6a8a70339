//! How much memory this process may use, and what of it is for the cache.

use std::fs;
use std::path::{Component, Path};

use crate::config::{ByteSize, CacheSize};

/// Of what this process may use, the part that the cache has unless it is told.
const CACHE_PART: u64 = 4;
const LEAST_CACHE: ByteSize = ByteSize::mib(64);
/// Where nobody says how much memory there is.
const CACHE_IN_DOUBT: ByteSize = ByteSize::mib(256);

/// Bytes of the store's cache.
pub(super) fn cache_bytes(wish: CacheSize) -> u64 {
    match wish {
        CacheSize::Bytes(bytes) => bytes.get(),
        CacheSize::Auto => {
            let bytes = cache_within(usable());
            let mib = bytes >> 20;
            log::info!("what is read lately may take {mib} MiB of memory (store.cache_bytes)");
            bytes
        }
    }
}

fn cache_within(usable: Option<u64>) -> u64 {
    let part = |usable: u64| (usable / CACHE_PART).max(LEAST_CACHE.get());
    usable.map_or(CACHE_IN_DOUBT.get(), part)
}

/// What the machine has, or what the control groups of this process leave it.
fn usable() -> Option<u64> {
    let machine = rustix::system::sysinfo();
    let total = u64::from(machine.mem_unit).checked_mul(machine.totalram).filter(|all| *all > 0);
    // Without /proc, as its container sees it.
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_else(|_| "0::/".to_owned());
    let limit = limit_of(&groups, Path::new("/sys/fs/cgroup"));
    total.into_iter().chain(limit).min()
}

/// The lowest limit of the groups that a line of proc(5)'s `cgroup` names, and of all
/// groups around them, below the folder in which control groups are mounted.
fn limit_of(groups: &str, mounted: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let [number, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else {
            return None;
        };
        if number == "0" {
            return lowest(mounted, path, &["memory.max", "memory.high"]);
        }
        let of_memory = controllers.split(',').any(|controller| controller == "memory");
        // The first version of control groups has a tree for each controller.
        of_memory.then(|| lowest(&mounted.join("memory"), path, &["memory.limit_in_bytes"]))?
    });
    limits.min()
}

fn lowest(root: &Path, group: &str, files: &[&str]) -> Option<u64> {
    // One that is outside of what is mounted here begins with `..`, and one of a container
    // may be named as its host does: the root is then what is known of it.
    let parts = Path::new(group.trim_start_matches('/'));
    let is_below = parts.components().all(|part| matches!(part, Component::Normal(_)));
    let group = if is_below { root.join(parts) } else { root.to_owned() };
    let around = group.ancestors().take_while(|folder| folder.starts_with(root));
    around.flat_map(|folder| files.iter().filter_map(|file| limit_in(&folder.join(file)))).min()
}

/// `None` where there is none, which the file says as `max`, or nobody knows.
fn limit_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mount of control groups with these limits.
    fn mounted(limits: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, limit) in limits {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{limit}\n")).unwrap();
        }
        folder
    }

    #[test]
    fn the_cache_has_a_quarter_of_what_may_be_used() {
        assert_eq!(cache_within(Some(8 << 30)), 2 << 30);
        assert_eq!(cache_within(Some(100 << 20)), 64 << 20);
        assert_eq!(cache_within(None), 256 << 20);
        assert_eq!(cache_bytes(CacheSize::Bytes(ByteSize::mib(3))), 3 << 20);
        let machine = fs::read_to_string("/proc/meminfo").unwrap();
        let total = machine.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024;
        assert!(usable().unwrap() <= total + (1 << 20));
        assert_eq!(cache_bytes(CacheSize::Auto), cache_within(usable()));
    }

    #[test]
    fn the_lowest_limit_around_a_process_counts() {
        let groups = "0::/system.slice/tenure.service\n";
        let limit = |limits: &[_]| limit_of(groups, mounted(limits).path());
        assert_eq!(limit(&[]), None);
        assert_eq!(limit(&[("memory.max", "max")]), None);
        let service = ("system.slice/tenure.service/memory.max", "500");
        let soft = ("system.slice/tenure.service/memory.high", "300");
        let (slice, root) = (("system.slice/memory.max", "400"), ("memory.max", "900"));
        let beside = ("system.slice/other.service/memory.max", "1");
        assert_eq!(limit(&[service, root, beside]), Some(500));
        assert_eq!(limit(&[service, slice, root]), Some(400));
        assert_eq!(limit(&[service, slice, soft]), Some(300));
    }

    #[test]
    fn the_first_version_of_control_groups_has_a_tree_for_memory() {
        let groups = "12:cpuset:/docker/abc\n7:cpu,memory:/docker/abc\n1:name=systemd:/x\n0::/\n";
        let file = "memory.limit_in_bytes";
        let own = format!("memory/docker/abc/{file}");
        let limits = [(own.as_str(), "700"), ("cpuset/memory.limit_in_bytes", "1")];
        assert_eq!(limit_of(groups, mounted(&limits).path()), Some(700));
        // In a container, which has its own group mounted and reads the host's name for it.
        let root = format!("memory/{file}");
        assert_eq!(limit_of(groups, mounted(&[(&root, "600")]).path()), Some(600));
    }

    #[test]
    fn what_names_no_group_below_says_nothing_of_others() {
        let outside = mounted(&[("secret/memory.max", "1"), ("groups/memory.max", "5")]);
        let mount = outside.path().join("groups");
        assert_eq!(limit_of("0::/../../secret\n", &mount), Some(5));
        for nothing in ["", "0", "0:", "x:y:z", "\n\n"] {
            assert_eq!(limit_of(nothing, &mount), None, "{nothing:?}");
        }
    }
}
