// The plugin with and without grants asked for.

use gantry_guests::containers::{
    self, BuildOptions, Client, CommitOptions, CreateOptions, EngineError, ExecOptions,
    HttpRequest, ListOptions, LogOptions, Step,
};
use gantry_guests::streams::Reader;
use gantry_guests::types::Error;
use gantry_guests::{Description, GrantRequest, Guest, first_node, operation, sequence, setting};
use serde_json::{Value, json};

struct Foreign;

impl Guest for Foreign {
    const NAME: &'static str = "foreign";

    fn describe() -> Description {
        let asked =
            |&grant: &&str| GrantRequest { grant: grant.into(), reason: "curiosity".into() };
        Description {
            name: Self::NAME.into(),
            version: Self::VERSION.into(),
            summary: "reaches for what is not its own".into(),
            grants: GRANTS.iter().map(asked).collect(),
            limits: Vec::new(),
        }
    }

    fn every() -> Result<(), Error> {
        let attempt = setting("attempt").unwrap_or_else(|| "inspect".into());
        let target = setting("target").unwrap_or_default();
        let image = setting("image").unwrap_or_else(|| "scratch".into());
        let node = if attempt == "node" { target.clone() } else { first_node()? };
        let client = Client::open(&node)?;
        if let Some(attempt) = attempt.strip_prefix("batch-") {
            return in_batch(&node, attempt, &target, &image);
        }
        if let Some(body) = body(&attempt, &target, &image) {
            return Ok(client.create_container(&create(&body)).map(drop)?);
        }
        Ok(match attempt.as_str() {
            "remove-image" => client.remove_image(&image),
            "tag-image" => client.tag_image(&image, "mine", "latest"),
            "push-image" => client.push_image(&image, &operation::output()),
            "build-image" => client.build_image(
                &BuildOptions {
                    name: image,
                    dockerfile: String::new(),
                    args: Vec::new(),
                    cache: false,
                },
                Reader::from_bytes(&[]),
                &operation::output(),
            ),
            "node" => client.list_containers(&everything()).map(drop),
            "list" => {
                let listed = client.list_containers(&everything())?;
                if !listed.iter().any(|one| one.id == target || one.name == target) {
                    return Err(Error::NotFound(format!("`{target}` is not in the list")));
                }
                Ok(())
            }
            _ => touch(&client, &attempt, &target),
        }?)
    }
}

fn touch(client: &Client, attempt: &str, target: &str) -> Result<(), EngineError> {
    match attempt {
        "inspect" => client.inspect_container(target).map(drop),
        "start" => client.start_container(target),
        "stop" => client.stop_container(target, 0),
        "remove" => client.remove_container(target, true),
        "exec" => {
            let exec = client.create_exec(target, &command())?;
            client.start_exec(&exec, &operation::output(), &operation::output())
        }
        "wait" => client.wait_container(target).map(drop),
        "logs" => {
            let options = LogOptions { lines: 10, follow: false, timestamps: false };
            client.container_logs(target, options).map(drop)
        }
        "attach" => client.attach_session(target, true).map(drop),
        "download" => client.download_from_container(target, "/etc/passwd").map(drop),
        "upload" => client.upload_to_container(target, "/", Reader::from_bytes(&[0; 1024])),
        "stat" => client.stat_path(target, "/etc/passwd").map(drop),
        "commit" => {
            let options = CommitOptions {
                repository: "stolen".into(),
                tag: "latest".into(),
                comment: String::new(),
            };
            client.commit_container(target, &options).map(drop)
        }
        "http" => client.http(target, &request()).map(drop),
        unknown => Err(EngineError::Invalid(format!("no attempt `{unknown}`"))),
    }
}

fn in_batch(node: &str, attempt: &str, target: &str, image: &str) -> Result<(), Error> {
    let of = target.to_owned();
    let step = match (attempt, body(attempt, target, image)) {
        (_, Some(body)) => Step::Create(create(&body)),
        ("inspect", None) => Step::Inspect(of),
        ("start", None) => Step::Start(of),
        ("stop", None) => Step::Stop((of, 0)),
        ("remove", None) => Step::Remove(of),
        ("exec", None) => Step::Exec((of, command())),
        ("download", None) => Step::Download((of, "/etc/passwd".into())),
        ("http", None) => Step::Http((of, request())),
        (unknown, None) => return Err(Error::InvalidArgument(format!("no attempt `{unknown}`"))),
    };
    let batch = containers::submit(&[sequence(node, vec![step])]);
    match batch.next().map(|ended| ended.failure) {
        Some(None) => Ok(()),
        Some(Some(failure)) => Err(failure.into()),
        None => Err(Error::Other("the sequence never ended".into())),
    }
}

/// The body of a container that takes a right; none when the attempt is another.
fn body(attempt: &str, target: &str, image: &str) -> Option<Value> {
    let host = match attempt {
        "privileged" => json!({"Privileged": true}),
        "bind" => json!({"Binds": ["/:/host"]}),
        "socket" => json!({"Binds": ["/var/run/docker.sock:/var/run/docker.sock"]}),
        "host-network" => json!({"NetworkMode": "host"}),
        "host-pid" => json!({"PidMode": "host"}),
        "capabilities" => json!({"CapAdd": ["SYS_ADMIN"]}),
        "security-options" => json!({"SecurityOpt": ["seccomp=unconfined"]}),
        "join" => json!({"NetworkMode": format!("container:{target}")}),
        "unknown-field" => json!({"Devices": [{"PathOnHost": "/dev/mem"}]}),
        "owner" => {
            let labels = json!({"gantry.owner": "somebody", "gantry.instance": "somewhere"});
            return Some(json!({"Image": image, "Labels": labels}));
        }
        _ => return None,
    };
    Some(json!({"Image": image, "HostConfig": host}))
}

fn create(body: &Value) -> CreateOptions {
    CreateOptions { name: String::new(), body: body.to_string() }
}

fn everything() -> ListOptions {
    ListOptions { all: true, labels: Vec::new(), label_keys: None }
}

fn command() -> ExecOptions {
    ExecOptions {
        command: vec!["true".into()],
        env: Vec::new(),
        user: "0".into(),
        working_dir: String::new(),
        tty: false,
        stdin: false,
    }
}

fn request() -> HttpRequest {
    HttpRequest {
        method: "GET".into(),
        scheme: "http".into(),
        path: "/".into(),
        port: "80/tcp".into(),
        timeout: 1_000,
    }
}

gantry_guests::export!(Foreign: plugin, provisioner);
