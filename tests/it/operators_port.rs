//! Who may ask for the pages for operators: programs of this machine and those who were named, and
//! no web page; and nobody holds a connection to them for ever.

use std::os::unix::fs::PermissionsExt;

use crate::harness::gateway::genkan;
use crate::harness::http::{self, Connection};
use crate::harness::process::{self, Folder};
use crate::harness::{Gateway, eventually};

#[tokio::test]
async fn a_web_page_reads_nothing() {
    let gateway = Gateway::start("").await;
    let port = gateway.admin.rsplit(':').next().expect("a port");
    let evil = format!("evil.example:{port}");
    // A page whose name was pointed at 127.0.0.1 is same-origin for its browser.
    let foreign: [&[(&str, &str)]; 3] = [
        &[("Host", &evil), ("Sec-Fetch-Site", "same-origin")],
        &[("Origin", "https://evil.example")],
        &[("Sec-Fetch-Site", "cross-site")],
    ];
    for headers in foreign {
        for page in ["/metrics", "/healthz", "/hub/modules"] {
            let answer = http::send(&gateway.admin, "GET", page, headers, b"").await;
            assert_eq!(answer.status, 403, "{headers:?} {page}: {answer:?}");
        }
    }
    let localhost = format!("localhost:{port}");
    let own = [("Host", localhost.as_str())];
    assert_eq!(http::send(&gateway.admin, "GET", "/metrics", &own, b"").await.status, 200);
    assert_eq!(gateway.page("/metrics").await.status, 200);
}

