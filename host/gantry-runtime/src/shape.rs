//! What the contract expects of a component's exports, and whether a component has it. The contract is the WIT package itself, read from its text.
//!
//! Types are compared by their structure, as the component model does; in messages a type that is one of the package's carries its name.
//!
//! A component's types are never written out whole: a small file can say a type of any size. They are compared with the contract's to the first difference, and shown in part.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use wasmtime::Engine;
use wasmtime::component::ResourceType;
use wasmtime::component::types::{Component, ComponentFunc, ComponentItem, Type};
use wit_parser::{Handle, InterfaceId, Resolve, SourceMap, TypeDefKind, WorldItem};

use crate::admit::{PACKAGE, is_compatible};
use crate::host::streams::{Reader, Session, Writer};
use crate::interface::Interface;

/// The files of the package.
const FILES: &[(&str, &str)] = &[
    ("app-filter.wit", include_str!("../../../wit/app-filter.wit")),
    ("apps.wit", include_str!("../../../wit/apps.wit")),
    ("cluster-builder.wit", include_str!("../../../wit/cluster-builder.wit")),
    ("cluster.wit", include_str!("../../../wit/cluster.wit")),
    ("config.wit", include_str!("../../../wit/config.wit")),
    ("containers.wit", include_str!("../../../wit/containers.wit")),
    ("deployer.wit", include_str!("../../../wit/deployer.wit")),
    ("docker-builder.wit", include_str!("../../../wit/docker-builder.wit")),
    ("exec.wit", include_str!("../../../wit/exec.wit")),
    ("healing.wit", include_str!("../../../wit/healing.wit")),
    ("image-cleaner.wit", include_str!("../../../wit/image-cleaner.wit")),
    ("images.wit", include_str!("../../../wit/images.wit")),
    ("labels.wit", include_str!("../../../wit/labels.wit")),
    ("lifecycle.wit", include_str!("../../../wit/lifecycle.wit")),
    ("limiter.wit", include_str!("../../../wit/limiter.wit")),
    ("log.wit", include_str!("../../../wit/log.wit")),
    ("logs.wit", include_str!("../../../wit/logs.wit")),
    ("node-containers.wit", include_str!("../../../wit/node-containers.wit")),
    ("node-health.wit", include_str!("../../../wit/node-health.wit")),
    ("node-rebalance.wit", include_str!("../../../wit/node-rebalance.wit")),
    ("nodes.wit", include_str!("../../../wit/nodes.wit")),
    ("operation.wit", include_str!("../../../wit/operation.wit")),
    ("plugin.wit", include_str!("../../../wit/plugin.wit")),
    ("provisioner.wit", include_str!("../../../wit/provisioner.wit")),
    ("rollback.wit", include_str!("../../../wit/rollback.wit")),
    ("routers.wit", include_str!("../../../wit/routers.wit")),
    ("shell.wit", include_str!("../../../wit/shell.wit")),
    ("sleep.wit", include_str!("../../../wit/sleep.wit")),
    ("state.wit", include_str!("../../../wit/state.wit")),
    ("streams.wit", include_str!("../../../wit/streams.wit")),
    ("types.wit", include_str!("../../../wit/types.wit")),
    ("unit-finder.wit", include_str!("../../../wit/unit-finder.wit")),
    ("unit-kill.wit", include_str!("../../../wit/unit-kill.wit")),
    ("unit-status.wit", include_str!("../../../wit/unit-status.wit")),
    ("volumes.wit", include_str!("../../../wit/volumes.wit")),
    ("world.wit", include_str!("../../../wit/world.wit")),
];

