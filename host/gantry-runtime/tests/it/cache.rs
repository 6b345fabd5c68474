//! Compiled plugins on disk, and the process that compiles.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_runtime::{CompileError, Compiler, LoadError, RuntimeSettings};

use crate::world::{World, plain};

fn kept_in(folder: &Path) -> World {
    World::with(RuntimeSettings {
        cache: Some(folder.join("compiled")),
        calls: 4,
        ..RuntimeSettings::default()
    })
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("compiled")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tampered_entry_is_never_run_and_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    kept_in(folder.path()).load("hello_blue", plain()).await.unwrap();
    let [entry] = &entries(folder.path())[..] else {
        panic!("not one entry");
    };
    let honest = std::fs::read(entry).unwrap();

    // Loaded from the entry: a host that cannot compile at all is content with it.
    let idle = World::with(RuntimeSettings {
        cache: Some(folder.path().join("compiled")),
        compiler: Compiler::Worker {
            program: "/nowhere".into(),
            args: Vec::new(),
            timeout: Duration::from_secs(1),
            memory: 1 << 30,
        },
        calls: 4,
        ..RuntimeSettings::default()
    });
    idle.load("hello_blue", plain()).await.unwrap();

    let mut changed = honest.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for tampered in [&changed[..], &honest[..honest.len() / 2], b"", &[0; 4096]] {
        std::fs::write(entry, tampered).unwrap();
        // Not trusted: the host that cannot compile has nothing to run.
        let error = idle.load("hello_blue", plain()).await.unwrap_err();
        assert!(matches!(error, LoadError::Compile(CompileError::Worker(_))), "{error:?}");
        // Made anew by the one that can, and good again.
        kept_in(folder.path()).serves_on().await;
        idle.load("hello_blue", plain()).await.unwrap();
    }
}

fn worker(timeout: Duration, memory: u64) -> World {
    World::with(RuntimeSettings {
        compiler: Compiler::Worker {
            program: env!("CARGO_BIN_EXE_gantry-compile-worker").into(),
            args: Vec::new(),
            timeout,
            memory,
        },
        calls: 4,
        ..RuntimeSettings::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_of_its_own_compiles_what_the_host_runs() {
    worker(Duration::from_secs(120), 4 << 30).serves_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiler_that_takes_too_long_is_killed() {
    let timeout = Duration::from_millis(1);
    let error = worker(timeout, 4 << 30).load("deployer", plain()).await.unwrap_err();
    let LoadError::Compile(error) = error else {
        panic!("{error:?}");
    };
    assert_eq!(error, CompileError::TimedOut(timeout));
    assert_eq!(
        error.to_string(),
        "it does not compile within 1ms: raise `compiler.timeout` in the configuration"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiler_without_memory_dies_alone() {
    let error = worker(Duration::from_secs(120), 8 << 20).load("deployer", plain()).await;
    let LoadError::Compile(error) = error.unwrap_err() else {
        panic!("not refused by the compiler");
    };
    assert!(matches!(error, CompileError::Died { .. } | CompileError::Refused(_)), "{error:?}");
    World::new().serves_on().await;
}
