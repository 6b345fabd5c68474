//! What a cluster may be: every rule of it, and nothing that is done.
//!
//! The messages are the reference's where it has one (spec 7.1).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::{ClusterChange, NewCluster, Secret};
use crate::near;
use crate::store::{ClusterPlace, ClusterRecord};

/// The settings that plugins see, beside those of a pool.
const SETTINGS: [&str; 2] = ["namespace", "overcommit-factor"];

/// The setting that is our token there, and no plugin's business.
const TOKEN: &str = "token";

/// What comes after the pool in the name of a setting of one pool.
const OF_POOL: &str = ":overcommit-factor";

/// Why a cluster cannot be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Why.
    pub(super) why: String,
    /// What to type next.
    pub(super) hint: String,
}

fn wrong<T>(why: impl Into<String>, hint: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { why: why.into(), hint: hint.into() })
}

/// The record of a new cluster.
pub(super) fn settle(new: NewCluster, now: i64) -> Result<ClusterRecord, Wrong> {
    let place = ClusterPlace {
        addresses: new.addresses,
        ca_cert: new.ca_cert,
        client_cert: new.client_cert,
        client_key: new.client_key,
        token: new.token,
    };
    let mut record = ClusterRecord {
        name: new.name,
        provisioner: new.provisioner,
        place,
        pools: new.pools,
        is_default: new.default,
        custom_data: BTreeMap::new(),
        created: now,
    };
    name(&record.name)?;
    if record.provisioner.is_empty() {
        return wrong("provisioner name is mandatory", "name it: `--provisioner PROVISIONER`");
    }
    if record.place.addresses.is_empty() && !new.in_cluster {
        return wrong(
            "nobody says where it is",
            "add `--kubeconfig FILE`, `--address URL` or `--in-cluster`",
        );
    }
    settings(&mut record, new.custom_data)?;
    check(&record, new.in_cluster)?;
    Ok(record)
}

/// The record of a cluster that is changed.
///
/// Credentials stay with the place that they were given for: whoever could send them to another address would have them.
pub(super) fn changed(
    before: &ClusterRecord,
    change: ClusterChange,
) -> Result<ClusterRecord, Wrong> {
    let mut record = before.clone();
    let place = &mut record.place;
    let moves = change.in_cluster || change.addresses.is_some() || change.ca_cert.is_some();
    let names_credentials = change.token.is_some()
        || change.client_cert.is_some()
        || change.client_key.is_some()
        || change.custom_data.contains_key(TOKEN);
    if moves || names_credentials {
        place.client_cert = change.client_cert.unwrap_or_default();
        place.client_key = change.client_key.unwrap_or_default();
        place.token = change.token.unwrap_or_default();
    }
    if change.in_cluster {
        (place.addresses, place.ca_cert) = Default::default();
    }
    if let Some(addresses) = change.addresses {
        if addresses.is_empty() {
            return wrong("a list of no addresses", "add `--address URL` or `--in-cluster`");
        }
        place.addresses = addresses;
        place.ca_cert.clear();
    }
    if let Some(ca) = change.ca_cert {
        place.ca_cert = ca;
    }
    match (change.pools, change.default) {
        (Some(pools), default) => (record.pools, record.is_default) = (pools, default),
        (None, true) => (record.pools, record.is_default) = (Vec::new(), true),
        (None, false) => {}
    }
    settings(&mut record, change.custom_data)?;
    check(&record, record.place.addresses.is_empty())?;
    Ok(record)
}

/// A cluster as people may read it in the journal: nothing secret.
pub(super) fn shown(record: &ClusterRecord) -> Value {
    json!({
        "cluster": record.name,
        "addresses": record.place.addresses,
        "credentials": credentials(&record.place),
        "pools": record.pools,
        "default": record.is_default,
        "custom_data": record.custom_data,
    })
}

