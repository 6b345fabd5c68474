//! Volumes of apps: the persistent volume, the claim to it, and where units see it (spec 7.9).

use std::collections::BTreeMap;

use gantry_sdk::{Error, LabelSet, Labels, Result, quote};
use serde_json::{Value, json};

use crate::manifest::metadata;
use crate::name;
use crate::object::without_nulls;
use crate::quantity::Quantity;

/// The plugin whose volumes live and die with their pod.
const NOT_PERSISTENT: &str = "emptyDir";

const ACCESS_MODES: &str = "access-modes";
const CAPACITY: &str = "capacity";
const PLUGIN: &str = "plugin";
const STORAGE_CLASS: &str = "storage-class";

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// What its plan says for this provisioner.
    pub plan: BTreeMap<String, String>,
    /// What was said for this volume; wins over the plan.
    pub options: BTreeMap<String, String>,
    /// Where apps see it.
    pub binds: Vec<Bind>,
}

/// Where an app sees a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    /// The app.
    pub app: String,
    /// The path in its units.
    pub mount_point: String,
    /// Whether they may only read.
    pub read_only: bool,
}

impl Volume {
    /// The options that mean nothing: a storage class takes none but those that every volume has.
    pub fn idle_options(&self) -> impl Iterator<Item = &str> {
        let class = self.plan.get(STORAGE_CLASS).is_some_and(|class| !class.is_empty());
        let options = self.options.keys().map(String::as_str);
        options.filter(move |key| class && ![ACCESS_MODES, CAPACITY].contains(key))
    }
}

/// The volumes of the pods of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// The objects that must be there first: persistent volumes and claims, in this order.
    pub objects: Vec<Value>,
    /// The `volumes` of a pod.
    pub volumes: Vec<Value>,
    /// The `volumeMounts` of its container.
    pub mounts: Vec<Value>,
}

impl Attached {
    /// Adds a volume for the pods of an app. `labels` are the volume's.
    ///
    /// # Errors
    ///
    /// A plan or options that make no volume.
    pub fn attach(
        &mut self,
        volume: &Volume,
        labels: &LabelSet,
        namespace: &str,
        app: &str,
    ) -> Result<()> {
        let plan = Plan::read(volume)?;
        let name = name::volume(&volume.name);
        let binds = || volume.binds.iter().filter(|bind| bind.app == app);
        let read_only = binds().next().is_some() && binds().all(|bind| bind.read_only);
        let source = match &plan {
            Plan::Inline(options) => json!({"name": name, "emptyDir": options}),
            Plan::Persistent(persistent) => {
                self.objects.extend(persistent.objects(&volume.name, labels, namespace));
                json!({"name": name, "persistentVolumeClaim": {
                    "claimName": name::volume_claim(&volume.name),
                    "readOnly": read_only.then_some(true),
                }})
            }
        };
        self.volumes.push(without_nulls(source));
        self.mounts.extend(binds().map(|bind| {
            without_nulls(json!({
                "mountPath": bind.mount_point,
                "name": name,
                "readOnly": bind.read_only.then_some(true),
            }))
        }));
        Ok(())
    }
}

/// What a volume is made of.
#[derive(Debug)]
enum Plan {
    /// Part of the pod, with these options.
    Inline(Labels),
    Persistent(Persistent),
}

#[derive(Debug)]
struct Persistent {
    source: Source,
    capacity: String,
    access_modes: Vec<String>,
}

#[derive(Debug)]
enum Source {
    /// A plugin of the cluster, with its options.
    Plugin(String, Labels),
    StorageClass(String),
}

