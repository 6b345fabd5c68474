//! Commands in containers, what containers write, and what their ports answer.

use futures_util::StreamExt as _;

use super::{Fixture, Kind, PAGE, PORT, ends, eventually, read, refused};
use crate::call::{ExecOptions, ExecState, HttpRequest, HttpResponse, LogOptions};
use crate::containers::Result;
use crate::stream::Source;

fn command(parts: &[&str]) -> ExecOptions {
    let command = parts.iter().map(|part| (*part).to_owned()).collect();
    ExecOptions { command, ..ExecOptions::default() }
}

fn sh(line: &str) -> ExecOptions {
    command(&["/bin/sh", "-c", line])
}

/// What a command wrote on its two streams, and its exit code.
async fn run(
    fixture: &Fixture,
    id: &str,
    options: &ExecOptions,
) -> Result<(String, String, Option<i32>)> {
    let engine = &fixture.engine;
    let exec = engine.create_exec(id, options).await?;
    let before = engine.inspect_exec(&exec).await?;
    assert_eq!(before, ExecState { running: false, exit_code: None });
    let (output, read) = ends();
    let (ran, (stdout, stderr)) = tokio::join!(engine.start_exec(&exec, output), read);
    ran?;
    let state = engine.inspect_exec(&exec).await?;
    assert!(!state.running, "it ran to its end");
    Ok((stdout, stderr, state.exit_code))
}

/// Runs a command where commands run; where none does, the answer says so.
async fn runs(
    fixture: &Fixture,
    id: &str,
    options: &ExecOptions,
) -> Option<(String, String, Option<i32>)> {
    let ran = run(fixture, id, options).await;
    match fixture.kind {
        Kind::Docker => Some(ran.unwrap()),
        // Processes do not run in memory.
        Kind::Memory => {
            let told = refused(ran, "failed");
            assert!(told.contains("it is in memory"), "{told}");
            None
        }
    }
}

/// A command runs to its end; its two streams stay apart and its exit code is told.
pub async fn a_command_gives_its_output_and_its_exit_code(fixture: &Fixture) {
    let id = fixture.started(&fixture.spec()).await;
    for (line, stdout, stderr, code) in [
        ("echo out; echo err >&2; exit 3", "out\n", "err\n", 3),
        ("true", "", "", 0),
        ("kill -9 $$", "", "", 137),
        // Its ends close before it does.
        ("exec >&- 2>&-; sleep 0.2; exit 4", "", "", 4),
    ] {
        if let Some(ran) = runs(fixture, &id, &sh(line)).await {
            assert_eq!(ran, (stdout.to_owned(), stderr.to_owned(), Some(code)), "{line}");
        }
    }
    // More than any buffer on the way holds.
    if let Some((stdout, _, code)) =
        runs(fixture, &id, &sh("head -c 3000000 /dev/zero | tr '\\0' x")).await
    {
        assert_eq!((stdout.len(), code), (3_000_000, Some(0)));
    }
}

/// Variables, folder and user of a command are as asked for.
pub async fn a_command_gets_what_it_asks_for(fixture: &Fixture) {
    let mut spec = fixture.spec();
    spec.env = vec!["OF_CONTAINER=1".to_owned()];
    let id = fixture.started(&spec).await;
    let options = ExecOptions {
        env: vec![("OF_COMMAND".to_owned(), "a b=c".to_owned())],
        user: "1234".to_owned(),
        working_dir: "/www".to_owned(),
        ..sh("echo $OF_CONTAINER/$OF_COMMAND/$(pwd)/$(id -u)")
    };
    if let Some((stdout, ..)) = runs(fixture, &id, &options).await {
        assert_eq!(stdout, "1/a b=c//www/1234\n");
    }
}

/// A terminal has one stream, and can be given another size while it is there.
pub async fn a_command_with_a_terminal_writes_to_one_end(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.started(&fixture.spec()).await;
    let with_tty = |line| ExecOptions { tty: true, ..sh(line) };
    let both = with_tty("echo out; echo err >&2; printf '\\001\\002no line'");
    if let Some((stdout, stderr, code)) = runs(fixture, &id, &both).await {
        assert_eq!((stdout.as_str(), stderr.as_str()), ("out\r\nerr\r\n\u{1}\u{2}no line", ""));
        assert_eq!(code, Some(0));
    }
    match fixture.kind {
        // There is no terminal without a process.
        Kind::Memory => {}
        Kind::Docker => {
            // The size is not known before it is given.
            let line = "until [ \"$(stty size 2>&1)\" = '33 44' ]; do sleep 0.02; done; stty size";
            let exec = engine.create_exec(&id, &with_tty(line)).await.unwrap();
            let (output, read) = ends();
            let resize = async {
                eventually("it runs", || async {
                    engine.inspect_exec(&exec).await.unwrap().running
                })
                .await;
                engine.resize_exec(&exec, 33, 44).await
            };
            let (ran, resized, (stdout, _)) =
                tokio::join!(engine.start_exec(&exec, output), resize, read);
            ran.unwrap();
            resized.unwrap();
            assert_eq!(stdout, "33 44\r\n");
        }
    }
}

