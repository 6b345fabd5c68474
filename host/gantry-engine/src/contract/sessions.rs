//! Commands that somebody is at: what they say, read, see of the terminal, how they end, and that they do not outlive their session.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::{Fixture, Kind, ends, eventually, refused};
use crate::EngineError;
use crate::call::ExecOptions;
use crate::containers::Result;
use crate::stream::{Chunk, Session, Size, Source};

fn sh(line: &str) -> ExecOptions {
    let command = ["/bin/sh", "-c", line].map(ToOwned::to_owned).to_vec();
    ExecOptions { command, stdin: true, ..ExecOptions::default() }
}

fn terminal(line: &str) -> ExecOptions {
    ExecOptions { tty: true, ..sh(line) }
}

/// Opens a session where commands run; where none does, the answer says so.
async fn open(fixture: &Fixture, id: &str, options: &ExecOptions) -> Option<Session> {
    let session = fixture.engine.exec_session(id, options).await;
    match fixture.kind {
        Kind::Docker => Some(session.unwrap()),
        // Processes do not run in memory.
        Kind::Memory => {
            let told = refused(session, "failed");
            assert!(told.contains("it is in memory"), "{told}");
            None
        }
    }
}

/// Waits for what a session does, at most a minute.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), what).await.expect("it goes on")
}

/// What a session says on its two streams up to its end, and how it ended.
async fn ended(mut session: Session) -> (String, String, Result<i32>) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    while let Some(chunk) = soon(session.chunks.next()).await {
        let Chunk { source, bytes } = chunk.expect("the stream goes on to its end");
        let text = String::from_utf8_lossy(&bytes);
        match source {
            Source::Stdout => stdout.push_str(&text),
            Source::Stderr => stderr.push_str(&text),
        }
    }
    (stdout, stderr, soon(session.exit.take().expect("a command has an end")).await)
}

/// What a session says up to these words.
async fn until(session: &mut Session, words: &str) -> String {
    let mut said = String::new();
    while !said.contains(words) {
        let chunk = soon(session.chunks.next()).await.expect("more is said").expect("it goes on");
        said.push_str(&String::from_utf8_lossy(&chunk.bytes));
    }
    said
}

async fn types(session: &mut Session, keys: &[u8]) {
    let input = session.input.as_mut().expect("it reads");
    input.write_all(keys).await.unwrap();
    input.flush().await.unwrap();
}

/// The output of a session comes on its two streams, and its exit code after it.
pub async fn a_session_has_what_its_command_says_and_its_exit_code(fixture: &Fixture) {
    let id = fixture.started(&fixture.spec()).await;
    for (line, stdout, stderr, code) in [
        ("echo out; echo err >&2; exit 3", "out\n", "err\n", 3),
        ("true", "", "", 0),
        ("kill -9 $$", "", "", 137),
        // Its ends close before it does.
        ("exec >&- 2>&-; sleep 1; exit 4", "", "", 4),
    ] {
        for stdin in [true, false] {
            let options = ExecOptions { stdin, ..sh(line) };
            let Some(session) = open(fixture, &id, &options).await else { continue };
            let (out, err, exit) = ended(session).await;
            assert_eq!((out.as_str(), err.as_str(), exit), (stdout, stderr, Ok(code)), "{line}");
        }
    }
    for (line, said, code) in
        [("echo out; echo err >&2; exit 3", "out\r\nerr\r\n", 3), ("kill -9 $$", "", 137)]
    {
        if let Some(session) = open(fixture, &id, &terminal(line)).await {
            assert_eq!(ended(session).await, (said.to_owned(), String::new(), Ok(code)), "{line}");
        }
    }
}

