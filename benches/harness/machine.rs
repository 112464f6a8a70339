//! What the machine did meanwhile, from `/proc`.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::{Sample, micros_since};
use super::{Outcome, scattered};

/// Linux counts process times in hundredths of a second for every program
/// (`USER_HZ`), whatever the kernel's own tick is.
const MICROS_PER_TICK: u64 = 10_000;

/// User and system time of a process so far, in microseconds.
pub fn cpu_micros(process: u32) -> u64 {
    stat(process).map_or(0, |(_, ticks)| ticks * MICROS_PER_TICK)
}

/// Memory that a process has resident, in bytes.
pub fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    field(&status, "VmRSS:") * 1024
}

/// Bytes of all files below `folder`.
pub fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Reads all files below `folder`, so that the machine has them in memory: one that is
/// short of it, or only thrifty, puts away what nobody read for a minute. Does nothing
/// where they would take more than half of it.
pub fn read_files(folder: &Path) -> Outcome<()> {
    if disk_bytes(folder) > memory_of_all()? / 2 { Ok(()) } else { read_below(folder) }
}

fn read_below(folder: &Path) -> Outcome<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            read_below(&entry.path())?;
        } else if kind.is_file()
            // Or the server has removed it.
            && let Ok(mut file) = File::open(entry.path())
        {
            io::copy(&mut file, &mut io::sink())?;
        }
    }
    Ok(())
}

/// Reads `touched` bytes at random places of `memory`, and rests, until the time is over.
pub fn read_memory(memory: &[u8], touched: usize, pause: Duration, time: Duration) -> Sample {
    let start = Instant::now();
    let mut latencies = Vec::new();
    while start.elapsed() < time {
        sleep(pause);
        let number = latencies.len();
        let before = Instant::now();
        for place in 0..touched {
            black_box(memory.get(scattered(place, number, memory.len())).copied());
        }
        latencies.push(micros_since(before));
    }
    Sample { latencies, elapsed: start.elapsed() }
}

/// What the machine has, in bytes.
pub fn memory_of_all() -> Outcome<u64> {
    Ok(field(&fs::read_to_string("/proc/meminfo")?, "MemTotal:") * 1024)
}

/// Processor, memory, kernel, and how fast the disk under `folder` syncs.
pub fn describe(folder: &Path) -> Outcome<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed processor", |(_, model)| model);
    let memory = memory_of_all()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{} cores ({model}), {:.0} GiB of memory, Linux {}, a disk that appends and syncs \
         (`fdatasync`) 4 KiB {:.0} times a second",
        std::thread::available_parallelism()?,
        memory as f64 / (1u64 << 30) as f64,
        kernel.trim(),
        syncs_per_second(folder, Duration::from_secs(1))?,
    ))
}

/// Appends of 4 KiB, each followed by `fdatasync`.
pub fn syncs_per_second(folder: &Path, time: Duration) -> Outcome<f64> {
    let path = folder.join("syncs");
    let mut file = File::create(&path)?;
    let start = Instant::now();
    let mut syncs = 0u32;
    while start.elapsed() < time {
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        syncs += 1;
    }
    let taken = start.elapsed();
    fs::remove_file(path)?;
    Ok(f64::from(syncs) / taken.as_secs_f64())
}

/// The number behind `name` in a file of `/proc`; 0 where there is none.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What the machine did within one second.
pub struct Activity {
    /// Of the last 1, 5 and 15 minutes, the build of this program among what ran.
    load: String,
    /// By share of a processor in percent, the busiest first.
    processes: Vec<(u64, String)>,
}

impl Activity {
    /// From here on there is no measuring beside it.
    const BUSY: u64 = 25;

    pub fn observe() -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: Vec<_> = load.split(' ').take(3).collect();
        let before = all();
        sleep(Duration::from_secs(1));
        let used = all().into_iter().map(|(process, (name, ticks))| {
            let earlier = before.get(&process).map_or(0, |(_, ticks)| *ticks);
            (ticks.saturating_sub(earlier), name)
        });
        let mut processes: Vec<_> = used.filter(|(ticks, _)| *ticks > 0).collect();
        processes.sort_by(|a, b| b.cmp(a));
        Self { load: load.join(" "), processes }
    }

    pub fn is_busy(&self) -> bool {
        self.processes.iter().map(|(share, _)| share).sum::<u64>() >= Self::BUSY
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = self.processes.iter().take(5);
        let top: Vec<_> = top.map(|(share, name)| format!("{name} {share} %")).collect();
        let top = if top.is_empty() { "nothing".to_owned() } else { top.join(", ") };
        write!(f, "load {}; running: {top}", self.load)
    }
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
