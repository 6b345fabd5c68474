//! `images`: names, history and metadata of the images of apps.

use gantry_engine::Call;
use gantry_engine::call::ImagesCall;

use crate::bindings::gantry::provision::images::{Host, Metadata};
use crate::bindings::gantry::provision::types::Error;
use crate::call::CallState;
use crate::convert::{metadata_to, platform_error_to};
use crate::host::reply::{self, Take};

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl CallState {
    async fn images<T>(&mut self, call: ImagesCall, take: Take<T>) -> Answer<T> {
        Ok(self.ask(Call::Images(call), take).await?.map_err(platform_error_to))
    }
}

impl Host for CallState {
    async fn reserve(&mut self, app: String) -> Answer<String> {
        self.images(ImagesCall::Reserve { app }, reply::text).await
    }

    async fn append(&mut self, app: String, image: String) -> Answer<()> {
        self.images(ImagesCall::Append { app, image }, reply::done).await
    }

    async fn current(&mut self, app: String) -> Answer<String> {
        self.images(ImagesCall::Current { app }, reply::text).await
    }

    async fn history(&mut self, app: String) -> Answer<Vec<String>> {
        self.images(ImagesCall::History { app }, reply::texts).await
    }

    async fn get_metadata(&mut self, image: String) -> Answer<Option<Metadata>> {
        let metadata = self.images(ImagesCall::GetMetadata { image }, reply::metadata).await?;
        Ok(metadata.map(|metadata| metadata.map(|metadata| metadata_to(*metadata))))
    }

    async fn save_metadata(&mut self, image: String, custom_data: String) -> Answer<()> {
        self.images(ImagesCall::SaveMetadata { image, custom_data }, reply::done).await
    }

    async fn forget(&mut self, app: String, image: String) -> Answer<()> {
        self.images(ImagesCall::Forget { app, image }, reply::done).await
    }
}
