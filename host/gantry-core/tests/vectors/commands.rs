use gantry_core::Error;
use gantry_core::commands::{
    UnitAgent, UnitCommand, archive_build_command, archive_deploy_command, deploy_command,
    unit_command,
};
use gantry_core::image::ImageMetadata;
use serde_json::Value;

use crate::walk::{Ran, error, settings, text, texts, walk};

/// The app that the vectors were recorded with, where a case does not name one.
const RECORDED_APP: &str = "capp";

#[test]
fn container_commands() {
    walk("container_commands", |case| {
        let app = case["app"].as_str().unwrap_or(RECORDED_APP);
        let settings = settings(&case["config"]);
        let mut agent = UnitAgent::from_settings(&settings, app, text(case, "token"));
        if let Some(host) = case["host"].as_str() {
            host.clone_into(&mut agent.host);
        }
        let url = text(case, "url");
        let made = match text(case, "fn") {
            "LeanContainerCmds" => lean(case, &[], &agent),
            "LeanContainerCmdsWithExtra" => lean(case, &texts(case, "extra"), &agent),
            "DeployCmds" => Ok(without_process(deploy_command(&agent))),
            "ArchiveBuildCmds" => Ok(without_process(archive_build_command(&agent, url))),
            "ArchiveDeployCmds" => Ok(without_process(archive_deploy_command(&agent, url))),
            unknown => panic!("no command {unknown}"),
        };
        match (made, error(case)) {
            (Ok(made), None) => {
                assert_eq!(made.command, texts(case, "cmds"));
                assert_eq!(made.process, text(case, "out_process"));
            }
            (Err(error), Some(expected)) => assert_eq!(error.to_string(), expected),
            (made, expected) => panic!("made {made:?}, expected the error {expected:?}"),
        }
        Ran::AsTheReference
    });
}

fn lean(case: &Value, extra: &[String], agent: &UnitAgent) -> Result<UnitCommand, Error> {
    let metadata = ImageMetadata::from_custom_data(&case["custom_data"]).expect("custom data");
    unit_command(&metadata, text(case, "process"), extra, agent)
}

fn without_process(command: Vec<String>) -> UnitCommand {
    UnitCommand { command, process: String::new() }
}
