//! Questions about apps: their units, where they answer, whose a unit is (spec 7.5, 7.6).

use std::collections::{BTreeMap, BTreeSet};

use gantry_sdk::cluster::Selection;
use gantry_sdk::{App, Error, Result, Unit, UnitPage, images};
use serde_json::Value;

use crate::change::{current, deployments};
use crate::home::{Home, kinds};
use crate::object::{is_leaving, label_set};
use crate::unit::{self, Web};
use crate::{PREFIX, name};

/// How many units a page has.
const PAGE: u32 = 250;

/// The units of these apps, or of every app when there are none; one page of them. `after` names the cluster and where its list goes on.
///
/// # Errors
///
/// A cluster refuses, or does not answer.
pub(crate) fn units(apps: &[App], after: Option<&str>) -> Result<UnitPage> {
    let homes = homes(apps)?;
    let (mut index, mut token) = position(after);
    let mut page = UnitPage::default();
    let Some((home, apps)) = homes.get(index) else {
        return Ok(page);
    };
    let (pods, next) = pods(home, apps, &token)?;
    if !pods.is_empty() {
        page.units = told(home, apps, &pods)?;
    }
    match next {
        Some(next) => token = next,
        None => {
            index = index.saturating_add(1);
            token = String::new();
        }
    }
    page.next = (index < homes.len()).then(|| format!("{index}:{token}"));
    Ok(page)
}

/// Where a page starts: the number of the cluster, and the cluster's own token.
fn position(after: Option<&str>) -> (usize, String) {
    let (index, token) = after.and_then(|after| after.split_once(':')).unwrap_or(("0", ""));
    (index.parse().unwrap_or(usize::MAX), token.to_owned())
}

/// The clusters of these apps, each with the names of its apps; all of them, each with none, when no app is named.
fn homes(apps: &[App]) -> Result<Vec<(Home, Vec<String>)>> {
    if apps.is_empty() {
        return Ok(Home::all()?.into_iter().map(|home| (home.hurried(), Vec::new())).collect());
    }
    let mut homes: BTreeMap<String, (Home, Vec<String>)> = BTreeMap::new();
    for app in apps {
        let home = match Home::of_pool(&app.pool) {
            Ok(home) => home.hurried(),
            // No cluster is no unit.
            Err(Error::NotFound(_)) => continue,
            Err(error) => return Err(error),
        };
        let entry = homes.entry(home.info.name.clone()).or_insert((home, Vec::new()));
        entry.1.push(app.name.clone());
    }
    Ok(homes.into_values().collect())
}

fn pods(home: &Home, apps: &[String], after: &str) -> Result<(Vec<Value>, Option<String>)> {
    let names: Vec<&str> = apps.iter().map(String::as_str).collect();
    let mut labels =
        format!("{PREFIX}is-service=true,{PREFIX}is-build=false,{PREFIX}is-isolated-run=false");
    if !names.is_empty() {
        labels = format!("{},{labels}", unit::selector(&names));
    }
    let selection = Selection::of(home.namespace()).labelled(labels);
    let page = crate::calls::insist(|| home.client.page(&kinds::pod(), &selection, PAGE, after))?;
    let (mut pods, next) = page;
    // One that is leaving serves nobody any more.
    pods.retain(|pod| !is_leaving(pod));
    Ok((pods, next))
}

fn told(home: &Home, apps: &[String], pods: &[Value]) -> Result<Vec<Unit>> {
    let mut names: BTreeSet<String> = apps.iter().cloned().collect();
    if names.is_empty() {
        names = pods.iter().map(|pod| label_set(pod).app_name().to_owned()).collect();
    }
    let nodes = home.nodes("")?;
    // The web process of each app, and the Service of each.
    let mut webs: Vec<(String, String)> = Vec::new();
    for app in &names {
        let image = match images::current(app) {
            Ok(image) => image,
            // An app of another provisioner, or one that is gone.
            Err(Error::NotFound(_)) => continue,
            Err(error) => return Err(error),
        };
        let metadata = images::metadata(&image)?.unwrap_or_default();
        webs.push((app.clone(), metadata.web_process_name().to_owned()));
    }
    let selector = format!("{PREFIX}is-service=true");
    let services = home.list(&kinds::service(), &selector)?;
    let service_of = |app: &str, process: &str| {
        let wanted = name::deployment(app, process);
        services.iter().find(|service| crate::object::name(service) == wanted)
    };
    let webs: Vec<Web<'_>> = webs
        .iter()
        .map(|(app, process)| Web {
            app,
            process,
            service: service_of(app, process),
            deployment: None,
        })
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(unit::units(pods, &names, &nodes, &webs))
}

/// Where routers reach the web process of an app.
///
/// # Errors
///
/// A cluster refuses, or does not answer.
pub(crate) fn routable_addresses(app: &App) -> Result<Vec<String>> {
    let home = match Home::of_pool(&app.pool) {
        Ok(home) => home.hurried(),
        Err(Error::NotFound(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let (_, metadata) = current(app)?;
    let process = metadata.web_process_name();
    if process.is_empty() {
        return Ok(Vec::new());
    }
    let service = home.find(&kinds::service(), &name::deployment(&app.name, process))?;
    if service.is_none() {
        return Ok(Vec::new());
    }
    let deployments = deployments(&home, &app.name)?;
    let web = Web {
        app: &app.name,
        process,
        service: service.as_ref(),
        deployment: deployments.get(process),
    };
    let nodes = home.nodes(&format!("{PREFIX}pool={}", app.pool))?;
    Ok(unit::routable_addresses(&nodes, Some(&web)))
}

/// Takes what a unit says of its image, when it is that of a build. It changes no status: the cluster tells those.
///
/// # Errors
///
/// No such unit, or a cluster does not answer.
pub(crate) fn register(app: &App, unit: &str, custom_data: Option<&str>) -> Result<()> {
    let home = Home::of_pool(&app.pool)?;
    let pod = home.find(&kinds::pod(), unit)?;
    let set = pod.as_ref().map(label_set).filter(|set| set.app_name() == app.name);
    let Some(set) = set else { return Err(Error::UnitNotFound(unit.to_owned())) };
    let Some(data) = custom_data else { return Ok(()) };
    let image = set.build_image();
    if image.is_empty() {
        return Ok(());
    }
    let data: Value = serde_json::from_str(data)
        .map_err(|error| Error::InvalidArgument(format!("custom data: {error}")))?;
    images::save_metadata(image, &data)
}

/// The app that has a unit.
///
/// # Errors
///
/// No such unit, or a cluster that may have it does not answer.
pub(crate) fn app_of(unit: &str) -> Result<String> {
    let mut missing = Error::UnitNotFound(unit.to_owned());
    for home in Home::all()?.into_iter().map(Home::hurried) {
        match home.find(&kinds::pod(), unit) {
            Ok(Some(pod)) if !label_set(&pod).app_name().is_empty() => {
                return Ok(label_set(&pod).app_name().to_owned());
            }
            Ok(_) => {}
            Err(error) => missing = error,
        }
    }
    Err(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_where_the_one_before_ended() {
        assert_eq!(position(None), (0, String::new()));
        assert_eq!(position(Some("2:token:with:colons")), (2, "token:with:colons".to_owned()));
        assert_eq!(position(Some("junk")), (0, String::new()));
        assert_eq!(position(Some("x:y")).0, usize::MAX);
    }
}
