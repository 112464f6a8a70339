//! What Linux says of this process, in the names that all of Prometheus's clients use.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::measure::{self, Meters};

use super::metrics::count;

/// `None` where `/proc` does not say.
pub(super) struct ProcessFacts {
    cpu_seconds: Option<u64>,
    resident_bytes: Option<u64>,
    open_files: Option<u64>,
    start_seconds: Option<u64>,
}

/// The unit of times in `/proc`: 100 a second on every Linux that this is built for.
const TICKS: u64 = 100;

impl ProcessFacts {
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let status = fs::read_to_string("/proc/self/status").ok();
        let system = fs::read_to_string("/proc/stat").ok();
        let boot = system.as_deref().and_then(boot_time);
        let field = |number| stat.as_deref().and_then(|stat| field(stat, number));
        Self {
            // utime and stime
            cpu_seconds: field(14).zip(field(15)).map(|(user, kernel)| (user + kernel) / TICKS),
            resident_bytes: status.as_deref().and_then(resident_bytes),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
            start_seconds: field(22).zip(boot).map(|(ticks, boot)| boot + ticks / TICKS),
        }
    }

    pub fn note(self, meters: &Meters) {
        let Self { cpu_seconds, resident_bytes, open_files, start_seconds } = self;
        if let Some(seconds) = cpu_seconds {
            meters.set_total(&measure::PROCESS_CPU, &[], seconds);
        }
        let most_files = getrlimit(Resource::Nofile).current;
        for (series, fact) in [
            (&measure::PROCESS_MEMORY, resident_bytes),
            (&measure::PROCESS_FILES, open_files),
            (&measure::PROCESS_MAX_FILES, most_files),
            (&measure::PROCESS_START, start_seconds),
        ] {
            if let Some(fact) = fact {
                meters.set(series, &[], count(fact));
            }
        }
    }
}

/// As proc_pid_stat(5) numbers them. The name of the program, the second, may hold
/// spaces and parentheses: what follows its last one is counted.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(number.checked_sub(3)?)?.trim().parse().ok()
}

fn resident_bytes(status: &str) -> Option<u64> {
    let said = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    said.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0\n";
        assert_eq!((field(stat, 14), field(stat, 15)), (Some(250), Some(50)));
        assert_eq!((field(stat, 3), field(stat, 99), field("", 14)), (None, None, None));
    }

    #[test]
    fn this_process_has_all_of_them() {
        let ProcessFacts { cpu_seconds, resident_bytes, open_files, start_seconds } =
            ProcessFacts::read();
        assert!(cpu_seconds.is_some() && resident_bytes > Some(1 << 20));
        assert!(open_files > Some(2) && start_seconds > Some(1_500_000_000));
    }
}
