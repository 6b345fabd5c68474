//! What the layers need to know of a call without knowing the call: its name, its weight, whether it waits.

use std::io;

use serde::Serialize;

use crate::call::{
    AppsCall, Call, ClusterCall, ContainersCall, Entry, ImagesCall, Reply, RoutersCall, StateCall,
};

impl Call {
    /// Its name, as traces and records spell it: the interface and the function.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nodes => "containers.nodes",
            Self::Containers { call, .. } => call.name(),
            Self::Clusters => "cluster.clusters",
            Self::Cluster { call, .. } => call.name(),
            Self::State(call) => match call {
                StateCall::Get { .. } => "state.get",
                StateCall::PutIf { .. } => "state.put-if",
                StateCall::DeleteIf { .. } => "state.delete-if",
                StateCall::List { .. } => "state.list",
            },
            Self::Apps(call) => match call {
                AppsCall::Get { .. } => "apps.get",
                AppsCall::Envs { .. } => "apps.envs",
                AppsCall::UnitEnvs { .. } => "apps.unit-envs",
                AppsCall::Routers { .. } => "apps.routers",
                AppsCall::Volumes { .. } => "apps.volumes",
                AppsCall::BindUnit { .. } => "apps.bind-unit",
                AppsCall::UnbindUnit { .. } => "apps.unbind-unit",
                AppsCall::SetQuotaInUse { .. } => "apps.set-quota-in-use",
                AppsCall::Lock { .. } => "apps.lock",
            },
            Self::Images(call) => match call {
                ImagesCall::Reserve { .. } => "images.reserve",
                ImagesCall::Append { .. } => "images.append",
                ImagesCall::Current { .. } => "images.current",
                ImagesCall::History { .. } => "images.history",
                ImagesCall::GetMetadata { .. } => "images.get-metadata",
                ImagesCall::SaveMetadata { .. } => "images.save-metadata",
                ImagesCall::Forget { .. } => "images.forget",
            },
            Self::Routers(call) => match call {
                RoutersCall::AddRoutes { .. } => "routers.add-routes",
                RoutersCall::RemoveRoutes { .. } => "routers.remove-routes",
                RoutersCall::Routes { .. } => "routers.routes",
                RoutersCall::Swap { .. } => "routers.swap",
                RoutersCall::SetHealthcheck { .. } => "routers.set-healthcheck",
            },
            Self::Config { .. } => "config.get",
        }
    }

    /// The bytes of its arguments, near enough for a bound.
    #[must_use]
    pub fn weight(&self) -> u64 {
        match self {
            Self::State(StateCall::PutIf { key, value, .. }) => size(key.len() + value.len()),
            Self::Nodes
            | Self::Containers { .. }
            | Self::Clusters
            | Self::Cluster { .. }
            | Self::State(_)
            | Self::Apps(_)
            | Self::Images(_)
            | Self::Routers(_)
            | Self::Config { .. } => written(self),
        }
    }
}

