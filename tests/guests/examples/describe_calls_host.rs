//! Asks the host before it says who it is.

use gantry_guests::{Description, Guest, setting};

struct DescribeCallsHost;

impl Guest for DescribeCallsHost {
    const NAME: &'static str = "describe-calls-host";

    fn describe() -> Description {
        Description {
            name: setting("name").unwrap_or_else(|| Self::NAME.into()),
            version: Self::VERSION.into(),
            summary: "somebody else every time".into(),
            grants: Vec::new(),
            limits: Vec::new(),
        }
    }
}

gantry_guests::export!(DescribeCallsHost: plugin, provisioner);
