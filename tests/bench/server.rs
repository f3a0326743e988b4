//! One server under test: a process of its own, watched through `/proc` and killed on every exit.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long any server may take to start; Redis reads a million keys in a few seconds.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a server may take to stop when asked nicely.
const STOP_TIME_MAX: Duration = Duration::from_secs(60);
/// Linux counts CPU time for user space in hundredths of a second on all machines we know.
const TICK: Duration = Duration::from_millis(10);

/// Everything running, for [`kill_all`]; a server leaves the list when it is dropped.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// A child process that lives as long as this value.
pub(crate) struct Server {
    process: Child,
    pid: Pid,
    /// Where it answers.
    pub(crate) address: SocketAddr,
    /// From `exec` until it took connections or said that it is ready.
    pub(crate) start_time: Duration,
    started: Instant,
}

impl Server {
    /// Starts a server that says on standard output where it listens.
    ///
    /// `address` finds the address in its first line.
    pub(crate) fn start_announced(
        command: &mut Command,
        log: &Path,
        address: impl FnOnce(&str) -> anyhow::Result<SocketAddr>,
    ) -> anyhow::Result<Self> {
        command.stdout(Stdio::piped());
        let mut server = Self::spawn(command, log, ([127, 0, 0, 1], 0).into())?;
        let output = server.process.stdout.take().context("the server has no standard output")?;
        let (sender, lines) = mpsc::channel();
        // Reads to the end, so that a server that says more is never held up. It ends with the
        // server.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Only the first line has a reader; later ones may go nowhere.
                let _ = sender.send(line);
            }
        });
        let line = match lines.recv_timeout(START_TIME_MAX) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => bail!("not ready after {START_TIME_MAX:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("ended before it was ready:\n{}", tail(log));
            }
        };
        server.start_time = server.started.elapsed();
        server.address = address(&line).with_context(|| format!("its first line was {line:?}"))?;
        Ok(server)
    }

    /// Starts a server that was told where to listen, and waits until it takes connections.
    pub(crate) fn start_at(command: &mut Command, log: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let output = File::create(log.with_extension("out"))?;
        command.stdout(output);
        let mut server = Self::spawn(command, log, address)?;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.process.try_wait()? {
                let output = tail(&log.with_extension("out"));
                bail!("ended with {status} before it was ready:\n{output}{}", tail(log));
            }
            if server.started.elapsed() > START_TIME_MAX {
                bail!("does not listen on {address} after {START_TIME_MAX:?}");
            }
            thread::sleep(Duration::from_millis(1));
        }
        server.start_time = server.started.elapsed();
        Ok(server)
    }

    fn spawn(command: &mut Command, log: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stderr(File::create(log)?);
        let started = Instant::now();
        let program = command.get_program().to_owned();
        // Held meanwhile, so that `kill_all` misses nobody.
        let mut running = running();
        let process = command.spawn().with_context(|| format!("could not start {program:?}"))?;
        let pid = Pid::from_child(&process);
        running.push(pid);
        Ok(Self { process, pid, address, start_time: Duration::ZERO, started })
    }

    /// Since `exec`.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// CPU time of all its threads so far; `None` where there is no `/proc`.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let stat = fs::read_to_string(self.proc("stat")).ok()?;
        // The name in parentheses may contain spaces; counted from behind it, utime is the 12th
        // field and stime the 13th.
        let fields = stat.rsplit_once(')')?.1.split_whitespace();
        let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
        Some(TICK * ticks)
    }

    /// Memory it holds in bytes; `None` where there is no `/proc`.
    pub(crate) fn resident_bytes(&self) -> Option<f64> {
        let status = fs::read_to_string(self.proc("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? * 1024.0)
    }

    fn proc(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.pid.as_raw_nonzero()).into()
    }

    /// Asks it to stop with SIGTERM and waits until it did; returns how long that took.
    pub(crate) fn stop(mut self) -> anyhow::Result<Duration> {
        let asked = Instant::now();
        kill_process(self.pid, Signal::TERM)?;
        loop {
            if let Some(status) = self.process.try_wait()? {
                let clean = status.success() || status.code().is_none();
                return clean.then(|| asked.elapsed()).ok_or(anyhow!("stopped with {status}"));
            }
            if asked.elapsed() > STOP_TIME_MAX {
                bail!("still runs {STOP_TIME_MAX:?} after SIGTERM");
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut running = running();
        // Both fail only when the process is gone already, which is what we want.
        let _ = self.process.kill();
        let _ = self.process.wait();
        running.retain(|pid| *pid != self.pid);
    }
}

/// Kills every server there is, for an exit that drops nothing.
///
/// Until the program exits or drops what this returns, no server can be started.
pub(crate) fn kill_all() -> impl Drop {
    let running = running();
    for pid in running.iter() {
        // It may have ended by itself in this moment.
        let _ = kill_process(*pid, Signal::KILL);
    }
    running
}

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port nobody listens on now. Another program could take it before our server does; then the
/// server says so and the row fails.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Bytes on disk in all files below `folder`.
pub(crate) fn folder_bytes(folder: &Path) -> anyhow::Result<f64> {
    let mut total = 0.0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            total += folder_bytes(&entry.path())?;
        } else {
            total += entry.metadata()?.len() as f64;
        }
    }
    Ok(total)
}

/// The last lines of a log, for an error.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len().saturating_sub(10);
    lines[last..].iter().map(|line| format!("    {line}\n")).collect()
}
