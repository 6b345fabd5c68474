//! What every guest is.

use crate::bindings::{plugin, provisioner};
use crate::types::{App, Error};
use crate::{Description, UnitPage};

/// A plugin whose every verb is done at once, unless it says otherwise.
pub trait Guest {
    /// Its name.
    const NAME: &'static str;
    /// Its version.
    const VERSION: &'static str = "1.0.0";

    /// What every verb does that is not written out; nothing.
    ///
    /// # Errors
    /// None.
    fn every() -> Result<(), Error> {
        Ok(())
    }

    /// `plugin.describe`.
    fn describe() -> Description {
        Description {
            name: Self::NAME.into(),
            version: Self::VERSION.into(),
            summary: "a guest of the tests".into(),
            grants: Vec::new(),
            limits: Vec::new(),
        }
    }

    /// `provisioner.provision`.
    ///
    /// # Errors
    /// Those of [`Guest::every`].
    fn provision(_app: App) -> Result<(), Error> {
        Self::every()
    }
}

impl<T: Guest> plugin::exports::gantry::provision::plugin::Guest for T {
    fn describe() -> Description {
        <T as Guest>::describe()
    }
}

impl<T: Guest> provisioner::exports::gantry::provision::provisioner::Guest for T {
    fn provision(app: App) -> Result<(), Error> {
        <T as Guest>::provision(app)
    }
    fn destroy(_app: App) -> Result<(), Error> {
        T::every()
    }
    fn add_units(_app: App, _count: u32, _process: String) -> Result<(), Error> {
        T::every()
    }
    fn remove_units(_app: App, _count: u32, _process: String) -> Result<(), Error> {
        T::every()
    }
    fn restart(_app: App, _process: String) -> Result<(), Error> {
        T::every()
    }
    fn start(_app: App, _process: String) -> Result<(), Error> {
        T::every()
    }
    fn stop(_app: App, _process: String) -> Result<(), Error> {
        T::every()
    }
    fn units(_apps: Vec<App>, _after: Option<String>) -> Result<UnitPage, Error> {
        T::every()?;
        Ok(UnitPage { units: Vec::new(), next: None })
    }
    fn routable_addresses(_app: App) -> Result<Vec<String>, Error> {
        T::every()?;
        Ok(Vec::new())
    }
    fn register_unit(_app: App, _unit: String, _data: Option<String>) -> Result<(), Error> {
        T::every()
    }
}

/// Exports these interfaces of this type from the component.
#[macro_export]
macro_rules! export {
    ($guest:ident: $($interface:ident),+ $(,)?) => {
        $(
            #[cfg(target_family = "wasm")]
            $crate::bindings::$interface::export!($guest with_types_in $crate::bindings::$interface);
        )+
        #[cfg(not(target_family = "wasm"))]
        const _: &str = <$guest as $crate::Guest>::NAME;
    };
}
