//! What the machine did meanwhile, from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// Linux counts process times in hundredths of a second for every program
/// (`USER_HZ`), whatever the kernel's own tick is.
const MICROS_PER_TICK: u64 = 10_000;

/// User and system time of a process so far, in microseconds.
pub fn cpu_micros(process: u32) -> u64 {
    stat(process).map_or(0, |(_, ticks)| ticks * MICROS_PER_TICK)
}

/// The load average, and who used the processor within one second.
pub fn busy_with() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<_> = load.split(' ').take(3).collect();
    let before = all();
    sleep(Duration::from_secs(1));
    let used = all().into_iter().map(|(process, (name, ticks))| {
        let earlier = before.get(&process).map_or(0, |(_, ticks)| *ticks);
        (ticks.saturating_sub(earlier), name)
    });
    let mut used: Vec<_> = used.filter(|(ticks, _)| *ticks > 0).collect();
    used.sort_by(|a, b| b.cmp(a));
    let top: Vec<_> =
        used.iter().take(5).map(|(ticks, name)| format!("{name} {ticks} %")).collect();
    let top = if top.is_empty() { "nothing".to_owned() } else { top.join(", ") };
    format!("load {}; running: {top}", load.join(" "))
}

fn all() -> HashMap<u32, (String, u64)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter_map(|process| Some((process, stat(process)?))).collect()
}

/// Name and ticks; the name may hold spaces and parentheses (proc(5)).
fn stat(process: u32) -> Option<(String, u64)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (head, rest) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((name.to_owned(), user + system))
}
