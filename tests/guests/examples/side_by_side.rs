//! Sequences side by side, and a client with little time.
//!
//! | verb | what it does |
//! |---|---|
//! | provision | three sequences that wait 1500, 700 and 0 milliseconds, and one more that is added when the first has ended; shows the number of each as it ends |
//! | destroy | a sequence that waits, then makes a container `late`; and drops the batch at once |
//! | restart | a sequence whose second step cannot be done; shows how many replies came, and what failed |
//! | stop | a sequence that makes the containers `first` and `second`, and one that makes `third`; shows the replies and the failure of each in their order |
//! | register-unit | a batch for each letter of the unit's id, with a sequence that makes a container of that name, all before the first is looked at |
//! | add-units | downloads from the container `unit-1` in a sequence, and shows what failed |
//! | start | inspects the container `web` with a tenth of a second for it |

use gantry_guests::containers::{self, Client, CreateOptions, Step};
use gantry_guests::types::{App, Error};
use gantry_guests::{Guest, first_node, operation, sequence};

struct SideBySide;

/// Makes a container of this name.
fn create(name: &str) -> Step {
    let body = r#"{"Image": "registry/web:v1"}"#.into();
    Step::Create(CreateOptions { name: name.into(), body })
}

impl Guest for SideBySide {
    const NAME: &'static str = "side-by-side";

    fn provision(_app: App) -> Result<(), Error> {
        let node = first_node()?;
        let waits = |milliseconds| sequence(&node, vec![Step::Pause(milliseconds)]);
        let batch = containers::submit(&[waits(1_500), waits(700), waits(0)]);
        let mut added = false;
        while let Some(ended) = batch.next() {
            operation::progress(&format!("{} ", ended.index));
            if !added {
                batch.add(&[waits(0)]);
                added = true;
            }
        }
        Ok(())
    }

    fn destroy(_app: App) -> Result<(), Error> {
        let steps = vec![Step::Pause(300), create("late")];
        drop(containers::submit(&[sequence(first_node()?, steps)]));
        Ok(())
    }

    fn restart(_app: App, _process: String) -> Result<(), Error> {
        let nothing = "nothing".to_owned();
        let steps = vec![Step::Pause(0), Step::Start(nothing), Step::Pause(0)];
        let batch = containers::submit(&[sequence(first_node()?, steps)]);
        while let Some(ended) = batch.next() {
            let failure = ended.failure.is_some();
            operation::progress(&format!("{} replies, failed: {failure}", ended.replies.len()));
        }
        Ok(())
    }

    fn stop(_app: App, _process: String) -> Result<(), Error> {
        let node = first_node()?;
        let make =
            |names: &[&str]| sequence(&node, names.iter().map(|name| create(name)).collect());
        let batch = containers::submit(&[make(&["first", "second"]), make(&["third"])]);
        let mut ended: Vec<_> = std::iter::from_fn(|| batch.next()).collect();
        ended.sort_by_key(|ended| ended.index);
        for ended in ended {
            operation::progress(&format!("{} {:?}\n", ended.replies.len(), ended.failure));
        }
        Ok(())
    }

    fn register_unit(_app: App, unit: String, _custom_data: Option<String>) -> Result<(), Error> {
        let node = first_node()?;
        let batches: Vec<_> = unit
            .chars()
            .map(|name| {
                let steps = vec![create(&format!("unit-{name}"))];
                containers::submit(&[sequence(&node, steps)])
            })
            .collect();
        while batches.iter().any(|batch| batch.next().is_some()) {}
        Ok(())
    }

    fn add_units(_app: App, _count: u32, _process: String) -> Result<(), Error> {
        let steps = vec![Step::Download(("unit-1".into(), "/".into()))];
        let batch = containers::submit(&[sequence(first_node()?, steps)]);
        while let Some(ended) = batch.next() {
            operation::progress(&format!("{:?}", ended.failure));
        }
        Ok(())
    }

    fn start(_app: App, _process: String) -> Result<(), Error> {
        let client = Client::open(&first_node()?)?;
        client.set_timeout(100);
        client.inspect_container("web")?;
        Ok(())
    }
}

gantry_guests::export!(SideBySide: plugin, provisioner);