#[tokio::test]
async fn a_name_can_be_allowed_and_takes_effect_at_a_reload() {
    let gateway = Gateway::start("").await;
    let named = [("Host", "genkan.example")];
    assert_eq!(http::send(&gateway.admin, "GET", "/readyz", &named, b"").await.status, 403);
    gateway.write_config("[admin]\nhosts = \"genkan.example\"\n");
    gateway.hang_up();
    eventually("the name is known", async || {
        let answer = http::send(&gateway.admin, "GET", "/readyz", &named, b"").await;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn half_a_head_does_not_stay() {
    let gateway = Gateway::start("").await;
    let mut slow = Connection::open(&gateway.admin).await;
    slow.send(b"GET /healthz HTTP/1.1\r\nHost: 127").await;
    let answer = slow.receive().await.expect("it is told");
    assert!(answer.status == 408 && answer.text().contains("10s"), "{answer:?}");
    assert!(slow.is_closed_within(std::time::Duration::from_secs(30)).await);
}

#[tokio::test]
async fn who_guesses_at_the_token_of_the_pages_is_held_up_for_a_while() {
    let gateway = Gateway::start("[admin]\ntoken = \"hunter2-of-the-admin-pages\"\n").await;
    let get = async |page: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        http::send(&gateway.admin, "GET", page, &[("Authorization", &bearer)], b"").await
    };
    // One is forgotten each second meanwhile.
    let held_up = eventually("too many are wrong", async || {
        let answer = get("/metrics", "hunter3").await;
        (answer.status != 401).then_some(answer)
    })
    .await;
    assert_eq!((held_up.status, held_up.header("retry-after")), (429, Some("1")));
    assert_eq!(get("/readyz", "").await.status, 200);
    let said = gateway.wait_for_log(0, "a wrong token was shown for the pages of [admin]").await;
    assert!(said["address"] == "127.0.0.1" && said["reason"] == "wrong_token", "{said}");
    let page = eventually("it is forgotten", async || {
        let answer = get("/metrics", "hunter2-of-the-admin-pages").await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    for reason in ["wrong_token", "too_many_wrong"] {
        let series = format!("genkan_credentials_refused_total{{reason=\"{reason}\"}}");
        assert!(page.text().contains(&series), "{}", page.text());
    }
}

#[tokio::test]
async fn a_token_opens_the_pages_and_the_commands_send_it_where_it_belongs() {
    let token = "hunter2-of-the-admin-pages";
    let gateway = Gateway::start(&format!("[admin]\ntoken = \"{token}\"\n")).await;
    for page in ["/healthz", "/readyz"] {
        assert_eq!(gateway.page(page).await.status, 200, "{page}");
    }
    for page in ["/metrics", "/routes", "/hub/modules", "/registry/services", "/none"] {
        let refused = gateway.page(page).await;
        let challenge = refused.header("www-authenticate");
        assert_eq!((refused.status, challenge), (401, Some("Bearer realm=\"genkan admin\"")));
        let wrong = [("Authorization", "Bearer hunter2")];
        let refused = http::send(&gateway.admin, "GET", page, &wrong, b"").await;
        let challenge = refused.header("www-authenticate").unwrap_or_default();
        assert!(refused.status == 401 && challenge.contains("invalid_token"), "{refused:?}");
    }
    let bearer = format!("Bearer {token}");
    let shown = [("Authorization", bearer.as_str())];
    assert_eq!(http::send(&gateway.admin, "GET", "/metrics", &shown, b"").await.status, 200);

    let url = format!("http://{}", gateway.admin);
    let run = |arguments: &[&str]| process::run(genkan().args(arguments).args(["--admin", &url]));
    let config = gateway.config();
    let config = config.to_str().expect("UTF-8");
    for command in [&["routes", "--live"][..], &["modules"], &["registry"]] {
        let (status, out, said) = run(&[command, &["--config", config]].concat());
        assert!(status == 0 && out.starts_with('{'), "{command:?}: {said}");
        let header = format!("Authorization: {bearer}");
        let (status, _, said) = run(&[command, &["-H", &header]].concat());
        assert_eq!(status, 0, "{command:?}: {said}");
        let (status, _, said) = run(command);
        assert!(status == 1 && said.contains("--config FILE"), "{command:?}: {said}");
    }
    // Another place is not told it, unless somebody says that the configuration is its.
    let mut elsewhere = genkan();
    elsewhere.args(["modules", "-v", "--admin", &url]).env("GENKAN__ADMIN__TOKEN", token);
    let (status, _, said) = process::run(&mut elsewhere);
    assert!(status == 1 && !said.contains("authorization"), "{said}");
    elsewhere.env("GENKAN__ADMIN__LISTEN", &gateway.admin);
    let (status, _, said) = process::run(&mut elsewhere);
    assert!(status == 0 && said.contains("authorization") && !said.contains("hunter2"), "{said}");

    gateway.write_config("[admin]\ntoken = \"another-one\"\n");
    gateway.hang_up();
    eventually("the old one is not taken any more", async || {
        let answer = http::send(&gateway.admin, "GET", "/metrics", &shown, b"").await;
        (answer.status == 401).then_some(())
    })
    .await;
    assert!(!gateway.log_text().contains("hunter2"));
}

#[tokio::test]
async fn the_pages_are_served_on_a_unix_socket_too() {
    let folder = Folder::new();
    let path = folder.path().join("admin.sock");
    let place = format!("unix://{}", path.display());
    let gateway = Gateway::start("").await;
    gateway.write_config(&format!("[admin]\nlisten = \"{place}\"\nmode = \"0600\"\n"));
    gateway.hang_up();
    let config = gateway.config();
    let config = config.to_str().expect("UTF-8");
    let live =
        |extra: &[&str]| process::run(genkan().args(["routes", "--live", "--json"]).args(extra));
    eventually("it listens there", async || path.exists().then_some(())).await;
    let (status, out, said) = live(&["--config", config]);
    assert!(status == 0 && out.contains("\"upstreams\""), "{said}");
    let (status, _, said) = live(&["--admin", &place]);
    assert_eq!(status, 0, "{said}");
    let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    eventually("the old place is left", async || {
        tokio::net::TcpStream::connect(&gateway.admin).await.is_err().then_some(())
    })
    .await;
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
    assert!(!path.exists(), "the file goes with it");
    let (status, _, said) = live(&["--admin", &place]);
    assert!(status == 3 && said.contains("cannot connect to unix://"), "{said}");
}

#[test]
fn mistakes_in_its_table_are_told() {
    let folder = Folder::new();
    let cases = [
        ("listen = \"unix://run/a\"", "relative"),
        ("listen = \"localhost:1\"", "unix:///run/genkan/admin.sock"),
        ("listen = \"tpc://127.0.0.1:1\"", "did you mean `tcp`?"),
        ("listen = \"unix:///no/such/a\"", "no folder /no/such for"),
        ("mode = \"0888\"", "must be octal"),
        ("token = \"\"", "must not be empty"),
        ("token = \"hunter2 hunter2\"", "blanks"),
        ("token = \"a\"\ntoken_file = \"/b\"", "keep one of them"),
    ];
    for (keys, part) in cases {
        let file = folder.write("genkan.toml", &format!("[admin]\n{keys}\n"));
        let (_, out, said) = process::run(genkan().args(["check", "--config"]).arg(&file));
        assert!(out.contains(part), "{keys}: {out}");
        assert!(!out.contains("hunter2") && !said.contains("hunter2"), "{out}{said}");
    }
}
