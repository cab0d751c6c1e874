//! SIGHUP and changed files put a new routing table in force without dropping a call; a bad file is
//! refused whole, loudly, and the old table stays.

use std::pin::pin;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::gateway::genkan;
use crate::harness::process::Folder;
use crate::harness::{Echo, Gateway, eventually};

fn routes(echo: &Echo, rows: &str) -> String {
    format!("{}{rows}", echo.nats.upstream("nats", "picom"))
}

const ECHO: &str = "[[routes]]\nmatch = \"echo.*\"\nupstream = \"nats\"\n";
const RENAMED: &str =
    "[[routes]]\nmatch = \"renamed.*\"\nupstream = \"nats\"\nservice = \"echo\"\n";

#[tokio::test]
async fn sighup_puts_the_changed_file_in_force_without_dropping_anything() {
    let echo = Echo::start().await;
    let mut open = echo.gateway.connect().await;
    let body = r#"{"jsonrpc":"2.0","method":"echo.later","params":["kept"],"id":1}"#;
    open.request("POST", "/api", &[], body.as_bytes()).await;
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
    echo.gateway.write_config(&routes(&echo, RENAMED));
    echo.gateway.hang_up();
    echo.gateway.wait_for_log(0, "reloaded").await;
    assert_eq!(echo.gateway.result("renamed.x", json!(["new"])).await, "new");
    echo.gateway.fault("echo.x", Value::Null).await.is("unknown_service", "not_sent");
    // The call that was on its way, and its connection, are untouched.
    assert_eq!(open.receive().await.expect("an answer").json()["result"], "kept");
    let again = r#"{"jsonrpc":"2.0","method":"renamed.x","params":["same connection"],"id":2}"#;
    open.request("POST", "/api", &[], again.as_bytes()).await;
    assert_eq!(open.receive().await.expect("an answer").json()["result"], "same connection");
    let reconnects = echo.gateway.metric("genkan_upstream_reconnects_total", &[]).await;
    assert_eq!(reconnects, 0.0, "an upstream that did not change keeps its connection");
}

#[tokio::test]
async fn a_changed_file_is_noticed_without_a_signal() {
    let echo = Echo::start().await;
    echo.gateway.write_config(&routes(&echo, RENAMED));
    eventually("the new table is in force", async || {
        let answer = echo.gateway.rpc("renamed.x", json!(["new"])).await;
        (answer["result"] == "new").then_some(())
    })
    .await;
    // Editors replace a file by another one.
    let other = echo.gateway.config().with_extension("new");
    std::fs::copy(echo.gateway.config(), &other).expect("a copy");
    let text = std::fs::read_to_string(&other).expect("text").replace("renamed", "replaced");
    std::fs::write(&other, text).expect("written");
    std::fs::rename(&other, echo.gateway.config()).expect("replaced");
    eventually("the replaced file is in force", async || {
        let answer = echo.gateway.rpc("replaced.x", json!(["newer"])).await;
        (answer["result"] == "newer").then_some(())
    })
    .await;
}

/// When the configuration in force was put there.
const SUCCEEDED: &str = "genkan_config_last_reload_success_timestamp_seconds";

