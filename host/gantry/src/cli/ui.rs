//! The one door through which everything reaches people.
//!
//! Data (what was asked for) goes to standard output. Status, warnings, hints and errors go to standard error, so that the output of a command can be piped. Quiet mode silences status;
//! colour is used on a terminal and never when `NO_COLOR` is set.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::failure::Failure;
use super::table::Table;

/// How data is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// What standard error can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// A line can be overwritten.
    pub(crate) live: bool,
    /// Colour is wanted.
    pub(crate) colour: bool,
    /// Somebody can be asked.
    pub(crate) can_ask: bool,
}

impl Terminal {
    /// What this process has.
    pub(crate) fn of_process() -> Self {
        let live = std::io::stderr().is_terminal() && set("TERM").is_none_or(|term| term != "dumb");
        Self {
            live,
            colour: live && set("NO_COLOR").is_none(),
            can_ask: std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
        }
    }
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The door.
pub(crate) struct Ui {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    format: Format,
    quiet: bool,
    terminal: Terminal,
    /// The line at the bottom of the terminal, if one is shown.
    bottom: bool,
    /// Why something that was asked for did not arrive, unless nobody reads any more.
    lost: Option<std::io::Error>,
}

impl Ui {
    /// The door of this process.
    pub(crate) fn of_process(format: Format, quiet: bool) -> Self {
        Self::new(
            Box::new(std::io::stdout()),
            Box::new(std::io::stderr()),
            format,
            quiet,
            Terminal::of_process(),
        )
    }

    /// A door to these two ends.
    pub(crate) fn new(
        out: Box<dyn Write + Send>,
        err: Box<dyn Write + Send>,
        format: Format,
        quiet: bool,
        terminal: Terminal,
    ) -> Self {
        Self { out, err, format, quiet, terminal, bottom: false, lost: None }
    }

    /// What the terminal can do.
    pub(crate) fn terminal(&self) -> Terminal {
        self.terminal
    }

    /// Shows what was asked for: as JSON, or the way people read it.
    pub(crate) fn data<T: Serialize>(&mut self, value: &T, people: impl FnOnce(&mut Page)) {
        let text = match self.format {
            Format::Json => serde_json::to_string_pretty(value).map(|text| text + "\n"),
            Format::Table => {
                let mut page = Page(String::new());
                people(&mut page);
                Ok(page.0)
            }
        };
        self.hide_bottom();
        match text {
            Ok(text) => self.give(&text),
            Err(error) => self.line("error", Some("31"), &error.to_string()),
        }
    }

    /// Shows one of many things as they come: as JSON on a line of its own, or the way people read it. Whoever shows them must know when nobody reads any more.
    pub(crate) fn stream<T: Serialize>(
        &mut self,
        value: &T,
        people: impl FnOnce() -> String,
    ) -> std::io::Result<()> {
        let text = match self.format {
            Format::Json => serde_json::to_string(value).unwrap_or_default(),
            Format::Table => people(),
        };
        self.hide_bottom();
        self.bytes((text + "\n").as_bytes())
    }

    /// Shows a line of the daemon's that programs wait for.
    pub(crate) fn announce(&mut self, line: &str) {
        self.give(&format!("{line}\n"));
    }

    fn give(&mut self, text: &str) {
        let given = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        if let Err(error) = given
            // A reader that has seen enough misses nothing.
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            self.lost.get_or_insert(error);
        }
    }

    /// Why something that was asked for did not arrive.
    pub(crate) fn lost(&mut self) -> Option<std::io::Error> {
        self.lost.take()
    }

    /// Shows bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// Shows bytes as they are on the other end.
    pub(crate) fn error_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.err.write_all(bytes)?;
        self.err.flush()
    }

    /// Tells what is happening; not in quiet mode.
    pub(crate) fn status(&mut self, text: &str) {
        if !self.quiet {
            self.hide_bottom();
            // Nobody reads any more when a write fails; the work goes on.
            let _ = writeln!(self.err, "{}", printable(text));
        }
    }

    /// Tells of something that people should know although it is no error.
    pub(crate) fn warning(&mut self, text: &str) {
        self.hide_bottom();
        self.line("warning", Some("33"), text);
    }

    /// Tells what to type next.
    pub(crate) fn hint(&mut self, text: &str) {
        if !self.quiet {
            self.hide_bottom();
            self.line("hint", Some("36"), text);
        }
    }

    /// Tells what could not be done, why, and what to type next.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        self.hide_bottom();
        self.line("error", Some("31"), &failure.what);
        for cause in &failure.causes {
            self.line("caused by", None, cause);
        }
        if let Some(hint) = &failure.hint {
            self.line("hint", Some("36"), hint);
        }
    }

    /// Shows a line at the bottom of the terminal, in place of the one before; nothing elsewhere.
    pub(crate) fn bottom(&mut self, text: &str) {
        if self.terminal.live && !self.quiet {
            let _ = write!(self.err, "\r\x1b[K{}", printable(text)).and_then(|()| self.err.flush());
            self.bottom = true;
        }
    }

    /// Takes the line at the bottom away.
    pub(crate) fn hide_bottom(&mut self) {
        if std::mem::take(&mut self.bottom) {
            let _ = write!(self.err, "\r\x1b[K").and_then(|()| self.err.flush());
        }
    }

    /// Asks a question that is answered with yes or no; no is the default.
    pub(crate) fn confirm(&mut self, question: &str) -> std::io::Result<bool> {
        self.hide_bottom();
        write!(self.err, "{} [y/N] ", printable(question))?;
        self.err.flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    fn line(&mut self, label: &str, colour: Option<&str>, text: &str) {
        let label = match colour {
            Some(colour) if self.terminal.colour => format!("\x1b[1;{colour}m{label}:\x1b[0m"),
            _ => format!("{label}:"),
        };
        // Lines of a longer text stand below the first.
        let text = printable(text.trim_end()).replace('\n', "\n    ");
        let _ = writeln!(self.err, "{label} {text}");
    }
}

