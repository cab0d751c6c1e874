//! What comes of a cell: what its service says, as its ingress shows it, and what its service sees.

use super::Cell;
use super::cases::{Case, Context, DOUBLE, Got, LARGE, LIMIT_SECONDS, Sight, same, sent};
use super::upstream::Upstream;

/// What came of a cell.
#[derive(Debug)]
pub struct Outcome {
    pub got: Got,
    pub sights: Vec<Sight>,
}

/// Whether that was to come; else what is wrong.
pub fn is_as_expected(cell: &Cell, Outcome { got, sights }: &Outcome) -> Result<(), String> {
    let Cell { ingress, upstream, case } = *cell;
    let times = usize::from(upstream.sees(case));
    if sights.len() != times {
        return Err(format!("the service saw it {} times", sights.len()));
    }
    let doubled = |side: Option<&str>| case == Case::LargeInteger && side.is_some();
    let asked = case.params(cell);
    let double = || asked.replace(LARGE, DOUBLE);
    for sight in sights {
        // A service of JavaScript's tells what it has made of it.
        let in_javascript = doubled(ingress.objects(case))
            || doubled(upstream.objects(case)) && upstream != Upstream::Picom;
        let params = if in_javascript { double() } else { asked.clone() };
        if sight.method != case.method() || !same(&sight.params, &params) {
            return Err("the service saw something else".to_owned());
        }
        check_context(cell, &sight.context)?;
    }
    let expected = match (case, upstream.says(case)) {
        (_, Some(fault)) => Got::Fault(ingress.shows(&fault)),
        (Case::Notification, None) if ingress.objects(case).is_none() => Got::Nothing,
        (Case::Notification, None) => Got::Result("\"noted\"".to_owned()),
        (Case::Null, None) => Got::Result("null".to_owned()),
        (_, None) if doubled(ingress.objects(case)) || doubled(upstream.objects(case)) => {
            Got::Result(double())
        }
        (_, None) => Got::Result(asked),
    };
    let is_it = match (got, &expected) {
        (Got::Result(got), Got::Result(expected)) => same(got, expected),
        (Got::Fault(got), Got::Fault(expected)) => got.is(expected),
        (Got::Nothing, Got::Nothing) => true,
        _ => false,
    };
    if is_it { Ok(()) } else { Err(format!("the caller was to get {expected:.300?}")) }
}

/// What has no context sends none, and what sees none sees none; else all of it comes.
fn check_context(cell: &Cell, seen: &Context) -> Result<(), String> {
    if cell.case != Case::Context {
        return Ok(());
    }
    let expected = match (cell.upstream.objects(cell.case), cell.ingress.objects(cell.case)) {
        (Some(_), _) => {
            return if *seen == Context::default() { Ok(()) } else { Err("it saw one".to_owned()) };
        }
        // A trace begins in Genkan, and the row has a time limit.
        (None, Some(_)) => Context { trace: seen.trace.clone(), ..Context::default() },
        (None, None) => sent(cell),
    };
    let limit = if expected.millis.is_some() { LIMIT_SECONDS * 1_000 } else { 20_000 };
    let in_time = seen.millis.is_some_and(|millis| millis <= limit)
        && seen.millis > Some(0)
        && seen.trace.is_some();
    let same = Context { millis: None, ..seen.clone() } == Context { millis: None, ..expected };
    if same && in_time { Ok(()) } else { Err("another context came".to_owned()) }
}
