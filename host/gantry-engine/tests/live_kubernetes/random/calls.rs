//! What a sequence is made of: objects of five kinds, and calls for them.

use gantry_engine::call::cluster::{Kind, Propagation};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    ConfigMap,
    Secret,
    Service,
    Deployment,
    Pod,
}

pub(super) const SORTS: [Sort; 5] =
    [Sort::ConfigMap, Sort::Secret, Sort::Service, Sort::Deployment, Sort::Pod];

/// Which object a call names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Which {
    pub(super) sort: Sort,
    pub(super) name: u8,
}

/// What an object says: each part once, or not.
#[derive(Clone, Debug)]
pub(super) struct Body {
    /// Values of three keys; none when the key is not there.
    pub(super) data: [Option<u8>; 3],
    pub(super) color: Option<u8>,
    pub(super) note: Option<u8>,
    pub(super) held: bool,
    /// The owner, by the order in which uids were met, and whether it waits for this one. The last of a few is one that never was.
    pub(super) owner: Option<(usize, bool)>,
    pub(super) flag: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Any,
    This,
    Other,
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Create(Which, Body, bool),
    Apply(Which, Body, bool, Wanted),
    /// An apply of what is there already, by what it says itself.
    Get(Which),
    List(Sort, Labels, bool),
    Patch(Which, Change, bool),
    Delete(Which, Propagation, Wanted, Wanted, bool),
    Absent,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Labels {
    All,
    Is(u8),
    Not(u8),
    In,
    NotIn,
    Has,
    HasNot,
    Wrong,
}

/// A change by a patch.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Merge(Body, Wanted),
    Strategic(Body),
    Json(u8),
    Status(u8),
    Scale(u8),
    Release,
    Name,
    Odd,
}

fn sort() -> impl Strategy<Value = Sort> {
    prop_oneof![
        4 => Just(Sort::ConfigMap),
        1 => Just(Sort::Secret),
        2 => Just(Sort::Service),
        3 => Just(Sort::Deployment),
        2 => Just(Sort::Pod),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    (sort(), 0..2_u8).prop_map(|(sort, name)| Which { sort, name })
}

fn body() -> impl Strategy<Value = Body> {
    let maybe = || proptest::option::of(0..3_u8);
    let data = [maybe(), maybe(), maybe()];
    let owner = proptest::option::weighted(0.25, (0..5_usize, any::<bool>()));
    let held = proptest::bool::weighted(0.15);
    (data, maybe(), maybe(), held, owner, any::<bool>()).prop_map(
        |(data, color, note, held, owner, flag)| Body { data, color, note, held, owner, flag },
    )
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![4 => Just(Wanted::Any), 1 => Just(Wanted::This), 1 => Just(Wanted::Other)]
}

fn dry() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.12)
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    let labels = prop_oneof![
        Just(Labels::All),
        (0..3_u8).prop_map(Labels::Is),
        (0..3_u8).prop_map(Labels::Not),
        Just(Labels::In),
        Just(Labels::NotIn),
        Just(Labels::Has),
        Just(Labels::HasNot),
        Just(Labels::Wrong),
    ];
    let change = prop_oneof![
        4 => (body(), wanted()).prop_map(|(body, wanted)| Change::Merge(body, wanted)),
        3 => body().prop_map(Change::Strategic),
        2 => (0..6_u8).prop_map(Change::Json),
        2 => (0..3_u8).prop_map(Change::Status),
        2 => (0..3_u8).prop_map(Change::Scale),
        2 => Just(Change::Release),
        1 => Just(Change::Name),
        1 => Just(Change::Odd),
    ];
    let propagation = prop_oneof![
        2 => Just(Propagation::Background),
        1 => Just(Propagation::Foreground),
        1 => Just(Propagation::Orphan),
    ];
    prop_oneof![
        6 => (which(), body(), dry()).prop_map(|(which, body, dry)| Act::Create(which, body, dry)),
        9 => (which(), body(), dry(), wanted()).prop_map(|(which, body, dry, wanted)| Act::Apply(which, body, dry, wanted)),
        3 => which().prop_map(Act::Get),
        3 => (sort(), labels, any::<bool>()).prop_map(|(sort, labels, field)| Act::List(sort, labels, field)),
        9 => (which(), change, dry()).prop_map(|(which, change, dry)| Act::Patch(which, change, dry)),
        5 => (which(), propagation, wanted(), wanted(), dry()).prop_map(|(which, how, uid, version, dry)| Act::Delete(which, how, uid, version, dry)),
        1 => Just(Act::Absent),
    ]
}