/// What was asked of a cluster, as people may read it in the journal: what was named, and nothing secret. It does not tell what the cluster was like, so that the same request is the same
/// whatever was changed since.
pub(super) fn asked(name: &str, change: &ClusterChange) -> Value {
    let mut detail = json!({"cluster": name, "default": change.default});
    let credentials = if change.token.is_some() || change.custom_data.contains_key(TOKEN) {
        Some("token")
    } else if change.client_cert.is_some() || change.client_key.is_some() {
        Some("certificate")
    } else {
        None
    };
    let addresses = match change.in_cluster {
        true => Some(Vec::new()),
        false => change.addresses.clone(),
    };
    // What is no setting was refused before anybody reads this; the token's value is nobody's.
    let data = change.custom_data.iter().filter(|(key, _)| *key != TOKEN);
    let data: BTreeMap<_, _> = data.map(|(key, value)| (key, value.reveal())).collect();
    if let Some(detail) = detail.as_object_mut() {
        let named = [
            ("addresses", addresses.map(|addresses| json!(addresses))),
            ("credentials", credentials.map(|credentials| json!(credentials))),
            ("pools", change.pools.as_ref().map(|pools| json!(pools))),
            ("custom_data", (!data.is_empty()).then(|| json!(data))),
        ];
        let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        detail.extend(named);
    }
    detail
}

fn name(name: &str) -> Result<(), Wrong> {
    const RULE: &str = "Invalid cluster name, cluster name should have at most 63 characters, containing only lower case letters, numbers or dashes, starting with a letter.";
    if name.is_empty() {
        return wrong("cluster name is mandatory", "name it: `gantry cluster add NAME`");
    }
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let first = name.starts_with(|first: char| first.is_ascii_lowercase());
    if name.len() > 63 || !letters || !first {
        return wrong(RULE, "choose another name: `gantry cluster add NAME`");
    }
    Ok(())
}

/// Sorts settings: the secret one to the credentials, the others to what plugins see. An empty value takes one away.
fn settings(
    record: &mut ClusterRecord,
    custom_data: BTreeMap<String, Secret>,
) -> Result<(), Wrong> {
    for (key, value) in custom_data {
        let value = value.reveal().trim();
        match key.as_str() {
            TOKEN => {
                record.place.token = Secret::new(value);
                continue;
            }
            "username" | "password" => {
                return wrong(
                    format!(
                        "`{key}` cannot be used: Kubernetes has no passwords since its version 1.19"
                    ),
                    "show a token (`--token-file FILE`) or a certificate (`--client-cert FILE --client-key FILE`)",
                );
            }
            _ => {}
        }
        let of_pool = key.strip_suffix(OF_POOL).is_some_and(|pool| !pool.is_empty());
        if !of_pool && !SETTINGS.contains(&key.as_str()) {
            let known = SETTINGS.into_iter().chain([TOKEN]);
            let hint = match near::nearest(&key, known) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => {
                    "there is `namespace`, `overcommit-factor`, `POOL:overcommit-factor`, `token`"
                        .to_owned()
                }
            };
            return wrong(format!("no setting `{key}`"), hint);
        }
        if value.is_empty() {
            record.custom_data.remove(&key);
            continue;
        }
        let good = match key.as_str() {
            "namespace" => is_namespace(value),
            _ => value.parse::<f64>().is_ok_and(|factor| factor.is_finite() && factor > 0.0),
        };
        if !good {
            let what = if key == "namespace" { "name of a namespace" } else { "factor above 0" };
            return wrong(
                format!("`{key}` cannot be `{value}`: no {what}"),
                format!("`--custom-data {key}=VALUE`"),
            );
        }
        record.custom_data.insert(key, value.to_owned());
    }
    Ok(())
}

fn is_namespace(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| letter(b) || b == b'-')
        && name.bytes().next().is_some_and(letter)
        && name.bytes().last().is_some_and(letter)
}

