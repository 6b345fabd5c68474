//! Says every word of a Docker host that the reference's builder and its terminal have, once, and tells what each gave.
//!
//! Every function of `exec` does what its command says:
//!
//! | command | what it does |
//! |---|---|
//! | `begin` | makes the container `made` of the image that is the first argument, unpacks the second one, a tar archive with the file `note`, into it, and runs a command there |
//! | `end` | ends it, makes images of it and of the first argument, an archive with a Dockerfile, and removes what it made |
//!
//! `tail` attaches to `made`.

use gantry_guests::containers::{
    BuildOptions, Client, CommitOptions, CreateOptions, EngineError, ExecOptions,
};
use gantry_guests::streams::{Reader, StreamError, Writer};
use gantry_guests::types::{App, Error};
use gantry_guests::{
    Availability, Command, Description, GrantRequest, Guest, Run, Source, TailOptions, first_node,
    logs,
};
use serde_json::{Value, json};

/// The container.
const MADE: &str = "made";

const GRANTS: [&str; 5] =
    ["images:build", "images:commit", "images:push", "images:remove", "images:tag"];

struct Words;

impl Guest for Words {
    const NAME: &'static str = "words";

    fn describe() -> Description {
        let asked = |grant: &str| GrantRequest { grant: grant.into(), reason: "says it".into() };
        Description {
            name: Self::NAME.into(),
            version: Self::VERSION.into(),
            summary: "says every word of a Docker host".into(),
            grants: GRANTS.map(asked).into(),
            limits: Vec::new(),
        }
    }
}

impl Run for Words {
    fn run(command: Command) -> Result<i32, Error> {
        let Command { program, args, stdout, stderr, .. } = command;
        let client = Client::open(&first_node()?)?;
        client.set_timeout(60_000);
        match (program.as_str(), args.as_slice()) {
            ("begin", [image, archive]) => begin(&client, image, archive, &stdout, &stderr),
            ("end", [context]) => end(&client, context, &stdout, &stderr).map(|()| 0),
            other => Err(Error::InvalidArgument(format!("no command {other:?}"))),
        }
    }
}

fn begin(
    client: &Client,
    image: &str,
    archive: &str,
    stdout: &Writer,
    stderr: &Writer,
) -> Result<i32, Error> {
    let body = json!({"Image": image}).to_string();
    let id = client.pull_and_create_container(&CreateOptions { name: MADE.into(), body })?;
    client.upload_to_container(&id, "/", Reader::from_bytes(archive.as_bytes()))?;
    say(stdout, &format!("note: {}", last_text(&client.download_from_container(&id, "/note")?)?))?;
    client.start_container(&id)?;
    let document = json(&client.inspect_container(&id)?)?;
    say(stdout, &format!("state: {}", text(&document, "/State/Status")))?;
    let options = ExecOptions {
        command: vec!["run".into(), "it".into()],
        env: Vec::new(),
        user: String::new(),
        working_dir: String::new(),
        tty: true,
        stdin: false,
    };
    let exec = client.create_exec(&id, &options)?;
    client.resize_exec(&exec, 50, 132)?;
    client.start_exec(&exec, stdout, stderr)?;
    let state = client.inspect_exec(&exec)?;
    Ok(state.exit_code.unwrap_or(-1))
}

fn end(client: &Client, context: &str, stdout: &Writer, stderr: &Writer) -> Result<(), Error> {
    client.stop_container(MADE, 1)?;
    say(stdout, &format!("ended: {}", client.wait_container(MADE)?))?;
    client.attach_to_container(MADE, true, stdout, stderr)?;

    let kept = CommitOptions { repository: "kept".into(), tag: "1".into(), comment: String::new() };
    let id = client.commit_container(MADE, &kept)?;
    client.tag_image("kept:1", "kept", "2")?;
    let image = json(&client.inspect_image("kept:2")?)?;
    say(stdout, &format!("the same image: {}", text(&image, "/Id") == id))?;
    let layers = client.image_history("kept:2")?;
    say(stdout, &format!("layers: {}", layers.len()))?;

    let built = "registry.example/built:1";
    let options = BuildOptions {
        name: built.into(),
        dockerfile: String::new(),
        args: Vec::new(),
        cache: false,
    };
    client.build_image(&options, Reader::from_bytes(context.as_bytes()), stdout)?;
    client.push_image(built, stdout)?;
    client.remove_image(built)?;
    say(stdout, &format!("image: {}", is_there(client.inspect_image(built))?))?;
    client.remove_container(MADE, false)?;
    say(stdout, &format!("container: {}", is_there(client.inspect_container(MADE))?))
}

impl logs::Guest for Words {
    fn enabled(_app: App) -> Result<Availability, Error> {
        Ok(Availability { enabled: true, doc: String::new() })
    }

    fn tail(_app: App, options: TailOptions) -> Result<Vec<Source>, Error> {
        let lines = Client::open(&first_node()?)?.attach_session(MADE, true)?;
        Ok(vec![Source { unit: MADE.into(), process: options.process, lines }])
    }
}

fn say(stdout: &Writer, line: &str) -> Result<(), Error> {
    stdout.write(format!("{line}\n").as_bytes()).map_err(failed)
}

fn failed(error: StreamError) -> Error {
    Error::Other(error.to_string())
}

fn json(document: &str) -> Result<Value, Error> {
    serde_json::from_str(document).map_err(|error| Error::Other(error.to_string()))
}

fn text<'a>(document: &'a Value, place: &str) -> &'a str {
    document.pointer(place).and_then(Value::as_str).unwrap_or_default()
}

/// What an archive of one small file ends with, which is what is in the file.
fn last_text(archive: &Reader) -> Result<String, Error> {
    let mut all = Vec::new();
    loop {
        let some = archive.read(1 << 16).map_err(failed)?;
        if some.is_empty() {
            break;
        }
        all.extend(some);
    }
    let all = String::from_utf8_lossy(&all);
    Ok(all.trim_end_matches('\0').rsplit('\0').next().unwrap_or_default().to_owned())
}

fn is_there<T>(answer: Result<T, EngineError>) -> Result<&'static str, Error> {
    match answer {
        Ok(_) => Ok("there"),
        Err(EngineError::NotFound(_)) => Ok("gone"),
        Err(error) => Err(error.into()),
    }
}

gantry_guests::export!(Words: plugin, provisioner, exec, logs);
