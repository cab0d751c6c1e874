//! HTTP to a JSON-RPC service over HTTP: the gateway, nginx and HAProxy in front of the same service. The two
//! read no JSON.

use anyhow::Result;

use super::measure::{HTTP_CALLS, Stage, What, load, points};
use super::peers;
use crate::args::{Args, Part};
use crate::support::child::Copy;
use crate::support::gateway::Gateway;
use crate::support::subject::Subject;

/// The service's name.
const SERVICE: &str = "reports";

/// Sets up what takes turns.
pub(super) fn set(stage: &mut Stage, args: &Args) -> Result<()> {
    let at = points(args, &[Part::JsonRpc]);
    if at.is_empty() {
        return Ok(());
    }
    let calls = args.calls(HTTP_CALLS);
    let service = Copy::start(&["axum-json-rpc"])?;
    let port = service.port()?;
    let direct = load(&format!("127.0.0.1:{port}"), SERVICE, "result")?;
    stage.add(What::JsonRpcService, at, Subject::new(direct, Some(service.pid())), calls);
    if args.wants(Part::JsonRpc) {
        let proxies = [
            (What::NginxJsonRpc, peers::nginx(&service)?),
            (What::HaproxyJsonRpc, peers::haproxy(&service)?),
        ];
        for (what, proxy) in proxies {
            let Some(proxy) = proxy else { continue };
            let subject = Subject::of(load(&proxy.address, SERVICE, "result")?, proxy.pids.clone());
            stage.add(what, at, subject, calls);
            stage.peers.push(proxy);
        }
    }
    if !args.floors {
        let rest = format!(
            r#"
[hub]
listen = []

[upstreams.reports]
protocol = "jsonrpc"
url = "http://127.0.0.1:{port}/api"

[[routes]]
match = "{SERVICE}.*"
upstream = "reports"
"#
        );
        let gateway = Gateway::start("json-rpc", &rest)?;
        let load = load(&gateway.address.to_string(), SERVICE, "result")?;
        stage.add(What::GatewayJsonRpc, at, Subject::new(load, Some(gateway.pid())), calls);
        stage.more.push(gateway);
    }
    stage.services.push(service);
    Ok(())
}
