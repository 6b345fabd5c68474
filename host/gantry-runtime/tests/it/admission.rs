//! What is let in, and what is told to what is not.

use gantry_runtime::{AdmitError, Interface, LoadError, ShapeError};

use crate::guests::guest;
use crate::world::{World, plain};

async fn refused(bytes: &[u8]) -> LoadError {
    let world = World::new();
    let error = world.runtime.load("acme", bytes, world.settings(&plain())).await.unwrap_err();
    world.serves_on().await;
    error
}

async fn refused_guest(name: &str) -> LoadError {
    let world = World::new();
    let error = world.load(name, plain()).await.unwrap_err();
    world.serves_on().await;
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_plugin_is_admitted_and_known() {
    let world = World::new();
    let blue = world.load("hello_blue", plain()).await.unwrap();
    assert_eq!(blue.description().name, "hello");
    assert_eq!(blue.description().version, "1.0.0");
    assert_eq!(blue.description().summary, "says hello in blue");
    assert_eq!(blue.provisioner(), "acme");
    assert_eq!(blue.digest(), gantry_runtime::digest(&guest("hello_blue")));
    assert_eq!(blue.digest().len(), 64);
    let interfaces: Vec<_> = blue.interfaces().iter().map(|one| one.name()).collect();
    assert_eq!(interfaces, ["plugin", "provisioner", "lifecycle"]);
    assert!(blue.imports().iter().any(|import| import == "gantry:provision/operation@0.1.0"));
    assert!(!blue.imports().iter().any(|import| import.contains("containers")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_refused() {
    let error = refused(b"all work and no play").await;
    assert!(matches!(error, LoadError::Admit(AdmitError::Garbage)));
    assert_eq!(error.to_string(), "this is no WebAssembly: the first bytes are not `\\0asm`");
    assert!(matches!(refused(b"").await, LoadError::Admit(AdmitError::Empty)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_cut_off_anywhere_is_refused() {
    let world = World::new();
    let whole = guest("noop");
    for length in [1, 4, 7, 8, 9, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let bytes = &whole[..length];
        let error = world.runtime.load("acme", bytes, world.settings(&plain())).await.unwrap_err();
        match error {
            LoadError::Admit(AdmitError::Truncated(told)) => assert_eq!(told, length),
            // A cut between two sections leaves a component that is whole and lacks what it needs.
            LoadError::Admit(AdmitError::Invalid(_)) | LoadError::Shape(_) => {}
            other => panic!("{length} bytes: {other:?}"),
        }
    }
    world.serves_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_whose_bytes_were_changed_is_refused_or_still_a_plugin() {
    let world = World::new();
    let whole = guest("noop");
    for step in 0..64 {
        let mut bytes = whole.clone();
        let place = 8 + step * (bytes.len() - 8) / 64;
        bytes[place] ^= 0x55;
        // Whatever becomes of it, it is an answer.
        let _ = world.runtime.load("acme", &bytes, world.settings(&plain())).await;
    }
    world.serves_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_plugin_is_refused_with_the_bound_and_how_to_raise_it() {
    let world = World::new();
    let with = crate::world::With::bounds([("plugin-size", "10KiB")]);
    let error = world.load("noop", with).await.unwrap_err().to_string();
    assert!(
        error.ends_with(
            "over the limit `plugin-size` of 10 KiB: raise `limits.plugin-size` of the provisioner in the configuration"
        ),
        "{error}"
    );
    world.serves_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_module_is_refused() {
    let error = refused(b"\0asm\x01\0\0\0").await;
    assert!(matches!(error, LoadError::Admit(AdmitError::CoreModule)));
    assert_eq!(
        error.to_string(),
        "this is a core module: a plugin is a component (target `wasm32-wasip2`, or `wasm-tools component new`)"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_text_form_is_refused() {
    let error = refused(b"(component (core module))").await;
    assert!(matches!(error, LoadError::Admit(AdmitError::Text)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_component_lacks_the_mandatory_interfaces() {
    let error = refused(b"\0asm\x0d\0\x01\0").await;
    let LoadError::Shape(ShapeError::MissingInterface(interface)) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*interface, Interface::Plugin);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_without_the_provisioner_is_refused_by_name() {
    assert_eq!(
        refused_guest("no_provisioner").await.to_string(),
        "the plugin does not export `gantry:provision/provisioner`, which every plugin must"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_another_shape_is_refused_with_what_was_expected_and_found() {
    assert_eq!(
        refused_guest("wrong_deployer").await.to_string(),
        "`deployer.deploy` has another shape: expected `func(app: app, image: string) -> result<string, error>`, found `func(app: string, version: u32) -> result<u32, string>`"
    );
    assert_eq!(
        refused_guest("wrong_result").await.to_string(),
        "`provisioner.units` has another shape: expected `func(apps: list<app>, after: option<string>) -> result<unit-page, error>`, found `func(apps: list<app>, after: option<string>) -> result<list<string>, error>`"
    );
}

/// The parts of a component, in its binary form.
struct Parts(Vec<u8>);

/// A number as the format writes it.
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return bytes;
        }
    }
}

fn name(text: &str) -> Vec<u8> {
    [&[0], number(text.len()).as_slice(), text.as_bytes()].concat()
}

impl Parts {
    fn new() -> Self {
        Self(b"\0asm\x0d\0\x01\0".to_vec())
    }

    fn section(mut self, id: u8, content: &[u8]) -> Self {
        self.0.push(id);
        self.0.extend(number(content.len()));
        self.0.extend(content);
        self
    }

    /// An instance of these, exported as `plugin`.
    fn exported(self, items: &[u8]) -> Vec<u8> {
        let plugin = name("gantry:provision/plugin@0.1.0");
        let export = [&[1], plugin.as_slice(), &[0x05, 0, 0]].concat();
        self.section(0x05, &[&[1, 0x01], items].concat()).section(0x0b, &export).0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_that_lacks_a_function_is_refused_with_what_was_expected() {
    let error = refused(&Parts::new().exported(&[0])).await;
    assert!(matches!(error, LoadError::Shape(ShapeError::MissingFunction { .. })), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the plugin exports `plugin` without `describe`: expected `func() -> description`"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_that_is_short_to_say_and_long_to_write_out_is_shown_in_part() {
    // A function that gives a number, and a memory.
    let module = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x02\x01\0\x05\x03\x01\0\x05\
        \x07\x09\x02\x01f\0\0\x01m\x02\0\x0a\x06\x01\x04\0\x41\0\x0b";
    // `tuple<u8, u8>`, and seventeen times a tuple of two of the one before: 262144 numbers.
    let mut types = vec![19, 0x6f, 2, 0x7d, 0x7d];
    for before in 0..17 {
        types.extend([0x6f, 2, before, before]);
    }
    types.extend([0x40, 0, 0, 17]);
    let bytes = Parts::new()
        .section(0x01, module)
        .section(0x02, &[1, 0, 0, 0])
        .section(0x06, b"\x02\0\0\x01\0\x01f\0\x02\x01\0\x01m")
        .section(0x07, &types)
        .section(0x08, &[1, 0, 0, 0, 1, 0x03, 0, 18])
        .exported(&[&[1], name("describe").as_slice(), &[0x01, 0]].concat());
    let text = refused(&bytes).await.to_string();
    let start = "`plugin.describe` has another shape: expected `func() -> description`, found `func() -> tuple<tuple<";
    assert!(text.starts_with(start), "{text}");
    assert!(text.len() < 2048, "{} bytes", text.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_no_plugin_may_have_is_refused_by_name() {
    assert_eq!(
        refused_guest("unknown_import").await.to_string(),
        "the plugin imports `gantry:provision/telepathy@0.1.0`, which no plugin may have"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_dies_describing_itself_is_refused() {
    let error = refused_guest("describe_traps").await.to_string();
    assert!(error.starts_with("`plugin.describe` failed: the plugin trapped: "), "{error}");
    assert!(error.contains("unreachable"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_described_with_nothing_granted() {
    assert_eq!(
        refused_guest("describe_calls_host").await.to_string(),
        "`plugin.describe` failed: the plugin trapped: `plugin.describe` must not call an import"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_greedy_plugin_gets_what_the_operator_gives_and_no_higher_bound() {
    let world = World::new();
    let with = plain().granted(["images:remove", "containers:binds:/srv"]);
    let greedy = world.load("greedy", with).await.unwrap();
    let grants: Vec<_> = greedy.grants().iter().map(String::as_str).collect();
    assert_eq!(grants, ["containers:binds:/srv", "images:remove"]);
    assert!(greedy.description().grants.iter().any(|asked| asked.grant == "moon:landing"));
    for bound in greedy.bounds().inspect() {
        assert_eq!(bound.value, bound.default, "{}", bound.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_does_not_exist_is_an_error_of_the_operator() {
    let world = World::new();
    let error = world.load("noop", plain().granted(["moon:landing"])).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the operator gave a grant that does not exist: no grant `moon:landing`"
    );
}