impl ContainersCall {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::List { .. } => "containers.list",
            Self::Create { .. } => "containers.create",
            Self::Start { .. } => "containers.start",
            Self::Stop { .. } => "containers.stop",
            Self::Remove { .. } => "containers.remove",
            Self::Inspect { .. } => "containers.inspect",
            Self::Wait { .. } => "containers.wait",
            Self::Commit { .. } => "containers.commit",
            Self::Download { .. } => "containers.download",
            Self::Upload { .. } => "containers.upload",
            Self::StatPath { .. } => "containers.stat-path",
            Self::AttachCopy { .. } => "containers.attach-copy",
            Self::Attach { .. } => "containers.attach",
            Self::Logs { .. } => "containers.logs",
            Self::Http { .. } => "containers.http",
            Self::CreateExec { .. } => "containers.create-exec",
            Self::StartExec { .. } => "containers.start-exec",
            Self::ResizeExec { .. } => "containers.resize-exec",
            Self::InspectExec { .. } => "containers.inspect-exec",
            Self::ExecSession { .. } => "containers.exec-session",
            Self::PullImage { .. } => "containers.pull-image",
            Self::InspectImage { .. } => "containers.inspect-image",
            Self::TagImage { .. } => "containers.tag-image",
            Self::RemoveImage { .. } => "containers.remove-image",
            Self::ImageHistory { .. } => "containers.image-history",
            Self::BuildImage { .. } => "containers.build-image",
            Self::PushImage { .. } => "containers.push-image",
        }
    }

    /// Whether it waits for something that has no end of its own, or one that is far away, so that an interrupted operation does not wait for it.
    #[must_use]
    pub fn waits(&self) -> bool {
        match self {
            Self::Wait { .. }
            | Self::Stop { .. }
            | Self::Commit { .. }
            | Self::Upload { .. }
            | Self::AttachCopy { .. }
            | Self::Attach { .. }
            | Self::Logs { .. }
            | Self::Http { .. }
            | Self::StartExec { .. }
            | Self::ExecSession { .. }
            | Self::PullImage { .. }
            | Self::BuildImage { .. }
            | Self::PushImage { .. } => true,
            Self::List { .. }
            | Self::Create { .. }
            | Self::Start { .. }
            | Self::Remove { .. }
            | Self::Inspect { .. }
            | Self::Download { .. }
            | Self::StatPath { .. }
            | Self::CreateExec { .. }
            | Self::ResizeExec { .. }
            | Self::InspectExec { .. }
            | Self::InspectImage { .. }
            | Self::TagImage { .. }
            | Self::RemoveImage { .. }
            | Self::ImageHistory { .. } => false,
        }
    }

    /// The container it names, if it names one.
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Start { id }
            | Self::Stop { id, .. }
            | Self::Remove { id, .. }
            | Self::Inspect { id }
            | Self::Wait { id }
            | Self::Commit { id, .. }
            | Self::Download { id, .. }
            | Self::Upload { id, .. }
            | Self::StatPath { id, .. }
            | Self::AttachCopy { id, .. }
            | Self::Attach { id, .. }
            | Self::Logs { id, .. }
            | Self::Http { id, .. }
            | Self::CreateExec { id, .. }
            | Self::ExecSession { id, .. } => Some(id),
            Self::List { .. }
            | Self::Create { .. }
            | Self::StartExec { .. }
            | Self::ResizeExec { .. }
            | Self::InspectExec { .. }
            | Self::PullImage { .. }
            | Self::InspectImage { .. }
            | Self::TagImage { .. }
            | Self::RemoveImage { .. }
            | Self::ImageHistory { .. }
            | Self::BuildImage { .. }
            | Self::PushImage { .. } => None,
        }
    }

    /// The same place, to write another name into.
    pub(crate) fn container_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Start { id }
            | Self::Stop { id, .. }
            | Self::Remove { id, .. }
            | Self::Inspect { id }
            | Self::Wait { id }
            | Self::Commit { id, .. }
            | Self::Download { id, .. }
            | Self::Upload { id, .. }
            | Self::StatPath { id, .. }
            | Self::AttachCopy { id, .. }
            | Self::Attach { id, .. }
            | Self::Logs { id, .. }
            | Self::Http { id, .. }
            | Self::CreateExec { id, .. }
            | Self::ExecSession { id, .. } => Some(id),
            Self::List { .. }
            | Self::Create { .. }
            | Self::StartExec { .. }
            | Self::ResizeExec { .. }
            | Self::InspectExec { .. }
            | Self::PullImage { .. }
            | Self::InspectImage { .. }
            | Self::TagImage { .. }
            | Self::RemoveImage { .. }
            | Self::ImageHistory { .. }
            | Self::BuildImage { .. }
            | Self::PushImage { .. } => None,
        }
    }

    /// The prepared command it names, if it names one.
    #[must_use]
    pub fn exec(&self) -> Option<&str> {
        match self {
            Self::StartExec { exec_id }
            | Self::ResizeExec { exec_id, .. }
            | Self::InspectExec { exec_id } => Some(exec_id),
            Self::List { .. }
            | Self::Create { .. }
            | Self::Start { .. }
            | Self::Stop { .. }
            | Self::Remove { .. }
            | Self::Inspect { .. }
            | Self::Wait { .. }
            | Self::Commit { .. }
            | Self::Download { .. }
            | Self::Upload { .. }
            | Self::StatPath { .. }
            | Self::AttachCopy { .. }
            | Self::Attach { .. }
            | Self::Logs { .. }
            | Self::Http { .. }
            | Self::CreateExec { .. }
            | Self::ExecSession { .. }
            | Self::PullImage { .. }
            | Self::InspectImage { .. }
            | Self::TagImage { .. }
            | Self::RemoveImage { .. }
            | Self::ImageHistory { .. }
            | Self::BuildImage { .. }
            | Self::PushImage { .. } => None,
        }
    }
}

