//! `images`: names, history and metadata of the images of apps.

use gantry_engine::call::ImagesCall;
use gantry_engine::{Call, Reply};

use crate::bindings::gantry::provision::images::{Host, Metadata};
use crate::bindings::gantry::provision::types::Error;
use crate::call::CallState;
use crate::convert::{metadata_to, platform_error_to};
use crate::host::expect_reply;

impl CallState {
    async fn images(
        &mut self,
        call: ImagesCall,
    ) -> wasmtime::Result<Result<gantry_engine::Response, Error>> {
        Ok(self.send(Call::Images(call)).await?.map_err(platform_error_to))
    }
}

impl Host for CallState {
    async fn reserve(&mut self, app: String) -> wasmtime::Result<Result<String, Error>> {
        Ok(match self.images(ImagesCall::Reserve { app }).await? {
            Ok(response) => {
                Ok(expect_reply!("images.reserve", response, Reply::Text(name) => name))
            }
            Err(error) => Err(error),
        })
    }

    async fn append(&mut self, app: String, image: String) -> wasmtime::Result<Result<(), Error>> {
        Ok(match self.images(ImagesCall::Append { app, image }).await? {
            Ok(response) => Ok(expect_reply!("images.append", response, Reply::Done => ())),
            Err(error) => Err(error),
        })
    }

    async fn current(&mut self, app: String) -> wasmtime::Result<Result<String, Error>> {
        Ok(match self.images(ImagesCall::Current { app }).await? {
            Ok(response) => {
                Ok(expect_reply!("images.current", response, Reply::Text(name) => name))
            }
            Err(error) => Err(error),
        })
    }

    async fn history(&mut self, app: String) -> wasmtime::Result<Result<Vec<String>, Error>> {
        Ok(match self.images(ImagesCall::History { app }).await? {
            Ok(response) => {
                Ok(expect_reply!("images.history", response, Reply::Texts(names) => names))
            }
            Err(error) => Err(error),
        })
    }

    async fn get_metadata(
        &mut self,
        image: String,
    ) -> wasmtime::Result<Result<Option<Metadata>, Error>> {
        Ok(match self.images(ImagesCall::GetMetadata { image }).await? {
            Ok(response) => {
                let metadata =
                    expect_reply!("images.get-metadata", response, Reply::Metadata(one) => one);
                Ok(metadata.map(|metadata| metadata_to(*metadata)))
            }
            Err(error) => Err(error),
        })
    }

    async fn save_metadata(
        &mut self,
        image: String,
        custom_data: String,
    ) -> wasmtime::Result<Result<(), Error>> {
        Ok(match self.images(ImagesCall::SaveMetadata { image, custom_data }).await? {
            Ok(response) => Ok(expect_reply!("images.save-metadata", response, Reply::Done => ())),
            Err(error) => Err(error),
        })
    }

    async fn forget(&mut self, app: String, image: String) -> wasmtime::Result<Result<(), Error>> {
        Ok(match self.images(ImagesCall::Forget { app, image }).await? {
            Ok(response) => Ok(expect_reply!("images.forget", response, Reply::Done => ())),
            Err(error) => Err(error),
        })
    }
}
