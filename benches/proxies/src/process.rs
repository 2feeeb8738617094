//! Processes that end with their guard.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Fallible, cpu};

/// How long a process may take to end after SIGTERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process started by this one. Dropping it ends the process and its workers.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts an upstream: this program in its `serve` mode. Also returns its port.
    pub(crate) fn serve() -> Fallible<(Self, u16)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve");
        // It ends when its standard input is closed, so also if this process is killed.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self {
            child: child.spawn()?,
        };
        let output = process.child.stdout.take().ok_or("no standard output")?;
        let mut port = String::new();
        BufReader::new(output).read_line(&mut port)?;
        Ok((process, port.trim().parse()?))
    }

    /// Starts another program, with all its output in a file.
    pub(crate) fn start(program: &Path, args: &[String], log: &Path) -> Fallible<Self> {
        let log = File::create(log)?;
        let mut command = match find("setpriv") {
            // The kernel sends it SIGTERM if this process is killed, as no guard runs then.
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "TERM"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(args).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        Ok(Self {
            child: command.spawn()?,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The ids of the process and its workers.
    pub(crate) fn family(&self) -> Fallible<Vec<u32>> {
        cpu::family(self.id())
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        // The child has not been waited for, so its id cannot have been reused.
        signal(self.id(), Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE {
            if self.has_ended() {
                return;
            }
            sleep(Duration::from_millis(5));
        }
        // Workers first: their ids are certain while their parent lives.
        for id in self.family().unwrap_or_default().into_iter().rev() {
            signal(id, Signal::KILL);
        }
        // This only fails if the process has already ended.
        let _ = self.child.wait();
    }
}

fn signal(id: u32, signal: Signal) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // A process that has already ended needs no signal.
        let _ = kill_process(id, signal);
    }
}

/// Looks for a program on the path, and in the folders for servers that Debian leaves out of users' paths.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let folders = folders.chain(["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from));
    let mut files = folders.map(|folder| folder.join(program));
    files.find(|file| file.is_file())
}

/// A temporary folder that is removed with its guard.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn create() -> Fallible<Self> {
        let name = format!("evenkeel-proxies-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Leaving a folder behind among the temporary files is no reason to fail.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