/// How an export differs from the contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A mandatory interface is not there.
    #[error("the plugin does not export `{PACKAGE}/{0}`, which every plugin must")]
    MissingInterface(Interface),
    /// An interface is there without one of its functions.
    #[error("the plugin exports `{interface}` without `{function}`: expected `{expected}`")]
    MissingFunction {
        /// The interface.
        interface: Interface,
        /// The function.
        function: String,
        /// Its type in the contract.
        expected: String,
    },
    /// A function has another type.
    #[error("`{interface}.{function}` has another shape: expected `{expected}`, found `{found}`")]
    Function {
        /// The interface.
        interface: Interface,
        /// The function.
        function: String,
        /// Its type in the contract.
        expected: String,
        /// Its type in the component.
        found: String,
    },
    /// An interface of another version of the package.
    #[error("the plugin exports `{0}`, and this host speaks version 0.1 of `{PACKAGE}`")]
    Version(String),
    /// An export with an interface's name that is no interface.
    #[error("the plugin exports `{0}`, which is {1} and not an interface")]
    NoInterface(String, &'static str),
}

/// The structure of a type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    /// A type without parts, or a resource by the name of its package.
    Word(String),
    /// `own`, `borrow`, `list`, `option`, `tuple`, `result`: what it is made of, in order.
    Of(&'static str, Vec<Option<Self>>),
    /// `record`, `variant`, `enum`, `flags`: named parts.
    Named(&'static str, Vec<(String, Option<Self>)>),
}

/// The type of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    params: Vec<(String, Shape)>,
    result: Option<Shape>,
}

/// What the package says of the interfaces that plugins export.
pub(crate) struct Contract {
    functions: BTreeMap<&'static str, BTreeMap<String, Signature>>,
    /// The types of the package that have names.
    names: BTreeMap<Shape, String>,
}

impl Contract {
    /// Reads the package.
    pub(crate) fn read() -> Result<Self, String> {
        let mut sources = SourceMap::new();
        for (name, text) in FILES {
            sources.push_str(name, *text);
        }
        let group = sources.parse().map_err(|(_, error)| error.to_string())?;
        let mut resolve = Resolve::new();
        let package = resolve.push_group(group).map_err(|error| error.to_string())?;
        let world = resolve
            .packages
            .get(package)
            .and_then(|package| package.worlds.get("everything"))
            .and_then(|world| resolve.worlds.get(*world))
            .ok_or("the package has no world `everything`")?;
        let mut contract = Self { functions: BTreeMap::new(), names: BTreeMap::new() };
        let interfaces = world.imports.values().chain(world.exports.values());
        for item in interfaces {
            if let WorldItem::Interface { id, .. } = item {
                contract.name_types(&resolve, *id);
            }
        }
        for item in world.exports.values() {
            if let WorldItem::Interface { id, .. } = item {
                contract.read_interface(&resolve, *id)?;
            }
        }
        Ok(contract)
    }

    fn name_types(&mut self, resolve: &Resolve, id: InterfaceId) {
        let types = resolve.interfaces.get(id).map(|interface| &interface.types);
        for (name, id) in types.into_iter().flatten() {
            let shape = wit_type(resolve, &wit_parser::Type::Id(*id));
            if let Shape::Named(..) = shape {
                self.names.entry(shape).or_insert_with(|| name.clone());
            }
        }
    }

    fn read_interface(&mut self, resolve: &Resolve, id: InterfaceId) -> Result<(), String> {
        let interface = resolve.interfaces.get(id).ok_or("an export is nowhere")?;
        let name = interface.name.as_deref().unwrap_or_default();
        let known =
            Interface::ALL.iter().copied().find(|known| known.name() == name).ok_or_else(|| {
                format!("the package exports `{name}`, which the host does not know")
            })?;
        let functions = interface.functions.iter().map(|(name, function)| {
            let params = function
                .params
                .iter()
                .map(|param| (param.name.clone(), wit_type(resolve, &param.ty)))
                .collect();
            let result = function.result.as_ref().map(|ty| wit_type(resolve, ty));
            (name.clone(), Signature { params, result })
        });
        self.functions.insert(known.name(), functions.collect());
        Ok(())
    }

