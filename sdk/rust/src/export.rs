//! From the traits to the component's exports.

use std::marker::PhantomData;

use crate::abilities::{
    Availability, Deployer, Exec, Lifecycle, Logs, Plugin, Provisioner, Rollback, TailOptions,
    UnitPage,
};
use crate::bindings;
use crate::bindings::gantry::provision::types;
use crate::describe::Description;
use crate::streams::Writer;

/// Gives a plugin the shape that the generated exports call. [`crate::export!`] is the only user.
#[derive(Debug)]
pub struct Adapter<P>(PhantomData<P>);

type Result<T> = core::result::Result<T, types::Error>;

/// Arguments and results across the border, by the conversions that exist once.
fn lower<T, U: From<T>>(result: crate::Result<T>) -> Result<U> {
    result.map(U::from).map_err(types::Error::from)
}

mod plugin {
    use super::{Adapter, Description, Plugin};
    use crate::bindings::plugin::exports::gantry::provision::plugin as exported;

    impl<P: Plugin> exported::Guest for Adapter<P> {
        fn describe() -> exported::Description {
            let Description { name, version, summary, grants, limits } = P::describe();
            exported::Description {
                name,
                version,
                summary,
                grants: grants
                    .into_iter()
                    .map(|request| exported::GrantRequest {
                        grant: request.grant,
                        reason: request.reason,
                    })
                    .collect(),
                limits: limits
                    .into_iter()
                    .map(|request| exported::LimitRequest {
                        name: request.name,
                        value: request.value,
                        reason: request.reason,
                    })
                    .collect(),
            }
        }
    }
}

mod provisioner {
    use super::{Adapter, Provisioner, Result, UnitPage, lower, types};
    use crate::bindings::provisioner::exports::gantry::provision::provisioner as exported;

    impl From<UnitPage> for exported::UnitPage {
        fn from(page: UnitPage) -> Self {
            let units = page.units.into_iter().map(types::Unit::from).collect();
            Self { units, next: page.next }
        }
    }

    impl<P: Provisioner> exported::Guest for Adapter<P> {
        fn provision(app: types::App) -> Result<()> {
            lower(P::provision(app.into()))
        }

        fn destroy(app: types::App) -> Result<()> {
            lower(P::destroy(app.into()))
        }

        fn add_units(app: types::App, count: u32, process: String) -> Result<()> {
            lower(P::add_units(app.into(), count, process))
        }

        fn remove_units(app: types::App, count: u32, process: String) -> Result<()> {
            lower(P::remove_units(app.into(), count, process))
        }

        fn restart(app: types::App, process: String) -> Result<()> {
            lower(P::restart(app.into(), process))
        }

        fn start(app: types::App, process: String) -> Result<()> {
            lower(P::start(app.into(), process))
        }

        fn stop(app: types::App, process: String) -> Result<()> {
            lower(P::stop(app.into(), process))
        }

        fn units(apps: Vec<types::App>, after: Option<String>) -> Result<exported::UnitPage> {
            lower(P::units(apps.into_iter().map(crate::App::from).collect(), after))
        }

        fn routable_addresses(app: types::App) -> Result<Vec<String>> {
            lower(P::routable_addresses(app.into()))
        }

        fn register_unit(
            app: types::App,
            unit_id: String,
            custom_data: Option<String>,
        ) -> Result<()> {
            lower(P::register_unit(app.into(), unit_id, custom_data))
        }
    }
}

impl<P: Deployer> bindings::deployer::exports::gantry::provision::deployer::Guest for Adapter<P> {
    fn deploy(app: types::App, image: String) -> Result<String> {
        lower(P::deploy(app.into(), image))
    }
}

impl<P: Rollback> bindings::rollback::exports::gantry::provision::rollback::Guest for Adapter<P> {
    fn rollback(app: types::App, image: String) -> Result<String> {
        lower(P::rollback(app.into(), image))
    }
}

impl<P: Exec> bindings::exec::exports::gantry::provision::exec::Guest for Adapter<P> {
    fn execute(
        app: types::App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        lower(P::execute(app.into(), command, args, stdout, stderr))
    }