/// Text that plugins, apps and engines chose, without what a terminal would obey: control characters other than line feeds and tabs, and those that turn the direction of writing.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect())
}

/// Text for people, put together before it is shown.
pub(crate) struct Page(String);

impl Page {
    /// Adds a line.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) {
        self.0.push_str(&printable(text.as_ref()));
        self.0.push('\n');
    }

    /// Adds a name with its value; nothing when the value is empty.
    pub(crate) fn field(&mut self, name: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        if !value.is_empty() {
            let name = if name.is_empty() { String::new() } else { format!("{name}:") };
            self.line(format!("{name:<14}{value}"));
        }
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, table: &Table) {
        self.0.push_str(&table.to_string());
    }

    /// Adds a table under a heading; nothing when it has no rows.
    pub(crate) fn section(&mut self, heading: &str, table: &Table) {
        if !table.is_empty() {
            self.line("");
            self.line(heading);
            self.table(table);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::api::{Problem, ProblemKind};

    /// What was written to one end.
    #[derive(Clone, Default)]
    pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    pub(crate) fn door(format: Format, quiet: bool, terminal: Terminal) -> (Ui, Sink, Sink) {
        let (out, err) = (Sink::default(), Sink::default());
        let ui = Ui::new(Box::new(out.clone()), Box::new(err.clone()), format, quiet, terminal);
        (ui, out, err)
    }

    fn failure() -> Failure {
        let problem = Problem::new(ProblemKind::Unavailable, "could not deploy `web`")
            .because("cannot reach `unix:///var/run/docker.sock`\nconnection refused")
            .hint("`docker version` tells whether the engine answers");
        Failure::from(problem)
    }

    #[test]
    fn an_error_has_three_parts() {
        let (mut ui, out, err) = door(Format::Table, true, Terminal::default());
        ui.failure(&failure());
        assert_eq!(out.text(), "");
        insta::assert_snapshot!(err.text(), @r"
        error: could not deploy `web`
        caused by: cannot reach `unix:///var/run/docker.sock`
        caused by: connection refused
        hint: `docker version` tells whether the engine answers
        ");
    }

    #[test]
    fn colour_is_for_terminals() {
        let terminal = Terminal { colour: true, ..Terminal::default() };
        let (mut ui, _out, err) = door(Format::Table, false, terminal);
        ui.warning("so");
        assert_eq!(err.text(), "\x1b[1;33mwarning:\x1b[0m so\n");
    }

    #[test]
    fn quiet_silences_status_and_nothing_else() {
        let (mut ui, out, err) = door(Format::Table, true, Terminal::default());
        ui.status("working");
        ui.warning("careful");
        ui.data(&1, |page| page.line("one"));
        assert_eq!((out.text().as_str(), err.text().as_str()), ("one\n", "warning: careful\n"));
    }

    #[test]
    fn the_bottom_line_is_for_terminals_and_goes_before_anything_else_is_shown() {
        let (mut ui, _out, err) = door(Format::Table, false, Terminal::default());
        ui.bottom("deploy web 1s");
        assert_eq!(err.text(), "");
        let live = Terminal { live: true, ..Terminal::default() };
        let (mut ui, _out, err) = door(Format::Table, false, live);
        ui.bottom("1s");
        ui.status("line");
        assert_eq!(err.text(), "\r\x1b[K1s\r\x1b[Kline\n");
    }

    #[test]
    fn nothing_that_was_sent_moves_the_cursor_or_sets_the_title() {
        let live = Terminal { live: true, ..Terminal::default() };
        let (mut ui, out, err) = door(Format::Table, false, live);
        let sent = "a\x1b]0;title\x07\x1b[2Jb\rc\u{9b}1m\u{202e}\td";
        let mut table = Table::new(["NAME"]);
        table.row(["x\x1b[1A\ny".to_owned()]);
        ui.data(&1, |page| {
            page.line(sent);
            page.field("name", sent);
            page.table(&table);
        });
        ui.status(sent);
        ui.warning(sent);
        ui.hint(sent);
        ui.failure(&Failure::from(Problem::new(ProblemKind::Failed, sent).because(sent)));
        let shown = out.text() + &err.text();
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
        assert!(!shown.contains('\u{202e}') && shown.contains("b\u{fffd}c"), "{shown:?}");
        assert!(out.text().ends_with("NAME\nx\u{fffd}[1A\u{fffd}y\n"), "one line a row: {shown:?}");
        ui.bottom(sent);
        assert!(err.text().ends_with("\td") && err.text().matches('\x1b').count() == 1);
    }

    #[test]
    fn programs_get_json() {
        let (mut ui, out, _err) = door(Format::Json, false, Terminal::default());
        ui.data(&serde_json::json!({"name": "web"}), |page| page.line("never"));
        assert_eq!(out.text(), "{\n  \"name\": \"web\"\n}\n");
    }
}
