//! What an operation made and did not put in service is removed, also when the daemon or the engine died in the middle of it.
//!
//! Everything an operation makes carries its id in a label. An operation that ended well, or that had begun to replace what was there before it, has put what it made in service, but for
//! what is [written down](super::in_service) as loose; of every other one nothing may stay. What cannot be removed because an engine does not answer is tried again later, and at every start.
//! A create whose answer was lost may be carried out long after its operation has ended: for some minutes one empty list proves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use gantry_engine::layer::identity::{INSTANCE, OPERATION};
use gantry_engine::{Clusters, Containers, EngineError};

use super::objects::{TakeBack, Taken};
use crate::clock;
use crate::service::Hosts;
use crate::store::{OperationRecord, Store, StoreError};

/// How long after its end an operation may still get a container, in milliseconds.
const LATE: i64 = 10 * 60 * 1000;

/// What so many operations left is looked for at once.
const AT_ONCE: usize = 8;

/// Removes what is left of operations.
pub(crate) struct Sweeper {
    store: Arc<Store>,
    instance: String,
    hosts: Arc<Hosts>,
    objects: TakeBack,
}

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// How many containers, and objects of clusters that were deleted or put back.
    pub(crate) removed: usize,
    /// The hosts and clusters that did not let them be removed, and why.
    pub(crate) failures: Vec<(String, EngineError)>,
}

impl Sweeper {
    /// Removes what this installation made on these hosts and clusters.
    pub(crate) fn new(
        store: Arc<Store>,
        instance: &str,
        hosts: Arc<Hosts>,
        clusters: Arc<Clusters>,
    ) -> Self {
        let objects = TakeBack::new(Arc::clone(&store), instance, clusters);
        Self { store, instance: instance.to_owned(), hosts, objects }
    }

    /// Removes what is left of every operation that did not end well.
    pub(crate) async fn sweep(&self) -> Result<Vec<(OperationRecord, Swept)>, StoreError> {
        let mut swept = Vec::new();
        let mut records = self.store.operations_to_sweep().await?;
        while !records.is_empty() {
            let some: Vec<_> = records.drain(..records.len().min(AT_ONCE)).collect();
            let results = try_join_all(some.iter().map(|record| self.sweep_one(record))).await?;
            swept.extend(some.into_iter().zip(results));
        }
        Ok(swept)
    }

    /// Removes what is left of one operation.
    pub(crate) async fn sweep_one(&self, record: &OperationRecord) -> Result<Swept, StoreError> {
        let operation = &record.begin.id;
        // Before the engines are asked: what comes after they answered is not seen.
        let settled = is_settled(record, clock::now());
        let labels = BTreeMap::from([
            (INSTANCE.to_owned(), self.instance.clone()),
            (OPERATION.to_owned(), operation.clone()),
        ]);
        let loose = match record.in_service {
            true => Some(self.store.loose(operation).await?),
            false => None,
        };
        let mut swept = Swept::default();
        let (labels, loose) = (&labels, &loose);
        // Side by side: one that does not answer keeps nothing on the others, which a plugin would take for units.
        let hosts = self.hosts.all().into_iter().map(|(address, engine)| async move {
            let goes = |name: &str| {
                loose.as_ref().is_none_or(|loose| {
                    loose.iter().any(|made| (made.0.as_str(), made.1.as_str()) == (&*address, name))
                })
            };
            let removed = remove_all(engine.as_ref(), labels, goes).await;
            (address, removed)
        });
        for (address, removed) in join_all(hosts).await {
            match removed {
                Ok(count) => swept.removed = swept.removed.saturating_add(count),
                Err(error) => swept.failures.push((address, error)),
            }
        }
        let Taken { count, failures } = self.objects.take_back(record).await?;
        swept.removed = swept.removed.saturating_add(count);
        swept.failures.extend(failures);
        if settled && swept.failures.is_empty() {
            self.store.swept(operation).await?;
        }
        Ok(swept)
    }
}

