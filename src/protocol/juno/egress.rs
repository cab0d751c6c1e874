//! The hub as an upstream: calls from elsewhere reach a module's function.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::hub::{JUNO, ModuleView, OutsideCall, is_callable};
use super::shared::{Owed, Shared, closed};
use super::wire::outgoing::quoted;
use super::wire::{CallId, Rest};
use crate::call::{Deadline, Departure, Params, Reply, Request};
use crate::fault::Fault;
use crate::offer::reading::Reading;
use crate::offer::{self, Description, Offer, Offers};
use crate::params;
use crate::upstream::{Envelope, Readiness, Upstream};

/// The upstream by the name `hub`.
pub(super) struct HubUpstream(pub(super) Arc<Shared>);

impl HubUpstream {
    fn send(
        &self,
        request: &Request<'_>,
        owed: Owed,
        timeout: Option<std::time::Duration>,
    ) -> Result<Option<CallId>, Fault> {
        // That nobody serves it is the better answer than that its params are wrong.
        let arguments = arguments(request).map_err(|fault| {
            self.0.lock().serves(request.service, request.method).err().unwrap_or(fault)
        })?;
        let name = format!("{}.{}", request.service, request.method);
        let meta = meta(request);
        let call = OutsideCall {
            service: request.service,
            method: request.method,
            name: &name,
            arguments: &arguments,
            timeout,
            rest: Rest::added(&meta),
        };
        let now = Instant::now();
        Ok(self.0.with(now, |hub, io| hub.call_from_outside(&call, owed, now, io)))
    }
}

impl Upstream for HubUpstream {
    fn call<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<Reply, Fault>> {
        Box::pin(async move {
            let (sender, receiver) = oneshot::channel();
            let id = self.send(request, Owed::Outside(sender), None)?;
            let waiting = Waiting { shared: &self.0, id, departure: &request.departure };
            let result = receiver.await.unwrap_or_else(|_| Err(closed()));
            waiting.over();
            result.map(Reply::new)
        })
    }

    fn notify<'a>(&'a self, request: &'a Request<'a>) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            // Juno has no notifications: it is a call, whose answer nobody takes. Where it goes
            // nowhere, that is known at once.
            let (sender, mut receiver) = oneshot::channel();
            let timeout = Some(self.0.config().timeout);
            self.send(request, Owed::Notification(sender), timeout)?;
            match receiver.try_recv() {
                Ok(Err(fault)) => Err(fault),
                _ => Ok(()),
            }
        })
    }

    fn readiness(&self) -> Readiness {
        Readiness::Ready
    }

    fn is_ready_for(&self, service: &str) -> bool {
        service == JUNO || self.0.lock().has_active(service)
    }

    fn offers<'a>(
        &'a self,
        service: Option<&'a str>,
        _until: Deadline,
        _reading: &'a Reading,
    ) -> BoxFuture<'a, Offers> {
        let modules = self.0.lock().modules().into_iter();
        let modules =
            modules.filter(|one| one.active && service.is_none_or(|wanted| wanted == one.id));
        let methods = modules.flat_map(|ModuleView { id, functions, .. }| {
            let callable = functions.into_iter().filter(|function| is_callable(function));
            callable.map(move |method| Offer {
                service: id.clone(),
                method,
                description: Description::unknown(),
            })
        });
        let offers = Offers { methods: methods.take(offer::MOST).collect(), ..Offers::default() };
        Box::pin(std::future::ready(offers))
    }
}

/// Takes the call out of the hub when nobody waits for it any more.
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    id: Option<CallId>,
    departure: &'a Departure,
}

impl Waiting<'_> {
    fn over(mut self) {
        self.id = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        if self.shared.with(Instant::now(), |hub, io| hub.forget(id, io)) {
            drop(self.departure.hold());
        }
    }
}

/// The member that tells the call's key to the module; empty where it has none.
fn meta(request: &Request<'_>) -> String {
    let key = request.context.idempotency_key.as_ref().map(|key| quoted(key.as_str()));
    key.map(|key| format!("\"meta\":{{\"idempotencyKey\":{key}}}")).unwrap_or_default()
}

/// The frame that a call would be, for `genkan explain`.
pub(super) fn explain(request: &Request<'_>) -> Result<Envelope, Fault> {
    let arguments = arguments(request)?;
    let function = quoted(request.method);
    let address =
        vec![("module", request.service.to_owned()), ("function", request.method.to_owned())];
    let body = format!(
        "{{\"requestId\":\"g0\",\"type\":3,\"function\":{function},\"caller\":\"genkan\",\
         \"arguments\":{arguments}}}"
    );
    Ok(Envelope { address, headers: Vec::new(), body })
}

/// Params as a Juno function takes them: an object (CONTRACT, section 6).
fn arguments<'a>(request: &Request<'a>) -> Result<Cow<'a, str>, Fault> {
    match request.params {
        Params::None => Ok(Cow::Borrowed("{}")),
        Params::Object(object) => Ok(Cow::Borrowed(object.as_str())),
        Params::Array(array) => {
            let called = format_args!("{}.{}", request.service, request.method);
            params::by_name(called, request.param_names, array.as_str()).map(Cow::Owned)
        }
        Params::Both { positional, named } => {
            let called = format_args!("{}.{}", request.service, request.method);
            params::merged(called, request.param_names, positional.as_str(), named.as_str())
                .map(Cow::Owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::{Context, Deadline, Payload};
    use crate::fault::FaultKind;
    use crate::trace::TraceParent;

    fn arguments_of(params: Params, names: &[&str]) -> Result<String, Fault> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let context = Context::new(TraceParent::generate());
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(1));
        let mut request = Request::new(("m", "f"), &params, &context, deadline);
        request.param_names = &names;
        arguments(&request).map(Cow::into_owned)
    }

    fn array(text: &'static str) -> Params {
        Params::Array(Payload::from_validated(text.into()))
    }

    #[test]
    fn params_become_arguments() {
        let object = Params::Object(Payload::from_validated(r#"{"b":1.10,"a":[]}"#.into()));
        assert_eq!(arguments_of(object, &["x"]).expect("valid"), r#"{"b":1.10,"a":[]}"#);
        assert_eq!(arguments_of(Params::None, &[]).expect("valid"), "{}");
        assert_eq!(arguments_of(array("[]"), &[]).expect("valid"), "{}");
        let named = arguments_of(array("[1.10, {\"k\" : 2}]"), &["a", "b\"c", "d"]);
        assert_eq!(named.expect("valid"), r#"{"a":1.10,"b\"c":{"k" : 2}}"#);
    }

    #[test]
    fn positional_params_need_names() {
        for (params, names) in [(array("[1]"), vec![]), (array("[1,2]"), vec!["a"])] {
            let fault = arguments_of(params, &names).expect_err("no names");
            assert_eq!(fault.kind(), FaultKind::InvalidParams);
        }
    }
}
