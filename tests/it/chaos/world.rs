//! What is broken together: a gateway, and what stands behind it; and how its rounds go.

use std::collections::HashSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;

use super::Form;
use super::books::{Books, Footprint, Struck};
use super::load::Load;
use super::table::Row;
use crate::harness::Gateway;

/// How long nothing more may have run until the books are balanced.
const QUIET: Duration = Duration::from_millis(300);
/// How long a gateway has to give back what it held.
const GIVES_BACK: Duration = Duration::from_secs(30);

/// A gateway, and what stands behind it.
pub trait World: Sized + 'static {
    /// What can break there.
    const SCENARIOS: &'static [Scenario<Self>];
    /// What is called, each by clients of its own.
    const METHODS: &'static [&'static str] = &["chaos.echo", "chaos.later"];

    /// Starts it, and waits until it can be called.
    async fn start() -> Self;

    /// What is called.
    fn gateway(&self) -> &Gateway;

    /// The tokens of the calls that ran.
    fn ran(&self) -> HashSet<String>;
}

/// One thing that breaks.
pub struct Scenario<W> {
    name: &'static str,
    strike: Strike<W>,
    costs: bool,
}

/// Breaks something under load, and mends it.
type Strike<W> = for<'a> fn(&'a mut W, &'a Load) -> LocalBoxFuture<'a, Struck>;

impl<W> Scenario<W> {
    /// One by the name that the table has.
    pub const fn of(name: &'static str, strike: Strike<W>) -> Self {
        Self { name, strike, costs: true }
    }

    /// One that no call may suffer from.
    pub const fn harmless(name: &'static str, strike: Strike<W>) -> Self {
        Self { costs: false, ..Self::of(name, strike) }
    }
}

/// A world in a list of them.
pub struct Entry {
    pub scenarios: fn() -> Vec<&'static str>,
    pub run: fn(Form) -> Vec<Row>,
}

impl Entry {
    pub const fn of<W: World>() -> Self {
        Self {
            scenarios: || W::SCENARIOS.iter().map(|scenario| scenario.name).collect(),
            run: run::<W>,
        }
    }
}

/// Runs a world's scenarios, one after the other. The clients and services have threads of their own:
/// here something may block.
fn run<W: World>(form: Form) -> Vec<Row> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut world = W::start().await;
        calm(&world, form).await;
        let mut rows = Vec::new();
        for scenario in W::SCENARIOS.iter().filter(|scenario| form.has(scenario.name)) {
            let books = rounds(&mut world, scenario, form).await;
            rows.push(Row { name: scenario.name, books });
        }
        rows
    })
}

/// Load while nothing breaks: what is made at the first call, is made.
async fn calm<W: World>(world: &W, form: Form) {
    let load = Load::start(world.gateway(), W::METHODS, form);
    load.is_served_since(Instant::now()).await;
    load.stop().await;
}

async fn rounds<W: World>(world: &mut W, scenario: &Scenario<W>, form: Form) -> Books {
    let mut books = Books { costs_nothing: !scenario.costs, ..Books::default() };
    let mut tell = Progress::new(scenario.name, form.long);
    if form.long {
        books.before = footprint(world.gateway()).await;
    }
    for _ in 0..form.rounds {
        let load = Load::start(world.gateway(), W::METHODS, form);
        load.is_served_since(Instant::now()).await;
        let struck = (scenario.strike)(world, &load).await;
        load.is_served_since(struck.mended).await;
        let calls = load.stop().await;
        is_quiet(world).await;
        books.enter(&calls, &world.ran(), struck);
        tell.round();
    }
    if form.long {
        books.after = settled(world.gateway(), books.before).await;
    }
    tell.end(&books);
    books
}

/// Waits until nothing runs any more.
async fn is_quiet(world: &impl World) {
    let mut before = None;
    while before != Some(world.ran().len()) {
        before = Some(world.ran().len());
        tokio::time::sleep(QUIET).await;
    }
}

async fn footprint(gateway: &Gateway) -> Footprint {
    Footprint {
        memory: gateway.metric("process_resident_memory_bytes", &[]).await,
        files: gateway.metric("process_open_fds", &[]).await,
    }
}

/// What it holds, once that is as it was, or it has had its time.
async fn settled(gateway: &Gateway, before: Footprint) -> Footprint {
    let began = Instant::now();
    loop {
        let now = footprint(gateway).await;
        if now.complaint(before).is_none() || began.elapsed() > GIVES_BACK {
            return now;
        }
        tokio::time::sleep(QUIET).await;
    }
}

/// Tells who waits at the terminal how far it is; and who looks at a failure, where it was.
struct Progress {
    name: &'static str,
    shown: bool,
    round: u32,
}

impl Progress {
    fn new(name: &'static str, shown: bool) -> Self {
        let this = Self { name, shown, round: 0 };
        this.show(&format!("{name:<44} "));
        this
    }

    fn show(&self, text: &str) {
        if self.shown {
            print!("{text}");
            drop(std::io::stdout().flush());
        }
    }

    fn round(&mut self) {
        self.round += 1;
        self.show(".");
    }

    fn end(&self, books: &Books) {
        let complaints = books.strict_complaints();
        let verdict =
            if complaints.is_empty() { "balanced".to_owned() } else { complaints.join("; ") };
        self.show(&format!(" {} calls, {verdict}\n", books.calls));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was round {} of: {}", self.round + 1, self.name);
        }
    }
}
