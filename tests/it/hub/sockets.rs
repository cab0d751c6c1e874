//! Where the hub listens, and how it ends.

use std::os::unix::fs::PermissionsExt;

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

/// Owner and group can only be given away by root, as which services are often started.
#[tokio::test]
async fn a_unix_socket_has_the_owner_group_and_mode_that_it_is_given() {
    use std::os::unix::fs::MetadataExt;
    let folder = Folder::new();
    if rustix_uid(&folder) != 0 {
        return;
    }
    let path = folder.path().join("hub.sock");
    for (owner, group, mode) in [("nobody", "daemon", "0660"), ("12345", "54321", "0o600")] {
        let gateway = Gateway::start(&format!(
            "[hub]\nlisten = [\"unix://{}\"]\nowner = \"{owner}\"\ngroup = \"{group}\"\nmode = \"{mode}\"\n",
            path.display()
        ))
        .await;
        eventually("the socket is there", async || path.exists().then_some(())).await;
        let seen = std::fs::metadata(&path).unwrap();
        let expected = match owner {
            "nobody" => (id_of("nobody", "/etc/passwd"), id_of("daemon", "/etc/group"), 0o660),
            _ => (12_345, 54_321, 0o600),
        };
        assert_eq!((seen.uid(), seen.gid(), seen.mode() & 0o777), expected);
        Peer::unix(&path).await.is_served().await;
        let left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("hub.sock") && !name.ends_with(".lock"))
            .collect();
        assert_eq!(left, ["hub.sock"], "where it was made is gone");
        gateway.terminate();
        assert_eq!(gateway.exit_status().await, 0);
    }
    let config = folder.write(
        "c.toml",
        &format!("[hub]\nlisten = [\"unix://{}\"]\ngroup = \"no-such-group\"\n[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n", path.display()),
    );
    let mut wrong = crate::harness::gateway::genkan();
    wrong.arg("serve").arg("--config").arg(&config);
    let (status, _, said) = crate::harness::process::run(&mut wrong);
    assert!(status != 0 && said.contains("no-such-group"), "{said}");
    assert!(!path.exists(), "nothing is left behind");
}

fn id_of(name: &str, file: &str) -> u32 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split(':').nth(2).unwrap().parse().unwrap()
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

/// A file that is no socket, or a socket that somebody else listens on, is left alone.
#[tokio::test]
async fn what_is_in_the_sockets_place_is_left_alone() {
    let folder = Folder::new();
    let path = folder.path().join("hub.sock");
    let config = folder.write(
        "c.toml",
        &format!("[hub]\nlisten = [\"unix://{}\"]\n[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n", path.display()),
    );
    let refused = || {
        let mut serve = crate::harness::gateway::genkan();
        serve.arg("serve").arg("--config").arg(&config);
        let (status, _, said) = crate::harness::process::run(&mut serve);
        assert_ne!(status, 0, "{said}");
        said
    };
    std::fs::write(&path, "precious").unwrap();
    let said = refused();
    assert!(said.contains("is no socket"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    let daemon = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let said = refused();
    assert!(said.contains("somebody listens"), "{said}");
    drop(daemon);
    assert!(path.exists());
}

#[tokio::test]
async fn another_ones_socket_in_its_place_is_left_at_the_end() {
    let folder = Folder::new();
    let path = folder.path().join("hub.sock");
    let gateway =
        Gateway::start(&format!("[hub]\nlisten = [\"unix://{}\"]\n", path.display())).await;
    eventually("the socket is there", async || path.exists().then_some(())).await;
    std::fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
    assert!(path.exists(), "it belongs to somebody else");
}

/// The system's limit is 107 bytes, and the hub's no other.
#[tokio::test]
async fn a_path_may_be_as_long_as_the_system_allows() {
    // Not in the project's folder, whose path may be long itself.
    let folder = std::env::temp_dir().join(format!("genkan-paths-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let start = folder.join("").display().to_string().len();
    for (length, works) in [(101, true), (102, true), (107, true), (108, false)] {
        let path = folder.join("s".repeat(length - start));
        let toml = format!("[hub]\nlisten = [\"unix://{}\"]\n", path.display());
        if works {
            let gateway = Gateway::start(&toml).await;
            Peer::unix(&path).await.is_served().await;
            gateway.terminate();
            assert_eq!(gateway.exit_status().await, 0);
            assert!(!path.exists());
            continue;
        }
        let config = folder.join("c.toml");
        std::fs::write(&config, &toml).unwrap();
        for command in ["serve", "check"] {
            let mut genkan = crate::harness::gateway::genkan();
            genkan.arg(command).arg("--config").arg(&config);
            let (status, out, said) = crate::harness::process::run(&mut genkan);
            assert_ne!(status, 0);
            assert!(format!("{out}{said}").contains("107"), "{command}: {out}{said}");
        }
        assert!(!std::path::Path::new(&format!("{}.lock", path.display())).exists());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn while_it_drains_nobody_new_comes_in() {
    let folder = Folder::new();
    let path = folder.path().join("hub.sock");
    let gateway = Gateway::start(&format!(
        "[hub]\nlisten = [\"tcp://127.0.0.1:0\", \"unix://{}\"]\n",
        path.display()
    ))
    .await;
    let at = address(&gateway).await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut nobody = Peer::connect(&gateway).await;
    nobody.is_served().await;
    let id = math.request(json!({"type": 3, "function": "math.add"})).await;
    let call = math.receive().await;
    gateway.terminate();
    gateway.wait_for_log(0, "draining").await;
    eventually("nobody is accepted", async || {
        let tcp = tokio::net::TcpStream::connect(&at).await.is_err();
        (tcp && tokio::net::UnixStream::connect(&path).await.is_err()).then_some(())
    })
    .await;
    let refused = nobody.register("late", "1.0.0", json!({})).await;
    assert_eq!((error(&refused), &refused["data"]["kind"]), (4, &json!("unavailable")));
    math.answer(&call, json!(7)).await;
    assert_eq!(math.receive().await, json!({"requestId": id, "type": 4, "data": 7}));
    assert_eq!(gateway.exit_status().await, 0);
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