    fn execute_once(
        app: types::App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        lower(P::execute_once(app.into(), command, args, stdout, stderr))
    }

    fn execute_isolated(
        app: types::App,
        command: String,
        args: Vec<String>,
        stdout: Writer,
        stderr: Writer,
    ) -> Result<i32> {
        lower(P::execute_isolated(app.into(), command, args, stdout, stderr))
    }
}

mod logs {
    use super::{Adapter, Availability, Logs, Result, TailOptions, lower, types};
    use crate::abilities::Source;
    use crate::bindings::logs::exports::gantry::provision::logs as exported;

    impl From<Availability> for exported::Availability {
        fn from(availability: Availability) -> Self {
            match availability {
                Availability::Enabled => Self { enabled: true, doc: String::new() },
                Availability::Disabled(doc) => Self { enabled: false, doc },
            }
        }
    }

    impl From<Source> for exported::Source {
        fn from(source: Source) -> Self {
            Self { unit: source.unit, process: source.process, lines: source.lines }
        }
    }

    impl<P: Logs> exported::Guest for Adapter<P> {
        fn enabled(app: types::App) -> Result<exported::Availability> {
            lower(P::enabled(app.into()))
        }

        fn tail(app: types::App, options: exported::TailOptions) -> Result<Vec<exported::Source>> {
            let exported::TailOptions { process, unit, lines, follow } = options;
            let sources = P::tail(app.into(), TailOptions { process, unit, lines, follow });
            let sources = sources.map_err(types::Error::from)?;
            Ok(sources.into_iter().map(exported::Source::from).collect())
        }
    }
}

impl<P: Lifecycle> bindings::lifecycle::exports::gantry::provision::lifecycle::Guest
    for Adapter<P>
{
    fn initialise() -> Result<()> {
        lower(P::initialise())
    }

    fn startup_message() -> Result<String> {
        lower(P::startup_message())
    }
}

/// Makes a type the plugin: its component exports `plugin`, `provisioner` and the abilities named, and nothing else.
///
/// The abilities are `deployer`, `rollback`, `exec`, `logs` and `lifecycle`; each needs its trait. Natively, where plugins run their unit tests, nothing is exported and the traits are
/// still required.
///
/// ```text
/// gantry_sdk::export!(Acme: deployer, exec);
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ident) => {
        $crate::export!($plugin:);
    };
    ($plugin:ident: $($ability:ident),* $(,)?) => {
        const _: () = {
            const fn is_a_plugin<P: $crate::Plugin + $crate::Provisioner>() {}
            is_a_plugin::<$plugin>();
            $($crate::__export_one!(check $ability $plugin);)*
        };

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code, reason = "generated: exports of the component are raw symbols")]
        const _: () = {
            type Exported = $crate::__private::Adapter<$plugin>;
            $crate::__export_one!(export plugin Exported);
            $crate::__export_one!(export provisioner Exported);
            $($crate::__export_one!(export $ability Exported);)*
        };
    };
}

/// One ability of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __export_one {
    (check deployer $plugin:ident) => { $crate::__export_one!(@check Deployer $plugin); };
    (check rollback $plugin:ident) => { $crate::__export_one!(@check Rollback $plugin); };
    (check exec $plugin:ident) => { $crate::__export_one!(@check Exec $plugin); };
    (check logs $plugin:ident) => { $crate::__export_one!(@check Logs $plugin); };
    (check lifecycle $plugin:ident) => { $crate::__export_one!(@check Lifecycle $plugin); };
    (check $unknown:ident $plugin:ident) => {
        compile_error!(concat!(
            "no ability `", stringify!($unknown),
            "`: one of deployer, rollback, exec, logs, lifecycle (plugin and provisioner are always there)"
        ));
    };
    (@check $ability:ident $plugin:ident) => {
        const _: () = {
            const fn has<P: $crate::$ability>() {}
            has::<$plugin>();
        };
    };
    (export $world:ident $exported:ident) => {
        $crate::__private::bindings::$world::export!(
            $exported with_types_in $crate::__private::bindings::$world
        );
    };
}
