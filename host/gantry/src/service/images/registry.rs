//! Images in their registry: deleted when they are gone from the hosts.
//!
//! A registry deletes an image with all its names, so one that has a name that stays is left there: a tag that was not made for an image that goes, whoever put it there, or what an app has. One that
//! deletes nothing is told to the log once, and asked again with the next images, for somebody may have switched it on; what is not deleted then is forgotten all the same, because nobody
//! would ever be done with it. One that does not answer is not asked again for a while: the apps are locked meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gantry_core::image::{ImageNames, LATEST, split_image_name};
use gantry_engine::Operation;
use gantry_registry::{Account, Error, Reference, Repository, Rights};
use gantry_runtime::Provisioner;
use tokio::time::Instant;

use super::{Ending, SHORTEST, Service};

/// How long a registry may take for an answer, all of which are small.
const LIMIT: Duration = Duration::from_secs(20);

/// What was learnt of registries.
#[derive(Debug, Default)]
pub(in crate::service) struct Registries {
    // Std mutexes: held for a look or an insert, never across an await.
    undeleting: Mutex<BTreeSet<String>>,
    silent: Mutex<BTreeMap<String, Instant>>,
}

impl Registries {
    /// Notes that a registry deletes nothing; whether that is news.
    fn deletes_nothing(&self, registry: &str) -> bool {
        lock(&self.undeleting).insert(registry.to_owned())
    }

    /// Notes that a registry does not answer.
    fn says_nothing(&self, registry: &str, now: Instant) {
        lock(&self.silent).insert(registry.to_owned(), now + SHORTEST);
    }