/// Nothing can run in a container that does not.
pub async fn a_command_in_what_does_not_run_is_a_conflict(fixture: &Fixture) {
    let id = fixture.started(&fixture.spec()).await;
    fixture.engine.stop(&id, 10).await.unwrap();
    refused(fixture.engine.create_exec(&id, &sh("true")).await, "conflict");
}

/// A command that was not prepared is not found; a prepared one runs once.
pub async fn an_unknown_command_is_not_found(fixture: &Fixture) {
    let engine = &fixture.engine;
    let none = "0".repeat(64);
    refused(engine.inspect_exec(&none).await, "not-found");
    refused(engine.resize_exec(&none, 1, 1).await, "not-found");
    let id = fixture.started(&fixture.spec()).await;
    let exec = engine.create_exec(&id, &sh("true")).await.unwrap();
    let first = engine.start_exec(&exec, ends().0).await;
    match fixture.kind {
        Kind::Docker => first.unwrap(),
        // Processes do not run in memory.
        Kind::Memory => {
            refused(first, "failed");
        }
    }
    refused(engine.start_exec(&exec, ends().0).await, "conflict");
}

/// The last lines of a log come in their order, each with its time when asked for.
pub async fn a_log_has_its_last_lines_first(fixture: &Fixture) {
    let engine = &fixture.engine;
    let line = "echo one; echo two >&2; sleep 0.1; echo three; sleep 0.1; printf four";
    let id = fixture.started(&fixture.shell(line)).await;
    let log = |lines, timestamps| LogOptions { lines, follow: false, timestamps };
    match fixture.kind {
        // Nothing writes in memory: the log is empty and has an end.
        Kind::Memory => {
            let all = read(engine.logs(&id, &log(10, false)).await.unwrap()).await;
            assert_eq!(all, (String::new(), String::new()));
        }
        Kind::Docker => {
            engine.wait(&id).await.unwrap();
            let all = read(engine.logs(&id, &log(10, false)).await.unwrap()).await;
            assert_eq!(all, ("one\nthree\nfour".to_owned(), "two\n".to_owned()));
            let last = read(engine.logs(&id, &log(2, false)).await.unwrap()).await;
            assert_eq!(last, ("three\nfour".to_owned(), String::new()));
            let none = read(engine.logs(&id, &log(0, false)).await.unwrap()).await;
            assert_eq!(none, (String::new(), String::new()));
            let (timed, _) = read(engine.logs(&id, &log(2, true)).await.unwrap()).await;
            let (time, rest) = timed.split_once(' ').unwrap();
            assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
            assert!(rest.starts_with("three\n"), "{rest}");
            // With a terminal there are no frames to take apart.
            let mut spec = fixture.shell("printf '\\001\\000no line'");
            spec.tty = true;
            let id = fixture.started(&spec).await;
            engine.wait(&id).await.unwrap();
            let all = read(engine.logs(&id, &log(10, false)).await.unwrap()).await;
            assert_eq!(all, ("\u{1}\u{0}no line".to_owned(), String::new()));
        }
    }
}

/// A follower gets what is still to come, and its stream ends when the container does.
pub async fn a_followed_log_ends_with_the_container(fixture: &Fixture) {
    let engine = &fixture.engine;
    let line = "trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.05; done";
    let id = fixture.started(&fixture.shell(line)).await;
    let options = LogOptions { lines: 10, follow: true, timestamps: false };
    let mut session = engine.logs(&id, &options).await.unwrap();
    match fixture.kind {
        // Nothing writes in memory; the stream has its end all the same.
        Kind::Memory => {}
        Kind::Docker => {
            let first = session.chunks.next().await.unwrap().unwrap();
            assert_eq!((first.source, &first.bytes[..]), (Source::Stdout, &b"hello\n"[..]));
        }
    }
    let (rest, stopped) = tokio::join!(read(session), engine.stop(&id, 10));
    stopped.unwrap();
    let said = match fixture.kind {
        Kind::Memory => "",
        Kind::Docker => "bye\n",
    };
    assert_eq!(rest, (said.to_owned(), String::new()));
}