fn check(record: &ClusterRecord, in_cluster: bool) -> Result<(), Wrong> {
    let ClusterPlace { addresses, ca_cert, client_cert, client_key, token } = &record.place;
    if !record.pools.is_empty() && record.is_default {
        return wrong("cannot have both pools and default set", "name pools, or add `--default`");
    }
    if record.pools.is_empty() && !record.is_default {
        return wrong(
            "either default or a list of pools must be set",
            "add `--pool POOL` or `--default`",
        );
    }
    let has_certificate = !client_cert.is_empty() || !client_key.is_empty();
    if in_cluster {
        if !addresses.is_empty() {
            return wrong(
                "it cannot be at an address and be the one that the daemon runs in",
                "leave `--in-cluster` or `--address` out",
            );
        }
        if has_certificate || !token.is_empty() || !ca_cert.is_empty() {
            return wrong(
                "in the cluster the daemon is its own service account",
                "leave the token and the certificates out",
            );
        }
    }
    if has_certificate && !token.is_empty() {
        return wrong("a token and a certificate", "show one of them");
    }
    if client_cert.is_empty() != client_key.is_empty() {
        return wrong(
            "a certificate needs its key, and a key its certificate",
            "add `--client-cert FILE --client-key FILE`",
        );
    }
    Ok(())
}

