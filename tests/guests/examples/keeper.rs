//! Takes a place of the limiter, or an app's lock, and does with it what the command says.
//!
//! The arguments of every function of `exec` are `slot` and an action, or `lock` and an app. `len` writes how many places of the action are taken to stdout, and takes none. The other commands show
//! `asks`, take what they are told, show `has it`, and then
//!
//! | command | what it does |
//! |---|---|
//! | `hold` | waits until the request is cancelled, and gives it back |
//! | `drop` | gives it back and waits until the request is cancelled |
//! | `twice` | takes it once more, gives that back, shows `has one`, and waits as `hold` does |
//! | `return` | returns with it |
//! | `forget` | forgets that it has it, and returns |
//! | `trap` | traps |
//! | `leave` | makes a container of the image `registry/web:v1` and traps |
//! | `spin` | computes for ever |
//! | `sleep` | sleeps for an hour in the clock of WASI, which is no host call of ours |
//!
//! The last six wait for the durable key `go` first, and show `goes` when it is there.

use std::time::Duration;

use gantry_guests::apps::{self, AppLock};
use gantry_guests::containers::{Client, CreateOptions};
use gantry_guests::limiter::{self, Slot};
use gantry_guests::types::Error;
use gantry_guests::{Command, Guest, Run, first_node, operation, pause, state, trap};

struct Keeper;

impl Guest for Keeper {
    const NAME: &'static str = "keeper";
}

/// What is kept.
enum Kept {
    Slot(#[expect(dead_code, reason = "it is held")] Slot),
    Lock(#[expect(dead_code, reason = "it is held")] AppLock),
}

fn take(args: &[String]) -> Result<Kept, Error> {
    match args {
        [what, action] if what == "slot" => limiter::start(action).map(Kept::Slot),
        [what, app] if what == "lock" => apps::lock(app).map(Kept::Lock),
        other => Err(Error::InvalidArgument(format!("nothing is called {other:?}"))),
    }
}

/// Waits until the request is cancelled.
fn wait() {
    let _ = pause(3_600_000);
}

fn wait_for_go() -> Result<(), Error> {
    while state::get("go")?.is_none() {
        pause(5)?;
    }
    Ok(())
}

impl Run for Keeper {
    fn run(command: Command) -> Result<i32, Error> {
        let Command { program, args, stdout, .. } = command;
        if let ("len", [_, action]) = (program.as_str(), args.as_slice()) {
            let written = stdout.write(limiter::len(action).to_string().as_bytes());
            return written.map(|()| 0).map_err(|error| Error::Other(error.to_string()));
        }
        operation::progress("asks\n");
        let kept = take(&args)?;
        operation::progress("has it\n");
        match program.as_str() {
            "hold" => wait(),
            "drop" => {
                drop(kept);
                wait();
                return Ok(0);
            }
            "twice" => {
                drop(take(&args)?);
                operation::progress("has one\n");
                wait();
            }
            fault => {
                wait_for_go()?;
                operation::progress("goes\n");
                match fault {
                    "return" => {}
                    "forget" => std::mem::forget(kept),
                    "trap" => trap(),
                    "leave" => {
                        let client = Client::open(&first_node()?)?;
                        let body = r#"{"Image": "registry/web:v1"}"#.to_owned();
                        client.create_container(&CreateOptions { name: String::new(), body })?;
                        trap()
                    }
                    "spin" => loop {
                        std::hint::spin_loop();
                    },
                    "sleep" => std::thread::sleep(Duration::from_secs(3_600)),
                    other => return Err(Error::InvalidArgument(format!("no command `{other}`"))),
                }
                return Ok(0);
            }
        }
        drop(kept);
        Ok(0)
    }
}

gantry_guests::export!(Keeper: plugin, provisioner, exec);