    /// Checks every function that a component exports under a name of the contract, and tells which interfaces it has.
    ///
    /// `component` is its type with the linker's resources in place of its imports, so that a `writer` of the contract is known for one.
    pub(crate) fn check(
        &self,
        engine: &Engine,
        component: &Component,
    ) -> Result<BTreeSet<Interface>, ShapeError> {
        let resources = resources();
        let mut found = BTreeSet::new();
        let ours = |name: &str| {
            let (name, version) = name.split_once('@').unwrap_or((name, ""));
            let interface = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
            Some((interface.to_owned(), version.to_owned()))
        };
        for (name, item) in component.exports(engine) {
            let Some((interface, version)) = ours(name) else {
                continue;
            };
            if !is_compatible(&version) {
                return Err(ShapeError::Version(name.to_owned()));
            }
            let Some(interface) =
                Interface::ALL.iter().copied().find(|one| one.name() == interface)
            else {
                // A newer host may know it.
                tracing::warn!(
                    interface = name,
                    "an export that this host does not know is passed over"
                );
                continue;
            };
            let ComponentItem::ComponentInstance(instance) = &item.ty else {
                return Err(ShapeError::NoInterface(name.to_owned(), kind(&item.ty)));
            };
            for (function, expected) in self.functions.get(interface.name()).into_iter().flatten() {
                let item = instance.get_export(engine, function).map(|item| item.ty);
                self.check_function(interface, function, expected, item.as_ref(), &resources)?;
            }
            found.insert(interface);
        }
        for &interface in Interface::ALL {
            if interface.is_mandatory() && !found.contains(&interface) {
                return Err(ShapeError::MissingInterface(interface));
            }
        }
        Ok(found)
    }

    fn check_function(
        &self,
        interface: Interface,
        function: &str,
        expected: &Signature,
        item: Option<&ComponentItem>,
        resources: &Resources,
    ) -> Result<(), ShapeError> {
        let differs = |found: String| ShapeError::Function {
            interface,
            function: function.to_owned(),
            expected: self.show(expected),
            found,
        };
        match item {
            None => Err(ShapeError::MissingFunction {
                interface,
                function: function.to_owned(),
                expected: self.show(expected),
            }),
            Some(ComponentItem::ComponentFunc(func)) => {
                if is_function(func, expected, resources) && !func.async_() {
                    Ok(())
                } else {
                    Err(differs(self.show_found(func, resources)))
                }
            }
            Some(other) => Err(differs(kind(other).to_owned())),
        }
    }

    fn show(&self, signature: &Signature) -> String {
        let mut text = String::from("func(");
        for (index, (name, shape)) in signature.params.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{name}: ");
            self.write(&mut text, shape);
        }
        text.push(')');
        if let Some(result) = &signature.result {
            text.push_str(" -> ");
            self.write(&mut text, result);
        }
        text
    }

    /// A function of a component, as much of it as people can read.
    fn show_found(&self, func: &ComponentFunc, resources: &Resources) -> String {
        let mut text = Short::default();
        text.push("func(");
        for (index, (name, ty)) in func.params().enumerate() {
            if text.full {
                break;
            }
            text.comma(index);
            text.push(name);
            text.push(": ");
            self.write_found(&mut text, &ty, resources, 0);
        }
        text.push(")");
        if let Some(result) = func.results().next() {
            text.push(" -> ");
            self.write_found(&mut text, &result, resources, 0);
        }
        text.text
    }

    fn write_found(&self, text: &mut Short, ty: &Type, resources: &Resources, depth: usize) {
        if text.full {
            return;
        }
        if depth > DEEPEST {
            text.push("…");
            return;
        }
        let named = |(shape, _): &(&Shape, &String)| is_type(ty, shape, resources);
        let is_compound =
            matches!(ty, Type::Record(_) | Type::Variant(_) | Type::Enum(_) | Type::Flags(_));
        if is_compound && let Some((_, name)) = self.names.iter().find(named) {
            text.push(name);
            return;
        }
        match parts(ty, resources) {
            Parts::Word(word) => text.push(word),
            Parts::Of(what, parts) => {
                text.push(what);
                let mut parts = parts.peekable();
                if is_bare_result(ty) || parts.peek().is_none() {
                    return;
                }
                text.push("<");
                for (index, part) in parts.enumerate() {
                    if text.full {
                        return;
                    }
                    text.comma(index);
                    match part {
                        Some(Part::Type(ty)) => self.write_found(text, &ty, resources, depth + 1),
                        Some(Part::Resource(name)) => text.push(name),
                        None => text.push("_"),
                    }
                }
                text.push(">");
            }
            Parts::Named(what, parts) => {
                text.push(what);
                text.push(" { ");
                for (index, (name, part)) in parts.enumerate() {
                    if text.full {
                        return;
                    }
                    text.comma(index);
                    text.push(name);
                    if let Some(ty) = part {
                        text.push(": ");
                        self.write_found(text, &ty, resources, depth + 1);
                    }
                }
                text.push(" }");
            }
        }
    }

    fn write(&self, text: &mut String, shape: &Shape) {
        if let Some(name) = self.names.get(shape) {
            text.push_str(name);
            return;
        }
        match shape {
            Shape::Word(word) => text.push_str(word),
            Shape::Of(what, parts) if *what == "result" && parts.iter().all(Option::is_none) => {
                text.push_str(what);
            }
            Shape::Of(what, parts) => {
                text.push_str(what);
                text.push('<');
                for (index, part) in parts.iter().enumerate() {
                    if index > 0 {
                        text.push_str(", ");
                    }
                    match part {
                        Some(part) => self.write(text, part),
                        None => text.push('_'),
                    }
                }
                text.push('>');
            }
            Shape::Named(what, parts) => {
                text.push_str(what);
                text.push_str(" { ");
                for (index, (name, part)) in parts.iter().enumerate() {
                    if index > 0 {
                        text.push_str(", ");
                    }
                    text.push_str(name);
                    if let Some(part) = part {
                        text.push_str(": ");
                        self.write(text, part);
                    }
                }
                text.push_str(" }");
            }
        }
    }
}

