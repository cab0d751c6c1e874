//! Calls that are not let in, and whose rate they count against.

use std::sync::Arc;

use super::{Fixture, call, rule};
use crate::call::{Call, CallKind};
use crate::caller::{Caller, Identity, Scheme};
use crate::fault::FaultKind;
use crate::route::access::{Access, Grant};
use crate::route::rate::{Limits, Rate};
use crate::route::{HUB, Rule};
use crate::router::limits::LimitsInForce;
use crate::router::table::{NO_ROUTE, Row, Table};

/// Two calls a day of each caller, and a row for a module of the hub's.
fn fixture() -> Fixture {
    let fixture = Fixture::new(Vec::new(), 100);
    let rate = Rate::parse("2/d");
    let gateway = LimitsInForce::new(&Limits { rate, ..Limits::default() }, None);
    let gateway = Arc::new(gateway);
    let access = Access::Only(vec![
        Grant::parse("hub:till").expect("a word"),
        Grant::parse("bus:alice").expect("a word"),
    ]);
    let row = Rule { access, ..rule("orders.*", "fake") };
    let row = Row::new(row, "orders.*", Some(Arc::clone(&fixture.target)), &fixture.ledger);
    let row = row.limited(Arc::default(), Arc::clone(&gateway));
    let last = Row::new(rule("*", HUB), NO_ROUTE, None, &fixture.ledger);
    fixture.router.replace(Table::new(vec![row], last.limited(Arc::default(), gateway)));
    fixture
}

async fn ends(fixture: &Fixture, name: &str, caller: &Caller) -> Result<(), FaultKind> {
    let call = Call { caller: caller.clone(), ..call(name, CallKind::Call, None) };
    let dispatched = fixture.router.dispatch(fixture.router.ingress("http"), call).await;
    dispatched.result.map(drop).map_err(|fault| fault.kind())
}

#[tokio::test]
async fn who_is_refused_spends_its_own_rate_and_nobody_elses() {
    let fixture = fixture();
    let module = |id| Caller::NOBODY.connected_as(Arc::new(Identity::new(Scheme::Module, id)));
    let bus = Caller::by_way_of("bus");
    let (denied, limited) = (Err(FaultKind::AccessDenied), Err(FaultKind::Overloaded));
    for (caller, expected) in [
        (Caller::at([192, 0, 2, 1].into()), [denied, denied, limited]),
        (module("desk"), [denied, denied, limited]),
        (bus.clone().vouched_for("bob"), [denied, denied, limited]),
        // All that call by way of the bus are one, and not one of them is to spend what the others have.
        (bus.clone(), [denied; 3]),
        (module("till"), [Ok(()), Ok(()), limited]),
        (bus.vouched_for("alice"), [Ok(()), Ok(()), limited]),
    ] {
        for expected in expected {
            assert_eq!(
                ends(&fixture, "orders.m", &caller).await,
                expected,
                "{:?}",
                caller.identity()
            );
        }
    }
}

#[tokio::test]
async fn who_asks_for_what_nobody_serves_is_held_to_its_rate() {
    let (fixture, caller) = (fixture(), Caller::at([192, 0, 2, 1].into()));
    for expected in [FaultKind::UnknownService, FaultKind::UnknownService, FaultKind::Overloaded] {
        assert_eq!(ends(&fixture, "nobody.m", &caller).await, Err(expected));
    }
}

#[tokio::test]
async fn who_is_held_to_the_gateways_rate_spends_nothing_of_what_all_have_of_a_row() {
    let fixture = Fixture::new(Vec::new(), 100);
    let limits = |rate: &str, total_rate: &str| {
        let (rate, total_rate) = (Rate::parse(rate), Rate::parse(total_rate));
        Arc::new(LimitsInForce::new(&Limits { rate, total_rate, ..Limits::default() }, None))
    };
    let row = rule("orders.*", "fake");
    let row = Row::new(row, "orders.*", Some(Arc::clone(&fixture.target)), &fixture.ledger);
    let row = row.limited(limits("100/d", "3/d"), limits("1/d", "100/d"));
    let last = Row::new(rule("*", HUB), NO_ROUTE, None, &fixture.ledger);
    fixture.router.replace(Table::new(vec![row], last));
    let [one, other] = [1, 2].map(|host| Caller::at([192, 0, 2, host].into()));
    assert_eq!(ends(&fixture, "orders.m", &one).await, Ok(()));
    for _ in 0..10 {
        assert_eq!(ends(&fixture, "orders.m", &one).await, Err(FaultKind::Overloaded));
    }
    assert_eq!(ends(&fixture, "orders.m", &other).await, Ok(()));
}
