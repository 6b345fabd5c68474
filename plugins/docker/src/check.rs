//! Binding and checking new units, all at once (spec 5.5 bind-and-healthcheck, 5.6):
//!
//! ```text
//! bind ► ask ◄──► wait 3 s      ► restart.after hooks ► told
//!         └─ only the web process, and only while checks apply
//! ```

use std::time::{Duration, Instant};

use gantry_sdk::containers::{Batch, EngineError, ExecEnd, HttpRequest, Sequence, Step, StepReply};
use gantry_sdk::gantry_core::error::ContractError;
use gantry_sdk::gantry_core::health::{
    Answer, HealthJudge, HealthPlan, REQUEST_TIMEOUT, RETRY_PAUSE, Verdict,
};
use gantry_sdk::gantry_core::record::UnitRecord;
use gantry_sdk::{App, Error, Result, apps, log, operation};

use crate::failure::Failure;
use crate::host::Host;
use crate::{limits, messages, shell};

/// What is asked of new units.
#[derive(Clone, Debug)]
pub(crate) struct Checks {
    /// How the units of the web process show that they work; none when nobody is to ask.
    pub(crate) health: Option<HealthPlan>,
    /// How long a unit that cannot be reached is tried.
    pub(crate) max_time: Duration,
    /// The process that is asked.
    pub(crate) web_process: String,
    /// Commands to run in each unit.
    pub(crate) hooks: Vec<String>,
    /// The image, for its shell.
    pub(crate) image_id: String,
}

/// A unit on its way.
struct Unit<'a> {
    record: &'a UnitRecord,
    judge: Option<HealthJudge<'a>>,
    begun: Instant,
}

/// What a sequence was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Whether the unit works.
    Health,
    /// To run the hook with this number.
    Hook(usize),
}

/// Binds the units and checks them. When one fails, those that were bound are unbound.
pub(crate) fn bind_and_check(
    app: &App,
    units: &[UnitRecord],
    checks: &Checks,
) -> std::result::Result<(), Failure> {
    let mut bound = Vec::new();
    let result = check_all(app, units, checks, &mut bound);
    if result.is_err() {
        operation::undoing();
        for unit in bound {
            unbind(app, unit);
        }
    }
    result
}

/// Unbinds a unit. That fails only where nobody can help it.
pub(crate) fn unbind(app: &App, unit: &UnitRecord) {
    if let Err(error) = apps::unbind_unit(&app.name, &unit.unit(app)) {
        let fields = [("unit", unit.id.as_str()), ("error", &error.to_string())];
        log::error("a unit stays bound", &fields);
    }
}

fn check_all<'a>(
    app: &App,
    units: &'a [UnitRecord],
    checks: &'a Checks,
    bound: &mut Vec<&'a UnitRecord>,
) -> std::result::Result<(), Failure> {
    let mut run = Run { checks, shell: None };
    let mut states = Vec::new();
    // By the index of the batch's sequences: the unit, and what was asked of it.
    let mut asked: Vec<(usize, Asked)> = Vec::new();
    let mut batch = Batch::submit(Vec::new()).map_err(Error::from)?;
    let workers = limits::workers();
    let (mut waiting, mut under_way) = (units.iter(), 0_usize);
    loop {
        // Each unit is asked as soon as it is bound; the services of the next one are told meanwhile.
        while under_way < workers
            && let Some(record) = waiting.next()
        {
            apps::bind_unit(&app.name, &record.unit(app))?;
            bound.push(record);
            let is_web = record.process_name == checks.web_process;
            let plan = checks.health.as_ref().filter(|_| is_web);
            let judge = plan.map(|plan| plan.judge(record.short_id(), checks.max_time));
            let next = match plan {
                Some(plan) => Some((Asked::Health, vec![ask(plan, record)])),
                None => run.hook(record, 0)?,
            };
            match next {
                Some((what, steps)) => {
                    asked.push((states.len(), what));
                    batch.add(vec![Sequence::new(&record.node, steps)]).map_err(Error::from)?;
                    under_way += 1;
                }
                None => operation::progress(&messages::checked(record)),
            }
            states.push(Unit { record, judge, begun: Instant::now() });
        }
        let Some(completion) = batch.next_ended() else { return Ok(()) };
        let Some(&(index, what)) = asked.get(completion.index) else { continue };
        let Some(unit) = states.get_mut(index) else { continue };
        let next = match what {
            Asked::Health => match run.judge(unit, completion.into_result())? {
                Some(steps) => Some((Asked::Health, steps)),
                None => run.hook(unit.record, 0)?,
            },
            Asked::Hook(number) => {
                run.hook_ended(unit.record, number, completion.into_result())?;
                run.hook(unit.record, number + 1)?
            }
        };
        match next {
            Some((what, steps)) => {
                asked.push((index, what));
                batch.add(vec![Sequence::new(&unit.record.node, steps)]).map_err(Error::from)?;
            }
            None => {
                operation::progress(&messages::checked(unit.record));
                under_way -= 1;
            }
        }
    }
}

