//! Images on their way to the registry (spec 5.4, "Commit").

use std::time::Duration;

use gantry_sdk::config::Config;
use gantry_sdk::containers::EngineError;
use gantry_sdk::{Settings, operation};

use crate::failure::Failure;
use crate::host::Host;

/// How often a push is tried when `docker:registry-max-try` does not say.
const TRIES: i64 = 3;

/// How long is waited between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Pushes an image, where a registry is configured.
pub(super) fn to_registry(host: &Host, image: &str) -> Result<(), Failure> {
    if Config.string("docker:registry").is_empty() {
        return Ok(());
    }
    let tries = Config.integer("docker:registry-max-try").filter(|tries| *tries > 0);
    let mut left = tries.unwrap_or(TRIES);
    loop {
        left = left.saturating_sub(1);
        match host.client.push_image(image, &operation::output()) {
            Ok(()) => return Ok(()),
            Err(error) if left > 0 && may_pass(&error) => {
                let line = Failure::engine(&host.address, error).line;
                operation::progress(&format!(" ---> {line}. Trying again\n"));
                operation::pause(PAUSE).map_err(Failure::from)?;
            }
            Err(error) => return Err(Failure::engine(&host.address, error)),
        }
    }
}

/// Whether another try may do better.
fn may_pass(error: &EngineError) -> bool {
    match error {
        EngineError::Unreachable(_)
        | EngineError::TimedOut(_)
        | EngineError::Failed(_)
        | EngineError::Conflict(_) => true,
        EngineError::NotFound(_)
        | EngineError::Invalid(_)
        | EngineError::Denied(_)
        | EngineError::Cancelled => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_push_is_not_tried_again() {
        assert!(may_pass(&EngineError::Failed("500".to_owned())));
        assert!(!may_pass(&EngineError::Denied("the grant `images:push`".to_owned())));
        assert!(!may_pass(&EngineError::Cancelled));
    }
}
