//! CPU time as the kernel accounts for it in `/proc`.

use std::fs;

use crate::Fallible;

/// CPU time used so far, or between two snapshots, in microseconds.
pub(crate) struct Snapshot {
    pub(crate) client: f64,
    pub(crate) upstreams: f64,
    pub(crate) proxy: f64,
    /// Used by other processes of the machine.
    pub(crate) other: f64,
}

impl Snapshot {
    pub(crate) fn take(upstreams: &[u32], proxy: &[u32]) -> Fallible<Self> {
        let sum = |ids: &[u32]| ids.iter().map(|&id| used(id)).sum::<Fallible<f64>>();
        let client = used(std::process::id())?;
        let (upstreams, proxy) = (sum(upstreams)?, sum(proxy)?);
        Ok(Self {
            client,
            upstreams,
            proxy,
            other: machine()? - client - upstreams - proxy,
        })
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            client: self.client - before.client,
            upstreams: self.upstreams - before.upstreams,
            proxy: self.proxy - before.proxy,
            // It is below zero only because of rounding to ticks.
            other: (self.other - before.other).max(0.0),
        }
    }
}

/// The ids of a process and its descendants. A proxy's workers are its children.
pub(crate) fn family(id: u32) -> Fallible<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(child) = entry?.file_name().to_str().and_then(|it| it.parse().ok()) else {
            continue;
        };
        // A process that has ended in the meantime has no parent any more.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{child}/stat")) {
            parents.push((child, field(&stat, 4)? as u32));
        }
    }
    let mut found = vec![id];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(child, _)| child));
        at += 1;
    }
    Ok(found)
}

/// The `utime` and `stime` of a process, with all its threads, in microseconds.
fn used(id: u32) -> Fallible<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))
        .map_err(|error| format!("process {id} is gone: {error}"))?;
    Ok((field(&stat, 14)? + field(&stat, 15)?) as f64 * microseconds_a_tick())
}

/// A field of `/proc/<pid>/stat`, counted from one as in its manual page.
fn field(stat: &str, number: usize) -> Fallible<u64> {
    // Field 2 is the name in parentheses, which may contain any character.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_whitespace().nth(number - 3);
    Ok(field.ok_or("a stat file is too short")?.parse()?)
}

/// What all processors have spent on anything except idling and waiting for I/O, in microseconds.
fn machine() -> Fallible<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let numbers = stat.lines().next().unwrap_or("").split_whitespace().skip(1);
    let numbers = numbers.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let &[user, nice, system, _idle, _waiting, hard, soft, ..] = &numbers[..] else {
        return Err("/proc/stat is too short".into());
    };
    Ok((user + nice + system + hard + soft) as f64 * microseconds_a_tick())
}

fn microseconds_a_tick() -> f64 {
    1e6 / rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_one_after_any_name() {
        let stat = "7 (a) b) (c) S 3 7 7 0 -1 4194304 1 2 3 4 50 60 0 0 20";
        assert_eq!(field(stat, 4).unwrap(), 3);
        assert_eq!(field(stat, 14).unwrap(), 50);
        assert_eq!(field(stat, 15).unwrap(), 60);
        assert!(field(stat, 40).is_err());
    }

    #[test]
    fn this_process_is_in_its_parents_family() {
        let parent = std::os::unix::process::parent_id();
        assert!(family(parent).unwrap().contains(&std::process::id()));
    }
}
