//! Answers what cannot be: every verb another lie.
//!
//! | verb | answer |
//! |---|---|
//! | provision | `other` with control characters, a screen cleared, a line of a log forged, text that runs backwards |
//! | destroy | `unit-startup` with a mebibyte of text |
//! | add-units | `invalid-process` with an empty name |
//! | remove-units | `quota-exceeded` with nothing asked and nothing left |
//! | restart | `cancelled`, when nobody cancelled |
//! | start | `denied`, naming a grant that does not exist |
//! | stop | `not-supported`, of stopping |
//! | units | an empty id; the same id twice; a unit of another app; a name of several lines; and one more page, for ever |
//! | routable-addresses | what no URL is, one of the metadata service, the same twice |
//! | register-unit | `unit-not-found` of a unit that was not asked for |
//! | nodes.list | no node, and one more page, for ever |
//! | every other verb of nodes | `unit-not-found` of a unit, though nobody asked for one |

use gantry_guests::bindings::nodes::exports::gantry::provision::nodes::{
    AddOptions, Node, NodePage, NodeStatusData, RemoveOptions, UpdateOptions,
};
use gantry_guests::types::{App, Error, QuotaExcess, Status, Unit};
use gantry_guests::{Guest, UnitPage, nodes};

struct Liar;

impl Guest for Liar {
    const NAME: &'static str = "liar";

    fn provision(_app: App) -> Result<(), Error> {
        let text = "\u{1b}[2J\0\u{7}all is well\r\n{\"level\":\"info\"}\n\u{202e}txt.exe\u{feff}";
        Err(Error::Other(text.into()))
    }

    fn destroy(_app: App) -> Result<(), Error> {
        Err(Error::UnitStartup("no ".repeat((1 << 20) / 3)))
    }

    fn add_units(_app: App, _count: u32, _process: String) -> Result<(), Error> {
        Err(Error::InvalidProcess(String::new()))
    }

    fn remove_units(_app: App, _count: u32, _process: String) -> Result<(), Error> {
        Err(Error::QuotaExceeded(QuotaExcess { available: 0, requested: 0 }))
    }

    fn restart(_app: App, _process: String) -> Result<(), Error> {
        Err(Error::Cancelled)
    }

    fn start(_app: App, _process: String) -> Result<(), Error> {
        Err(Error::Denied("the grant `root:everything` would allow it".into()))
    }

    fn stop(_app: App, _process: String) -> Result<(), Error> {
        Err(Error::NotSupported("stopping".into()))
    }

    fn units(apps: Vec<App>, _after: Option<String>) -> Result<UnitPage, Error> {
        let app = apps.into_iter().next().map(|app| app.name).unwrap_or_default();
        let units = vec![
            unit("", "web", &app),
            unit("twice", "web", &app),
            unit("twice", "worker", &app),
            unit("stray", "web", "somebody-elses-app"),
            unit("../../etc/passwd", "web\nworker: 5", &app),
        ];
        Ok(UnitPage { units, next: Some("more".into()) })
    }

    fn routable_addresses(_app: App) -> Result<Vec<String>, Error> {
        let addresses = [
            "",
            "not a url",
            "file:///etc/passwd",
            "http://169.254.169.254/",
            "http://a",
            "http://a",
        ];
        Ok(addresses.map(str::to_owned).into())
    }

    fn register_unit(_app: App, _unit: String, _custom_data: Option<String>) -> Result<(), Error> {
        Err(another_unit())
    }
}

impl nodes::Guest for Liar {
    fn list(_addresses: Option<Vec<String>>, _after: Option<String>) -> Result<NodePage, Error> {
        Ok(NodePage { nodes: Vec::new(), next: Some("more".into()), problems: Vec::new() })
    }

    fn get(_address: String) -> Result<Node, Error> {
        Err(another_unit())
    }

    fn units(_address: String) -> Result<Vec<Unit>, Error> {
        Err(another_unit())
    }

    fn add(_options: AddOptions) -> Result<(), Error> {
        Err(another_unit())
    }

    fn update(_options: UpdateOptions) -> Result<(), Error> {
        Err(another_unit())
    }

    fn remove(_options: RemoveOptions) -> Result<(), Error> {
        Err(another_unit())
    }

    fn for_node_data(_data: NodeStatusData) -> Result<Node, Error> {
        Err(another_unit())
    }
}

fn another_unit() -> Error {
    Error::UnitNotFound("another".into())
}

fn unit(id: &str, process: &str, app: &str) -> Unit {
    Unit {
        id: id.into(),
        name: id.into(),
        app_name: app.into(),
        process_name: process.into(),
        type_: "static".into(),
        ip: "999.0.0.1".into(),
        status: Some(Status::Started),
        address: Some("not a url".into()),
    }
}

gantry_guests::export!(Liar: plugin, provisioner, nodes);
