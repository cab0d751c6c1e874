//! Where the hub listens, and how it ends.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::json;

use super::{HUB, Peer, address, error};
use crate::harness::process::Folder;
use crate::harness::{Gateway, eventually};

#[tokio::test]
async fn tcp_and_unix_sockets_side_by_side() {
    let folder = Folder::new();
    let path = folder.path().join("hub.sock");
    let other = folder.path().join("other.sock");
    let toml = format!(
        "[hub]\nlisten = [\"tcp://127.0.0.1:0\", \"unix://{}\", \"unix://{}\"]\nmode = \"0640\"\nowner = \"{}\"\n",
        path.display(),
        other.display(),
        rustix_uid(&folder)
    );
    let gateway = Gateway::start(&toml).await;
    let mut math = Peer::unix(&path).await;
    assert_eq!(math.register("math", "1.0.0", json!({})).await["type"], 2);
    math.receive().await;
    math.ask(json!({"type": 9, "function": "add"})).await;
    let mut caller = Peer::connect(&gateway).await;
    caller.register("caller", "1.0.0", json!({})).await;
    caller.receive().await;
    caller.request(json!({"type": 3, "function": "math.add"})).await;
    let call = math.receive().await;
    math.answer(&call, json!(1)).await;
    assert_eq!(caller.receive().await["data"], 1);
    Peer::unix(&other).await.is_served().await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);

    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
    assert!(!path.exists() && !other.exists(), "the files go with the gateway");
}

/// The user that the tests run as.
fn rustix_uid(folder: &Folder) -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(folder.path()).unwrap().uid()
}

#[tokio::test]
async fn a_stale_socket_is_cleared_and_another_genkans_is_not() {
    let folder = Folder::new();
    let path = folder.path().join("hub.sock");
    let toml = format!("[hub]\nlisten = [\"unix://{}\"]\n", path.display());
    let gateway = Gateway::start(&toml).await;
    Peer::unix(&path).await.is_served().await;

    let config = folder.write(
        "second.toml",
        &format!("{toml}[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n"),
    );
    let mut second = crate::harness::gateway::genkan();
    second.arg("serve").arg("--config").arg(&config);
    let (status, _, said) = crate::harness::process::run(&mut second);
    assert_ne!(status, 0);
    assert!(said.contains("another Genkan holds"), "{said}");
    Peer::unix(&path).await.is_served().await;

    // Killed, it leaves its file behind; the next one clears that.
    std::process::Command::new("kill")
        .args(["-KILL", &gateway.pid().to_string()])
        .status()
        .unwrap();
    eventually("it has ended", async || (!gateway.runs()).then_some(())).await;
    assert!(path.exists());
    let _next = Gateway::start(&toml).await;
    eventually("the next one listens", async || {
        tokio::net::UnixStream::connect(&path).await.is_ok().then_some(())
    })
    .await;
    Peer::unix(&path).await.is_served().await;
}

#[tokio::test]
async fn draining_lets_calls_end() {
    let gateway = Gateway::start(HUB).await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let id = caller.request(json!({"type": 3, "function": "math.add"})).await;
    let call = math.receive().await;
    gateway.terminate();
    gateway.wait_for_log(0, "draining").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let refused = caller.call("math.add", json!({})).await;
    assert_eq!((error(&refused), &refused["data"]["kind"]), (4, &json!("unavailable")));
    math.answer(&call, json!(7)).await;
    assert_eq!(caller.receive().await, json!({"requestId": id, "type": 4, "data": 7}));
    assert_eq!(caller.next().await, None);
    assert_eq!(gateway.exit_status().await, 0);
}

#[tokio::test]
async fn at_the_end_of_patience_calls_end_with_a_fault() {
    let gateway = Gateway::start(&format!("drain_timeout = \"200ms\"\n{HUB}")).await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let id = caller.request(json!({"type": 3, "function": "math.add"})).await;
    math.receive().await;
    gateway.terminate();
    let answer = caller.receive().await;
    assert_eq!((error(&answer), &answer["requestId"]), (4, &json!(id)));
    assert_eq!(gateway.exit_status().await, 0);
}

#[tokio::test]
async fn it_may_listen_nowhere() {
    let gateway = Gateway::start("[hub]\nlisten = []\n").await;
    gateway.fault("math.add", json!({})).await.is("unknown_service", "not_sent");
    assert!(gateway.logged("listening").iter().all(|line| line["ingress"] != "hub"));
    let taken = Gateway::start(HUB).await;
    let at = address(&taken).await;
    let folder = Folder::new();
    let config = folder.write(
        "c.toml",
        &format!("[hub]\nlisten = [\"tcp://{at}\"]\n[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n"),
    );
    let mut second = crate::harness::gateway::genkan();
    second.arg("serve").arg("--config").arg(&config);
    let (status, _, said) = crate::harness::process::run(&mut second);
    assert!(status != 0 && said.contains("[hub] listen"), "{said}");
}
