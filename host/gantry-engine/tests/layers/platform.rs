use std::sync::Arc;

use gantry_engine::call::{AppsCall, ImagesCall, StateCall};
use gantry_engine::{Config, Operation};

use crate::*;

fn put(key: &str, value: &[u8], expected: Option<u64>) -> Call {
    Call::State(StateCall::PutIf { key: key.to_owned(), value: value.to_vec(), expected })
}

fn keys(prefix: &str, after: Option<String>, limit: u32) -> Call {
    Call::State(StateCall::List { prefix: prefix.to_owned(), after, limit })
}

async fn version(chain: &Chain, scope: &Arc<Scope>, call: Call) -> u64 {
    match reply(chain, scope, call).await.unwrap() {
        Reply::Number(version) => version.try_into().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_key_is_written_only_over_the_version_that_was_read() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    let first = version(&chain, &scope, put("unit/1", b"a", None)).await;
    for stale in [None, Some(first + 1)] {
        let error = reply(&chain, &scope, put("unit/1", b"b", stale)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the key `unit/1` is at version {first}"));
    }
    let second = version(&chain, &scope, put("unit/1", b"b", Some(first))).await;
    assert!(second > first);
    let delete = |expected| Call::State(StateCall::DeleteIf { key: "unit/1".to_owned(), expected });
    assert!(reply(&chain, &scope, delete(first)).await.is_err());
    reply(&chain, &scope, delete(second)).await.unwrap();
    reply(&chain, &scope, delete(second)).await.unwrap();
    let third = version(&chain, &scope, put("unit/1", b"c", None)).await;
    assert!(third > second, "a version is never used again");
}

#[tokio::test]
async fn keys_belong_to_their_owner() {
    let (chain, ours) = (Chain::new(backends(&engine())), Arc::new(scope()));
    let others = Arc::new(Scope::new("acme", INSTANCE, Operation::new("", Duration::from_secs(1))));
    version(&chain, &ours, put("unit/1", b"ours", None)).await;
    let get = || Call::State(StateCall::Get { key: "unit/1".to_owned() });
    assert_eq!(reply(&chain, &others, get()).await.unwrap(), Reply::Entry(None));
    version(&chain, &others, put("unit/1", b"others", None)).await;
    let Reply::Entry(Some(entry)) = reply(&chain, &ours, get()).await.unwrap() else {
        panic!("no entry");
    };
    assert_eq!(entry.value, b"ours");
}

#[tokio::test]
async fn keys_come_in_pages() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    for index in 0..300 {
        version(&chain, &scope, put(&format!("unit/{index:03}"), b"", None)).await;
    }
    version(&chain, &scope, put("other", b"", None)).await;
    for limit in [0, 7, 1000] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let Reply::Entries(page) =
                reply(&chain, &scope, keys("unit/", after, limit)).await.unwrap()
            else {
                panic!("no page");
            };
            assert!(!page.entries.is_empty() && page.entries.len() <= 256);
            seen.extend(page.entries.into_iter().map(|entry| entry.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), 300);
        assert!(seen.is_sorted());
    }
}

#[tokio::test]
async fn a_page_of_big_values_stays_within_what_a_call_may_carry() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    for index in 0..6 {
        version(&chain, &scope, put(&format!("big/{index}"), &[0; 1 << 20], None)).await;
    }
    let Reply::Entries(page) = reply(&chain, &scope, keys("big/", None, 0)).await.unwrap() else {
        panic!("no page");
    };
    assert_eq!((page.entries.len(), page.next.as_deref()), (3, Some("big/2")));
}

