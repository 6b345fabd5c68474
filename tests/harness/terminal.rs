//! A terminal that a program runs on, with somebody who types and reads.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::artifacts;
use crate::daemon::{Daemon, eventually};

/// Long enough for anything that is to be seen on a busy machine; a wait ends as soon as it is there.
const SOON: Duration = Duration::from_secs(90);

/// How long what was typed has to show an effect.
const AGAIN: Duration = Duration::from_secs(5);

/// What the screen says when the program has ended, before its code.
const ENDED: &str = "it ended with ";

/// A terminal of tmux. Dropped, it is gone with what runs on it.
pub struct Terminal {
    server: String,
}

impl Terminal {
    /// Runs a line of shell on a terminal of 90 columns and 30 rows, and then says how it ended.
    pub fn run(line: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let terminal = Self { server: format!("gantry-{}-{number}", std::process::id()) };
        let line = format!("{line}; echo \"{ENDED}$?\"; exec sleep 1000");
        terminal.tmux(&["new-session", "-d", "-x", "90", "-y", "30", &line])?;
        Ok(terminal)
    }

    /// The same with `gantry app shell` and its arguments, on a terminal that says it is a `vt220`.
    pub fn shell(daemon: &Daemon, arguments: &str) -> Result<Self> {
        let (gantry, socket) = (artifacts::gantry()?, daemon.socket());
        let (gantry, socket) = (gantry.display(), socket.display());
        Self::run(&format!("TERM=vt220 {gantry} --host unix://{socket} app shell {arguments}"))
    }

    /// Runs a command of tmux against it.
    pub fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let mut tmux = Command::new("tmux");
        tmux.args(["-f", "/dev/null", "-L", &self.server]).args(arguments);
        let output = tmux.output().context("could not start tmux")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tmux {arguments:?}: {stderr}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Types these keys and Enter.
    pub fn types(&self, keys: &str) -> Result<()> {
        self.tmux(&["send-keys", keys, "Enter"]).map(drop)
    }

    /// Types these keys and Enter until a line of the screen ends so. After an interrupt a shell throws away what was typed before its prompt.
    pub fn types_until(&self, keys: &str, line: &str) -> Result<()> {
        let mut typed: Option<Instant> = None;
        self.find(
            line,
            |shown| shown.ends_with(line).then_some(()),
            || {
                if typed.is_none_or(|typed| typed.elapsed() > AGAIN) {
                    self.types(keys)?;
                    typed = Some(Instant::now());
                }
                Ok(())
            },
        )
    }

    /// What is to be seen, a line that is longer than the terminal as one.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-J"])
    }

    /// Waits until something is to be seen, and does something before each look.
    fn find<T>(
        &self,
        what: &str,
        find: impl Fn(&str) -> Option<T>,
        mut before: impl FnMut() -> Result<()>,
    ) -> Result<T> {
        let mut screen = String::new();
        let found = eventually(SOON, what, || {
            before()?;
            screen = self.screen()?;
            Ok(screen.lines().find_map(|line| find(line.trim())))
        });
        found.with_context(|| format!("the screen:\n{screen}"))
    }

    /// Waits until a line of the screen ends so. A shell that is told the size of its terminal while it begins a command draws its prompt and the command once more, in front of what that prints.
    pub fn until(&self, line: &str) -> Result<()> {
        self.find(line, |shown| shown.ends_with(line).then_some(()), || Ok(()))
    }

    /// Waits for the program's end and gives its code.
    pub fn ended(&self) -> Result<i32> {
        self.find(ENDED, |shown| shown.strip_prefix(ENDED)?.parse().ok(), || Ok(()))
    }

    /// The process that runs on it: the one whose parent is the terminal's own shell.
    pub fn program(&self) -> Result<u32> {
        let own = self.tmux(&["list-panes", "-F", "#{pane_pid}"])?;
        let children = format!("/proc/{0}/task/{0}/children", own.trim());
        let children = std::fs::read_to_string(children)?;
        Ok(children.split_whitespace().next().context("it has ended")?.parse()?)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Best effort: the test has its verdict.
        let _ = self.tmux(&["kill-server"]);
    }
}