impl Plan {
    fn read(volume: &Volume) -> Result<Self> {
        let invalid = |text: &str| Err(Error::InvalidArgument(text.to_owned()));
        let of_plan = |key: &str| volume.plan.get(key).map(String::as_str).unwrap_or_default();
        let (plugin, class) = (of_plan(PLUGIN), of_plan(STORAGE_CLASS));
        if !plugin.is_empty() && !class.is_empty() {
            return invalid("both volume plan plugin and storage-class cannot be set");
        }
        if plugin.is_empty() && class.is_empty() {
            return invalid("both volume plan plugin and storage-class are empty");
        }
        let mut options = volume.options.clone();
        let mut either = |key: &str| {
            let option = options.remove(key).filter(|value| !value.is_empty());
            option.unwrap_or_else(|| of_plan(key).to_owned())
        };
        let (capacity, access_modes) = (either(CAPACITY), either(ACCESS_MODES));
        if plugin == NOT_PERSISTENT {
            return Ok(Self::Inline(options));
        }
        let capacity = match capacity.as_str() {
            "" => None,
            text => Some(read_capacity(text)?).filter(|capacity| !capacity.is_zero()),
        };
        let Some(capacity) = capacity else {
            return invalid("capacity is mandatory either in plan or as volume opts");
        };
        if access_modes.is_empty() {
            return invalid("access-modes is mandatory either in plan or as volume opts");
        }
        let source = if plugin.is_empty() {
            Source::StorageClass(class.to_owned())
        } else {
            Source::Plugin(plugin.to_owned(), options)
        };
        Ok(Self::Persistent(Persistent {
            source,
            capacity: capacity.to_string(),
            access_modes: access_modes.split(',').map(|mode| mode.trim().to_owned()).collect(),
        }))
    }
}

fn read_capacity(text: &str) -> Result<Quantity> {
    Quantity::parse(text).map_err(|_| {
        let text = quote(text);
        Error::InvalidArgument(format!("invalid capacity {text}: not an amount such as 20Gi"))
    })
}

impl Persistent {
    /// The volume, unless its storage class makes it, and the claim to it.
    fn objects(&self, volume: &str, labels: &LabelSet, namespace: &str) -> Vec<Value> {
        let claim = name::volume_claim(volume);
        let volume = name::volume(volume);
        let (volume_name, selector, class, object) = match &self.source {
            Source::StorageClass(class) => (None, None, Some(class), None),
            Source::Plugin(plugin, options) => {
                let selector = json!({"matchLabels": labels.to_volume_selector()});
                let object = self.volume(&volume, labels, plugin, options);
                (Some(&volume), Some(selector), None, Some(object))
            }
        };
        let claim = without_nulls(json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata(&claim, namespace, labels.to_labels(), Labels::new()),
            "spec": {
                "accessModes": self.access_modes,
                "resources": {"requests": {"storage": self.capacity}},
                "selector": selector,
                "storageClassName": class,
                "volumeName": volume_name,
            },
        }));
        object.into_iter().chain([claim]).collect()
    }

    fn volume(&self, name: &str, labels: &LabelSet, plugin: &str, options: &Labels) -> Value {
        let mut spec = json!({
            "accessModes": self.access_modes,
            "capacity": {"storage": self.capacity},
        });
        if let Some(fields) = spec.as_object_mut() {
            fields.insert(plugin.to_owned(), json!(options));
        }
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": metadata(name, "", labels.to_labels(), Labels::new()),
            "spec": spec,
        })
    }
}

#[cfg(test)]
mod tests {
    use gantry_sdk::gantry_core::labels::VolumeOptions;

    use super::*;
    use crate::{PREFIX, PROVISIONER};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn volume(plan: &[(&str, &str)], options: &[(&str, &str)], read_only: &[bool]) -> Volume {
        let bind = |(index, read_only): (usize, &bool)| Bind {
            app: "myapp".to_owned(),
            mount_point: format!("/m{index}"),
            read_only: *read_only,
        };
        Volume {
            name: "v1".to_owned(),
            plan: map(plan),
            options: map(options),
            binds: read_only.iter().enumerate().map(bind).collect(),
        }
    }