/// Whether every create of an operation that ended has ended too.
fn is_settled(record: &OperationRecord, now: i64) -> bool {
    record.ended.is_some_and(|ended| now.saturating_sub(ended) >= LATE)
}

async fn remove_all(
    engine: &dyn Containers,
    labels: &BTreeMap<String, String>,
    goes: impl Fn(&str) -> bool,
) -> Result<usize, EngineError> {
    let mut containers = engine.list(true, labels).await?;
    containers.retain(|container| goes(&container.name));
    for container in &containers {
        engine.remove(&container.id, true).await?;
    }
    Ok(containers.len())
}

#[cfg(test)]
mod tests {
    use gantry_core::container::ContainerSpec;
    use gantry_engine::docker::{Auth, Endpoint};
    use gantry_engine::{Docker, Memory};

    use super::*;
    use crate::operation::interrupted::mark_interrupted;
    use crate::store::Begin;

    const INSTANCE_ID: &str = "north";

    async fn created(engine: &Memory, name: &str, operation: &str, instance: &str) {
        let labels = [
            (INSTANCE.to_owned(), instance.to_owned()),
            (OPERATION.to_owned(), operation.to_owned()),
        ];
        let spec = ContainerSpec {
            image: "i:1".into(),
            cmd: Some(vec!["serve".into()]),
            labels: labels.into(),
            ..ContainerSpec::default()
        };
        engine.create(name, &spec).await.unwrap();
    }

    async fn names(engine: &Memory) -> Vec<String> {
        let all = engine.list(true, &BTreeMap::new()).await.unwrap();
        let mut names: Vec<String> = all.into_iter().map(|container| container.name).collect();
        names.sort();
        names
    }

    fn sweeper(store: &Arc<Store>, engine: Arc<dyn Containers>) -> Sweeper {
        let hosts = Hosts::new(Arc::default(), vec![("here".to_owned(), engine)], Auth::none());
        Sweeper::new(Arc::clone(store), INSTANCE_ID, Arc::new(hosts), Arc::default())
    }

    #[tokio::test]
    async fn what_nobody_uses_goes_and_everything_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let engine = Memory::new().with_image("i:1", Default::default(), []);
        for id in ["01", "02", "03", "04"] {
            let begin = Begin { id: id.into(), detail: "{}".into(), ..Begin::default() };
            store.begin_operation(begin).await.unwrap();
            created(&engine, id, id, INSTANCE_ID).await;
        }
        created(&engine, "of-another", "02", "south").await;
        store.end_operation("01", "done", 1, None, None).await.unwrap();
        store.end_operation("02", "failed", 1, None, None).await.unwrap();
        store.put_in_service("03").await.unwrap();
        // 03 had begun to replace what was there, 04 had not.
        let interrupted = mark_interrupted(&store).await.unwrap();
        assert_eq!(interrupted.len(), 2);

        // The engine does not answer: nothing is forgotten.
        let nowhere = Docker::new(Endpoint::parse("unix:///nowhere/docker.sock").unwrap()).unwrap();
        let swept = sweeper(&store, Arc::new(nowhere)).sweep().await.unwrap();
        assert!(swept.iter().all(|(_, swept)| swept.failures.len() == 1));
        assert_eq!(store.operations_to_sweep().await.unwrap().len(), 2);

