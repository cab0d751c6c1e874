//! What happens when things break: brokers, services, the ways to them and Genkan itself, under steady
//! load. Every call has a token, which the service that runs it records; after each scenario the books
//! are balanced.
//!
//! `make test` has a round of each, and holds what must hold on any machine. `make chaos` has five,
//! measures, and writes `docs/chaos.md`.

mod books;
mod genkan;
mod jsonrpc;
mod lines;
mod load;
mod module;
mod nameko;
mod nats;
mod rabbit;
mod services;
mod table;
mod world;

use std::time::Duration;

use world::Entry;

const WORLDS: [Entry; 8] = [
    Entry::of::<rabbit::Rabbit>(),
    Entry::of::<nats::NatsAlone>(),
    Entry::of::<nameko::Nameko>(),
    Entry::of::<module::Hub>(),
    Entry::of::<jsonrpc::JsonRpc>(),
    Entry::of::<genkan::Genkan>(),
    Entry::of::<lines::ToRabbit>(),
    Entry::of::<lines::ToNats>(),
];

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// How often each scenario.
    rounds: u32,
    /// Whether this is `make chaos`: everything is measured, and progress shown.
    long: bool,
    /// What the names of its scenarios hold.
    only: &'static str,
}

impl Form {
    /// One of each, beside all the other tests.
    const SHORT: Self = Self { rounds: 1, long: false, only: "" };

    /// As `make chaos ROUNDS=20 ONLY=NATS` says it.
    fn of_the_environment() -> Self {
        let given = |name| std::env::var(name).unwrap_or_default();
        let rounds = match given("ROUNDS").as_str() {
            "" => 5,
            text => text.parse().expect("ROUNDS is a number"),
        };
        Self { rounds, long: true, only: given("ONLY").leak() }
    }

    /// Whether it has a scenario.
    fn has(self, name: &str) -> bool {
        name.contains(self.only)
    }

    /// Of each method.
    fn clients(self) -> usize {
        if self.long { 6 } else { 3 }
    }

    /// Between two calls of a client.
    fn pause(self) -> Duration {
        Duration::from_millis(if self.long { 15 } else { 40 })
    }
}

#[test]
fn whatever_breaks_the_books_balance() {
    let mut complaints = Vec::new();
    std::thread::scope(|scope| {
        let worlds = WORLDS.map(|world| scope.spawn(move || (world.run)(Form::SHORT)));
        for world in worlds {
            for row in world.join().expect("the world has gone to its end") {
                let told = row.books.complaints();
                complaints.extend(told.into_iter().map(|told| format!("{}: {told}", row.name)));
            }
        }
    });
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
#[ignore = "`make chaos`: it takes a quarter of an hour"]
fn all_of_it_is_measured() {
    let form = Form::of_the_environment();
    let has_some = |world: &&Entry| (world.scenarios)().into_iter().any(|name| form.has(name));
    let rows: Vec<_> = WORLDS.iter().filter(has_some).flat_map(|world| (world.run)(form)).collect();
    let table = table::render(&rows);
    println!("\n{table}");
    if form.only.is_empty() {
        table::write(&table, form.rounds);
    }
    let complaints = rows.iter().flat_map(|row| {
        row.books.strict_complaints().into_iter().map(|told| format!("{}: {told}", row.name))
    });
    let complaints: Vec<_> = complaints.collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn the_page_tells_of_every_scenario() {
    let scenarios: Vec<_> = WORLDS.iter().flat_map(|world| (world.scenarios)()).collect();
    assert_eq!(table::on_the_page(), scenarios, "`make chaos` writes docs/chaos.md");
}
