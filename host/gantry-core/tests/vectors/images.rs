use gantry_core::image::{
    ImageHistory, ImageMetadata, ImageNames, is_builder_image, split_image_name, version_name,
};
use serde_json::{Value, json};

use crate::walk::{Ran, error, settings, text, texts, walk};

/// The one message about custom data that the specification has.
const PROCFILE_ERROR: &str = "invalid Procfile";

#[test]
fn image_names() {
    walk("image_names", |case| {
        let names = ImageNames::from_settings(&settings(&case["config"]));
        let app = text(case, "app");
        let current = |history: Option<&ImageHistory>| ImageHistory::current(history, &names, app);

        assert_eq!(current(None).as_deref(), Ok(text(case, "current_before_any")));
        assert_eq!(version_name(0), text(case, "version_before_any"));
        assert_eq!(names.builder(app, "myteam", "", 0), text(case, "new_builder_team_myteam"));
        let tagged = names.builder(app, "", "mytag", 0);
        assert_eq!(tagged, text(case, "new_builder_noteam_tag_mytag"));

        let mut history = ImageHistory::default();
        assert_eq!(history.reserve(&names, app), text(case, "new_1"));
        match current(Some(&history)) {
            Ok(image) => {
                assert!(case["current_after_new_without_append_err"].is_null());
                assert_eq!(image, text(case, "current_after_new_without_append"));
            }
            Err(error) => {
                assert_eq!(error.to_string(), text(case, "current_after_new_without_append_err"));
            }
        }
        assert_eq!(history.reserve(&names, app), text(case, "new_2"));
        assert_eq!(version_name(history.reserved), text(case, "version_after_two"));
        let builder = names.builder(app, "myteam", "", history.reserved);
        assert_eq!(builder, text(case, "new_builder_after_two"));
        assert!(is_builder_image(&builder) && !is_builder_image(text(case, "new_2")));
        for image in texts(case, "append_order") {
            history.append(&image);
        }
        assert_eq!(history.images, texts(case, "list"));
        assert_eq!(current(Some(&history)).as_deref(), Ok(text(case, "current_after_appends")));
        assert_eq!(names.platform("python"), text(case, "platform_image"));
        Ran::AsTheReference
    });
}

#[test]
fn image_custom_data() {
    walk("image_custom_data", |case| {
        match (ImageMetadata::from_custom_data(&case["custom_data"]), error(case)) {
            (Ok(metadata), None) => {
                let processes = null_is_empty(&case["processes"]);
                assert_eq!(json!(metadata.processes), processes);
                assert_eq!(metadata.exposed_port, text(case, "exposed_port"));
                assert_eq!(metadata.web_process_name(), text(case, "web_process_name"));
            }
            (Err(error), Some(PROCFILE_ERROR)) => assert_eq!(error.to_string(), PROCFILE_ERROR),
            // What is wrong with another type is said in our own words.
            (Err(_), Some(_)) => {}
            (read, expected) => panic!("read {read:?}, expected the error {expected:?}"),
        }
        Ran::AsTheReference
    });
}

#[test]
fn split_image_name_vectors() {
    walk("split_image_name", |case| {
        let split = split_image_name(text(case, "in"));
        assert_eq!(split, (text(case, "repo"), text(case, "tag")));
        Ran::AsTheReference
    });
}

fn null_is_empty(value: &Value) -> Value {
    if value.is_null() { json!({}) } else { value.clone() }
}