fn word(text: &str) -> Shape {
    Shape::Word(text.to_owned())
}

/// The structure of a type of the package.
fn wit_type(resolve: &Resolve, ty: &wit_parser::Type) -> Shape {
    use wit_parser::Type as Wit;
    let id = match ty {
        Wit::Bool => return word("bool"),
        Wit::U8 => return word("u8"),
        Wit::U16 => return word("u16"),
        Wit::U32 => return word("u32"),
        Wit::U64 => return word("u64"),
        Wit::S8 => return word("s8"),
        Wit::S16 => return word("s16"),
        Wit::S32 => return word("s32"),
        Wit::S64 => return word("s64"),
        Wit::F32 => return word("f32"),
        Wit::F64 => return word("f64"),
        Wit::Char => return word("char"),
        Wit::String => return word("string"),
        Wit::ErrorContext => return word("error-context"),
        Wit::Id(id) => *id,
    };
    let Some(definition) = resolve.types.get(id) else {
        return word("unknown");
    };
    let one = |ty: &wit_parser::Type| Some(wit_type(resolve, ty));
    let maybe = |ty: &Option<wit_parser::Type>| ty.as_ref().map(|ty| wit_type(resolve, ty));
    let name = |id: &wit_parser::TypeId| {
        // A resource that is used from another interface is a name for the one there.
        let mut id = *id;
        while let Some(definition) = resolve.types.get(id) {
            if let TypeDefKind::Type(Wit::Id(other)) = &definition.kind {
                id = *other;
            } else {
                return Some(word(definition.name.as_deref().unwrap_or_default()));
            }
        }
        None
    };
    match &definition.kind {
        TypeDefKind::Type(ty) => wit_type(resolve, ty),
        TypeDefKind::Record(record) => Shape::Named(
            "record",
            record.fields.iter().map(|field| (field.name.clone(), one(&field.ty))).collect(),
        ),
        TypeDefKind::Variant(variant) => Shape::Named(
            "variant",
            variant.cases.iter().map(|case| (case.name.clone(), maybe(&case.ty))).collect(),
        ),
        TypeDefKind::Enum(words) => {
            Shape::Named("enum", words.cases.iter().map(|case| (case.name.clone(), None)).collect())
        }
        TypeDefKind::Flags(flags) => Shape::Named(
            "flags",
            flags.flags.iter().map(|flag| (flag.name.clone(), None)).collect(),
        ),
        TypeDefKind::List(ty) => Shape::Of("list", vec![one(ty)]),
        TypeDefKind::Option(ty) => Shape::Of("option", vec![one(ty)]),
        TypeDefKind::Tuple(tuple) => Shape::Of("tuple", tuple.types.iter().map(one).collect()),
        TypeDefKind::Result(result) => {
            Shape::Of("result", vec![maybe(&result.ok), maybe(&result.err)])
        }
        TypeDefKind::Handle(Handle::Own(id)) => Shape::Of("own", vec![name(id)]),
        TypeDefKind::Handle(Handle::Borrow(id)) => Shape::Of("borrow", vec![name(id)]),
        // The package has none of these: its rules forbid them.
        TypeDefKind::Resource
        | TypeDefKind::Map(..)
        | TypeDefKind::FixedLengthList(..)
        | TypeDefKind::Future(_)
        | TypeDefKind::Stream(_)
        | TypeDefKind::Unknown => word(definition.kind.as_str()),
    }
}

