//! Methods that are Genkan's own: the registry's, which names no service, those by which topics
//! are listened to, and `rpc.discover`.
//!
//! At `/api` they go before the routing table, but for a row that names one of them to the letter.
//! At a service's own address those of topics are there too, `rpc.discover`, which tells of the service alone, and
//! `get_service_specs`, which is the service's: what the rows say of it is told where it has none.

use super::super::discovery;
use super::super::envelope::invalid;
use super::super::registry::Method;
use super::Http;
use super::ears::{self, Ears};
use crate::call::{Call, CallName, Payload, Reply};
use crate::fault::{Fault, FaultKind};
use crate::router::ledger::IngressLabel;
use crate::router::{Allowance, Called, Dispatched};
use crate::upstream::Readiness;

/// Carries a call out, and tells whether its method was Genkan's own. What is so goes in a box: calls that
/// a row answers, which nearly all are, do not carry its room.
pub(super) async fn dispatch(
    http: &Http,
    (ingress, ears): (IngressLabel, Option<&Ears>),
    service: Option<&str>,
    call: Call,
) -> (Dispatched, bool) {
    if let Some(method) = about_topics(http, service, &call.name) {
        return (Box::pin(events(http, ingress, method, ears, &call)).await, false);
    }
    if is_discovery(http, service, &call.name) {
        let allowance = match charge(http, ingress, &call) {
            Ok(allowance) => allowance,
            Err(limited) => return (*limited, false),
        };
        // It tells each caller of what that one may call: who is known for nobody is told why.
        if call.caller.denial().is_some()
            && let Err(fault) = may(http, ingress, &call)
        {
            return (answer(Err(fault), allowance), false);
        }
        let whom = (service, &call.caller);
        let document = Box::pin(http.discovery.document(http.router.table(), whom)).await;
        return (answer(Ok(document), allowance), false);
    }
    match (service, Method::of(call.name.method())) {
        (None, Some(method)) if call.name.service().is_empty() => {
            Box::pin(own(http, ingress, method, call)).await
        }
        (Some(service), Some(Method::GetServiceSpecs)) => {
            Box::pin(specs(http, ingress, service, call)).await
        }
        _ => (http.router.dispatch(ingress, call).await, false),
    }
}

/// What a call asks for that is about topics. At a service's own address too: a service has no part in
/// that, and one of these methods has a secret.
pub(super) fn about_topics(
    http: &Http,
    service: Option<&str>,
    name: &CallName,
) -> Option<ears::Method> {
    let bare = if service.is_none() { name.as_str() } else { name.method() };
    ears::Method::of(bare).filter(|_| !http.router.table().names(name.as_str()))
}

fn is_discovery(http: &Http, service: Option<&str>, name: &CallName) -> bool {
    match service {
        // A name of JSON-RPC's own, which no row can have.
        None => name.as_str() == discovery::METHOD,
        Some(_) => name.method() == discovery::METHOD && !http.router.table().names(name.as_str()),
    }
}

/// Whether no row decides about calls of a name.
pub(super) fn is_own(http: &Http, service: Option<&str>, name: &CallName) -> bool {
    let is_registrys = || {
        let method = Method::of(name.method()).filter(|_| service.is_none());
        let method = method.filter(|_| name.service().is_empty());
        method.is_some_and(|method| !http.router.table().names(method.as_str()))
    };
    about_topics(http, service, name).is_some()
        || is_discovery(http, service, name)
        || is_registrys()
}

/// Whether the caller may call what is Genkan's own; counted where not.
fn may(http: &Http, ingress: IngressLabel, call: &Call) -> Result<(), Fault> {
    http.auth.lets_call_own(&call.caller, call.name.as_str()).inspect_err(|fault| {
        refuse(http, ingress, call, fault);
    })
}

/// Counts it against its caller's rate, as a call that a row decides about is: what that has left; the answer
/// where it has nothing.
fn charge(
    http: &Http,
    ingress: IngressLabel,
    call: &Call,
) -> Result<Option<Allowance>, Box<Dispatched>> {
    http.router.charge(&call.caller, call.name.as_str()).map_err(|(fault, allowance)| {
        refuse(http, ingress, call, &fault);
        Box::new(answer(Err(fault), allowance))
    })
}

