//! Deploys an image as one container, and dies on the way when told so.
//!
//! `deploy`: create, start and inspect in one sequence; `images.append`; a record in `state`; then every older container of the app is removed with its record. A failure or a
//! cancellation before the first removal is undone.
//!
//! The key `die` says where it ends otherwise:
//! `trap-after-create`, `loop-after-create` (shows `computes`, and does for ever), `wait-after-create` (waits in the host; undoes when cancelled),
//! `fail-after-create` (an error, without undoing), `trap-after-remove` (after the first older container is gone).

use gantry_guests::containers::{
    Client, ContainerSummary, CreateOptions, ListOptions, Step, StepReply,
};
use gantry_guests::types::{App, Error, Status, Unit};
use gantry_guests::{
    Guest, UnitPage, containers, deployer, first_node, images, operation, pause, sequence, setting,
    state, trap,
};
use serde_json::json;

struct Deployer;

impl Guest for Deployer {
    const NAME: &'static str = "deployer";

    fn destroy(app: App) -> Result<(), Error> {
        let client = Client::open(&first_node()?)?;
        for container in containers_of(&client, &app.name)? {
            client.remove_container(&container.id, true)?;
            forget(&app.name, &container.id)?;
        }
        Ok(())
    }

    fn units(apps: Vec<App>, _after: Option<String>) -> Result<UnitPage, Error> {
        let node = first_node()?;
        let client = Client::open(&node)?;
        let mut units = Vec::new();
        for app in &apps {
            for container in containers_of(&client, &app.name)? {
                units.push(unit(app, &node, container));
            }
        }
        Ok(UnitPage { units, next: None })
    }
}

impl deployer::Guest for Deployer {
    fn deploy(app: App, image: String) -> Result<String, Error> {
        let node = first_node()?;
        let client = Client::open(&node)?;
        let older = containers_of(&client, &app.name)?;
        let name = format!("{}-{}", app.name, operation::id());
        let died = setting("die").unwrap_or_default();

        let id = create(&node, &name, &app.name, &image)
            .and_then(|id| after_create(&died).map(|()| id))
            .and_then(|id| images::append(&app.name, &image).map(|()| id))
            .and_then(|id| state::put_if(&key(&app.name, &id), image.as_bytes(), None).map(|_| id));
        let id = match id {
            Ok(id) => id,
            Err(error) => {
                if died != "fail-after-create" {
                    operation::undoing();
                    // What went wrong first is what people should read.
                    drop(client.remove_container(&name, true));
                }
                return Err(error);
            }
        };
        operation::progress(&format!("container {id} runs {image}\n"));

        for container in older {
            client.remove_container(&container.id, true)?;
            if died == "trap-after-remove" {
                trap();
            }
            forget(&app.name, &container.id)?;
        }
        Ok(image)
    }
}

fn after_create(died: &str) -> Result<(), Error> {
    match died {
        "trap-after-create" => trap(),
        "loop-after-create" => {
            operation::progress("computes\n");
            loop {
                std::hint::spin_loop();
            }
        }
        "wait-after-create" => loop {
            pause(3_600_000)?;
        },
        "fail-after-create" => Err(Error::Other("told to fail".into())),
        _ => Ok(()),
    }
}

/// One container in one sequence; its id.
fn create(node: &str, name: &str, app: &str, image: &str) -> Result<String, Error> {
    let body = json!({"Image": image, "Labels": {"app-name": app}});
    let steps = vec![
        Step::Create(CreateOptions { name: name.into(), body: body.to_string() }),
        Step::Start(name.into()),
        Step::Inspect(name.into()),
    ];
    let batch = containers::submit(&[sequence(node, steps)]);
    let ended = batch.next().ok_or_else(|| Error::Other("the sequence never ended".into()))?;
    match ended.failure {
        Some(failure) => Err(failure.into()),
        None => match ended.replies.into_iter().next() {
            Some(StepReply::Id(id)) => Ok(id),
            other => Err(Error::Other(format!("a create gave {other:?}"))),
        },
    }
}

fn containers_of(client: &Client, app: &str) -> Result<Vec<ContainerSummary>, Error> {
    let labels = vec![("app-name".to_owned(), app.to_owned())];
    Ok(client.list_containers(&ListOptions { all: true, labels, label_keys: None })?)
}

fn key(app: &str, id: &str) -> String {
    format!("containers/{app}/{id}")
}

fn forget(app: &str, id: &str) -> Result<(), Error> {
    match state::get(&key(app, id))? {
        Some(entry) => state::delete_if(&entry.key, entry.version),
        None => Ok(()),
    }
}

fn unit(app: &App, node: &str, container: ContainerSummary) -> Unit {
    Unit {
        id: container.id,
        name: container.name,
        app_name: app.name.clone(),
        process_name: "web".into(),
        type_: app.platform.clone(),
        ip: node.to_owned(),
        status: match container.state.as_str() {
            "created" => Some(Status::Created),
            "running" => Some(Status::Started),
            "exited" => Some(Status::Stopped),
            _ => None,
        },
        address: None,
    }
}

gantry_guests::export!(Deployer: plugin, provisioner, deployer);