        let swept = sweeper(&store, Arc::new(engine.clone())).sweep().await.unwrap();
        assert_eq!(swept.iter().map(|(_, swept)| swept.removed).sum::<usize>(), 2);
        assert_eq!(names(&engine).await, ["01", "03", "of-another"]);
        // 02 ended long ago; 04 has only just been found interrupted.
        let again = store.operations_to_sweep().await.unwrap();
        assert_eq!(again.iter().map(|record| &*record.begin.id).collect::<Vec<_>>(), ["04"]);
        assert!(mark_interrupted(&store).await.unwrap().is_empty(), "told once");
    }

    #[tokio::test]
    async fn a_daemon_that_died_between_two_apps_of_an_operation_leaves_neither_too_much_nor_too_little()
     {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let engine = Memory::new().with_image("i:1", Default::default(), []);
        for id in ["01", "02"] {
            let begin = Begin { id: id.into(), detail: "{}".into(), ..Begin::default() };
            store.begin_operation(begin).await.unwrap();
            created(&engine, &format!("web-of-{id}"), id, INSTANCE_ID).await;
            store.put_in_service(id).await.unwrap();
            store.make_loose(id, ("here".into(), format!("api-of-{id}"))).await.unwrap();
            store.make_loose(id, ("elsewhere".into(), format!("web-of-{id}"))).await.unwrap();
            created(&engine, &format!("api-of-{id}"), id, INSTANCE_ID).await;
        }
        store.end_operation("02", "done", 1, None, None).await.unwrap();
        // A crash: nothing is closed, the next daemon opens the same files.
        std::mem::forget(store);
        let store = Arc::new(Store::open(folder.path()).unwrap());
        assert_eq!(mark_interrupted(&store).await.unwrap().len(), 1);
        let swept = sweeper(&store, Arc::new(engine.clone())).sweep().await.unwrap();
        assert_eq!(swept.iter().map(|(_, swept)| swept.removed).sum::<usize>(), 1);
        assert_eq!(names(&engine).await, ["api-of-02", "web-of-01", "web-of-02"]);
        store.swept("01").await.unwrap();
        assert!(store.loose("01").await.unwrap().is_empty());
        assert_eq!(store.operations_to_sweep().await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_host_that_does_not_answer_keeps_nothing_on_the_others() {
        let (_folder, store) = Store::fresh();
        let store = Arc::new(store);
        let engine = Memory::new().with_image("i:1", Default::default(), []);
        for id in ["01", "02"] {
            let begin = Begin { id: id.into(), detail: "{}".into(), ..Begin::default() };
            store.begin_operation(begin).await.unwrap();
            store.end_operation(id, "failed", 1, None, None).await.unwrap();
            created(&engine, id, id, INSTANCE_ID).await;
        }
        // It takes connections, and says nothing.
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let _silent = tokio::net::UnixListener::bind(&socket).unwrap();
        let endpoint = Endpoint::parse(&format!("unix://{}", socket.display())).unwrap();
        let silent: Arc<dyn Containers> = Arc::new(Docker::new(endpoint).unwrap());
        let engines = vec![
            ("silent".to_owned(), silent),
            ("here".to_owned(), Arc::new(engine.clone()) as Arc<dyn Containers>),
        ];
        let hosts = Hosts::new(Arc::default(), engines, Auth::none());
        let sweeper = Sweeper::new(store, INSTANCE_ID, Arc::new(hosts), Arc::default());
        let swept = async {
            while !names(&engine).await.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = swept => {}
            swept = sweeper.sweep() => panic!("it waited for what does not answer: {swept:?}"),
        }
    }

    #[tokio::test]
    async fn a_container_that_comes_after_the_first_sweep_goes_too() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let engine = Memory::new().with_image("i:1", Default::default(), []);
        let begin = Begin { id: "01".into(), detail: "{}".into(), ..Begin::default() };
        store.begin_operation(begin).await.unwrap();
        store.end_operation("01", "failed", clock::now(), None, None).await.unwrap();
        let sweeper = sweeper(&store, Arc::new(engine.clone()));
        assert_eq!(sweeper.sweep().await.unwrap()[0].1.removed, 0);
        created(&engine, "late", "01", INSTANCE_ID).await;
        let swept = sweeper.sweep().await.unwrap();
        assert_eq!(swept.iter().map(|(_, swept)| swept.removed).sum::<usize>(), 1);
        assert_eq!(names(&engine).await, [""; 0]);
    }

    #[test]
    fn an_operation_is_settled_some_time_after_its_end() {
        let ended = |ended| OperationRecord { ended, ..OperationRecord::default() };
        let table = [(Some(0), LATE - 1, false), (Some(0), LATE, true), (None, LATE, false)];
        for (end, now, settled) in table {
            assert_eq!(is_settled(&ended(end), now), settled, "{end:?} at {now}");
        }
    }
}
