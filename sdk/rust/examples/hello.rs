//! A provisioner that runs nothing: its units are lines in its durable keys. It shows what a plugin must have; a real one starts something where this one writes a key.

use gantry_sdk::{
    App, Deployer, Description, Error, Plugin, Provisioner, Result, Status, Unit, UnitPage, images,
    operation, state,
};

struct Hello;

/// The key of an app's units: its value is how many there are.
fn key(app: &App) -> String {
    format!("count/{}", app.name)
}

/// How many units an app has, and the version of that knowledge.
fn count(app: &App) -> Result<(u32, Option<u64>)> {
    let Some(entry) = state::get(&key(app))? else { return Ok((0, None)) };
    let text = String::from_utf8_lossy(&entry.value);
    let count = text.parse().map_err(|_| Error::Other(format!("not a count: `{text}`")))?;
    Ok((count, Some(entry.version)))
}

/// The pure part, which unit tests can reach: the count after a change, or why not.
fn changed(now: u32, difference: i64) -> Result<u32> {
    u32::try_from(i64::from(now) + difference)
        .map_err(|_| Error::InvalidArgument(format!("there are only {now} units")))
}

fn change(app: &App, difference: i64) -> Result<()> {
    let (now, version) = count(app)?;
    let then = changed(now, difference)?;
    state::put_if(&key(app), then.to_string().as_bytes(), version)?;
    operation::progress(&format!("---- {} has {then} units now ----\n", app.name));
    Ok(())
}

impl Plugin for Hello {
    fn describe() -> Description {
        Description::new("hello", env!("CARGO_PKG_VERSION"), "Counts units and runs none.")
    }
}

impl Provisioner for Hello {
    fn provision(_app: App) -> Result<()> {
        Ok(())
    }
    fn destroy(app: App) -> Result<()> {
        state::get(&key(&app))?.map_or(Ok(()), |entry| state::delete_if(&entry.key, entry.version))
    }
    fn add_units(app: App, count: u32, _process: String) -> Result<()> {
        change(&app, count.into())
    }
    fn remove_units(app: App, count: u32, _process: String) -> Result<()> {
        change(&app, -i64::from(count))
    }
    fn restart(_app: App, _process: String) -> Result<()> {
        Ok(())
    }
    fn start(_app: App, _process: String) -> Result<()> {
        Ok(())
    }
    fn stop(_app: App, _process: String) -> Result<()> {
        Ok(())
    }
    fn units(apps: Vec<App>, _after: Option<String>) -> Result<UnitPage> {
        let mut units = Vec::new();
        for app in apps {
            units.extend((1..=count(&app)?.0).map(|number| Unit {
                id: format!("{}-{number}", app.name),
                app_name: app.name.clone(),
                status: Some(Status::Started),
                ..Unit::default()
            }));
        }
        Ok(UnitPage { units, next: None })
    }
    fn routable_addresses(_app: App) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn register_unit(_app: App, _unit_id: String, _custom_data: Option<String>) -> Result<()> {
        Ok(())
    }
}

impl Deployer for Hello {
    fn deploy(app: App, image: String) -> Result<String> {
        change(&app, i64::from(count(&app)?.0 == 0))?;
        images::append(&app.name, &image)?;
        Ok(image)
    }
}

gantry_sdk::export!(Hello: deployer);

#[test]
fn a_count_changes_by_the_difference_and_never_goes_below_nothing() {
    assert_eq!(changed(1, 2), Ok(3));
    assert_eq!(changed(1, -2).unwrap_err().to_string(), "there are only 1 units");
}