/// A command reads what it is given, to its end, however much it is.
pub async fn a_session_gives_its_command_input_up_to_its_end(fixture: &Fixture) {
    const MUCH: usize = 3 << 20;
    let id = fixture.started(&fixture.spec()).await;
    let Some(mut session) = open(fixture, &id, &sh("cat; exit 5")).await else { return };
    let mut input = session.input.take().expect("it reads");
    let write = async {
        input.write_all(&vec![b'x'; MUCH]).await.unwrap();
        input.shutdown().await.unwrap();
    };
    let ((stdout, _, exit), ()) = tokio::join!(ended(session), write);
    assert_eq!((stdout.len(), exit), (MUCH, Ok(5)));

    // An input that is let go of is over too.
    let Some(mut session) = open(fixture, &id, &sh("cat")).await else { return };
    types(&mut session, b"a line\n").await;
    drop(session.input.take());
    assert_eq!(ended(session).await, ("a line\n".to_owned(), String::new(), Ok(0)));

    // A terminal is none the shorter for it: only a key ends its input.
    let line = "echo ready; until [ -e /on ]; do sleep 1; done; echo still here; exit 3";
    let Some(mut session) = open(fixture, &id, &terminal(line)).await else { return };
    until(&mut session, "ready").await;
    drop(session.input.take());
    let exec = fixture.engine.create_exec(&id, &sh("true > /on")).await.unwrap();
    fixture.engine.start_exec(&exec, ends().0).await.unwrap();
    let (said, _, exit) = ended(session).await;
    assert!(said.contains("still here") && exit == Ok(3), "{said:?} {exit:?}");

    // Nothing is read without an input.
    let options = ExecOptions { stdin: false, ..sh("cat; echo end") };
    let Some(session) = open(fixture, &id, &options).await else { return };
    assert!(session.input.is_none() && session.sizes.is_none());
    assert_eq!(ended(session).await.0, "end\n");
}

/// What a command does not read holds back who writes, and neither its output nor its end.
pub async fn a_session_whose_command_does_not_read_goes_on(fixture: &Fixture) {
    let id = fixture.started(&fixture.spec()).await;
    let line = "echo up; until [ -e /go ]; do sleep 1; done; echo done; exit 6";
    let Some(mut session) = open(fixture, &id, &sh(line)).await else { return };
    let mut input = session.input.take().expect("it reads");
    let flood = tokio::spawn(async move {
        // Until the session has ended.
        while input.write_all(&[b'x'; 64 << 10]).await.is_ok() {}
    });
    until(&mut session, "up\n").await;
    let exec = fixture.engine.create_exec(&id, &sh("true > /go")).await.unwrap();
    fixture.engine.start_exec(&exec, ends().0).await.unwrap();
    assert_eq!(ended(session).await, ("done\n".to_owned(), String::new(), Ok(6)));
    flood.await.unwrap();
}

/// A terminal is as large as was said last, however often it changes.
pub async fn a_terminal_follows_its_sizes(fixture: &Fixture) {
    let id = fixture.started(&fixture.spec()).await;
    let line =
        "until [ \"$(stty size)\" = '33 44' ]; do sleep 1; done; echo it is; read over; stty size";
    let Some(mut session) = open(fixture, &id, &terminal(line)).await else { return };
    let sizes = session.sizes.take().expect("a terminal");
    for count in 1..=300 {
        sizes.send(Size { width: 100 + count, height: count }).await.unwrap();
    }
    sizes.send(Size { width: 44, height: 33 }).await.unwrap();
    until(&mut session, "it is\r\n").await;
    types(&mut session, b"\n").await;
    let (said, _, exit) = ended(session).await;
    assert!(said.ends_with("33 44\r\n") && exit == Ok(0), "{said:?} {exit:?}");
}

/// Every key goes to the command by itself, also those that a client of the engine would take for its own; those that interrupt do.
pub async fn a_terminal_passes_every_key_on(fixture: &Fixture) {
    let id = fixture.started(&fixture.spec()).await;
    // Ctrl-P, Ctrl-Q: Docker's own way out.
    for (key, told) in [(b"\x10", "k"), (b"\x11", "k"), (b"\x03", "k")] {
        let line = "stty raw -echo; echo ready; head -c 1 | tr '\\020\\021\\003' kkk";
        let Some(mut session) = open(fixture, &id, &terminal(line)).await else { return };
        until(&mut session, "ready").await;
        types(&mut session, key).await;
        let (said, _, exit) = ended(session).await;
        assert_eq!((said.trim(), exit), (told, Ok(0)));
    }
    // The job says that it is there: before, only the shell would be interrupted.
    let line = "trap 'echo interrupted' INT; sh -c 'echo ready; exec sleep 1000'; echo code $?";
    let Some(mut session) = open(fixture, &id, &terminal(line)).await else { return };
    until(&mut session, "ready").await;
    types(&mut session, b"\x03").await;
    let (said, _, exit) = ended(session).await;
    assert!(said.contains("interrupted") && said.contains("code 130"), "{said:?}");
    assert_eq!(exit, Ok(0));
    let Some(mut session) = open(fixture, &id, &terminal("echo ready; exec sleep 1000")).await
    else {
        return;
    };
    until(&mut session, "ready").await;
    types(&mut session, b"\x03").await;
    assert_eq!(ended(session).await.2, Ok(130));
}

/// The process that a command says it is, in its container.
async fn process(session: &mut Session) -> String {
    let said = until(session, "\n").await;
    said.trim().to_owned()
}

