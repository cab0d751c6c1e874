//! `deploy/`: what the programs that will read it say of it, and what the process tells systemd.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::Gateway;
use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, installed, program, project, run};

fn deploy(file: &str) -> PathBuf {
    project().join("deploy").join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(deploy(file)).expect(file)
}

#[test]
fn prometheus_takes_its_rules_and_what_it_scrapes() {
    for (what, file) in [("rules", "alerts.yml"), ("config", "prometheus.yml")] {
        let mut promtool = Command::new(program("promtool", &[]));
        promtool.args(["check", what]).arg(deploy(file));
        let (status, out, said) = run(&mut promtool);
        assert_eq!(status, 0, "{file}: {out}{said}");
    }
}

/// Has promtool try rules on made-up series.
fn rules_fire_as(cases: &str) {
    let folder = Folder::new();
    let mut promtool = Command::new(program("promtool", &[]));
    promtool.args(["test", "rules"]).arg(folder.write("test.yml", cases));
    let (status, out, said) = run(&mut promtool);
    assert_eq!(status, 0, "{out}{said}");
}

#[test]
fn alerts_fire_for_what_fails_and_not_for_who_is_held_back() {
    let series = |name: &str, labels: &str, many: u32| {
        format!(
            "  - {{series: '{name}{{instance=\"a\",route=\"o.*\",{labels}}}', values: '0+{many}x30'}}\n"
        )
    };
    let calls = |outcome: &str, many: u32| {
        series("genkan_calls_total", &format!("upstream=\"echo\",outcome=\"{outcome}\""), many)
    };
    let limited = || series("genkan_limited_total", "limit=\"rate\"", 6000);
    let both = || calls("overloaded", 6100) + &limited();
    let cases = [
        // One who calls far over his own rate, while all is well, and while services fail.
        (calls("ok", 300) + &calls("overloaded", 6000) + &limited(), ""),
        (calls("unavailable", 60) + &calls("overloaded", 6000) + &limited(), "GenkanCallsFail"),
        (calls("ok", 300) + &calls("unavailable", 60), "GenkanCallsFail"),
        // Services that have too much to do, with and without him.
        (calls("overloaded", 60), "GenkanOverloaded"),
        (calls("ok", 300) + &both(), "GenkanOverloaded"),
    ];
    let rules = deploy("alerts.yml").display().to_string();
    let mut text = format!("rule_files: ['{rules}']\nevaluation_interval: 1m\ntests:\n");
    for (series, fires) in cases {
        let fires = match fires {
            "" => "[]".to_owned(),
            alert => format!("[{{labels: '{{alertname=\"{alert}\"}}', value: 1}}]"),
        };
        text += &format!(
            "- interval: 1m\n  input_series:\n{series}  promql_expr_test:\n  - expr: count by (alertname) \
             (ALERTS{{alertstate=\"firing\",alertname=~\"GenkanCallsFail|GenkanOverloaded\"}})\n    \
             eval_time: 20m\n    exp_samples: {fires}\n"
        );
    }
    rules_fire_as(&text);
}

