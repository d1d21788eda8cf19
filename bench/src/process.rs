//! What Linux tells of a process: memory and processor time.

use std::fs;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Ticks of the processor times in `/proc`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Raises the soft limit on this process's open files to the hard one: each connection is a file.
pub fn raise_open_files() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// Resident memory now, in bytes.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    kibibytes(pid, "VmRSS:").map(|kibibytes| kibibytes << 10)
}

/// The most resident memory so far, in bytes.
pub fn peak_bytes(pid: u32) -> anyhow::Result<u64> {
    kibibytes(pid, "VmHWM:").map(|kibibytes| kibibytes << 10)
}

/// Processor time used so far, of all threads.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program is in brackets and may hold spaces.
    let (_, fields) = stat.rsplit_once(')').context("/proc/…/stat has no name")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let (Some(user), Some(system)) = (fields.next(), fields.next()) else {
        bail!("/proc/{pid}/stat is too short")
    };
    let ticks = user.parse::<u32>()? + system.parse::<u32>()?;
    Ok(Duration::from_secs_f64(f64::from(ticks) / TICKS_PER_SECOND))
}

fn kibibytes(pid: u32, field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let line = line.with_context(|| format!("/proc/{pid}/status has no {field}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_uses_time() {
        let pid = std::process::id();
        let resident = resident_bytes(pid).expect("Linux tells");
        assert!((1 << 20..=peak_bytes(pid).expect("Linux tells")).contains(&resident));
        let before = cpu_time(pid).expect("Linux tells");
        let started = std::time::Instant::now();
        while cpu_time(pid).expect("Linux tells") == before {
            assert!(started.elapsed() < Duration::from_secs(10), "no time is counted");
        }
    }
}