/// Whoever attaches sees what is written from then on, and before when asked for; the stream ends with the container.
pub async fn a_session_shows_what_a_container_writes(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.created(&fixture.shell("echo out; echo err >&2; exit 5")).await;
    let session = engine.attach(&id, false).await.unwrap();
    assert!(session.input.is_none(), "it has no input");
    engine.start(&id).await.unwrap();
    match fixture.kind {
        // Nothing ends on its own there.
        Kind::Memory => engine.stop(&id, 10).await.unwrap(),
        Kind::Docker => {}
    }
    let seen = read(session).await;
    let (expected, code) = match fixture.kind {
        Kind::Memory => ((String::new(), String::new()), 0),
        Kind::Docker => (("out\n".to_owned(), "err\n".to_owned()), 5),
    };
    assert_eq!(seen, expected);
    assert_eq!(engine.wait(&id).await.unwrap(), code);
    let again = read(engine.attach(&id, true).await.unwrap()).await;
    assert_eq!(again, expected, "what it wrote before");
    match fixture.kind {
        // There is no process to read it.
        Kind::Memory => {}
        Kind::Docker => {
            let mut spec = fixture.shell("read line; echo got $line");
            (spec.open_stdin, spec.stdin_once) = (true, true);
            let id = fixture.created(&spec).await;
            let mut session = engine.attach(&id, false).await.unwrap();
            engine.start(&id).await.unwrap();
            let mut input = session.input.take().expect("its input is open");
            tokio::io::AsyncWriteExt::write_all(&mut input, b"a line\n").await.unwrap();
            assert_eq!(read(session).await.0, "got a line\n");
        }
    }
}

fn ask(path: &str) -> HttpRequest {
    HttpRequest {
        method: "GET".to_owned(),
        scheme: "http".to_owned(),
        path: path.to_owned(),
        port: PORT.to_owned(),
        timeout: 10_000,
    }
}

/// Asks until there is an answer: a process that has begun does not listen yet.
async fn answered(fixture: &Fixture, id: &str, request: &HttpRequest) -> HttpResponse {
    loop {
        let answer = fixture.engine.http(id, request).await;
        if let Ok(answer) = answer {
            return answer;
        }
        refused(answer, "failed");
        assert!(fixture.engine.inspect(id).await.unwrap().state.running);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// A published port is asked from the machine of the host; any status is an answer.
pub async fn a_published_port_is_asked(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.started(&fixture.serving()).await;
    match fixture.kind {
        // Nothing listens in memory.
        Kind::Memory => {
            let told = refused(engine.http(&id, &ask("/")).await, "failed");
            assert!(told.contains(PORT), "{told}");
        }
        Kind::Docker => {
            let page = answered(fixture, &id, &ask("/index.html")).await;
            assert_eq!((page.status, page.body.as_slice()), (200, PAGE.as_bytes()));
            let absent = engine.http(&id, &ask("/absent?x=1")).await.unwrap();
            assert_eq!(absent.status, 404);
            let big = "head -c 200000 /dev/zero > /www/big";
            let exec = engine.create_exec(&id, &sh(big)).await.unwrap();
            engine.start_exec(&exec, ends().0).await.unwrap();
            let cut = engine.http(&id, &ask("/big")).await.unwrap();
            assert_eq!((cut.status, cut.body.len()), (200, 64 << 10));
        }
    }
}

/// The port must be one that is published, and the request one that can be made.
pub async fn a_port_that_is_not_published_is_not_asked(fixture: &Fixture) {
    let engine = &fixture.engine;
    let id = fixture.started(&fixture.serving()).await;
    let other = HttpRequest { port: "9999/tcp".to_owned(), ..ask("/") };
    let told = refused(engine.http(&id, &other).await, "invalid");
    assert!(told.contains("`9999/tcp`"), "{told}");
    let exposed = fixture.started(&fixture.spec()).await;
    refused(engine.http(&exposed, &ask("/")).await, "invalid");
}

/// A container that does not run is in the way of the question; its engine can be reached.
pub async fn what_does_not_run_gives_no_answer(fixture: &Fixture) {
    let id = fixture.started(&fixture.serving()).await;
    fixture.engine.stop(&id, 10).await.unwrap();
    refused(fixture.engine.http(&id, &ask("/")).await, "conflict");
}