/// A series begins with its first count, and that may be a burst, and all that comes: no `increase` sees it. What was
/// counted long ago begins again where nobody looked for a while, and is no news.
#[test]
fn alerts_on_what_should_never_be_counted_see_the_first_burst_and_no_old_counts_after_a_gap() {
    const IT: &str = "job=\"genkan\",instance=\"a\"";
    let event = |outcome: &str| {
        format!("genkan_events_total{{{IT},bridge=\"b\",to=\"c\",outcome=\"{outcome}\"}}")
    };
    let of = |name: &str, limit: &str| format!("{name}{{{IT},limit=\"{limit}\"}}");
    let cases = [
        ("GenkanEventsAreLost", event("lost")),
        ("GenkanEventsAreLost", event("gap")),
        ("GenkanDeadLetters", event("dead_letter")),
        ("GenkanMemoryIsShort", of("genkan_memory_refused_total", "process")),
        ("GenkanIdempotencyForgotten", of("genkan_idempotency_forgotten_total", "max_keys")),
    ];
    // What the issuer's begin with is 0, from the start on.
    let tested: BTreeSet<_> =
        cases.iter().map(|(alert, _)| *alert).chain(["GenkanIssuerFails"]).collect();
    let alerts = read("alerts.yml");
    let counts = |line: &str| line.contains("increase(") && line.ends_with(") > 0");
    let never = alerts.split("- alert: ").skip(1).filter(|rule| rule.lines().any(counts));
    let never: BTreeSet<_> = never.filter_map(|rule| rule.lines().next()).collect();
    assert_eq!(never, tested, "each alert on a count above 0 is tested");
    // The series, whether its instance was scraped, since when its process runs, and when the alert fires.
    let lives = [
        // A burst of a process that has run for long, and of one that has just begun.
        ("_x20 500x40", "1x60", "0x60", &[("19m", false), ("22m", true), ("50m", false)][..]),
        (
            "_x20 500x40",
            "_x19 1x40",
            "_x19 1140x40",
            &[("22m", true), ("23m", true), ("50m", false)],
        ),
        // Prometheus was away; the instance could not be scraped; both, and there is more behind the gap.
        (
            "3x60 _x20 3x40",
            "1x60 _x20 1x40",
            "0x60 _x20 0x40",
            &[("59m", false), ("83m", false), ("90m", false)],
        ),
        (
            "3x60 stale _x19 3x40",
            "1x60 0x20 1x40",
            "0x60 stale _x19 0x40",
            &[("70m", false), ("83m", false)],
        ),
        (
            "3x60 _x20 3x20 9x20",
            "1x60 _x20 1x40",
            "0x60 _x20 0x40",
            &[("83m", false), ("103m", true)],
        ),
    ];
    let rules = deploy("alerts.yml").display().to_string();
    let mut text = format!("rule_files: ['{rules}']\nevaluation_interval: 1m\ntests:\n");
    for (alert, series) in &cases {
        for (counted, up, began, looks) in lives {
            text += &format!(
                "- interval: 1m\n  name: '{counted}'\n  input_series:\n  - {{series: '{series}', values: '{counted}'}}\n  \
                 - {{series: 'up{{{IT}}}', values: '{up}'}}\n  \
                 - {{series: 'process_start_time_seconds{{{IT}}}', values: '{began}'}}\n  promql_expr_test:\n"
            );
            for (time, fires) in looks {
                let fires = match fires {
                    true => format!("[{{labels: '{{alertname=\"{alert}\"}}', value: 1}}]"),
                    false => "[]".to_owned(),
                };
                text += &format!(
                    "  - expr: count by (alertname) (ALERTS{{alertstate=\"firing\",alertname=\"{alert}\"}})\n    \
                     eval_time: {time}\n    exp_samples: {fires}\n"
                );
            }
        }
    }
    rules_fire_as(&text);
}

/// A breaker that refuses is no limit that somebody is over, and where nothing is left there is nobody to be down.
#[test]
fn alerts_name_the_cause_and_miss_a_gateway_that_has_gone() {
    let limited = |limit: &str| {
        format!(
            "genkan_limited_total{{job=\"genkan\",instance=\"a\",route=\"o.*\",limit=\"{limit}\"}}"
        )
    };
    let open = || "genkan_breakers_open{job=\"genkan\",instance=\"a\",upstream=\"u\"}".to_owned();
    let reload = "genkan_config_last_reload_successful{job=\"genkan\",instance=\"a\"}";
    let refused = "genkan_files_refused{job=\"genkan\",instance=\"a\",key=\"cert_file\"}";
    let up = "up{job=\"genkan\",instance=\"a\"}";
    let cases = [
        // One that opens again and again is open, and one that did once is not.
        (open(), "0x5 1 0 1 0 0 1 0 0 1 0 1x20", "GenkanBreakerOpen"),
        (open(), "0x5 1 0x24", ""),
        (reload.to_owned(), "1x5 0x25", "GenkanReloadRefused"),
        (refused.to_owned(), "0x5 1x25", "GenkanFilesRefused"),
        (limited("breaker"), "0+300x30", ""),
        (limited("rate"), "0+300x30", "GenkanRefusesForLimits"),
        (up.to_owned(), "1x30", ""),
        (up.to_owned(), "1x10 0x20", "GenkanDown"),
        (up.to_owned(), "1x10 stale", "GenkanGone"),
    ];
    let rules = deploy("alerts.yml").display().to_string();
    let mut text = format!("rule_files: ['{rules}']\nevaluation_interval: 1m\ntests:\n");
    for (series, values, fires) in &cases {
        let there =
            if series == up { "" } else { "  - {series: 'up{job=\"genkan\"}', values: '1x30'}\n" };
        let fires = match *fires {
            "" => "[]".to_owned(),
            alert => format!("[{{labels: '{{alertname=\"{alert}\"}}', value: 1}}]"),
        };
        text += &format!(
            "- interval: 1m\n  input_series:\n  - {{series: '{series}', values: '{values}'}}\n{there}  promql_expr_test:\n  \
             - expr: count by (alertname) (ALERTS{{alertstate=\"firing\"}})\n    eval_time: 25m\n    exp_samples: {fires}\n"
        );
    }
    rules_fire_as(&text);
}

