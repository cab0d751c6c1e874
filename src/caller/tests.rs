use std::time::UNIX_EPOCH;

use super::*;

#[test]
fn what_was_shown_goes_before_the_connection() {
    let cert = Arc::new(Identity::new(Scheme::Certificate, "proxy"));
    let mut token = Identity::new(Scheme::Token, "alice");
    token.user_id = Some("7".to_owned());
    let proxy = Caller::NOBODY.connected_as(cert);
    assert_eq!(proxy.identity().map(|it| it.subject.as_str()), Some("proxy"));
    let alice = proxy.clone().showing(Ok(Arc::new(token)));
    assert_eq!(alice.user_id(), Some("7"));
    assert_eq!(alice.identities().count(), 2);
    let refused = alice.showing(Err(Denial::Expired));
    assert_eq!(refused.denial(), Some(Denial::Expired));
    assert_eq!(refused.identity().map(|it| it.subject.as_str()), Some("proxy"));
    assert!(refused.in_force().is_none(), "it does not act as its connection");
    assert_eq!(refused.user_id(), None);
}

#[test]
fn who_is_known_anew_may_the_same_where_nothing_that_rows_ask_is_other() {
    let proxy = Caller::NOBODY.connected_as(Arc::new(Identity::new(Scheme::Certificate, "p")));
    let alice = |scope: &str, tenant: &str| Identity {
        scopes: vec![scope.to_owned()],
        claims: vec![("tenant".to_owned(), tenant.to_owned())],
        ..Identity::new(Scheme::Token, "alice")
    };
    let shows = |identity: Identity| proxy.clone().showing(Ok(Arc::new(identity)));
    let before = shows(alice("read", "acme"));
    let later = Some(SystemTime::now() + Duration::from_secs(60));
    let same = Identity { until: later, ..alice("read", "acme") };
    assert!(before.may_the_same(&shows(same)));
    let elsewhere = Identity { issuer: Some("other".to_owned()), ..alice("read", "acme") };
    let fewer = Identity { calls: Some(Vec::new()), ..alice("read", "acme") };
    for other in [alice("write", "acme"), alice("read", "other"), elsewhere, fewer] {
        assert!(!before.may_the_same(&shows(other)));
    }
    let alone = Caller::NOBODY.showing(Ok(Arc::new(alice("read", "acme"))));
    assert!(!before.may_the_same(&alone) && !before.may_the_same(&proxy));
    assert!(!proxy.may_the_same(&proxy.clone().showing(Err(Denial::Expired))));
}

#[test]
fn who_is_not_known_any_more_acts_as_nobody() {
    let known = |scheme, until| {
        let user_id = Some("7".to_owned());
        Arc::new(Identity { user_id, until, ..Identity::new(scheme, "x") })
    };
    let callers = |identity: &Arc<Identity>| {
        let shown = Caller::NOBODY.showing(Ok(Arc::clone(identity)));
        [shown, Caller::NOBODY.connected_as(Arc::clone(identity))]
    };
    for scheme in [Scheme::Key, Scheme::Token, Scheme::Certificate] {
        let late = known(scheme.clone(), Some(SystemTime::now() - Duration::from_secs(1)));
        for caller in callers(&late) {
            assert!(caller.in_force().is_none() && caller.user_id().is_none(), "{scheme:?}");
            let proxied = caller.connected_as(known(Scheme::Certificate, None));
            let acts = proxied.user_id().is_some();
            assert_eq!(acts, proxied.shown().is_none(), "{scheme:?}");
        }
        let gone = known(scheme.clone(), None);
        let callers = callers(&gone);
        assert!(callers.iter().all(|caller| caller.user_id() == Some("7")), "{scheme:?}");
        gone.standing.withdraw();
        assert!(callers.iter().all(|caller| caller.user_id().is_none()), "{scheme:?}");
    }
}

#[test]
fn an_identity_ends() {
    let end = UNIX_EPOCH + Duration::from_secs(100);
    let mut key = Identity::new(Scheme::Key, "web");
    assert_eq!(key.ended(|| end), None);
    key.until = Some(end);
    assert_eq!(key.ended(|| end - Duration::from_secs(1)), None);
    assert_eq!(key.ended(|| end), Some(Denial::Expired));
    key.until = None;
    key.clone().standing.withdraw();
    assert_eq!(key.ended(|| end), Some(Denial::Withdrawn));
}