#[tokio::test]
async fn a_bad_file_is_refused_whole_and_loudly_and_the_old_table_stays() {
    let echo = Echo::start().await;
    let bad = [
        // A new row that is sound, beside a mistake: none of it comes into force.
        format!("{RENAMED}[[routes]]\nmatch = \"x.*\"\nupsteam = \"nats\"\n"),
        format!("{RENAMED}[[routes]\n"),
        format!("{RENAMED}[[routes]]\nmatch = \"x.*\"\nupstream = \"gone\"\n"),
    ];
    for (index, rows) in bad.iter().enumerate() {
        let seen = echo.gateway.log().len();
        echo.gateway.write_config(&routes(&echo, rows));
        echo.gateway.hang_up();
        let said = echo.gateway.wait_for_log(seen, "reload refused").await;
        assert_eq!(said["level"], "ERROR");
        let problem = echo.gateway.wait_for_log(seen, "bad configuration").await;
        assert!(problem["place"].as_str().is_some_and(|place| place.contains("genkan.toml:")));
        if index == 0 {
            let words = problem["problem"].as_str().unwrap_or_default();
            assert!(log_has(&echo, seen, "did you mean `upstream`?"), "{words}");
        }
        assert_eq!(echo.gateway.result("echo.x", json!(["old"])).await, "old");
        echo.gateway.fault("renamed.x", Value::Null).await.is("unknown_service", "not_sent");
        echo.gateway.wait_for_metric("genkan_config_last_reload_successful", &[], 0.0).await;
        let ready = echo.gateway.page("/readyz").await;
        assert_eq!(ready.status, 200, "calls go on as before");
        assert!(ready.text().contains("configuration: the last reload was refused"), "{ready:?}");
    }
    let began = echo.gateway.metric(SUCCEEDED, &[]).await;
    let seen = echo.gateway.log().len();
    echo.gateway.write_config(&routes(&echo, RENAMED));
    echo.gateway.wait_for_log(seen, "reloaded").await;
    echo.gateway.wait_for_metric("genkan_config_last_reload_successful", &[], 1.0).await;
    assert!(echo.gateway.metric(SUCCEEDED, &[]).await > began, "and not when one was refused");
    assert_eq!(echo.gateway.page("/readyz").await.text(), "ready\n");
    assert_eq!(echo.gateway.result("renamed.x", json!(["mended"])).await, "mended");
}

/// What is emptied and written again as it was is in force, whoever has asked for nothing.
#[tokio::test]
async fn a_file_that_comes_back_as_it_was_is_refused_no_more() {
    let echo = Echo::start().await;
    let config = std::fs::read_to_string(echo.gateway.config()).expect("a file");
    std::fs::write(echo.gateway.config(), "").expect("written");
    echo.gateway.wait_for_metric("genkan_config_last_reload_successful", &[], 0.0).await;
    std::fs::write(echo.gateway.config(), config).expect("written");
    echo.gateway.wait_for_metric("genkan_config_last_reload_successful", &[], 1.0).await;
    assert_eq!(echo.gateway.page("/readyz").await.text(), "ready\n");
}

fn log_has(echo: &Echo, seen: usize, words: &str) -> bool {
    echo.gateway.log().iter().skip(seen).any(|line| line.to_string().contains(words))
}

