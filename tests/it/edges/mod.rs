//! Hostile clients, one kind after the other, and what their neighbours notice of it: every call of
//! theirs is answered, and the gateway's memory stays within its bounds.
//!
//! `make test` has a moment of each. `make edges` takes its time, measures how long the neighbours
//! wait, and writes `docs/edges.md`.

mod attacks;

use std::time::{Duration, Instant};

use attacks::{ATTACKS, Attack};

use crate::harness::http::encode;
use crate::harness::process::project;
use crate::harness::{Echo, Gateway};

/// How many neighbours there are, and how long each pauses between calls.
const NEIGHBOURS: usize = 4;
const PAUSE: Duration = Duration::from_millis(4);
/// What payloads may hold. The rest of what the gateway may grow by is connections.
const LIMITS: &str =
    "max_memory = \"32MiB\"\n[http]\nmax_connections = 20000\nread_timeout = \"10s\"\n";
const MOST_GROWTH: f64 = 160.0 * 1024.0 * 1024.0;

const BEGIN: &str = "<!-- table: `make edges` writes what follows -->";
const END: &str = "<!-- end of the table -->";

/// How long an attack goes on, and how many take part in it.
#[derive(Clone, Copy)]
struct Form {
    time: Duration,
    clients: usize,
}

/// What was seen while something went on.
struct Seen {
    name: &'static str,
    clients: usize,
    /// How long calls of neighbours took, in order.
    times: Vec<Duration>,
    /// What the gateway held at its end, more than before, in bytes.
    growth: f64,
}

impl Seen {
    fn percentile(&self, percent: usize) -> Duration {
        let place = self.times.len().saturating_sub(1) * percent / 100;
        self.times.get(place).copied().unwrap_or_default()
    }
}

/// Calls, one after the other, for that long.
async fn neighbour(gateway: &Gateway, time: Duration) -> Vec<Duration> {
    let request = encode("POST", "/call/echo/x", &[("Content-Type", "application/json")], b"[1]");
    let mut connection = gateway.connect().await;
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let asked = Instant::now();
        connection.send(&request).await;
        let answer = connection.receive().await.expect("a neighbour is answered");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"1"[..]));
        times.push(asked.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    times
}

async fn resident(gateway: &Gateway) -> f64 {
    gateway.metric("process_resident_memory_bytes", &[]).await
}

/// Lets neighbours call while an attack goes on; without one, while nothing does.
async fn watch(gateway: &Gateway, attack: Option<&Attack>, form: Form) -> Seen {
    let before = resident(gateway).await;
    let mut attackers = tokio::task::JoinSet::new();
    let clients = attack.map_or(0, |attack| attack.most.min(form.clients));
    if let Some(attack) = attack {
        attack.begin(&gateway.http, clients, &mut attackers).await;
    }
    let neighbours = (0..NEIGHBOURS).map(|_| neighbour(gateway, form.time));
    let mut times = futures_util::future::join_all(neighbours).await.concat();
    times.sort_unstable();
    let growth = resident(gateway).await - before;
    while let Some(ended) = attackers.try_join_next() {
        ended.expect("no attacker was served");
    }
    attackers.shutdown().await;
    Seen { name: attack.map_or("nobody", |attack| attack.name), clients, times, growth }
}

async fn all(form: Form, each: impl Fn(&Seen)) -> Vec<Seen> {
    let echo = Echo::with(LIMITS).await;
    let mut seen = vec![watch(&echo.gateway, None, form).await];
    each(&seen[0]);
    for attack in &ATTACKS {
        let found = watch(&echo.gateway, Some(attack), form).await;
        each(&found);
        seen.push(found);
    }
    assert!(echo.gateway.runs());
    seen
}

fn table(seen: &[Seen]) -> String {
    let micros = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
    let calm = seen[0].percentile(99).as_secs_f64();
    let mut text =
        "| who attacks | clients | calls of others | p50 | p99 | p99, of the calm one | memory |\n\
                    |---|---|---|---|---|---|---|\n"
            .to_owned();
    for one in seen {
        let (p50, p99) = (one.percentile(50), one.percentile(99));
        let times = p99.as_secs_f64() / calm;
        let growth = one.growth / f64::from(1 << 20);
        let Seen { name, clients, times: calls, .. } = one;
        text += &format!(
            "| {name} | {clients} | {} | {} | {} | {times:.1} × | {growth:+.0} MiB |\n",
            calls.len(),
            micros(p50),
            micros(p99),
        );
    }
    text
}

fn page() -> String {
    std::fs::read_to_string(project().join("docs/edges.md")).expect("docs/edges.md")
}

#[tokio::test]
async fn hostile_clients_cost_their_neighbours_no_call_and_no_memory() {
    let form = Form { time: Duration::from_millis(700), clients: 100 };
    for one in all(form, |_| {}).await {
        assert!(!one.times.is_empty() && one.growth < MOST_GROWTH, "{}: {}", one.name, one.growth);
    }
}

#[tokio::test]
#[ignore = "`make edges`: it takes a minute"]
async fn all_of_it_is_measured() {
    let form = Form { time: Duration::from_secs(5), clients: 10_000 };
    let seen = all(form, |one| println!("{}: {:?}", one.name, one.percentile(99))).await;
    let table = table(&seen);
    println!("\n{table}");
    let page = page();
    let (before, rest) = page.split_once(BEGIN).expect("where the table begins");
    let (_, after) = rest.split_once(END).expect("where it ends");
    let page = format!("{before}{BEGIN}\n\n{table}\n{END}{after}");
    std::fs::write(project().join("docs/edges.md"), page).expect("docs/edges.md");
    assert!(seen.iter().all(|one| one.growth < MOST_GROWTH), "memory has its bounds");
}

#[test]
fn the_page_tells_of_every_attack() {
    let page = page();
    for attack in &ATTACKS {
        assert!(page.contains(&format!("| {} |", attack.name)), "{}", attack.name);
    }
}