/// Counts and logs the fault of a call that no row has to do with.
fn refuse(http: &Http, ingress: IngressLabel, call: &Call, fault: &Fault) {
    let whom = (Called::Own(call.name.as_str()), &call.caller, &call.context.trace);
    http.router.refuse(ingress, whom, call.received, fault);
}

/// Listens to topics, or leaves off.
async fn events(
    http: &Http,
    ingress: IngressLabel,
    method: ears::Method,
    ears: Option<&Ears>,
    call: &Call,
) -> Dispatched {
    let allowance = match charge(http, ingress, call) {
        Ok(allowance) => allowance,
        Err(limited) => return *limited,
    };
    let answered = match ears {
        Some(ears) if method == ears::Method::Authenticate => {
            ears.authenticate(&http.auth, call).await
        }
        Some(ears) => ears.answer(method, &call.params),
        None if method == ears::Method::Authenticate => {
            Err(invalid("over HTTP each request shows by itself who calls, in `Authorization`"))
        }
        None => Err(invalid("events are pushed over a WebSocket, or a stream at GET /events")),
    };
    if let Err(fault) = &answered {
        refuse(http, ingress, call, fault);
    }
    answer(answered, allowance)
}

async fn own(http: &Http, ingress: IngressLabel, method: Method, call: Call) -> (Dispatched, bool) {
    let table = http.router.table();
    if table.names(method.as_str()) {
        return (http.router.dispatch(ingress, call).await, false);
    }
    let ask = || {
        let admitted = http.auth.lets_call_own(&call.caller, call.name.as_str());
        admitted.and_then(|()| http.registry.answer(method, &call.params, &table))
    };
    // An announcement that is taken costs nothing: a service that calls too much is to stay where it is found.
    let mut announced = None;
    if method == Method::Ping {
        match ask() {
            Ok(told) => return (answer(Ok(told), None), true),
            refused => announced = Some(refused),
        }
    }
    let allowance = match charge(http, ingress, &call) {
        Ok(allowance) => allowance,
        Err(limited) => return (*limited, false),
    };
    let answered = announced.unwrap_or_else(ask);
    if let Err(fault) = &answered {
        refuse(http, ingress, &call, fault);
    }
    (answer(answered, allowance), true)
}

/// What is to be called at a service's own address.
async fn specs(
    http: &Http,
    ingress: IngressLabel,
    service: &str,
    call: Call,
) -> (Dispatched, bool) {
    // Whoever may not ask Genkan asks the service, which its row decides about.
    if http.auth.lets_call_own(&call.caller, call.name.method()).is_err() {
        return (http.router.dispatch(ingress, call).await, false);
    }
    let probed = http.registry.answer_probe(&call.name, call.context.user_agent.as_deref());
    // Nor does a registry's question whether somebody is there: whoever calls too much finds it all the same.
    if let Some((known, is_own)) = probed {
        let is_reached = if is_own { Ok(()) } else { is_reached(http, &call) };
        return (answer(is_reached.map(|()| known), None), true);
    }
    let dispatched = http.router.dispatch(ingress, call).await;
    // Where rows name methods to the letter, none may lead this one anywhere.
    let has_none = dispatched.result.as_ref().is_err_and(|fault| {
        matches!(fault.kind(), FaultKind::UnknownMethod | FaultKind::UnknownService)
    });
    let known = has_none.then(|| http.registry.specs_of(service, &http.router.table())).flatten();
    match known {
        Some(known) => (answer(Ok(known), dispatched.allowance), true),
        None => (dispatched, false),
    }
}

/// Whether calls of the service can be sent to where the table sends them.
fn is_reached(http: &Http, call: &Call) -> Result<(), Fault> {
    let table = http.router.table();
    let target = table.find(call.name.as_str()).target.as_ref();
    match target.map(|target| target.upstream.readiness()) {
        Some(Readiness::Ready) => Ok(()),
        Some(Readiness::NotReady(_)) | None => {
            let message = "the service cannot be called through this gateway now";
            Err(Fault::not_sent(FaultKind::Unavailable, message))
        }
    }
}

fn answer(result: Result<Payload, Fault>, allowance: Option<Allowance>) -> Dispatched {
    let result = result.map(Reply::new);
    let (service_time, dialect) = (None, None);
    Dispatched { result, service_time, dialect, allowance, replayed: false }
}
