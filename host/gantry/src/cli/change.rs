//! Following a change: ask for it, show what it tells, end as it ends.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::exit::Exit;
use super::failure::Failure;
use super::ui::Ui;
use crate::api::{Accepted, Line, Operation, OperationState, ProblemKind};
use crate::client::{Change, Client, ClientError, Event, escape};

/// How often the line at the bottom moves.
const TICK: Duration = Duration::from_millis(120);

/// How long a daemon that went away has to come back before following it is given up.
const PATIENCE: Duration = Duration::from_secs(20);

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// How to ask for a change.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ChangeArgs {
    /// Wait for the operation that is changing the same thing, instead of failing
    #[arg(long)]
    pub(crate) wait: bool,
    /// Print the operation's id and leave; `gantry operation info ID --follow` picks it up
    #[arg(long)]
    pub(crate) detach: bool,
    /// Do it once: a second request with the same key gives the operation of the first
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

impl ChangeArgs {
    /// The same for the client.
    pub(crate) fn change(&self) -> Change {
        Change { wait: self.wait, key: self.idempotency_key.clone() }
    }
}

/// Follows a change that was accepted to its end. None when the caller does not want to wait.
///
/// Ctrl-C cancels the operation and goes on following it while it undoes; a second one leaves.
pub(crate) async fn finish(
    ui: &mut Ui,
    client: &Client,
    args: &ChangeArgs,
    accepted: Accepted,
) -> Result<Option<Operation>, Failure> {
    if args.detach {
        ui.data(&accepted, |page| page.line(&accepted.operation));
        return Ok(None);
    }
    let operation = follow(ui, client, &accepted.operation, true).await?;
    outcome(operation).map(Some)
}

/// An operation that ended well, or the failure that it is.
pub(crate) fn outcome(operation: Operation) -> Result<Operation, Failure> {
    match (operation.state, &operation.problem) {
        (OperationState::Done, _) => Ok(operation),
        (_, Some(problem)) => {
            let mut failure = Failure::from(problem.clone());
            if failure.hint.is_none() && problem.kind != ProblemKind::Cancelled {
                failure.hint =
                    Some(format!("`gantry operation info {}` shows what it told", operation.id));
            }
            Err(failure)
        }
        (state, None) => {
            let what = format!("the operation {} is {}", operation.id, state.word());
            Err(Failure::new(Exit::Failed, what))
        }
    }
}

/// Shows what an operation tells, to its end.
pub(crate) async fn follow(
    ui: &mut Ui,
    client: &Client,
    id: &str,
    cancels: bool,
) -> Result<Operation, Failure> {
    let mut interrupts = super::interrupts()?;
    let mut follower = Follower { client, id, after: None, lost: None };
    let mut events = follower.connect().await?;
    let mut ticks = tokio::time::interval(TICK);
    let (began, mut turn, mut interrupted) = (Instant::now(), 0_usize, false);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    if let Some(operation) = follower.show(ui, &event)? {
                        ui.hide_bottom();
                        return Ok(operation);
                    }
                }
                Some(Err(error)) => events = follower.again(ui, Some(error)).await?,
                None => events = follower.again(ui, None).await?,
            },
            _ = ticks.tick() => {
                turn = turn.wrapping_add(1);
                let mark = SPINNER.get(turn % SPINNER.len()).copied().unwrap_or_default();
                let doing = if interrupted { "undoing" } else { "working" };
                ui.bottom(&format!("{mark} {doing} {}s", began.elapsed().as_secs()));
            }
            _ = interrupts.recv() => {
                if interrupted || !cancels {
                    return Err(Failure::new(Exit::Interrupted, format!("stopped following the operation {id}; it goes on"))
                        .hint(format!("`gantry operation info {id} --follow` picks it up")));
                }
                interrupted = true;
                client.post(&format!("/v1/operations/{}/cancel", escape(id))).await?;
                ui.warning("cancelling; waiting for the undo, press Ctrl-C again to leave");
            }
        }
    }
}

type Events = BoxStream<'static, Result<Event, ClientError>>;

struct Follower<'a> {
    client: &'a Client,
    id: &'a str,
    /// The last event seen.
    after: Option<String>,
    /// Since when nobody answers.
    lost: Option<Instant>,
}

impl Follower<'_> {
    async fn connect(&self) -> Result<Events, ClientError> {
        let path = format!("/v1/operations/{}/events", escape(self.id));
        self.client.events(&path, self.after.as_deref()).await
    }

    /// Goes on where it broke off.
    async fn again(&mut self, ui: &mut Ui, error: Option<ClientError>) -> Result<Events, Failure> {
        let lost = *self.lost.get_or_insert_with(Instant::now);
        let mut last = error;
        while lost.elapsed() < PATIENCE {
            match self.connect().await {
                Ok(events) => return Ok(events),
                Err(error @ ClientError::Unreachable { .. }) => last = Some(error),
                Err(error) => return Err(error.into()),
            }
            ui.bottom("… waiting for the daemon");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let failure = last.map_or_else(
            || Failure::new(Exit::Unreachable, "the daemon ended the conversation"),
            Failure::from,
        );
        Err(failure.hint(format!(
            "the operation may still run: `gantry operation info {} --follow` picks it up",
            self.id
        )))
    }

    fn show(&mut self, ui: &mut Ui, event: &Event) -> Result<Option<Operation>, Failure> {
        self.lost = None;
        if event.id.is_some() {
            self.after.clone_from(&event.id);
        }
        let wrong = |error: serde_json::Error| {
            Failure::new(Exit::Failed, "cannot read what the daemon tells").because(&error)
        };
        match event.kind.as_str() {
            "line" => {
                let line: Line = serde_json::from_str(&event.data).map_err(wrong)?;
                ui.status(&line.text);
                Ok(None)
            }
            "end" => serde_json::from_str(&event.data).map(Some).map_err(wrong),
            // A kind that this version does not know.
            _ => Ok(None),
        }
    }
}
