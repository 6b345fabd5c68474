//! Names that two processes come to: `api-web` of `shop` and `web` of `shop-api` are both `shop-api-web` (spec 7.2). The second of them is refused.

use std::collections::{BTreeMap, BTreeSet};

use gantry_sdk::cluster::Kind;
use gantry_sdk::{Error, Result};
use serde_json::Value;

use crate::home::kinds;
use crate::name;
use crate::object::{self, label_set, text};

/// The objects of a process that others find by their names.
pub(crate) fn of_process(app: &str, process: &str) -> [(Kind, String); 3] {
    let name = name::deployment(app, process);
    [
        (kinds::deployment(), name.clone()),
        (kinds::service(), name),
        (kinds::service(), name::headless_service(app, process)),
    ]
}

/// Its Services.
pub(crate) fn services_of_process(app: &str, process: &str) -> [(Kind, String); 2] {
    let [_deployment, service, headless] = of_process(app, process);
    [service, headless]
}

/// Refuses processes of an app that would have objects of the same name.
///
/// # Errors
///
/// There are two.
pub(crate) fn refuse_twins(app: &str, processes: &BTreeSet<String>) -> Result<()> {
    let mut named = BTreeMap::new();
    for process in processes {
        for (kind, name) in of_process(app, process) {
            if let Some(other) = named.insert((kind.kind, name.clone()), process) {
                return Err(Error::InvalidArgument(format!(
                    "the processes `{other}` and `{process}` would both be `{name}` on the cluster: rename one in the Procfile"
                )));
            }
        }
    }
    Ok(())
}

/// Refuses an object that is not of this process.
///
/// # Errors
///
/// It is another's.
pub(crate) fn refuse_another(found: &Value, app: &str, process: &str) -> Result<()> {
    let labels = label_set(found);
    if (labels.app_name(), labels.app_process()) == (app, process) {
        return Ok(());
    }
    let whose = match (labels.app_name(), labels.app_process()) {
        ("", _) => "somebody else".to_owned(),
        (app, process) => format!("the process `{process}` of the app `{app}`"),
    };
    let (kind, name) = (text(found, "/kind"), object::name(found));
    Err(Error::Conflict(format!(
        "the process `{process}` of `{app}` would be the {kind} `{name}`, which is of {whose}"
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_processes_of_one_name_are_refused() {
        for (processes, name) in [
            (&["web", "worker"][..], ""),
            (&["web", "api-web"], ""),
            (&["web_1", "web-1"], "shop-web-1"),
            (&["Web", "web"], "shop-web"),
            (&["web", "web-units"], "shop-web-units"),
        ] {
            let processes = processes.iter().map(|process| (*process).to_owned()).collect();
            let refused = refuse_twins("shop", &processes).err().map(|error| error.to_string());
            match refused {
                None => assert_eq!(name, "", "{processes:?}"),
                Some(told) => assert!(
                    !name.is_empty() && told.contains(&format!("`{name}`")),
                    "{processes:?}: {told}"
                ),
            }
        }
    }

    #[test]
    fn what_is_another_process_is_told_by_its_app() {
        let found = |app: &str, process: &str| {
            json!({"kind": "Deployment", "metadata": {"name": "shop-api-web", "labels": {
                "tsuru.io/app-name": app, "tsuru.io/app-process": process,
            }}})
        };
        assert_eq!(refuse_another(&found("shop", "api-web"), "shop", "api-web"), Ok(()));
        for (object, whose) in [
            (found("shop-api", "web"), "is of the process `web` of the app `shop-api`"),
            (found("shop", "web"), "is of the process `web` of the app `shop`"),
            (json!({"kind": "Deployment", "metadata": {"name": "x"}}), "is of somebody else"),
        ] {
            let told = refuse_another(&object, "shop", "api-web").unwrap_err().to_string();
            assert!(told.ends_with(whose), "{told}");
        }
    }
}
