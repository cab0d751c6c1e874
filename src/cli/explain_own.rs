//! `genkan explain`, of a call of which the routing table is not asked: Genkan answers it itself.

use super::Status;
use super::explain::{Refused, said};
use super::output::{Form, Output, Role};
use crate::call::CallName;
use crate::caller::Caller;
use crate::config::Config;
use crate::fault::Fault;
use crate::printable::printable;

/// A method of JSON-RPC's own, which no row can have.
const DISCOVER: &str = "rpc.discover";
/// What answers the methods that are about topics.
const TOPICS: &str = "topics";

/// What of Genkan answers a call of which the routing table is not asked.
pub(super) fn answers_itself(config: &Config, name: &str) -> Option<&'static str> {
    let topics = || config.is_about_topics(name).then_some(TOPICS);
    config.answers_itself(name).or_else(topics).or((name == DISCOVER).then_some("rpc.discover"))
}

/// Whether somebody may call what Genkan answers itself. Everybody is told what there is to call, and to
/// whom topics are open, each of them says.
fn may_call(config: &Config, whom: &Caller, name: &str) -> Result<(), Fault> {
    if name == DISCOVER || config.is_about_topics(name) {
        return Ok(());
    }
    let admitted = config.auth.own_methods.lets_call(whom, name);
    admitted.map_err(|refusal| refusal.fault("call", name, whom))
}

/// Explains such a call.
pub(super) fn run(
    name: &CallName,
    owner: &str,
    (whom, config): (Option<&Caller>, &Config),
    output: &Output,
) -> anyhow::Result<Status> {
    let may = whom.map(|whom| may_call(config, whom, name.as_str()));
    match output.form() {
        Form::Human => {
            let paint = output.out();
            let title = paint.paint(Role::Strong, printable(name.as_str()));
            let label = paint.paint(Role::Faint, format!("{:<17}", "answered by"));
            let mut text = format!("{title}\n  {label} Genkan itself: its {owner}\n");
            if let Some(may) = &may {
                let label = paint.paint(Role::Faint, format!("{:<17}", "as asked"));
                text.push_str(&format!("  {label} {}\n", said(paint, may)));
            }
            if owner == TOPICS {
                let label = paint.paint(Role::Faint, format!("{:<17}", "who may listen"));
                let told = "as `allow` of [[topics]] says: `genkan explain --event UPSTREAM:ADDRESS --as WHOM`";
                text.push_str(&format!("  {label} {told}\n"));
            }
            output.print(&text)?;
        }
        Form::Json => {
            let mut told = serde_json::json!({"name": name.as_str(), "answered_by": owner});
            if let Some(may) = &may {
                told["may_call"] = may.is_ok().into();
            }
            if let Some(Err(fault)) = &may {
                told["denied"] = serde_json::to_value(Refused::new(fault))?;
            }
            output.print(&told.to_string())?;
        }
    }
    Ok(if matches!(may, Some(Err(_))) { Status::Fault } else { Status::Done })
}
