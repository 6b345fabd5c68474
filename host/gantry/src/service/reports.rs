//! Reports: what the agent of a machine tells of it and of its units.

use std::collections::BTreeSet;

use gantry_core::Unit;
use gantry_core::node::{NodeStatusData, UnitStatusData};
use gantry_core::record::find_by_id_prefix;
use gantry_runtime::{CallError, Interface, Provisioner};

use super::nodes::is_not_found;
use super::{OrProblem, Service};
use crate::api::{Problem, ReportedUnit};

impl Service {
    /// Takes down what a node's agent says: how its units are. Tells of each unit whether it is one.
    pub(crate) async fn report_node(
        &self,
        data: &NodeStatusData,
    ) -> Result<Vec<ReportedUnit>, Problem> {
        let title = || "could not take the report of a node".to_owned();
        let question = self.question();
        for provisioner in self.registry.list() {
            if !provisioner.supports(Interface::Nodes) {
                continue;
            }
            let node = match provisioner.node_for_node_data(&question, data).await {
                Ok(node) => node,
                Err(error) if is_not_found(&error) => continue,
                Err(error) => return Err(error).or_problem(title),
            };
            let there = match data.units.iter().any(|unit| unit.status.is_some()) {
                true => provisioner.node_units(&question, &node.address).await.unwrap_or_default(),
                false => Vec::new(),
            };
            let mut units = Vec::with_capacity(data.units.len());
            for unit in &data.units {
                // Whoever is told the app need not look through all of them for a unit.
                let app = app_of(unit, &there).unwrap_or_default();
                let found = self.report_unit(&provisioner, unit, app).await.or_problem(title)?;
                units.push(ReportedUnit { id: unit.id.clone(), found });
            }
            self.reroute_reported(&provisioner, &there, data, &units).await;
            return Ok(units);
        }
        // No node is known by these words: its units are nobody's, and that is no failure.
        let nobodys = |unit: &UnitStatusData| ReportedUnit { id: unit.id.clone(), found: false };
        Ok(data.units.iter().map(nobodys).collect())
    }

    /// Takes down how one unit is, of an app if it is known; tells whether there is such a unit.
    async fn report_unit(
        &self,
        provisioner: &Provisioner,
        unit: &UnitStatusData,
        app: &str,
    ) -> Result<bool, CallError> {
        let Some(status) = unit.status else { return Ok(true) };
        let named = Unit {
            id: unit.id.clone(),
            name: unit.name.clone(),
            app_name: app.to_owned(),
            ..Unit::default()
        };
        match provisioner.set_unit_status(&self.question(), &named, status).await {
            Ok(()) => Ok(true),
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A unit that is up or failed may be reached elsewhere than before: looks at the routes of the apps whose units a report was about.
    async fn reroute_reported(
        &self,
        provisioner: &Provisioner,
        there: &[Unit],
        data: &NodeStatusData,
        told: &[ReportedUnit],
    ) {
        let pairs = data.units.iter().zip(told);
        let reported = pairs.filter(|(unit, told)| told.found && unit.status.is_some());
        let reported: Vec<&UnitStatusData> = reported.map(|(unit, _)| unit).collect();
        if reported.is_empty() {
            return;
        }
        match apps_of(&reported, there) {
            Some(apps) => {
                for app in apps {
                    self.reroute_app(app).await;
                }
            }
            None => self.reroute(provisioner.name()).await,
        }
    }
}

/// The apps of these units. None when one of them is not there: its container may be gone, and with it who knows of which app it is.
fn apps_of<'a>(named: &[&UnitStatusData], there: &'a [Unit]) -> Option<BTreeSet<&'a str>> {
    named.iter().map(|unit| app_of(unit, there)).collect()
}

/// The app of the unit that is named by its id, the beginning of it, or a name.
fn app_of<'a>(named: &UnitStatusData, there: &'a [Unit]) -> Option<&'a str> {
    let ids: Vec<&str> = there.iter().map(|unit| unit.id.as_str()).collect();
    let by_id = || there.get(find_by_id_prefix(&ids, &named.id).ok()?);
    let is_named = |unit: &&Unit| !named.name.is_empty() && unit.name == named.name;
    let found = by_id().or_else(|| there.iter().find(is_named))?;
    Some(found.app_name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_units_are_of_apps_by_id_prefix_or_name() {
        let unit = |id: &str, name: &str, app: &str| Unit {
            id: id.into(),
            name: name.into(),
            app_name: app.into(),
            ..Unit::default()
        };
        let there = [unit("abc1", "web-1", "web"), unit("abd2", "api-1", "api")];
        let named = |id: &str, name: &str| UnitStatusData {
            id: id.into(),
            name: name.into(),
            ..UnitStatusData::default()
        };
        for (units, expected) in [
            (&[][..], Some(vec![])),
            (&[named("abc1", "")][..], Some(vec!["web"])),
            (&[named("abd", ""), named("x", "web-1")], Some(vec!["api", "web"])),
            (&[named("abc1", ""), named("", "gone-1")], None),
            // It is either.
            (&[named("ab", "")], None),
        ] {
            let units: Vec<_> = units.iter().collect();
            let apps = apps_of(&units, &there).map(|apps| apps.into_iter().collect::<Vec<_>>());
            assert_eq!(apps, expected);
        }
    }
}
