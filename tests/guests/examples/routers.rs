//! The routes of apps, by command.
//!
//! Every function of `exec` does what its command says, with one JSON object as the only argument, and writes a JSON object to stdout:
//!
//! ```text
//! add-routes       {"router": text, "app": text, "addresses": [text]}   {}
//! remove-routes    {"router": text, "app": text, "addresses": [text]}   {}
//! routes           {"router": text, "app": text}                        {"routes": [text]}
//! swap             {"router": text, "app": text, "other": text}         {}
//! set-healthcheck  {"router": text, "app": text, "path": text, "status": number, "body": text}  {"looks": truth}
//! ```
//!
//! An error of the host is the error of the call.
//!
//! `deploy` makes a container `<app>-<operation>` and adds the route `http://<its name>:80` on every router of the app; then it makes the image current and removes the older containers.
//! The app's variable `DIE` says where it ends otherwise: `trap-after-route`, or `wait-after-route` (waits in the host until the call is cut off). `routable-addresses` are those of the
//! containers that are there; while the app `silence` has the variable `SILENT`, they are an error.

use gantry_guests::containers::{Client, CreateOptions, ListOptions};
use gantry_guests::routers::RouterHealthcheck;
use gantry_guests::types::{App, Error, Status, Unit};
use gantry_guests::{
    Command, Guest, Run, UnitPage, apps, deployer, first_node, images, operation, pause, routers,
    trap,
};
use serde_json::{Value, json};

struct Routers;

impl Guest for Routers {
    const NAME: &'static str = "routers";

    fn destroy(app: App) -> Result<(), Error> {
        let client = Client::open(&first_node()?)?;
        for name in names(&client, &app.name)? {
            client.remove_container(&name, true)?;
        }
        Ok(())
    }

    fn stop(app: App, _process: String) -> Result<(), Error> {
        Self::destroy(app)
    }

    fn units(apps: Vec<App>, _after: Option<String>) -> Result<UnitPage, Error> {
        let client = Client::open(&first_node()?)?;
        let mut units = Vec::new();
        for app in &apps {
            for name in names(&client, &app.name)? {
                units.push(unit(app, name));
            }
        }
        Ok(UnitPage { units, next: None })
    }

    fn routable_addresses(app: App) -> Result<Vec<String>, Error> {
        if let Some(why) = variable("silence", "SILENT") {
            return Err(Error::Unavailable(why));
        }
        let client = Client::open(&first_node()?)?;
        Ok(names(&client, &app.name)?.iter().map(|name| address(name)).collect())
    }
}

impl deployer::Guest for Routers {
    fn deploy(app: App, image: String) -> Result<String, Error> {
        let client = Client::open(&first_node()?)?;
        let older = names(&client, &app.name)?;
        let name = format!("{}-{}", app.name, operation::id());
        let body = json!({"Image": image, "Labels": {"app-name": app.name}}).to_string();
        let id = client.create_container(&CreateOptions { name: name.clone(), body })?;
        client.start_container(&id)?;
        for router in apps::routers(&app.name)? {
            routers::add_routes(&router.name, &app.name, &[address(&name)])?;
        }
        operation::progress("routed\n");
        match variable(&app.name, "DIE").unwrap_or_default().as_str() {
            "trap-after-route" => trap(),
            "wait-after-route" => loop {
                pause(3_600_000)?;
            },
            _ => {}
        }
        images::append(&app.name, &image)?;
        for name in older {
            client.remove_container(&name, true)?;
        }
        Ok(image)
    }
}

impl Run for Routers {
    fn run(command: Command) -> Result<i32, Error> {
        let question: Value = serde_json::from_str(&command.args.concat())
            .map_err(|error| Error::InvalidArgument(error.to_string()))?;
        let text = |name: &str| question.get(name).and_then(Value::as_str).unwrap_or_default();
        let addresses = || -> Vec<String> {
            let list = question.get("addresses").and_then(Value::as_array);
            let texts = list.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let (router, app) = (text("router"), text("app"));
        let answer = match command.program.as_str() {
            "add-routes" => {
                routers::add_routes(router, app, &addresses())?;
                json!({})
            }
            "remove-routes" => {
                routers::remove_routes(router, app, &addresses())?;
                json!({})
            }
            "routes" => json!({"routes": routers::routes(router, app)?}),
            "swap" => {
                routers::swap(router, app, text("other"))?;
                json!({})
            }
            "set-healthcheck" => {
                let status = question.get("status").and_then(Value::as_i64).unwrap_or_default();
                let healthcheck = RouterHealthcheck {
                    path: text("path").to_owned(),
                    status: i32::try_from(status).unwrap_or(i32::MAX),
                    body: text("body").to_owned(),
                };
                json!({"looks": routers::set_healthcheck(router, app, &healthcheck)?})
            }
            other => return Err(Error::InvalidArgument(format!("no command `{other}`"))),
        };
        let written = command.stdout.write(answer.to_string().as_bytes());
        written.map_err(|error| Error::Other(error.to_string()))?;
        Ok(0)
    }
}

/// A variable of an app; none when it has no such variable, or is not there.
fn variable(app: &str, name: &str) -> Option<String> {
    let envs = apps::envs(app).unwrap_or_default();
    envs.into_iter().find(|env| env.name == name).map(|env| env.value)
}

fn address(name: &str) -> String {
    format!("http://{name}:80")
}

fn names(client: &Client, app: &str) -> Result<Vec<String>, Error> {
    let labels = vec![("app-name".to_owned(), app.to_owned())];
    let found = client.list_containers(&ListOptions { all: true, labels, label_keys: None })?;
    Ok(found.into_iter().map(|container| container.name).collect())
}

fn unit(app: &App, name: String) -> Unit {
    Unit {
        id: name.clone(),
        address: Some(address(&name)),
        name,
        app_name: app.name.clone(),
        process_name: "web".into(),
        type_: app.platform.clone(),
        ip: "node".into(),
        status: Some(Status::Started),
    }
}

gantry_guests::export!(Routers: plugin, provisioner, deployer, exec);