    /// Whether it did not answer a while ago.
    fn is_silent(&self, registry: &str, now: Instant) -> bool {
        lock(&self.silent).get(registry).is_some_and(|until| now < *until)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be deleted from a repository, and what must not be.
struct Leaving {
    repository: Reference,
    account: Account,
    images: Vec<String>,
    /// The tags and digests that apps have.
    recorded: BTreeSet<String>,
    ending: Ending,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Left {
    /// The images that are done with.
    gone: Vec<String>,
    /// The registry deletes nothing.
    undeleting: bool,
    /// The registry does not answer.
    silent: bool,
}

impl Leaving {
    /// Asks the registry for one image after the other, until it does not answer or somebody stops it. Blocks.
    fn delete(&self, is_stopped: impl Fn() -> bool) -> Left {
        let mut gone = Vec::new();
        match self.each(is_stopped, &mut gone) {
            Ok(()) => Left { gone, ..Left::default() },
            Err(Error::NoDeletion { .. }) => {
                Left { gone: self.images.clone(), undeleting: true, ..Left::default() }
            }
            Err(error) => {
                let registry = &self.repository.registry;
                tracing::warn!(registry, %error, "images stay in their registry");
                let silent = matches!(error, Error::Unreachable { .. });
                Left { gone, silent, ..Left::default() }
            }
        }
    }

    fn each(&self, is_stopped: impl Fn() -> bool, gone: &mut Vec<String>) -> Result<(), Error> {
        let repository = Repository::of(&self.repository, &self.account, Rights::Delete, &[])?;
        let tags = repository.tags()?;
        let (there, others): (Vec<_>, Vec<_>) =
            self.images.iter().partition(|image| tags.contains(tag(image)));
        gone.extend(others.into_iter().cloned());
        if there.is_empty() {
            return Ok(());
        }
        let mut kept = Vec::new();
        for version in staying(&self.images, &tags, &self.recorded, self.ending) {
            if is_stopped() {
                return Ok(());
            }
            kept.extend(repository.digest(version)?);
        }
        for image in there {
            let digest = repository.digest(tag(image))?;
            // The last moment: what is asked of a registry nobody takes back.
            if is_stopped() {
                return Ok(());
            }
            match digest.filter(|digest| !kept.contains(digest)) {
                None => gone.push(image.clone()),
                Some(digest) => match repository.delete(&digest) {
                    Ok(()) => gone.push(image.clone()),
                    Err(error @ Error::Refused { .. }) => {
                        tracing::warn!(image, %error, "an image stays in its registry");
                    }
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(())
    }
}

fn tag(image: &str) -> &str {
    split_image_name(image).1
}

/// Which of these images of an app may go, seeing what any app has of their repository, and the tags and digests of that which stay.
fn parted(
    app: &str,
    mut images: Vec<String>,
    had: Vec<(String, String)>,
    ending: Ending,
) -> (Vec<String>, BTreeSet<String>) {
    let stays = |(of, version): &(String, String)| match ending {
        Ending::Images => of != app || images.iter().all(|image| tag(image) != version),
        Ending::Deploy => true,
        Ending::App => of != app,
    };
    let recorded: BTreeSet<String> =
        had.into_iter().filter(stays).map(|(_, version)| version).collect();
    images.retain(|image| !recorded.contains(tag(image)));
    (images, recorded)
}

/// The tags and digests of a repository with these tags that stay when these images go.
fn staying<'a>(
    images: &[String],
    tags: &'a BTreeSet<String>,
    recorded: &'a BTreeSet<String>,
    ending: Ending,
) -> BTreeSet<&'a str> {
    let goes = |other: &&String| {
        // That the newest is one of a deploy that failed does not keep it.
        images.iter().any(|image| tag(image) == *other)
            || ending == Ending::Deploy && *other == LATEST
    };
    let others = tags.iter().filter(|tag| !goes(tag));
    others.chain(recorded).map(String::as_str).collect()
}

/// A repository of the registry that images are named after; none when there is no such registry, or when the name that is configured is not one for engines either.
fn repository(names: &ImageNames, base: &str) -> Option<Reference> {
    let (host, _) = names.registry.split_once('/').unwrap_or((&names.registry, ""));
    let repository = Reference::parse(base).ok()?;
    (!host.is_empty() && repository.registry == host).then_some(repository)
}

impl Service {
    /// Deletes images of an app that are gone from the hosts from their registry too, and gives those that nothing is left to be done for. They are of one repository.
    pub(super) async fn delete_from_registry(
        &self,
        operation: &Operation,
        provisioner: &Provisioner,
        app: &str,
        images: Vec<String>,
        ending: Ending,
    ) -> Vec<String> {
        let names = self.image_names(provisioner);
        let Some(first) = images.first() else { return images };
        let base = split_image_name(first).0.to_owned();
        let Some(repository) = repository(&names, &base) else { return images };
        let registry = repository.registry.clone();
        if self.registries.is_silent(&registry, Instant::now()) {
            return Vec::new();
        }
        let had = match self.store.images_of_repository(&base).await {
            Ok(had) => had,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(app, error, "images stay in their registry");
                return Vec::new();
            }
        };
        let (mut images, recorded) = parted(app, images, had, ending);
        if ending == Ending::App && !recorded.contains(LATEST) {
            images.push(format!("{base}:{LATEST}"));
        }
        operation.progress.show(&format!(" ---> Deleting images from the registry {registry}\n"));
        let settings = self.config.provisioner(provisioner.name()).config;
        let account = Account { limit: Some(LIMIT), ..self.config.account(&registry, &settings) };
        let leaving = Leaving { repository, account, images, recorded, ending };
        let cancel = operation.cancel.clone();
        let deleting =
            tokio::task::spawn_blocking(move || leaving.delete(|| cancel.is_cancelled()));
        let deleted = tokio::select! {
            deleted = deleting => deleted,
            // A registry that says nothing for long keeps nobody waiting who asked to stop.
            () = operation.cancel.cancelled() => return Vec::new(),
        };
        let left = match deleted {
            Ok(left) => left,
            Err(error) => {
                tracing::error!(app, %error, "images stay in their registry");
                return Vec::new();
            }
        };
        if left.undeleting && self.registries.deletes_nothing(&registry) {
            tracing::warn!(
                registry,
                "the registry has its deletion switched off: old images stay in it"
            );
        }
        if left.silent {
            self.registries.says_nothing(&registry, Instant::now());
        }
        left.gone
    }
}

#[cfg(test)]
mod tests {
    use gantry_registry::peer::{Peer, Reply};

    use super::*;

    /// A registry with these tags of an app, each of an image of its own unless it has the same letter.
    fn registry(tags: &[(&str, &[u8])]) -> Peer {
        let peer = Peer::start();
        for (tag, config) in tags {
            peer.image("tsuru/app-web", tag, config, &[]);
        }
        peer
    }

    fn names(registry: &str) -> ImageNames {
        ImageNames { registry: registry.to_owned(), ..ImageNames::default() }
    }

    fn leaving(peer: &Peer, numbers: &[u64], recorded: &[&str]) -> Leaving {
        let names = names(&peer.address);
        Leaving {
            repository: repository(&names, &names.app_base("web")).unwrap(),
            account: Account { registry: peer.address.clone(), ..Account::default() },
            images: numbers.iter().map(|&number| names.app_version("web", number)).collect(),
            recorded: owned(recorded).into_iter().collect(),
            ending: Ending::Images,
        }
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn tags(peer: &Peer) -> Vec<String> {
        peer.tags("tsuru/app-web").into_iter().collect()
    }

    #[test]
    fn only_what_is_in_a_registry_is_deleted_from_one() {
        for (registry, host) in [
            ("", None),
            // Engines take it for a folder of Docker's registry.
            ("registry", None),
            ("registry.example/?", None),
            ("localhost", Some("localhost")),
            ("registry.example:5000", Some("registry.example:5000")),
            ("registry.example/team", Some("registry.example")),
            ("docker.io", Some("docker.io")),
        ] {
            let names = names(registry);
            let found = repository(&names, &names.app_base("web")).map(|found| found.registry);
            assert_eq!(found.as_deref(), host, "{registry}");
        }
    }

    #[test]
    fn what_an_app_has_stays() {
        let had = |rows: &[(&str, &str)]| {
            rows.iter().map(|(app, version)| ((*app).to_owned(), (*version).to_owned())).collect()
        };
        let (v1, v2, v3) = (("a", "v1"), ("a", "v2"), ("a", "v3"));
        for (ending, rows, going, recorded) in [
            (Ending::Images, &[v1, v2, v3][..], &["r/a:v1", "r/a:v2"][..], &["v3"][..]),
            // Somebody deployed it by its name meanwhile.
            (Ending::Images, &[v1, v2, ("b", "v1")], &["r/a:v2"], &["v1"]),
            (Ending::Images, &[v1, v2, ("b", "sha256:1")], &["r/a:v1", "r/a:v2"], &["sha256:1"]),
            // It became current before its deploy failed.
            (Ending::Deploy, &[v1, v3], &["r/a:v2"], &["v1", "v3"]),
            (Ending::App, &[v1, v2, v3], &["r/a:v1", "r/a:v2"], &[]),
            (Ending::App, &[v1, ("b", "v1"), ("b", LATEST)], &["r/a:v2"], &[LATEST, "v1"]),
        ] {
            let parted = parted("a", owned(&["r/a:v1", "r/a:v2"]), had(rows), ending);
            let recorded = owned(recorded).into_iter().collect();
            assert_eq!(parted, (owned(going), recorded), "{ending:?} {rows:?}");
        }
    }

    #[test]
    fn what_has_another_name_stays_whoever_gave_it() {
        let set = |names: &[&str]| owned(names).into_iter().collect::<BTreeSet<_>>();
        let tags = set(&["v1", "v2", LATEST, "prod"]);
        for (ending, recorded, expected) in [
            (Ending::Images, &["v2"][..], &[LATEST, "prod", "v2"][..]),
            (Ending::Images, &["sha256:1"], &[LATEST, "prod", "sha256:1", "v2"]),
            (Ending::Deploy, &[], &["prod", "v2"]),
            (Ending::Deploy, &[LATEST], &[LATEST, "prod", "v2"]),
        ] {
            let recorded = set(recorded);
            let staying = staying(&owned(&["r/a:v1"]), &tags, &recorded, ending);
            assert_eq!(staying, expected.iter().copied().collect(), "{ending:?} {recorded:?}");
        }
    }

    #[test]
    fn old_images_go_and_newer_ones_stay() {
        let peer = registry(&[("v1", b"a"), ("v2", b"b"), ("v3", b"c"), ("latest", b"c")]);
        let leaving = leaving(&peer, &[1, 2, 9], &["v3"]);
        let [v1, v2, v9] = [0, 1, 2].map(|index: usize| leaving.images[index].clone());
        let gone = |gone: &[&String]| Left {
            gone: gone.iter().map(|&image| image.clone()).collect(),
            ..Left::default()
        };
        assert_eq!(leaving.delete(|| true), gone(&[&v9]), "stopped");
        // In the last moment: between the question which image it is and its deletion.
        let asked = || peer.lines().iter().any(|line| line.ends_with("/v1"));
        assert_eq!(leaving.delete(asked), gone(&[&v9]));
        assert_eq!(tags(&peer).len(), 4);
        assert_eq!(leaving.delete(|| false), gone(&[&v9, &v1, &v2]));
        assert_eq!(tags(&peer), ["latest", "v3"]);
    }

    #[test]
    fn what_has_a_name_that_stays_is_left_to_it() {
        let peer = registry(&[("v1", b"a"), ("v2", b"a"), ("v3", b"b"), ("prod", b"b")]);
        let digest = peer.image("tsuru/app-web", "v4", b"c", &[]);
        let mut leaving = leaving(&peer, &[1, 2, 3, 4], &[]);
        leaving.recorded.insert(digest);
        let mut gone = leaving.delete(|| false).gone;
        gone.sort();
        assert_eq!(gone, leaving.images, "nothing is left to be done");
        assert_eq!(tags(&peer), ["prod", "v3", "v4"]);
    }

    #[test]
    fn what_a_deploy_that_failed_made_the_newest_goes_all_the_same() {
        let peer = registry(&[("v1", b"a"), ("v2", b"b"), ("latest", b"b")]);
        let leaving = Leaving { ending: Ending::Deploy, ..leaving(&peer, &[2], &["v1"]) };
        assert_eq!(leaving.delete(|| false).gone, leaving.images);
        assert_eq!(tags(&peer), ["v1"]);
    }

    #[test]
    fn a_registry_that_deletes_nothing_is_asked_once_for_many_and_told_once() {
        let peer = registry(&[("v1", b"a"), ("v2", b"b")]);
        peer.state().instead.push(("DELETE".to_owned(), Reply::of(405), false));
        let leaving = leaving(&peer, &[1, 2], &[]);
        let left = leaving.delete(|| false);
        let all = leaving.images.clone();
        assert_eq!(left, Left { gone: all, undeleting: true, silent: false });
        let asked = peer.lines().iter().filter(|line| line.starts_with("DELETE")).count();
        assert_eq!((asked, tags(&peer).len()), (1, 2));
        let registries = Registries::default();
        let told = ["a", "a", "b"].map(|registry| registries.deletes_nothing(registry));
        assert_eq!(told, [true, false, true]);
    }

    #[test]
    fn what_is_refused_is_tried_again_and_keeps_no_other() {
        let peer = registry(&[("v1", b"a"), ("v2", b"b")]);
        peer.state().instead.push(("DELETE".to_owned(), Reply::of(403), true));
        let leaving = leaving(&peer, &[1, 2], &[]);
        assert_eq!(leaving.delete(|| false).gone, leaving.images[1..]);
        assert_eq!(tags(&peer), ["v1"]);
    }

    #[test]
    fn a_registry_that_does_not_answer_is_left_alone_for_a_while() {
        let peer = registry(&[("v1", b"a"), ("v2", b"b")]);
        for ill in ["GET", "HEAD", "DELETE"] {
            peer.state().instead = vec![(ill.to_owned(), Reply::of(503), false)];
            let left = leaving(&peer, &[1, 2], &[]).delete(|| false);
            assert_eq!(left, Left { silent: true, ..Left::default() }, "{ill}");
            assert_eq!(tags(&peer).len(), 2);
        }
        let (registries, now) = (Registries::default(), Instant::now());
        registries.says_nothing("a", now);
        let silent = |after| ["a", "b"].map(|registry| registries.is_silent(registry, now + after));
        assert_eq!(silent(SHORTEST - Duration::from_secs(1)), [true, false]);
        assert_eq!(silent(SHORTEST), [false, false]);
    }
}