    fn attached(volume: &Volume) -> Result<Attached> {
        let labels = LabelSet::volume_labels(&VolumeOptions {
            name: &volume.name,
            provisioner: PROVISIONER,
            pool: "pool",
            plan: "plan",
            prefix: PREFIX,
        });
        let mut attached = Attached::default();
        attached.attach(volume, &labels, "ns", "myapp")?;
        Ok(attached)
    }

    const NFS: [(&str, &str); 3] =
        [("plugin", "nfs"), ("capacity", "1Gi"), ("access-modes", "ReadWriteOnce")];

    #[test]
    fn a_plan_is_a_plugin_or_a_class() {
        for (plan, message) in [
            (&[][..], "both volume plan plugin and storage-class are empty"),
            (
                &[("plugin", "nfs"), ("storage-class", "c")],
                "both volume plan plugin and storage-class cannot be set",
            ),
            (
                &[("plugin", "nfs"), ("access-modes", "a")],
                "capacity is mandatory either in plan or as volume opts",
            ),
            (
                &[("plugin", "nfs"), ("capacity", "0"), ("access-modes", "a")],
                "capacity is mandatory either in plan or as volume opts",
            ),
            (
                &[("storage-class", "c"), ("capacity", "1Gi")],
                "access-modes is mandatory either in plan or as volume opts",
            ),
            (
                &[("storage-class", "c"), ("capacity", "much"), ("access-modes", "a")],
                "invalid capacity \"much\": not an amount such as 20Gi",
            ),
        ] {
            let error = attached(&volume(plan, &[], &[false])).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn options_that_mean_nothing_are_told_apart() {
        let options = [("capacity", "1Gi"), ("capcity", "5Gi")];
        let of = |plan: &[(&str, &str)]| {
            let volume = volume(plan, &options, &[]);
            volume.idle_options().map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of(&[("storage-class", "c")]), ["capcity"]);
        assert_eq!(of(&NFS), [""; 0], "a plugin has options of its own");
    }

    #[test]
    fn what_is_said_for_a_volume_wins_and_is_no_option_of_its_plugin() {
        let options = [("capacity", "2048Mi"), ("access-modes", "A, B"), ("server", "s")];
        let attached = attached(&volume(&NFS, &options, &[false])).unwrap();
        let [volume, claim] = attached.objects.as_slice() else { panic!("two objects") };
        assert_eq!(volume["spec"]["nfs"], json!({"server": "s"}));
        assert_eq!(volume["spec"]["capacity"]["storage"], "2Gi");
        assert_eq!(claim["spec"]["accessModes"], json!(["A", "B"]));
        assert_eq!(claim["spec"]["volumeName"], "v1-tsuru");
        assert_eq!(volume["metadata"]["namespace"], Value::Null);
    }

    #[test]
    fn a_claim_is_read_only_when_all_its_binds_are() {
        for (binds, claim) in [
            (&[true][..], json!(true)),
            (&[true, true], json!(true)),
            (&[true, false], Value::Null),
            (&[], Value::Null),
        ] {
            let attached = attached(&volume(&NFS, &[], binds)).unwrap();
            assert_eq!(attached.volumes[0]["persistentVolumeClaim"]["readOnly"], claim);
            assert_eq!(attached.mounts.len(), binds.len());
        }
        let mut shared = volume(&NFS, &[], &[true, false]);
        shared.binds[1].app = "other".to_owned();
        let attached = attached(&shared).unwrap();
        assert_eq!(attached.volumes[0]["persistentVolumeClaim"]["readOnly"], true);
        assert_eq!(attached.mounts.len(), 1);
    }

    #[test]
    fn an_empty_dir_is_part_of_the_pod() {
        let plan = [("plugin", "emptyDir")];
        let attached = attached(&volume(&plan, &[("medium", "Memory")], &[false])).unwrap();
        assert!(attached.objects.is_empty());
        let expected = json!([{"name": "v1-tsuru", "emptyDir": {"medium": "Memory"}}]);
        assert_eq!(Value::from(attached.volumes), expected);
        assert_eq!(attached.mounts[0]["mountPath"], "/m0");
    }
}
