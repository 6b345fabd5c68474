//! Says who it is and can do nothing: `provisioner` is not exported.

use gantry_guests::Guest;

struct NoProvisioner;

impl Guest for NoProvisioner {
    const NAME: &'static str = "no-provisioner";
}

gantry_guests::export!(NoProvisioner: plugin);