/// Who we are there, in one word and nothing secret.
pub(super) fn credentials(place: &ClusterPlace) -> &'static str {
    if !place.token.is_empty() {
        "token"
    } else if !place.client_cert.is_empty() {
        "certificate"
    } else if place.addresses.is_empty() {
        "service account"
    } else {
        "nobody"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> NewCluster {
        NewCluster {
            name: "north".into(),
            provisioner: "kubernetes".into(),
            addresses: vec!["https://h:6443".into()],
            pools: vec!["prod".into()],
            ..NewCluster::default()
        }
    }

    fn why(edit: impl FnOnce(&mut NewCluster)) -> String {
        let mut new = new();
        edit(&mut new);
        let wrong = settle(new, 1).unwrap_err();
        assert!(!wrong.hint.is_empty(), "{wrong:?}");
        wrong.why
    }

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), Secret::new(*value))).collect()
    }

    #[test]
    fn a_cluster_that_cannot_be_is_refused_in_the_references_words() {
        assert_eq!(why(|new| new.name.clear()), "cluster name is mandatory");
        for name in ["1a", "A", "a_b", "-a", &"a".repeat(64)] {
            assert!(
                why(|new| new.name = name.into()).starts_with("Invalid cluster name"),
                "{name}"
            );
        }
        assert_eq!(why(|new| new.provisioner.clear()), "provisioner name is mandatory");
        assert_eq!(why(|new| new.default = true), "cannot have both pools and default set");
        assert_eq!(why(|new| new.pools.clear()), "either default or a list of pools must be set");
    }

    #[test]
    fn a_place_is_one_and_so_are_we_there() {
        for (wrong, told) in [
            (why(|new| new.addresses.clear()), "nobody says where"),
            (why(|new| new.in_cluster = true), "cannot be at an address"),
            (
                why(|new| {
                    new.addresses.clear();
                    new.in_cluster = true;
                    new.token = Secret::new("t");
                }),
                "its own service account",
            ),
            (why(|new| new.client_cert = "c".into()), "needs its key"),
            (why(|new| new.client_key = Secret::new("k")), "needs its key"),
            (
                why(|new| {
                    new.client_cert = "c".into();
                    new.client_key = Secret::new("k");
                    new.token = Secret::new("t");
                }),
                "a token and a certificate",
            ),
        ] {
            assert!(wrong.contains(told), "{wrong}");
        }
    }

    #[test]
    fn settings_are_known_by_name_and_the_secret_one_is_no_plugins() {
        let set = |pairs: &[(&str, &str)]| {
            let pairs = data(pairs);
            why(|new| new.custom_data = pairs)
        };
        assert_eq!(set(&[("namespaces", "x")]), "no setting `namespaces`");
        assert!(set(&[("username", "ann")]).contains("no passwords"));
        assert!(set(&[("password", "s3cr3t")]).contains("no passwords"));
        assert!(!set(&[("password", "s3cr3t")]).contains("s3cr3t"));
        assert!(set(&[("namespace", "No")]).contains("no name of a namespace"));
        assert!(set(&[("overcommit-factor", "much")]).contains("no factor"));
        let pairs = [
            ("namespace", "shop"),
            ("overcommit-factor", "2"),
            ("prod:overcommit-factor", "1.5"),
            ("token", "s3cr3t\n"),
        ];
        let record = settle(NewCluster { custom_data: data(&pairs), ..new() }, 1).unwrap();
        assert_eq!(record.custom_data.len(), 3);
        assert!(!record.custom_data.contains_key("token"));
        assert_eq!(record.place.token.reveal(), "s3cr3t");
        assert_eq!((record.namespace(), credentials(&record.place)), ("shop", "token"));
        let record = settle(new(), 1).unwrap();
        assert_eq!((record.namespace(), credentials(&record.place)), ("default", "nobody"));
    }

    fn with_token() -> ClusterRecord {
        let pairs = data(&[("token", "s3cr3t"), ("namespace", "shop")]);
        let new = NewCluster { custom_data: pairs, ca_cert: "old ca".into(), ..new() };
        settle(new, 1).unwrap()
    }

    #[test]
    fn what_is_not_said_stays_as_it_is() {
        let before = with_token();
        let same = changed(&before, ClusterChange::default()).unwrap();
        assert_eq!(same, before);
        let change = ClusterChange { default: true, ..ClusterChange::default() };
        let after = changed(&before, change).unwrap();
        assert_eq!((after.is_default, after.pools.len()), (true, 0));
        assert_eq!(after.place, before.place);
        let both = ClusterChange {
            default: true,
            pools: Some(vec!["dev".into()]),
            ..ClusterChange::default()
        };
        assert_eq!(
            changed(&before, both).unwrap_err().why,
            "cannot have both pools and default set"
        );
        let change =
            ClusterChange { custom_data: data(&[("namespace", "")]), ..Default::default() };
        let after = changed(&before, change).unwrap();
        assert_eq!((after.namespace(), &after.place), ("default", &before.place));
    }

    #[test]
    fn the_journal_shows_what_was_asked_and_nothing_secret() {
        let change = ClusterChange {
            token: Some(Secret::new("s3cr3t")),
            pools: Some(vec!["dev".into()]),
            custom_data: data(&[("token", "s3cr3t"), ("namespace", "shop")]),
            ..Default::default()
        };
        let expected = json!({
            "cluster": "north",
            "default": false,
            "credentials": "token",
            "pools": ["dev"],
            "custom_data": {"namespace": "shop"},
        });
        assert_eq!(asked("north", &change), expected);
        let nothing = json!({"cluster": "north", "default": false});
        assert_eq!(asked("north", &ClusterChange::default()), nothing);
        let record = with_token();
        let shown = shown(&record).to_string();
        assert!(shown.contains("\"token\"") && !shown.contains("s3cr3t"), "{shown}");
    }

    #[test]
    fn credentials_are_not_sent_to_another_place_than_they_were_given_for() {
        let before = with_token();
        for change in [
            ClusterChange { addresses: Some(vec!["https://evil".into()]), ..Default::default() },
            ClusterChange { ca_cert: Some("another ca".into()), ..Default::default() },
            ClusterChange { in_cluster: true, ..Default::default() },
        ] {
            let after = changed(&before, change.clone()).unwrap();
            assert!(after.place.token.is_empty(), "{change:?}");
        }
        let renewed = ClusterChange { token: Some(Secret::new("new")), ..Default::default() };
        let after = changed(&before, renewed).unwrap();
        assert_eq!(after.place.token.reveal(), "new");
        assert_eq!(
            (after.place.addresses, after.place.ca_cert.as_str()),
            (before.place.addresses, "old ca")
        );
    }
}
