//! Asks those that the table sends to what they offer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::findings::Findings;
use crate::call::Deadline;
use crate::offer::Offers;
use crate::offer::reading::Reading;
use crate::route::Rule;
use crate::router::table::{Row, Table};
use crate::router::target::Target;
use crate::tasks;

/// How long everybody has together.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many are asked at once, and at all. Rows beyond are told of as far as they tell themselves.
const AT_ONCE: usize = 16;
const MOST: usize = 256;
/// What all of them may tell together, in bytes of memory, about.
const OF_ALL: usize = 32 << 20;

/// Whom to ask for what.
struct Question<'a> {
    target: &'a Arc<Target>,
    service: Option<&'a str>,
}

impl Question<'_> {
    async fn ask(self, until: Deadline, reading: &Reading) -> Offers {
        let offers = self.target.upstream.offers(self.service, until, reading);
        timeout_at(until.at(), offers).await.unwrap_or_default()
    }
}

/// Asks everybody once.
pub(super) fn ask(table: Arc<Table>) -> BoxFuture<'static, Findings> {
    Box::pin(async move {
        let (places, answers) = ask_all(&table).await;
        let find = move || find(&table, &places, &answers);
        // Where it panicked, that is in the log.
        tasks::apart(find).await.unwrap_or_default()
    })
}

/// For each row, the last one included, the place of its answer.
type Places = Vec<(Option<usize>, Option<usize>)>;

async fn ask_all(table: &Table) -> (Places, Vec<Offers>) {
    let numbered = table.rows().iter().enumerate().map(|(number, row)| (Some(number), row));
    let rows: Vec<_> = numbered.chain([(None, table.last())]).collect();
    let mut questions: Vec<Question<'_>> = Vec::new();
    let places = rows.iter().map(|(number, row)| (*number, question_of(row, &mut questions)));
    let places = places.collect();
    let (deadline, reading) = (Deadline::after(Instant::now(), PATIENCE), Reading::default());
    let answers: Vec<_> =
        questions.into_iter().map(|question| question.ask(deadline, &reading).boxed()).collect();
    let mut left = OF_ALL;
    let answers = stream::iter(answers).buffered(AT_ONCE).map(|offers| fit(offers, &mut left));
    (places, answers.collect().await)
}

/// The place among the questions of the one that a row asks; `None` where it asks none.
fn question_of<'a>(row: &'a Row, questions: &mut Vec<Question<'a>>) -> Option<usize> {
    let target = row.target.as_ref()?;
    let service = wanted(&row.rule)?;
    let same = |known: &Question<'_>| Arc::ptr_eq(known.target, target) && known.service == service;
    questions.iter().position(same).or_else(|| {
        (questions.len() < MOST).then(|| {
            questions.push(Question { target, service });
            questions.len() - 1
        })
    })
}

/// What is kept of offers where so much room is left.
fn fit(offers: Offers, left: &mut usize) -> Offers {
    let mut keep = |offers: Offers| match left.checked_sub(offers.weight()) {
        Some(rest) => {
            *left = rest;
            Ok(offers)
        }
        None => Err(offers),
    };
    keep(offers).or_else(|offers| keep(offers.by_name_alone())).unwrap_or_default()
}

/// What the rows make of the answers.
fn find(table: &Table, places: &Places, answers: &[Offers]) -> Findings {
    let mut findings = Findings::default();
    let nothing = Offers::default();
    for (number, place) in places {
        let offers = place.and_then(|place| answers.get(place)).unwrap_or(&nothing);
        findings.add(table, *number, offers);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offer::{Description, Offer};

    #[test]
    fn what_all_tell_together_fits_into_so_much_memory() {
        let summary = "x".repeat(100_000);
        let offer = |nth: usize| Offer {
            service: "s".to_owned(),
            method: nth.to_string(),
            description: Description::unknown().with_summary(Some(&summary)),
        };
        let offers = Offers { methods: (0..10).map(offer).collect(), ..Offers::default() };
        let mut left = 2 * offers.weight() + 50_000;
        let kept: Vec<Offers> = (0..4).map(|_| fit(offers.clone(), &mut left)).collect();
        let by_name = offers.clone().by_name_alone();
        assert!(kept == [offers.clone(), offers.clone(), by_name.clone(), by_name.clone()]);
        left = by_name.weight() - 1;
        assert_eq!(fit(offers, &mut left), Offers::default());
    }
}
