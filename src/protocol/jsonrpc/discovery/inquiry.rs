//! Asks those that the table sends to what they offer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::findings::Findings;
use crate::call::Deadline;
use crate::offer::Offers;
use crate::route::Rule;
use crate::router::table::Table;
use crate::router::target::Target;

/// How long everybody has together.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many are asked at once, and at all. Rows beyond are told of as far as they tell themselves.
const AT_ONCE: usize = 16;
const MOST: usize = 256;

/// Whom to ask for what.
struct Question<'a> {
    target: &'a Arc<Target>,
    service: Option<&'a str>,
}

impl Question<'_> {
    async fn ask(self, until: Deadline) -> Offers {
        let offers = self.target.upstream.offers(self.service, until);
        timeout_at(until.at(), offers).await.unwrap_or_default()
    }
}

/// Asks everybody once.
pub(super) fn ask(table: Arc<Table>) -> BoxFuture<'static, Findings> {
    Box::pin(async move { ask_all(&table).await })
}

async fn ask_all(table: &Table) -> Findings {
    let numbered = table.rows().iter().enumerate().map(|(number, row)| (Some(number), row));
    let rows: Vec<_> = numbered.chain([(None, table.last())]).collect();
    let mut questions: Vec<Question<'_>> = Vec::new();
    // For each row the place of its question.
    let places: Vec<Option<usize>> = rows
        .iter()
        .map(|(_, row)| {
            let target = row.target.as_ref()?;
            let service = wanted(&row.rule)?;
            let same = |known: &Question<'_>| {
                Arc::ptr_eq(known.target, target) && known.service == service
            };
            questions.iter().position(same).or_else(|| {
                (questions.len() < MOST).then(|| {
                    questions.push(Question { target, service });
                    questions.len() - 1
                })
            })
        })
        .collect();
    let deadline = Deadline::after(Instant::now(), PATIENCE);
    let answers: Vec<_> =
        questions.into_iter().map(|question| question.ask(deadline).boxed()).collect();
    let answers: Vec<Offers> = stream::iter(answers).buffered(AT_ONCE).collect().await;
    let mut findings = Findings::default();
    let nothing = Offers::default();
    for ((number, _), place) in rows.into_iter().zip(places) {
        findings.add(table, number, place.and_then(|place| answers.get(place)).unwrap_or(&nothing));
    }
    findings
}

/// Which service a row's upstream is asked for; `None` where it need not be asked.
fn wanted(rule: &Rule) -> Option<Option<&str>> {
    if rule.method.is_some() && !rule.pattern.is_literal() {
        return None;
    }
    Some(rule.known_service())
}