#[tokio::test]
async fn a_key_or_a_value_that_is_too_big_is_refused() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    let long = "k".repeat(513);
    for call in [put("", b"", None), put(&long, b"", None), put("k", &[0; (1 << 20) + 1], None)] {
        let error = reply(&chain, &scope, call).await.unwrap_err();
        assert!(
            matches!(error, Error::Platform(gantry_core::Error::InvalidArgument(_))),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_environment_of_a_unit_follows_the_configuration() {
    let platform = Platform::new()
        .app(App { name: "web".to_owned(), ..App::default() })
        .env("web", "PORT", "1")
        .env("web", "GREETING", "hello");
    let chain = Chain::new(platform.backends("docker", [(NODE, engine())]));
    let tables = serde_json::json!({"host": "https://paas", "docker": {"run-cmd": {"port": 9000}}});
    let scope = Arc::new(scope().with_config(Arc::new(Config::new(tables))));
    let envs = Call::Apps(AppsCall::UnitEnvs {
        name: "web".to_owned(),
        process: "worker".to_owned(),
        is_deploy: false,
    });
    let expected = [
        ("GREETING", "hello"),
        ("TSURU_SERVICES", "{}"),
        ("TSURU_PROCESSNAME", "worker"),
        ("TSURU_HOST", "https://paas"),
        ("port", "9000"),
        ("PORT", "9000"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    assert_eq!(reply(&chain, &scope, envs).await.unwrap(), Reply::UnitEnvs(expected));
    let key = Call::Config { key: "docker:run-cmd:port".to_owned() };
    let port = Reply::OptionalText(Some("9000".to_owned()));
    assert_eq!(reply(&chain, &scope, key).await.unwrap(), port);
}

#[tokio::test]
async fn an_image_of_an_app_is_reserved_deployed_and_forgotten() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    let app = || "web".to_owned();
    let current = || Call::Images(ImagesCall::Current { app: app() });
    let text = |text: &str| Reply::Text(text.to_owned());
    assert_eq!(reply(&chain, &scope, current()).await.unwrap(), text("tsuru/app-web"));
    for version in ["tsuru/app-web:v1", "tsuru/app-web:v2"] {
        let reserve = Call::Images(ImagesCall::Reserve { app: app() });
        assert_eq!(reply(&chain, &scope, reserve).await.unwrap(), text(version));
        let append = ImagesCall::Append { app: app(), image: version.to_owned() };
        reply(&chain, &scope, Call::Images(append)).await.unwrap();
    }
    let save = |data: &str| {
        Call::Images(ImagesCall::SaveMetadata {
            image: "tsuru/app-web:v2".to_owned(),
            custom_data: data.to_owned(),
        })
    };
    let data = r#"{"processes": {"web": "serve"}}"#;
    reply(&chain, &scope, save(data)).await.unwrap();
    reply(&chain, &scope, save(data)).await.unwrap();
    let error = reply(&chain, &scope, save(r#"{"processes": {"web": "other"}}"#)).await;
    assert!(matches!(error, Err(Error::Platform(gantry_core::Error::Conflict(_)))));
    let forget = ImagesCall::Forget { app: app(), image: "tsuru/app-web:v2".to_owned() };
    reply(&chain, &scope, Call::Images(forget)).await.unwrap();
    assert_eq!(reply(&chain, &scope, current()).await.unwrap(), text("tsuru/app-web:v1"));
    let metadata = ImagesCall::GetMetadata { image: "tsuru/app-web:v2".to_owned() };
    let none = reply(&chain, &scope, Call::Images(metadata)).await.unwrap();
    assert_eq!(none, Reply::Metadata(None));
}

#[tokio::test]
async fn the_name_of_an_image_has_no_control_characters_and_an_end() {
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    let app = || "web".to_owned();
    for image in ["docker\nshop:v2".to_owned(), "a".repeat(513)] {
        let custom_data = "{}".to_owned();
        for call in [
            ImagesCall::Append { app: app(), image: image.clone() },
            ImagesCall::SaveMetadata { image: image.clone(), custom_data },
            ImagesCall::Forget { app: app(), image: image.clone() },
        ] {
            let error = reply(&chain, &scope, Call::Images(call)).await.unwrap_err();
            assert!(
                matches!(error, Error::Platform(gantry_core::Error::InvalidArgument(_))),
                "{error}"
            );
        }
    }
    let custom_data = format!("\"{}\"", "x".repeat(1 << 20));
    let call = ImagesCall::SaveMetadata { image: "a:1".to_owned(), custom_data };
    assert!(reply(&chain, &scope, Call::Images(call)).await.is_err());
}

#[tokio::test]
async fn a_call_and_its_reply_can_be_written_down() {
    let written = serde_json::to_string(&create("web-1")).unwrap();
    assert_eq!(serde_json::from_str::<Call>(&written).unwrap(), create("web-1"));
    let (chain, scope) = (Chain::new(backends(&engine())), Arc::new(scope()));
    created(&chain, &scope, "web-1").await;
    let reply = reply(&chain, &scope, inspect("web-1")).await.unwrap();
    let written = serde_json::to_string(&reply).unwrap();
    assert_eq!(serde_json::from_str::<Reply>(&written).unwrap(), reply);
}