async fn lives(fixture: &Fixture, id: &str, process: &str) -> bool {
    let engine = &fixture.engine;
    let look = format!("kill -0 {process} 2>&-");
    let exec = engine.create_exec(id, &sh(&look)).await.unwrap();
    engine.start_exec(&exec, ends().0).await.unwrap();
    engine.inspect_exec(&exec).await.unwrap().exit_code == Some(0)
}

/// A command does not outlive its session, and has no say in it; others do not go with it.
pub async fn a_session_that_is_dropped_ends_its_command(fixture: &Fixture) {
    let mut spec = fixture.spec();
    // Environments may have many lines.
    spec.env = vec!["CERTIFICATE=one\ntwo\nthree".to_owned()];
    let id = fixture.started(&spec).await;
    let Some(mut other) = open(fixture, &id, &terminal("echo $$; exec sleep 1000")).await else {
        return;
    };
    let other_process = process(&mut other).await;
    let as_user = |options| ExecOptions { user: "1234".to_owned(), ..options };
    for options in [
        terminal("echo $$; exec sleep 1000"),
        sh("echo $$; exec sleep 1000"),
        as_user(terminal("echo $$; sleep 1000; echo late")),
        terminal("trap '' HUP TERM; echo $$; while true; do sleep 1; done"),
        // Without an input nobody could tell it anything.
        ExecOptions { stdin: false, ..sh("echo $$; exec sleep 1000") },
    ] {
        let Some(mut session) = open(fixture, &id, &options).await else { return };
        let its_process = process(&mut session).await;
        assert!(lives(fixture, &id, &its_process).await, "{options:?}");
        drop(session);
        eventually("the command has ended", || async { !lives(fixture, &id, &its_process).await })
            .await;
    }
    assert!(lives(fixture, &id, &other_process).await, "another session goes on");
}

/// The job in the foreground of a shell goes with it.
pub async fn what_a_terminal_shows_ends_with_it(fixture: &Fixture) {
    let id = fixture.started(&fixture.spec()).await;
    let Some(mut session) = open(fixture, &id, &terminal("exec sh -i")).await else { return };
    types(&mut session, b"sh -c 'echo \"pid:\"$$:; exec sleep 1000'\n").await;
    // What is typed is shown too.
    let mut said = String::new();
    let process = loop {
        said.push_str(&until(&mut session, ":").await);
        let number = said.split("pid:").filter_map(|rest| rest.split(':').next());
        if let Some(number) = number.last().filter(|text| text.parse::<u32>().is_ok()) {
            break number.to_owned();
        }
    };
    assert!(lives(fixture, &id, &process).await);
    drop(session);
    eventually("the job has ended", || async { !lives(fixture, &id, &process).await }).await;
}

/// A session ends with its container, and never as if all were well.
pub async fn a_session_ends_with_its_container(fixture: &Fixture) {
    let id = fixture.started(&fixture.spec()).await;
    let Some(mut session) = open(fixture, &id, &terminal("echo ready; exec sleep 1000")).await
    else {
        return;
    };
    until(&mut session, "ready").await;
    fixture.engine.remove(&id, true).await.unwrap();
    match ended(session).await.2 {
        Ok(code) => assert_eq!(code, 137),
        Err(error) => {
            assert_eq!(error.kind(), "not-found");
            assert!(error.to_string().contains("its container is gone"), "{error}");
        }
    }
}

/// What cannot be started has no exit code of its own.
pub async fn a_session_of_an_unknown_program_says_so(fixture: &Fixture) {
    let id = fixture.started(&fixture.spec()).await;
    for (program, tty) in [("/nowhere", true), ("nothing-like-it", false)] {
        let command = vec![program.to_owned()];
        let options = ExecOptions { command, tty, stdin: true, ..ExecOptions::default() };
        let Some(session) = open(fixture, &id, &options).await else { return };
        let (said, _, exit) = ended(session).await;
        assert!(said.contains(program), "{said:?}");
        assert!(matches!(exit, Err(EngineError::NotFound(_))), "{exit:?}");
    }
}

/// There is a session only in what runs.
pub async fn a_session_in_what_does_not_run_is_a_conflict(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.started(&fixture.spec()).await;
    let nothing = ExecOptions::default();
    refused(engine.exec_session(&id, &nothing).await, "invalid");
    engine.stop(&id, 10).await.unwrap();
    refused(engine.exec_session(&id, &terminal("true")).await, "conflict");
    refused(engine.exec_session("no-such-one", &terminal("true")).await, "not-found");
    refused(engine.exec_session("../x", &terminal("true")).await, "invalid");
}