struct Run<'a> {
    checks: &'a Checks,
    /// The shell of the image, once a hook needs it.
    shell: Option<String>,
}

impl Run<'_> {
    /// The hook with this number, in a unit that works; none after the last. They run one by one, for one that fails is the last.
    fn hook(&mut self, unit: &UnitRecord, number: usize) -> Result<Option<(Asked, Vec<Step>)>> {
        let Some(command) = self.checks.hooks.get(number) else { return Ok(None) };
        let shell = match &self.shell {
            Some(shell) => shell,
            None => {
                let host = Host::open(&unit.node)?;
                let shell = shell::of_image(&host.client, &unit.id, &self.checks.image_id)?;
                self.shell.insert(shell)
            }
        };
        let options = shell::exec(shell, command, &[]);
        let steps = vec![Step::Exec { id: unit.id.clone(), options }];
        Ok(Some((Asked::Hook(number), steps)))
    }

    /// What to do after an answer: the steps to ask again, or none when the unit works.
    fn judge(
        &self,
        unit: &mut Unit<'_>,
        answer: std::result::Result<Vec<StepReply>, EngineError>,
    ) -> std::result::Result<Option<Vec<Step>>, Failure> {
        let (Some(judge), Some(plan)) = (&mut unit.judge, &self.checks.health) else {
            return Ok(None);
        };
        let elapsed = unit.begun.elapsed();
        let verdict = match answer {
            Ok(replies) => match replies.last() {
                Some(StepReply::Http(response)) => {
                    let (status, body) = (response.status, response.body.as_slice());
                    judge.judge(Answer::Response { status, body }, elapsed)
                }
                Some(
                    StepReply::Done
                    | StepReply::Id(_)
                    | StepReply::Container(_)
                    | StepReply::Image(_)
                    | StepReply::Exec(_)
                    | StepReply::Bytes(_)
                    | StepReply::Containers(_),
                )
                | None => judge.judge(Answer::Unreachable("no answer"), elapsed),
            },
            Err(error) if is_final(&error) => {
                return Err(Failure::engine(&unit.record.node, error));
            }
            Err(error) => {
                let reason = unreachable(plan, unit.record, &error);
                judge.judge(Answer::Unreachable(&reason), elapsed)
            }
        };
        match verdict {
            Verdict::Pass(line) => {
                operation::progress(&format!("{line}\n"));
                Ok(None)
            }
            Verdict::Retry(line) => {
                operation::progress(&format!("{line}\n"));
                Ok(Some(vec![Step::Pause(RETRY_PAUSE), ask(plan, unit.record)]))
            }
            Verdict::Fail(error) => Err(Error::Other(error).into()),
        }
    }

    /// Shows what a hook wrote, and fails when it did.
    fn hook_ended(
        &self,
        unit: &UnitRecord,
        number: usize,
        result: std::result::Result<Vec<StepReply>, EngineError>,
    ) -> std::result::Result<(), Failure> {
        let command = self.checks.hooks.get(number).map_or("", String::as_str);
        let replies = match result {
            Err(EngineError::Cancelled) => return Err(Failure::cancelled()),
            Err(error) => return Err(hook_failure(command, unit, &error.to_string())),
            Ok(replies) => replies,
        };
        let Some(end) = replies.into_iter().find_map(exec_end) else {
            return Err(hook_failure(command, unit, "nobody knows how it ended"));
        };
        show(&end.output);
        if end.exit_code == 0 {
            return Ok(());
        }
        let reason = ContractError::ExitCode(end.exit_code.into()).to_string();
        Err(hook_failure(command, unit, &reason))
    }
}

/// The request of a health check.
fn ask(plan: &HealthPlan, unit: &UnitRecord) -> Step {
    let request = HttpRequest {
        method: plan.method.clone(),
        scheme: plan.scheme.clone(),
        path: plan.path.clone(),
        port: unit.exposed_port.clone(),
        timeout: u32::try_from(REQUEST_TIMEOUT.as_millis()).unwrap_or(u32::MAX),
    };
    Step::Http { id: unit.id.clone(), request }
}

