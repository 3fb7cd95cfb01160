//! A running program, whose events can be awaited with a deadline.

use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Lines of events and of talk shown when a test fails.
const SHOWN: usize = 60;

/// How often an ending program is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// A program that was started; dropping it kills it.
pub(crate) struct Program {
    name: String,
    child: Child,
    lines: Receiver<String>,
    /// Every line so far, for the report of a failure.
    said: Vec<String>,
    events: Vec<Value>,
    /// How many of `events` a wait has passed.
    passed: usize,
    talk: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        Self::fed(name, command, Stdio::null())
    }

    /// A program that reads `input`.
    pub(crate) fn fed(name: &str, command: &mut Command, input: Stdio) -> Self {
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (send, lines) = mpsc::channel();
        let stdout = child.stdout.take().expect("asked for above");
        thread::spawn(move || each_line(stdout, |line| drop(send.send(line))));
        let talk = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("asked for above");
        let heard = Arc::clone(&talk);
        thread::spawn(move || each_line(stderr, |line| heard.lock().expect("never poisoned").push(line)));
        let (said, events) = (Vec::new(), Vec::new());
        Self { name: name.to_owned(), child, lines, said, events, passed: 0, talk }
    }

    /// The next event of this name, later than the one that the last wait gave.
    ///
    /// # Panics
    /// When it does not come in time, with everything that the program said.
    pub(crate) fn event(&mut self, name: &str, within: Duration) -> Value {
        let deadline = Instant::now() + within;
        loop {
            while let Some(event) = self.events.get(self.passed).cloned() {
                self.passed += 1;
                if event["event"] == name {
                    return event;
                }
            }
            if !self.hear(deadline) {
                panic!("no '{name}' within {within:?}{}", self.report());
            }
        }
    }

    /// Passes every event so far, so that the next wait is for one that is yet to come.
    pub(crate) fn pass_by(&mut self) {
        while self.hear(Instant::now()) {}
        self.passed = self.events.len();
    }

    /// Every event of this name so far, without waiting.
    pub(crate) fn events(&mut self, name: &str) -> Vec<Value> {
        while self.hear(Instant::now()) {}
        self.events.iter().filter(|event| event["event"] == name).cloned().collect()
    }

    /// The first of all its lines on standard output that `fits`.
    ///
    /// # Panics
    /// When it does not come in time, with everything that the program said.
    pub(crate) fn line(&mut self, within: Duration, fits: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + within;
        loop {
            if let Some(line) = self.said.iter().find(|line| fits(line)) {
                return line.clone();
            }
            assert!(self.hear(deadline), "not said within {within:?}{}", self.report());
        }
    }

    /// Waits until the program has ended by itself.
    pub(crate) fn end(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                // The reader of its last lines may be a moment behind.
                while self.hear(Instant::now() + GLANCE) {}
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {within:?}{}", self.report());
            self.hear(Instant::now() + GLANCE);
        }
    }

    /// Waits until it has ended, and holds it to success.
    pub(crate) fn succeeds(&mut self, within: Duration) {
        let status = self.end(within);
        assert!(status.success(), "{status}{}", self.report());
    }

    /// SIGKILL: the program gets no chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
    }

    /// SIGTERM.
    pub(crate) fn terminate(&mut self) {
        let pid = self.child.id().to_string();
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &pid]).status();
        assert!(asked.is_ok_and(|status| status.success()), "no {} to end{}", self.name, self.report());
    }

    /// Every line of its standard output so far.
    pub(crate) fn said(&self) -> &[String] {
        &self.said
    }

    /// Every line of its standard error so far, which is complete only some moments after its end.
    pub(crate) fn talk(&self) -> Vec<String> {
        self.talk.lock().expect("never poisoned").clone()
    }

    /// What it said, for a failure's message.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("\n--- {}\n", self.name);
        let talk = self.talk.lock().expect("never poisoned");
        for lines in [&self.said, &*talk] {
            for line in lines.iter().skip(lines.len().saturating_sub(SHOWN)) {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{line}");
            }
            text.push_str("---\n");
        }
        text
    }

    /// Takes one more line, if one comes before the deadline.
    fn hear(&mut self, deadline: Instant) -> bool {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Ok(event) = serde_json::from_str(&line) {
                    self.events.push(event);
                }
                self.said.push(line);
                true
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => false,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn each_line(from: impl Read, mut take: impl FnMut(String)) {
    BufReader::new(from).lines().map_while(Result::ok).for_each(&mut take);
}