/// The last value of an hour tells of a gateway that has gone as if it were there.
#[test]
fn a_panel_that_shows_how_it_is_now_asks_for_now() {
    let dashboard: Value = serde_json::from_str(&read("grafana.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let stats = panels.iter().filter(|panel| panel["type"] == "stat");
    for target in stats.flat_map(|panel| panel["targets"].as_array().expect("targets")) {
        assert_eq!(target["instant"], true, "{target}");
    }
}

/// The names of Genkan's own metrics in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("genkan_") && word.len() > "genkan_".len()).collect()
}

#[test]
fn each_metric_of_a_rule_or_a_panel_is_one_of_genkans() {
    // The page has all of them, as another test holds.
    let page = fs::read_to_string(project().join("docs/operating.md")).expect("a page");
    let known = metrics(&page);
    for file in ["alerts.yml", "grafana.json"] {
        let text = read(file);
        let named = metrics(&text);
        assert!(named.len() > 3, "{file}: {named:?}");
        for name in named {
            let bare = name.trim_end_matches("_bucket").trim_end_matches("_sum");
            assert!(known.contains(bare.trim_end_matches("_count")), "{file}: {name}");
        }
    }
}

#[test]
fn each_policy_has_a_panel() {
    let text = read("grafana.json");
    let shown = metrics(&text);
    for name in [
        "genkan_limited_total",
        "genkan_calls_waiting",
        "genkan_breakers_open",
        "genkan_retries_total",
        "genkan_idempotency_calls_total",
        "genkan_events_total",
        "genkan_subscribers",
        "genkan_unsent_replies_total",
        "genkan_certificate_expires_timestamp_seconds",
        "genkan_config_last_reload_successful",
        "genkan_files_refused",
    ] {
        assert!(shown.contains(name), "{name}");
    }
    let alerts = read("alerts.yml");
    for name in ["genkan_breakers_open", "genkan_certificate_expires", "outcome=~\"lost|gap\""] {
        assert!(alerts.contains(name), "{name}");
    }
}

/// The Prometheus operator calls a job NAMESPACE/NAME unless it is told what to call it.
#[test]
fn kubernetes_calls_the_job_as_rules_and_panels_do() {
    for file in ["alerts.yml", "grafana.json"] {
        assert!(read(file).replace('\\', "").contains("job=\"genkan\""), "{file}");
    }
    let manifest = read("kubernetes.yaml");
    assert!(manifest.contains("jobLabel: app ") && manifest.contains("labels: {app: genkan}"));
}

/// What is left to mend is what the file says itself: who may call, and TLS.
#[test]
fn kubernetes_starts_with_what_an_audit_finds_no_fault_with_but_who_calls_and_tls() {
    let manifest = read("kubernetes.yaml");
    let (_, rest) = manifest.split_once("genkan.toml: |\n").expect("a configuration");
    let (text, _) = rest.split_once("\n---\n").expect("an end");
    let folder = Folder::new();
    folder.write("amqp", "amqp://u:p@rabbitmq:5672/%2f");
    folder.write("admin", &"s".repeat(64));
    let secrets = folder.path().display().to_string();
    let text: String = text.lines().map(|line| line.trim_start().to_owned() + "\n").collect();
    let file = folder.write("genkan.toml", &text.replace("/run/secrets/genkan", &secrets));
    let audit = ["check", "--audit", "--config"];
    let (status, out, said) = run(genkan().args(audit).arg(file));
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{said}"));
    assert_eq!(status, 1, "{said}");
    for row in rows {
        let what = row["message"].as_str().unwrap_or_default();
        let left = ["whoever reaches 0.0.0.0:8080 may call", "without TLS", "for there is no TLS"];
        assert!(left.iter().any(|words| what.contains(words)), "{what}");
    }
}

#[test]
fn yaml_and_json_can_be_read() {
    let dashboard: Value = serde_json::from_str(&read("grafana.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().expect("panels").len() > 5);
    let mut python = Command::new(installed("nameko2/bin/python"));
    python.args(["-c", "import sys, yaml\nfor file in sys.argv[1:]: print(len(list(yaml.safe_load_all(open(file)))))"]);
    let files = [
        "kubernetes.yaml",
        "compose.yaml",
        "alerts.yml",
        "prometheus.yml",
        "grafana-provisioning/datasources/prometheus.yml",
        "grafana-provisioning/dashboards/genkan.yml",
    ];
    python.args(files.map(deploy));
    let (status, out, said) = run(&mut python);
    assert_eq!((status, out.lines().next()), (0, Some("7")), "{out}{said}");
}

#[test]
fn systemd_takes_its_unit() {
    let (_, version, _) = run(Command::new(program("systemd-analyze", &[])).arg("--version"));
    let version: u32 =
        version.split_whitespace().nth(1).and_then(|it| it.parse().ok()).expect("a number");
    let folder = Folder::new();
    let mut unit = read("genkan.service");
    assert!(unit.contains("Type=notify-reload"));
    // The places that the pages name for sockets and files.
    for folder in ["\nRuntimeDirectory=genkan\n", "\nStateDirectory=genkan\n"] {
        assert!(unit.contains(folder), "{folder}");
    }
    if version < 253 {
        // As the unit's own comment says.
        unit =
            unit.replace("Type=notify-reload", "Type=notify\nExecReload=/bin/kill -HUP $MAINPID");
    }
    let unit = unit.replace("/usr/local/bin/genkan", env!("CARGO_BIN_EXE_genkan"));
    let file = folder.write("genkan.service", &unit);
    let (status, out, said) =
        run(Command::new(program("systemd-analyze", &[])).args(["verify", "--man=no"]).arg(&file));
    assert_eq!((status, said.as_str()), (0, ""), "{out}");
}

/// A process that does what its unit refuses is killed, or fails in ways that nobody has tried.
#[tokio::test]
async fn it_does_nothing_that_its_unit_refuses() {
    let folder = Folder::new();
    let socket = folder.path().join("hub");
    let config = format!(
        "workers = 2\n[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[hub]\n\
         listen = [\"unix://{}\"]\ngroup = \"daemon\"\nmode = \"0660\"\n",
        socket.display()
    );
    let config = folder.write("genkan.toml", &config);
    let mut command = Command::new(installed("python/bin/python"));
    command
        .arg(project().join("tests/services/filtered.py"))
        .arg(deploy("genkan.service"))
        .arg(env!("CARGO_BIN_EXE_genkan"))
        .args(["serve", "--config"])
        .arg(config);
    let gateway = Gateway::spawn(&command, folder).await;
    let answer = gateway.api(r#"{"jsonrpc":"2.0","method":"rpc.discover","id":1}"#).await;
    assert!(answer["result"]["openrpc"].is_string(), "{answer}");
    gateway.hang_up();
    gateway.wait_for_log(0, "reloaded").await;
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0, "{}", gateway.log_text());
}

/// Stands for systemd: takes what a process tells.
struct Told(UnixDatagram);

impl Told {
    fn next(&self) -> String {
        self.0.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut text = [0; 1024];
        let length = self.0.recv(&mut text).expect("it is told");
        String::from_utf8_lossy(&text[..length]).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_when_calls_are_taken_and_how_a_reload_ended() {
    let folder = Folder::new();
    let place = folder.path().join("notify");
    let told = Told(UnixDatagram::bind(&place).expect("a socket"));
    let environment = [("NOTIFY_SOCKET", place.to_str().expect("UTF-8"))];
    let gateway = Gateway::start_with("", &environment).await;
    let next = || tokio::task::block_in_place(|| told.next());
    assert_eq!(next().trim(), "READY=1\nSTATUS=calls are taken, by 0 rows");
    let config = fs::read_to_string(gateway.config()).expect("a file");
    let refused = "STATUS=reload refused: the old configuration stays in force; the log says why";
    let row = "\n[[routes]]\nmatch = \"a.*\"\nupstream = \"hub\"\n";
    for (text, status) in [
        (format!("{config}{row}"), "STATUS=reloaded: calls are taken, by 1 rows"),
        ("nonsense".to_owned(), refused),
        (config, "STATUS=reloaded: calls are taken, by 0 rows"),
    ] {
        gateway.write_config(&text);
        gateway.hang_up();
        let reloading = next();
        let mut lines = reloading.lines();
        assert_eq!(lines.next(), Some("RELOADING=1"), "{reloading}");
        assert!(
            lines.next().is_some_and(|line| line.starts_with("MONOTONIC_USEC=")),
            "{reloading}"
        );
        assert_eq!(next().trim(), format!("READY=1\n{status}"));
    }
    gateway.terminate();
    assert!(next().starts_with("STOPPING=1\nSTATUS=ending"));
    assert_eq!(gateway.exit_status().await, 0);
}
