//! The plugin's durable keys, by command.
//!
//! Every function of `exec` does what its command says, with one JSON object as the only argument, and writes a JSON object to stdout:
//!
//! ```text
//! get        {"key": text}                                           {"entry": entry or null}
//! put-if     {"key": text, "value": text, "expected": number or null}  {"version": number}
//! delete-if  {"key": text, "expected": number}                       {}
//! list       {"prefix": text, "after": text or null, "limit": number}  {"entries": [entry], "next": text or null}
//! ```
//!
//! with `entry` as `{"key": text, "value": text, "version": number}`. An error of the host is the error of the call.

use gantry_guests::state::{self, Entry};
use gantry_guests::types::Error;
use gantry_guests::{Command, Guest, Run};
use serde_json::{Value, json};

struct State;

impl Guest for State {
    const NAME: &'static str = "state";
}

impl Run for State {
    fn run(command: Command) -> Result<i32, Error> {
        let question: Value = serde_json::from_str(&command.args.concat())
            .map_err(|error| Error::InvalidArgument(error.to_string()))?;
        let text = |name: &str| question.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| question.get(name).and_then(Value::as_u64);
        let answer = match command.program.as_str() {
            "get" => json!({"entry": state::get(text("key"))?.map(shown)}),
            "put-if" => {
                let value = text("value").as_bytes();
                json!({"version": state::put_if(text("key"), value, number("expected"))?})
            }
            "delete-if" => {
                state::delete_if(text("key"), number("expected").unwrap_or_default())?;
                json!({})
            }
            "list" => {
                let after = question.get("after").and_then(Value::as_str);
                let limit = number("limit").and_then(|limit| u32::try_from(limit).ok());
                let page = state::list(text("prefix"), after, limit.unwrap_or_default())?;
                let entries: Vec<Value> = page.entries.into_iter().map(shown).collect();
                json!({"entries": entries, "next": page.next})
            }
            other => return Err(Error::InvalidArgument(format!("no command `{other}`"))),
        };
        let written = command.stdout.write(answer.to_string().as_bytes());
        written.map_err(|error| Error::Other(error.to_string()))?;
        Ok(0)
    }
}

fn shown(entry: Entry) -> Value {
    let value = String::from_utf8_lossy(&entry.value);
    json!({"key": entry.key, "value": value, "version": entry.version})
}

gantry_guests::export!(State: plugin, provisioner, exec);
