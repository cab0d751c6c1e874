//! Asks micro services what they offer, for `rpc.discover`: all of them, or one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::connection::{Link, State};
use super::outbox::Publication;
use super::pending::Answer;
use super::wire;
use crate::call::Deadline;
use crate::offer::reading::Reading;
use crate::offer::room::Room;
use crate::offer::{MOST, Offer, Offers};

/// How long the first instance has to answer, and how long each further one after that.
const FIRST: Duration = Duration::from_secs(1);
const FURTHER: Duration = Duration::from_millis(200);

/// What instances have said so far.
#[derive(Default)]
struct Gathered {
    offers: Vec<Offer>,
    known: HashSet<(String, String)>,
    room: Room,
}

impl Gathered {
    fn add(&mut self, answer: &[u8]) {
        for offer in wire::offers(answer, &mut self.room) {
            if self.offers.len() < MOST
                && self.known.insert((offer.service.clone(), offer.method.clone()))
            {
                self.offers.push(offer);
            }
        }
    }
}

/// Gathers what instances say.
pub(super) async fn gather(
    link: &Link,
    service: Option<&str>,
    until: Deadline,
    reading: &Reading,
) -> Offers {
    let mut gathered = Gathered::default();
    let State::Up(generation) = &*link.state() else { return Offers::default() };
    let subject: Arc<str> = match service
        .map(|service| wire::split(service).map_or(service, |it| it.0))
    {
        None => wire::inquiry_of_all().into(),
        // What a service's name cannot be.
        Some(name) if name.contains([' ', '*', '>', '\t', '\r', '\n']) => return Offers::default(),
        Some(name) => wire::inquiry(name).into(),
    };
    let Ok(mut answers) = generation.pending().gather(Arc::clone(&subject)) else {
        return Offers::default();
    };
    let (headers, payload) = (wire::NO_HEADERS.to_owned(), Bytes::new());
    if !generation.send(answers.key(), Publication { subject, headers, payload }, true).await {
        return Offers::default();
    }
    let mut end = until.at().min(Instant::now() + FIRST);
    while let Ok(Some(Answer::Reply(message))) = timeout_at(end, answers.next()).await {
        if wire::is_no_responders(&message) {
            break;
        }
        end = until.at().min(Instant::now() + FURTHER);
        let read = move || {
            gathered.add(&message.payload);
            gathered
        };
        let Some(read) = reading.read(read).await else { return Offers::default() };
        gathered = read;
    }
    Offers { methods: gathered.offers, ..Offers::default() }
}