impl ClusterCall {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Get { .. } => "cluster.get",
            Self::List { .. } => "cluster.list",
            Self::Create { .. } => "cluster.create",
            Self::Apply { .. } => "cluster.apply",
            Self::Patch { .. } => "cluster.patch",
            Self::PutBack { .. } => "cluster.put-back",
            Self::Delete { .. } => "cluster.delete",
            Self::Watch { .. } => "cluster.watch",
            Self::Logs { .. } => "cluster.logs",
            Self::Exec { .. } => "cluster.exec",
            Self::ExecSession { .. } => "cluster.exec-session",
            Self::Attach { .. } => "cluster.attach",
            Self::AttachSession { .. } => "cluster.attach-session",
            Self::PortForward { .. } => "cluster.port-forward",
            Self::Evict { .. } => "cluster.evict",
        }
    }

    /// Whether it waits for something that has no end of its own, so that an interrupted operation does not wait for it.
    #[must_use]
    pub fn waits(&self) -> bool {
        match self {
            Self::Watch { .. }
            | Self::Logs { .. }
            | Self::Exec { .. }
            | Self::ExecSession { .. }
            | Self::Attach { .. }
            | Self::AttachSession { .. }
            | Self::PortForward { .. } => true,
            Self::Get { .. }
            | Self::List { .. }
            | Self::Create { .. }
            | Self::Apply { .. }
            | Self::Patch { .. }
            | Self::PutBack { .. }
            | Self::Delete { .. }
            | Self::Evict { .. } => false,
        }
    }

    /// Whether it may be sent again when the cluster said that it has too much to do: everything that has no stream beside it.
    #[must_use]
    pub fn repeats(&self) -> bool {
        match self {
            Self::Get { .. }
            | Self::List { .. }
            | Self::Create { .. }
            | Self::Apply { .. }
            | Self::Patch { .. }
            | Self::Delete { .. }
            | Self::Watch { .. } => true,
            // The calls that it takes say it themselves.
            Self::PutBack { .. }
            // For an eviction it is the answer: a disruption budget forbids it now.
            | Self::Evict { .. }
            | Self::Logs { .. }
            | Self::Exec { .. }
            | Self::ExecSession { .. }
            | Self::Attach { .. }
            | Self::AttachSession { .. }
            | Self::PortForward { .. } => false,
        }
    }

    /// The pod it names, if it is about a pod's processes.
    #[must_use]
    pub fn pod(&self) -> Option<(&str, &str)> {
        match self {
            Self::Logs { namespace, pod, .. }
            | Self::Exec { namespace, pod, .. }
            | Self::ExecSession { namespace, pod, .. }
            | Self::Attach { namespace, pod, .. }
            | Self::AttachSession { namespace, pod, .. }
            | Self::PortForward { namespace, pod, .. }
            | Self::Evict { namespace, pod, .. } => Some((namespace, pod)),
            Self::Get { .. }
            | Self::List { .. }
            | Self::Create { .. }
            | Self::Apply { .. }
            | Self::Patch { .. }
            | Self::PutBack { .. }
            | Self::Delete { .. }
            | Self::Watch { .. } => None,
        }
    }
}

impl Reply {
    /// The bytes it carries, near enough for a bound.
    #[must_use]
    pub fn weight(&self) -> u64 {
        match self {
            Self::Done | Self::Number(_) | Self::Flag(_) => 0,
            Self::Text(text) => size(text.len()),
            Self::Http(response) => size(response.body.len()),
            Self::Entry(entry) => entry.as_ref().map_or(0, entry_weight),
            Self::Entries(page) => page.entries.iter().map(entry_weight).sum(),
            Self::OptionalText(_)
            | Self::Texts(_)
            | Self::Containers(_)
            | Self::Container(_)
            | Self::Image(_)
            | Self::Layers(_)
            | Self::PathStat(_)
            | Self::ExecState(_)
            | Self::App(_)
            | Self::Envs(_)
            | Self::UnitEnvs(_)
            | Self::Routers(_)
            | Self::Volumes(_)
            | Self::Clusters(_)
            | Self::Object(_)
            | Self::Objects(_)
            | Self::Metadata(_) => written(self),
        }
    }
}

fn entry_weight(entry: &Entry) -> u64 {
    size(entry.key.len() + entry.value.len())
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Counts the bytes of a value's JSON form without keeping them.
fn written(value: &impl Serialize) -> u64 {
    struct Count(u64);

    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(size(bytes.len()));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    // What cannot be written is over every bound.
    serde_json::to_writer(&mut count, value).map_or(u64::MAX, |()| count.0)
}