/// Whether asking again cannot help. A unit that does not listen yet is `failed` and one that is being restarted `conflict`; `unreachable` is its whole host.
fn is_final(error: &EngineError) -> bool {
    match error {
        EngineError::NotFound(_)
        | EngineError::Invalid(_)
        | EngineError::Denied(_)
        | EngineError::Unreachable(_)
        | EngineError::Cancelled => true,
        EngineError::Conflict(_) | EngineError::TimedOut(_) | EngineError::Failed(_) => false,
    }
}

/// Why a unit did not answer, in the words of the reference's HTTP client: `Get "http://10.0.0.1:32768/up": ...`.
fn unreachable(plan: &HealthPlan, unit: &UnitRecord, error: &EngineError) -> String {
    let method = plan.method.get(..1).map(str::to_owned).unwrap_or_default()
        + &plan.method.get(1..).unwrap_or_default().to_lowercase();
    let address = unit.address().unwrap_or_default();
    let address = address.strip_prefix("http").unwrap_or(&address);
    let url = format!("{}{address}{}", plan.scheme, plan.path);
    format!("{method} {}: {error}", gantry_sdk::quote(&url))
}

fn exec_end(reply: StepReply) -> Option<ExecEnd> {
    match reply {
        StepReply::Exec(end) => Some(end),
        StepReply::Done
        | StepReply::Id(_)
        | StepReply::Container(_)
        | StepReply::Image(_)
        | StepReply::Bytes(_)
        | StepReply::Http(_)
        | StepReply::Containers(_) => None,
    }
}

/// Shows what a hook wrote, as lines.
fn show(output: &[u8]) {
    if output.is_empty() {
        return;
    }
    let text = String::from_utf8_lossy(output);
    operation::progress(&text);
    if !text.ends_with('\n') {
        operation::progress("\n");
    }
}

fn hook_failure(command: &str, unit: &UnitRecord, reason: &str) -> Failure {
    let command = gantry_sdk::quote(command);
    let text =
        format!("couldn't execute restart:after hook {command}({}): {reason}", unit.short_id());
    Error::Other(text).into()
}

#[cfg(test)]
mod tests {
    use gantry_sdk::gantry_core::image::Healthcheck;

    use super::*;

    fn unit() -> UnitRecord {
        UnitRecord {
            id: "0123456789abcdef".to_owned(),
            host_addr: "10.0.0.1".to_owned(),
            host_port: "32768".to_owned(),
            exposed_port: "8888/tcp".to_owned(),
            ..UnitRecord::default()
        }
    }

    fn plan(path: &str, method: &str) -> HealthPlan {
        let check = Healthcheck {
            path: path.to_owned(),
            method: method.to_owned(),
            ..Healthcheck::default()
        };
        HealthPlan::new(&check).unwrap().unwrap()
    }

    #[test]
    fn a_unit_is_asked_at_the_port_of_its_container() {
        let Step::Http { id, request } = ask(&plan("up", ""), &unit()) else {
            panic!("no request")
        };
        assert_eq!(id, "0123456789abcdef");
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/up"));
        assert_eq!((request.scheme.as_str(), request.port.as_str()), ("http", "8888/tcp"));
        assert_eq!(request.timeout, 60_000);
    }

    #[test]
    fn who_does_not_answer_is_named_by_url() {
        let error = EngineError::Failed("connection refused".to_owned());
        assert_eq!(
            unreachable(&plan("hc", "post"), &unit(), &error),
            r#"Post "http://10.0.0.1:32768/hc": connection refused"#
        );
    }

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let text = String::new;
        assert!(!is_final(&EngineError::Failed(text())));
        assert!(!is_final(&EngineError::Conflict(text())));
        assert!(!is_final(&EngineError::TimedOut(text())));
        assert!(is_final(&EngineError::Unreachable(text())));
        assert!(is_final(&EngineError::NotFound(text())));
        assert!(is_final(&EngineError::Cancelled));
    }

    #[test]
    fn a_hook_that_fails_is_named() {
        let failure = hook_failure("a \"b\"", &unit(), "unexpected exit code: 3");
        assert_eq!(
            failure.line,
            r#"couldn't execute restart:after hook "a \"b\""(0123456789): unexpected exit code: 3"#
        );
    }
}
