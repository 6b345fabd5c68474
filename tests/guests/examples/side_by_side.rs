//! Sequences side by side, and a client with little time.
//!
//! | verb | what it does |
//! |---|---|
//! | provision | three sequences that wait 1500, 700 and 0 milliseconds, and one more that is added when the first has ended; shows the number of each as it ends |
//! | destroy | a sequence that waits, then makes a container `late`; and drops the batch at once |
//! | restart | a sequence whose second step cannot be done; shows how many replies came, and what failed |
//! | start | inspects the container `web` with a tenth of a second for it |

use gantry_guests::containers::{self, Client, CreateOptions, Sequence, Step};
use gantry_guests::types::{App, Error};
use gantry_guests::{Guest, first_node, operation};

struct SideBySide;

impl Guest for SideBySide {
    const NAME: &'static str = "side-by-side";

    fn provision(_app: App) -> Result<(), Error> {
        let node = first_node()?;
        let waits =
            |milliseconds| Sequence { node: node.clone(), steps: vec![Step::Pause(milliseconds)] };
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
        let options =
            CreateOptions { name: "late".into(), body: r#"{"Image": "registry/web:v1"}"#.into() };
        let steps = vec![Step::Pause(300), Step::Create(options)];
        drop(containers::submit(&[Sequence { node: first_node()?, steps }]));
        Ok(())
    }

    fn restart(_app: App, _process: String) -> Result<(), Error> {
        let nothing = "nothing".to_owned();
        let steps = vec![Step::Pause(0), Step::Start(nothing), Step::Pause(0)];
        let batch = containers::submit(&[Sequence { node: first_node()?, steps }]);
        while let Some(ended) = batch.next() {
            let failure = ended.failure.is_some();
            operation::progress(&format!("{} replies, failed: {failure}", ended.replies.len()));
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
