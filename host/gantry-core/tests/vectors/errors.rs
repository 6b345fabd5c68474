use std::error::Error as StdError;

use gantry_core::Error;
use gantry_core::error::{BoxError, ContractError, MultiError, is_startup_error};
use gantry_core::image::{ImageHistoryError, RollbackError};
use serde_json::Value;

use crate::walk::{Ran, text, walk};

#[test]
fn errors() {
    walk("errors", |case| {
        let error = make(text(case, "type"), &case["in"]);
        assert_eq!(error.to_string(), text(case, "message"));
        let error: &(dyn StdError + 'static) = &*error;
        assert_eq!(Some(is_startup_error(error)), case["is_startup_error"].as_bool());
        Ran::AsTheReference
    });
}

/// An error of the reference, by the name it has there.
fn make(kind: &str, input: &Value) -> BoxError {
    let part = |field: &str| text(input, field).to_owned();
    let inner = |field: &str| input[field].as_str().map(BoxError::from);
    let error = match kind {
        "UnitNotFoundError" => return Error::UnitNotFound(only(input)).into(),
        "InvalidProcessError" => return Error::InvalidProcess(only(input)).into(),
        "ErrInvalidStatus" => return Error::InvalidStatus.into(),
        "ErrEmptyApp" => return Error::EmptyApp.into(),
        "ErrNodeNotFound" => return Error::NodeNotFound.into(),
        "ErrNoImagesAvailable" => return ImageHistoryError.into(),
        "ImageNotFoundErr" => {
            return RollbackError::ImageNotFound { image: part("image"), app: part("app") }.into();
        }
        "InvalidVersionErr" => return RollbackError::InvalidVersion(only(input)).into(),
        "MultiError" => {
            let errors = input.as_array().or_else(|| input["errors"].as_array());
            let errors = errors.into_iter().flatten();
            let errors = errors.map(|error| error.as_str().unwrap_or_default().into()).collect();
            return MultiError::new(errors).into();
        }
        "ProvisionerNotSupported" => {
            ContractError::NotSupported { provisioner: part("provisioner"), action: part("action") }
        }
        "Error" => ContractError::Reasoned { reason: part("reason"), error: inner("err") },
        "CompositeError" => {
            ContractError::Composite { message: part("message"), base: inner("base") }
        }
        "ErrUnitStartup" => ContractError::UnitStartup(only(input).into()),
        "AmbiguousContainerError" => ContractError::AmbiguousContainer(only(input)),
        "StartError" => ContractError::Start(only(input).into()),
        "SchedulerError" => ContractError::Scheduler(only(input).into()),
        "ErrUnitRecreationCanceled" => ContractError::CreationCanceled,
        "ErrClusterNotFound" => ContractError::ClusterNotFound,
        "ErrNoCluster" => ContractError::NoCluster,
        "Get-unknown" => ContractError::UnknownProvisioner(only(input)),
        unknown => panic!("no error {unknown}"),
    };
    error.into()
}

/// The text of an error that has only one: the input itself, or its only field.
fn only(input: &Value) -> String {
    let field = input.as_object().and_then(|fields| fields.values().next());
    field.unwrap_or(input).as_str().unwrap_or_default().to_owned()
}