#[tokio::test]
async fn upstreams_come_and_go_with_the_file() {
    let echo = Echo::start().await;
    let other = Echo::start().await;
    let mut waiting = echo.gateway.connect().await;
    let later = r#"{"jsonrpc":"2.0","method":"echo.later","params":["kept"],"id":1}"#;
    waiting.request("POST", "/api", &[], later.as_bytes()).await;
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
    let toml = format!(
        "{}[[routes]]\nmatch = \"echo.*\"\nupstream = \"second\"\n",
        other.nats.upstream("second", "picom")
    );
    echo.gateway.write_config(&toml);
    echo.gateway.hang_up();
    echo.gateway.wait_for_log(0, "reloaded").await;
    echo.gateway.wait_until_ready().await;
    assert_eq!(echo.gateway.result("echo.moved", json!(["p"])).await, "p");
    assert_eq!(other.called(), ["moved"]);
    assert_eq!(waiting.receive().await.expect("an answer").json()["result"], "kept");
    eventually("the old connection is given up", async || {
        let up = echo.gateway.metric("genkan_upstream_up", &[("upstream", "nats")]).await;
        (up == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn calls_go_on_under_a_storm_of_reloads() {
    let echo = Echo::start().await;
    let calls = async {
        for _ in 0..300 {
            assert_eq!(echo.gateway.result("echo.x", json!(["p"])).await, "p");
        }
    };
    let reloads = async {
        for index in 0..20 {
            let comment = format!("{ECHO}# {index}\n");
            echo.gateway.write_config(&routes(&echo, &comment));
            echo.gateway.hang_up();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(calls, reloads);
    assert!(echo.gateway.runs());
}

#[tokio::test]
async fn an_upstream_whose_settings_change_is_replaced_without_a_gap() {
    let echo = Echo::start().await;
    let changed = |key: &str| format!("{}{key}\n{ECHO}", echo.nats.upstream("nats", "picom"));
    let calls = async {
        for _ in 0..400 {
            assert_eq!(echo.gateway.result("echo.x", json!(["p"])).await, "p");
        }
    };
    let reloads = async {
        for index in 1..=10 {
            let seen = echo.gateway.log().len();
            echo.gateway.write_config(&changed(&format!("ping_interval = \"{index}s\"")));
            echo.gateway.hang_up();
            echo.gateway.wait_for_log(seen, "reloaded").await;
        }
    };
    tokio::join!(calls, reloads);
    assert_eq!(echo.gateway.metric("genkan_upstream_up", &[("upstream", "nats")]).await, 1.0);
    let in_flight = echo.gateway.metric("genkan_calls_in_flight", &[("upstream", "nats")]).await;
    assert_eq!(in_flight, 0.0);
    echo.gateway.terminate();
    echo.gateway.exit_status().await;
    // The ends of the old ones are Genkan's own doing.
    let lost = echo.gateway.logged("the connection to NATS was lost; connecting again");
    assert_eq!(lost, Vec::<Value>::new());
}

#[tokio::test]
async fn a_limit_on_calls_changes_without_a_new_connection() {
    let echo = Echo::start().await;
    let limited = format!("{}max_in_flight = 1\n{ECHO}", echo.nats.upstream("nats", "picom"));
    let mut waiting = echo.gateway.connect().await;
    waiting.request("POST", "/call/echo/later", &[], b"[\"kept\"]").await;
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
    echo.gateway.write_config(&limited);
    echo.gateway.hang_up();
    echo.gateway.wait_for_log(0, "reloaded").await;
    echo.gateway.fault("echo.x", Value::Null).await.is("overloaded", "not_sent");
    assert_eq!(waiting.receive().await.expect("an answer").text(), "\"kept\"");
    assert_eq!(echo.gateway.result("echo.x", json!(["p"])).await, "p");
    assert_eq!(echo.gateway.logged("connected to NATS").len(), 1);
}

#[tokio::test]
async fn of_an_upstream_that_is_taken_away_nothing_is_told_any_more() {
    let echo = Echo::start().await;
    echo.gateway.wait_for_metric("genkan_upstream_up", &[("upstream", "nats")], 1.0).await;
    echo.gateway.write_config("");
    echo.gateway.hang_up();
    echo.gateway.wait_for_log(0, "reloaded").await;
    let page = echo.gateway.page("/metrics").await;
    assert!(!page.text().contains("genkan_upstream_up{upstream=\"nats\"}"), "{}", page.text());
    echo.gateway.write_config(&routes(&echo, ECHO));
    echo.gateway.hang_up();
    echo.gateway.wait_for_metric("genkan_upstream_up", &[("upstream", "nats")], 1.0).await;
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_holds_a_new_table_back_for_a_while_alone() {
    let echo = Echo::start().await;
    let nowhere = "[upstreams.nats]\nprotocol = \"nats\"\nservers = [\"nats://127.0.0.1:1\"]\n";
    echo.gateway.write_config(&format!("{nowhere}{ECHO}{RENAMED}"));
    echo.gateway.hang_up();
    // The old one serves meanwhile.
    assert_eq!(echo.gateway.result("echo.x", json!(["p"])).await, "p");
    echo.gateway.wait_for_log(0, "reloaded").await;
    echo.gateway.fault("echo.x", Value::Null).await.is("unavailable", "not_sent");
    assert_eq!(echo.gateway.metric("genkan_upstream_up", &[("upstream", "nats")]).await, 0.0);
    echo.gateway.write_config(&routes(&echo, ECHO));
    eventually("the mended file is in force", async || {
        let answer = echo.gateway.rpc("echo.x", json!(["mended"])).await;
        (answer["result"] == "mended").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_was_down_before_holds_nothing_back() {
    let echo = Echo::start().await;
    let down = "[upstreams.down]\nprotocol = \"nats\"\nservers = \"nats://127.0.0.1:1\"\n";
    let patient = ECHO.to_owned() + "timeout = \"4500ms\"\n";
    let change = async |rows: &str| {
        let seen = echo.gateway.log().len();
        echo.gateway.write_config(&routes(&echo, &format!("{down}{patient}{rows}")));
        echo.gateway.hang_up();
        echo.gateway.wait_for_log(seen, "reloaded").await;
    };
    change("").await;
    // It ends before the patience with an upstream that a table brings.
    let mut call = pin!(echo.gateway.rpc("echo.never", json!([])));
    let changes = change(RENAMED);
    tokio::select! {
        biased;
        () = changes => {}
        answer = &mut call => panic!("{answer}"),
    }
    assert_eq!(echo.gateway.result("renamed.x", json!(["new"])).await, "new");
    assert_eq!(call.await["error"]["data"]["kind"], "timeout");
}

#[tokio::test]
async fn a_gateway_that_began_without_a_file_finds_one_at_sighup() {
    let folder = Folder::new();
    let mut command = genkan();
    command.arg("serve").current_dir(folder.path());
    for ingress in ["HTTP", "ADMIN"] {
        command.env(format!("GENKAN__{ingress}__LISTEN"), "127.0.0.1:0");
    }
    command.env("GENKAN__HUB__LISTEN", "tcp://127.0.0.1:0");
    let gateway = Gateway::spawn(&command, folder).await;
    gateway.write_config("[[routes]]\nmatch = \"shop.*\"\nupstream = \"hub\"\n");
    gateway.hang_up();
    let said = gateway.wait_for_log(0, "reloaded").await;
    assert_eq!((&said["config"], &said["routes"]), (&json!("genkan.toml"), &json!(1)));
}

#[tokio::test]
async fn the_first_row_that_matches_wins() {
    let echo = Echo::start().await;
    let rows = "[[routes]]\nmatch = \"shop.pay\"\nupstream = \"nats\"\nservice = \"echo\"\nmethod = \"first\"\n\
                [[routes]]\nmatch = \"shop.*\"\nupstream = \"nats\"\nservice = \"echo\"\nmethod = \"second\"\n\
                [[routes]]\nmatch = \"*.audit\"\nupstream = \"nats\"\nservice = \"echo\"\nmethod = \"third\"\n";
    let gateway = Gateway::ready(&routes(&echo, rows)).await;
    for name in ["shop.pay", "shop.list", "shop.audit", "bank.audit", "a.b.audit"] {
        gateway.result(name, json!(["p"])).await;
    }
    assert_eq!(echo.called(), ["first", "second", "second", "third", "third"]);
    gateway.fault("bank.pay", Value::Null).await.is("unknown_service", "not_sent");
}

#[tokio::test]
async fn an_empty_file_is_being_written() {
    let echo = Echo::start().await;
    // Not by `write_config`, which would fill it.
    std::fs::write(echo.gateway.config(), "").expect("emptied");
    echo.gateway.hang_up();
    echo.gateway.wait_for_log(0, "reload refused").await;
    for text in ["", "\n"] {
        std::fs::write(echo.gateway.config(), text).expect("written");
        echo.gateway.hang_up();
        for _ in 0..50 {
            assert_eq!(echo.gateway.result("echo.x", json!(["p"])).await, "p");
        }
    }
    echo.gateway.write_config(&routes(&echo, RENAMED));
    eventually("the new table is in force", async || {
        let answer = echo.gateway.rpc("renamed.x", json!(["new"])).await;
        (answer["result"] == "new").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_that_grows_is_put_in_force_when_it_is_whole() {
    let echo = Echo::start().await;
    let (path, seen) = (echo.gateway.config(), echo.gateway.log().len());
    // The first half, which is valid, holds no row for `echo.*`.
    let whole = std::fs::read_to_string(&path).expect("the file");
    let rows = whole.find("[[routes]]").expect("a row");
    let writer = async {
        for round in 0..40 {
            let half = format!("{}\n{}", "# a comment\n".repeat(round), &whole[..rows]);
            std::fs::write(&path, half).expect("written");
            echo.gateway.hang_up();
            assert_eq!(echo.gateway.result("echo.x", json!(["p"])).await, "p");
        }
        std::fs::write(&path, format!("# whole\n{whole}")).expect("written");
        echo.gateway.hang_up();
    };
    writer.await;
    echo.gateway.wait_for_log(seen, "reloaded").await;
    assert_eq!(echo.gateway.result("echo.x", json!(["p"])).await, "p");
    assert_eq!(echo.gateway.logged("reloaded: the new routing table is in force").len(), 1);
}

#[tokio::test]
async fn other_content_of_the_same_size_and_time_is_noticed() {
    let echo = Echo::start().await;
    let path = echo.gateway.config();
    let modified = std::fs::metadata(&path).and_then(|file| file.modified()).expect("a time");
    let text = std::fs::read_to_string(&path).expect("text");
    std::fs::write(&path, text.replace("echo.*", "ohce.*")).expect("written");
    let file = std::fs::File::options().write(true).open(&path).expect("the file");
    file.set_modified(modified).expect("a time");
    eventually("the new table is in force", async || {
        let answer = echo.gateway.rpc("echo.x", json!(["old"])).await;
        (answer["error"]["data"]["kind"] == "unknown_service").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_file_in_its_place_hangs_nothing() {
    let echo = Echo::start().await;
    let path = echo.gateway.config();
    let whole = std::fs::read_to_string(&path).expect("the file");
    for make in ["mkfifo", "mkdir"] {
        std::fs::remove_file(&path).expect("removed");
        let made = std::process::Command::new(make).arg(&path).status().expect("a command");
        assert!(made.success());
        let seen = echo.gateway.log().len();
        echo.gateway.hang_up();
        let refused = echo.gateway.wait_for_log(seen, "reload refused").await;
        assert!(refused.to_string().contains("no regular file"), "{refused}");
        assert_eq!(echo.gateway.result("echo.x", json!(["p"])).await, "p");
        let removed = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
        removed.expect("removed");
        std::fs::write(&path, format!("{whole}# after {make}\n")).expect("written");
        echo.gateway.wait_for_log(seen, "reloaded").await;
    }
    echo.gateway.terminate();
    assert_eq!(echo.gateway.exit_status().await, 0);
}

#[tokio::test]
async fn changes_that_overtake_each_other_take_effect_though_a_broker_is_down() {
    let echo = Echo::start().await;
    let down = "[upstreams.down]\nprotocol = \"nats\"\nservers = \"nats://127.0.0.1:1\"\n\
                [[routes]]\nmatch = \"down.*\"\nupstream = \"down\"\n";
    let changes = async {
        for change in 0.. {
            echo.gateway.write_config(&routes(&echo, &format!("{down}{RENAMED}# {change}\n")));
            echo.gateway.hang_up();
            // More often than every five seconds.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let in_force = eventually("a new table is in force", async || {
        let answer = echo.gateway.rpc("renamed.x", json!(["new"])).await;
        (answer["result"] == "new").then_some(())
    });
    tokio::select! {
        () = changes => {}
        () = in_force => {}
    }
}

#[tokio::test]
async fn the_logs_level_changes() {
    let echo = Echo::start().await;
    let quiet = echo.gateway.log().len();
    echo.gateway.result("echo.x", json!(["p"])).await;
    assert!(!log_has(&echo, quiet, "\"level\":\"DEBUG\""));
    echo.gateway.write_config(&routes(&echo, &format!("{ECHO}[log]\nlevel = \"debug\"\n")));
    echo.gateway.hang_up();
    echo.gateway.wait_for_log(quiet, "reloaded").await;
    let seen = echo.gateway.log().len();
    echo.gateway.result("echo.x", json!(["p"])).await;
    eventually("it is in the log", async || {
        log_has(&echo, seen, "\"level\":\"DEBUG\"").then_some(())
    })
    .await;
}
