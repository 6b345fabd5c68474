//! Traps when it is asked who it is.

use gantry_guests::{Description, Guest};

struct DescribeTraps;

impl Guest for DescribeTraps {
    const NAME: &'static str = "describe-traps";

    fn describe() -> Description {
        gantry_guests::trap()
    }
}

gantry_guests::export!(DescribeTraps: plugin, provisioner);
