//! Repeats what it gets, and opens logs.
//!
//! `execute`, `execute-once`, `execute-isolated`: the arguments, separated by spaces, and a line feed on stdout; the function's name, a space, the command and a line feed on stderr;
//! the exit code is the last argument if that is a number, and 0 otherwise.
//!
//! `enabled`: yes, unless the key `logs-elsewhere` has a text, which is then where to look. `tail`: the log of each container with the label `app-name` of the app.

use gantry_guests::containers::{Client, ListOptions, LogOptions};
use gantry_guests::streams::StreamError;
use gantry_guests::types::{App, Error};
use gantry_guests::{
    Availability, Command, Guest, Run, Source, TailOptions, first_node, logs, setting,
};

struct Echo;

impl Guest for Echo {
    const NAME: &'static str = "echo";
}

impl Run for Echo {
    fn run(command: Command) -> Result<i32, Error> {
        let failed = |error: StreamError| Error::Other(error.to_string());
        let said = format!("{}\n", command.args.join(" "));
        command.stdout.write(said.as_bytes()).map_err(failed)?;
        let said = format!("{} {}\n", command.way.name(), command.program);
        command.stderr.write(said.as_bytes()).map_err(failed)?;
        Ok(command.args.last().and_then(|last| last.parse().ok()).unwrap_or(0))
    }
}

impl logs::Guest for Echo {
    fn enabled(_app: App) -> Result<Availability, Error> {
        let doc = setting("logs-elsewhere").unwrap_or_default();
        Ok(Availability { enabled: doc.is_empty(), doc })
    }

    fn tail(app: App, options: TailOptions) -> Result<Vec<Source>, Error> {
        let client = Client::open(&first_node()?)?;
        let labels = vec![("app-name".to_owned(), app.name)];
        let log = LogOptions { lines: options.lines, follow: options.follow, timestamps: false };
        let list = ListOptions { all: true, labels, label_keys: None };
        let mut sources = Vec::new();
        for container in client.list_containers(&list)? {
            if container.id.starts_with(&options.unit) {
                let lines = client.container_logs(&container.id, log)?;
                sources.push(Source {
                    unit: container.id,
                    process: options.process.clone(),
                    lines,
                });
            }
        }
        Ok(sources)
    }
}

gantry_guests::export!(Echo: plugin, provisioner, exec, logs);
