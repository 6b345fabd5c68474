//! What every guest is, and how it gets out of the component.

use crate::bindings::{exec, plugin, provisioner};
use crate::streams::Writer;
use crate::types::{App, Error};
use crate::{Description, UnitPage};

/// A plugin whose every verb is done at once and finds nothing, unless it says otherwise.
pub trait Guest {
    /// Its name.
    const NAME: &'static str;
    /// Its version.
    const VERSION: &'static str = "1.0.0";

    /// What every verb does that the guest does not write out.
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
    fn provision(_app: App) -> Result<(), Error> {
        Self::every()
    }

    /// `provisioner.destroy`.
    fn destroy(_app: App) -> Result<(), Error> {
        Self::every()
    }

    /// `provisioner.add-units`.
    fn add_units(_app: App, _count: u32, _process: String) -> Result<(), Error> {
        Self::every()
    }

    /// `provisioner.remove-units`.
    fn remove_units(_app: App, _count: u32, _process: String) -> Result<(), Error> {
        Self::every()
    }

    /// `provisioner.restart`.
    fn restart(_app: App, _process: String) -> Result<(), Error> {
        Self::every()
    }

    /// `provisioner.start`.
    fn start(_app: App, _process: String) -> Result<(), Error> {
        Self::every()
    }

    /// `provisioner.stop`.
    fn stop(_app: App, _process: String) -> Result<(), Error> {
        Self::every()
    }

    /// `provisioner.units`.
    fn units(_apps: Vec<App>, _after: Option<String>) -> Result<UnitPage, Error> {
        Self::every()?;
        Ok(UnitPage { units: Vec::new(), next: None })
    }

    /// `provisioner.routable-addresses`.
    fn routable_addresses(_app: App) -> Result<Vec<String>, Error> {
        Self::every()?;
        Ok(Vec::new())
    }

    /// `provisioner.register-unit`.
    fn register_unit(_app: App, _unit: String, _custom_data: Option<String>) -> Result<(), Error> {
        Self::every()
    }
}

impl<T: Guest> plugin::Guest for T {
    fn describe() -> Description {
        <T as Guest>::describe()
    }
}

impl<T: Guest> provisioner::Guest for T {
    fn provision(app: App) -> Result<(), Error> {
        <T as Guest>::provision(app)
    }

    fn destroy(app: App) -> Result<(), Error> {
        <T as Guest>::destroy(app)
    }

    fn add_units(app: App, count: u32, process: String) -> Result<(), Error> {
        <T as Guest>::add_units(app, count, process)
    }

    fn remove_units(app: App, count: u32, process: String) -> Result<(), Error> {
        <T as Guest>::remove_units(app, count, process)
    }

    fn restart(app: App, process: String) -> Result<(), Error> {
        <T as Guest>::restart(app, process)
    }

    fn start(app: App, process: String) -> Result<(), Error> {
        <T as Guest>::start(app, process)
    }

    fn stop(app: App, process: String) -> Result<(), Error> {
        <T as Guest>::stop(app, process)
    }

    fn units(apps: Vec<App>, after: Option<String>) -> Result<UnitPage, Error> {
        <T as Guest>::units(apps, after)
    }

    fn routable_addresses(app: App) -> Result<Vec<String>, Error> {
        <T as Guest>::routable_addresses(app)
    }

    fn register_unit(app: App, unit: String, custom_data: Option<String>) -> Result<(), Error> {
        <T as Guest>::register_unit(app, unit, custom_data)
    }
}

/// Which function of `exec` was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `execute`.
    Everywhere,
    /// `execute-once`.
    Once,
    /// `execute-isolated`.
    Isolated,
}

impl Way {
    /// The function as the package spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Everywhere => "execute",
            Self::Once => "execute-once",
            Self::Isolated => "execute-isolated",
        }
    }
}

/// A command as `exec` got it.
#[derive(Debug)]
pub struct Command {
    /// Which function was called.
    pub way: Way,
    /// The app.
    pub app: App,
    /// The program.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where its output goes.
    pub stdout: Writer,
    /// Where its errors go.
    pub stderr: Writer,
}

/// A guest that runs commands, the three ways alike.
pub trait Run {
    /// Runs the command and gives its exit code.
    fn run(command: Command) -> Result<i32, Error>;
}

impl<T: Run> exec::Guest for T {
    fn execute(
        app: App,
        program: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32, Error> {
        T::run(Command { way: Way::Everywhere, app, program, args, stdout, stderr })
    }

    fn execute_once(
        app: App,
        program: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32, Error> {
        T::run(Command { way: Way::Once, app, program, args, stdout, stderr })
    }

    fn execute_isolated(
        app: App,
        program: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32, Error> {
        T::run(Command { way: Way::Isolated, app, program, args, stdout, stderr })
    }
}

/// Exports these interfaces of a guest from its component, and no other. Nothing is exported natively.
///
/// ```text
/// gantry_guests::export!(Noop: plugin, provisioner);
/// ```
#[macro_export]
macro_rules! export {
    ($guest:ident: $($interface:ident),+ $(,)?) => {
        $(
            #[cfg(target_family = "wasm")]
            $crate::bindings::$interface::export!(
                $guest with_types_in $crate::bindings::$interface
            );
            #[cfg(not(target_family = "wasm"))]
            const _: () = {
                const fn is_implemented<T: $crate::bindings::$interface::Guest>() {}
                is_implemented::<$guest>();
            };
        )+
    };
}