impl Sort {
    pub(super) fn kind(self) -> Kind {
        let (version, kind) = match self {
            Self::ConfigMap => ("v1", "ConfigMap"),
            Self::Secret => ("v1", "Secret"),
            Self::Service => ("v1", "Service"),
            Self::Deployment => ("apps/v1", "Deployment"),
            Self::Pod => ("v1", "Pod"),
        };
        Kind::new(version, kind)
    }

    /// What is wanted of an object.
    pub(super) fn spec(self, body: &Body) -> Map<String, Value> {
        let mut map = Map::new();
        match self {
            Self::ConfigMap => {
                let data: Map<_, _> = body
                    .data
                    .iter()
                    .zip(["a", "b", "c"])
                    .filter_map(|(value, key)| {
                        Some((key.to_owned(), json!(value.as_ref()?.to_string())))
                    })
                    .collect();
                if !data.is_empty() {
                    map.insert("data".to_owned(), Value::Object(data));
                }
            }
            Self::Secret => {
                let text = ["", "eA==", "eHg="];
                let data: Map<_, _> = body
                    .data
                    .iter()
                    .zip(["a", "b", "c"])
                    .filter_map(|(value, key)| {
                        Some((key.to_owned(), json!(text[usize::from((*value)?)])))
                    })
                    .collect();
                if !data.is_empty() {
                    map.insert("data".to_owned(), Value::Object(data));
                }
            }
            Self::Service => {
                let ports: Vec<Value> = body
                    .data
                    .iter()
                    .zip([80, 81, 82])
                    .filter_map(|(value, port)| {
                        let value = (*value)?;
                        let mut told = json!({"port": port, "name": format!("p{port}"), "targetPort": 8080 + u32::from(value)});
                        if value == 2 {
                            told["protocol"] = "UDP".into();
                        }
                        Some(told)
                    })
                    .collect();
                let mut spec = json!({"selector": {"app": body.color.unwrap_or(7).to_string()}});
                if !ports.is_empty() {
                    spec["ports"] = Value::Array(ports);
                }
                map.insert("spec".to_owned(), spec);
            }
            Self::Deployment => {
                let mut spec = json!({"paused": true, "selector": {"matchLabels": {"app": "a"}}, "template": {"metadata": {"labels": {"app": "a"}}}});
                if let Some(replicas) = body.data[0] {
                    spec["replicas"] = replicas.into();
                }
                if body.data == [Some(1), Some(1), Some(1)] {
                    spec["selector"]["matchLabels"]["app"] = "b".into();
                }
                let mut pod = self.pod(body);
                if body.flag {
                    pod["nodeSelector"] = json!({"pool": body.color.unwrap_or(9).to_string()});
                }
                spec["template"]["spec"] = pod;
                map.insert("spec".to_owned(), spec);
            }
            Self::Pod => {
                let mut pod = self.pod(body);
                pod["schedulingGates"] = json!([{"name": "gantry.test/gate"}]);
                pod["automountServiceAccountToken"] = false.into();
                map.insert("spec".to_owned(), pod);
            }
        }
        map
    }

    fn pod(self, body: &Body) -> Value {
        let mut first = json!({"name": "web", "image": format!("web:{}", body.color.unwrap_or(1))});
        if let Some(value) = body.data[1] {
            first["env"] = json!([{"name": "A", "value": format!("v{value}")}, {"name": format!("N{value}"), "value": "x"}]);
        }
        if let Some(value) = body.data[2] {
            first["ports"] = json!([{"containerPort": 80 + u32::from(value)}]);
        }
        let mut containers = vec![first];
        if body.flag && self == Self::Deployment {
            containers.push(json!({"name": "log", "image": "log:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}));
            return json!({"containers": containers, "volumes": [{"name": "data", "emptyDir": {}}]});
        }
        json!({"containers": containers})
    }
}