/// The host's resources that exports of the contract mention.
type Resources = Vec<(ResourceType, &'static str)>;

fn resources() -> Resources {
    vec![
        (ResourceType::host::<Reader>(), "reader"),
        (ResourceType::host::<Writer>(), "writer"),
        (ResourceType::host::<Session>(), "session"),
    ]
}

/// Whether two functions are the same to a caller: the names of parameters are for people.
fn is_function(func: &ComponentFunc, expected: &Signature, resources: &Resources) -> bool {
    let params = func.params();
    let result = func.results().next();
    params.len() == expected.params.len()
        && params.zip(&expected.params).all(|((_, ty), (_, shape))| is_type(&ty, shape, resources))
        && match (&result, &expected.result) {
            (Some(ty), Some(shape)) => is_type(ty, shape, resources),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
}

/// Whether a type of a component is one of the contract. Looks no further than the first difference, so it costs no more than the contract's type is big.
fn is_type(ty: &Type, shape: &Shape, resources: &Resources) -> bool {
    let part = |ty: Option<Type>, shape: &Option<Shape>| match (&ty, shape) {
        (Some(ty), Some(shape)) => is_type(ty, shape, resources),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    match (parts(ty, resources), shape) {
        (Parts::Word(found), Shape::Word(expected)) => found == expected,
        (Parts::Of(found, mut parts), Shape::Of(what, expected)) => {
            let same = |shape: &Option<Shape>| match (parts.next(), shape) {
                (Some(Some(Part::Resource(name))), Some(Shape::Word(word))) => name == word,
                (Some(Some(Part::Type(ty))), shape) => part(Some(ty), shape),
                (Some(None), shape) => shape.is_none(),
                (Some(Some(Part::Resource(_))), _) | (None, _) => false,
            };
            found == *what && expected.iter().all(same) && parts.next().is_none()
        }
        (Parts::Named(found, mut parts), Shape::Named(what, expected)) => {
            let same = |(name, shape): &(String, Option<Shape>)| match parts.next() {
                Some((found, ty)) => found == name && part(ty, shape),
                None => false,
            };
            found == *what && expected.iter().all(same) && parts.next().is_none()
        }
        (Parts::Word(_) | Parts::Of(..) | Parts::Named(..), _) => false,
    }
}

/// One level of a component's type, taken as it is asked for.
enum Parts<'a> {
    Word(&'static str),
    Of(&'static str, Box<dyn Iterator<Item = Option<Part>> + 'a>),
    Named(&'static str, Box<dyn Iterator<Item = (&'a str, Option<Type>)> + 'a>),
}

enum Part {
    Type(Type),
    Resource(&'static str),
}

fn parts<'a>(ty: &'a Type, resources: &Resources) -> Parts<'a> {
    let of = |what, parts: Vec<Option<Type>>| {
        Parts::Of(what, Box::new(parts.into_iter().map(|ty| ty.map(Part::Type))))
    };
    let handle = |what, ty: &ResourceType| {
        let known = resources.iter().find(|(known, _)| known == ty);
        let name = known.map_or("a resource of the plugin's own", |(_, name)| *name);
        Parts::Of(what, Box::new(std::iter::once(Some(Part::Resource(name)))))
    };
    match ty {
        Type::Bool => Parts::Word("bool"),
        Type::S8 => Parts::Word("s8"),
        Type::U8 => Parts::Word("u8"),
        Type::S16 => Parts::Word("s16"),
        Type::U16 => Parts::Word("u16"),
        Type::S32 => Parts::Word("s32"),
        Type::U32 => Parts::Word("u32"),
        Type::S64 => Parts::Word("s64"),
        Type::U64 => Parts::Word("u64"),
        Type::Float32 => Parts::Word("f32"),
        Type::Float64 => Parts::Word("f64"),
        Type::Char => Parts::Word("char"),
        Type::String => Parts::Word("string"),
        Type::List(list) => of("list", vec![Some(list.ty())]),
        Type::Option(option) => of("option", vec![Some(option.ty())]),
        Type::Result(result) => of("result", vec![result.ok(), result.err()]),
        Type::Tuple(tuple) => {
            Parts::Of("tuple", Box::new(tuple.types().map(|ty| Some(Part::Type(ty)))))
        }
        Type::Own(ty) => handle("own", ty),
        Type::Borrow(ty) => handle("borrow", ty),
        Type::Record(record) => Parts::Named(
            "record",
            Box::new(record.fields().map(|field| (field.name, Some(field.ty)))),
        ),
        Type::Variant(variant) => {
            Parts::Named("variant", Box::new(variant.cases().map(|case| (case.name, case.ty))))
        }
        Type::Enum(words) => Parts::Named("enum", Box::new(words.names().map(|name| (name, None)))),
        Type::Flags(flags) => {
            Parts::Named("flags", Box::new(flags.names().map(|name| (name, None))))
        }
        Type::Map(_) => Parts::Word("map"),
        Type::FixedLengthList(_) => Parts::Word("a list of fixed length"),
        Type::Future(_) => Parts::Word("future"),
        Type::Stream(_) => Parts::Word("stream"),
        Type::ErrorContext => Parts::Word("error-context"),
    }
}

fn is_bare_result(ty: &Type) -> bool {
    matches!(ty, Type::Result(result) if result.ok().is_none() && result.err().is_none())
}

/// How deep a component's type is shown.
const DEEPEST: usize = 16;

/// A text that ends after about a kibibyte.
#[derive(Default)]
struct Short {
    text: String,
    full: bool,
}

impl Short {
    const MOST: usize = 1 << 10;

    fn push(&mut self, text: &str) {
        if self.full {
            return;
        }
        let room = Self::MOST.saturating_sub(self.text.len());
        let end = text.floor_char_boundary(room);
        self.text.push_str(text.get(..end).unwrap_or_default());
        if end < text.len() {
            self.text.push('…');
            self.full = true;
        }
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.push(", ");
        }
    }
}

fn kind(item: &ComponentItem) -> &'static str {
    match item {
        ComponentItem::ComponentFunc(_) => "a function",
        ComponentItem::CoreFunc(_) => "a core function",
        ComponentItem::Module(_) => "a module",
        ComponentItem::Component(_) => "a component",
        ComponentItem::ComponentInstance(_) => "an interface",
        ComponentItem::Type(_) => "a type",
        ComponentItem::Resource(_) => "a resource",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_is_all_of_the_package() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".wit"))
            .collect();
        files.sort();
        assert_eq!(files, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let contract = Contract::read().unwrap();
        assert_eq!(contract.functions.len(), Interface::ALL.len());
    }

    #[test]
    fn a_function_of_the_contract_is_shown_with_the_names_of_its_types() {
        let contract = Contract::read().unwrap();
        let show = |interface: &str, function: &str| {
            contract.show(contract.functions.get(interface).unwrap().get(function).unwrap())
        };
        assert_eq!(
            show("deployer", "deploy"),
            "func(app: app, image: string) -> result<string, error>"
        );
        assert_eq!(show("provisioner", "provision"), "func(app: app) -> result<_, error>");
        assert_eq!(
            show("exec", "execute"),
            "func(app: app, command: string, args: list<string>, stdout: own<writer>, stderr: own<writer>) -> result<s32, error>"
        );
        assert_eq!(show("plugin", "describe"), "func() -> description");
    }
}
