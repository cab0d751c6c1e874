use lapin::uri::AMQPUri;

use super::*;
use crate::config::read_for_test;

/// Reads the keys of one table, and returns what was made of them and every message.
fn read_table(keys: &str) -> (Settings, Vec<String>) {
    let text = format!("[upstreams.rabbit]\n{keys}");
    let (settings, problems) = read_for_test(&text, |root| {
        let mut upstreams = root.section("upstreams");
        let mut table = upstreams.section("rabbit");
        read(&mut table)
    });
    (settings, problems.into_iter().map(|problem| problem.to_string()).collect())
}

fn uri(settings: &Settings) -> AMQPUri {
    settings.nodes()[0].uri.clone()
}

fn problem(keys: &str) -> String {
    let (_, problems) = read_table(keys);
    assert_eq!(problems.len(), 1, "{keys}: {problems:?}");
    problems.into_iter().next().unwrap_or_default()
}

#[test]
fn the_defaults() {
    let (settings, problems) = read_table(r#"url = "amqp://bob:s%2fcret@rabbit:5673/%2fshop""#);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(settings.address, "amqp://rabbit:5673/%2fshop");
    assert_eq!(uri(&settings).authority.userinfo.password, "s/cret");
    assert_eq!(uri(&settings).vhost, "/shop");
    assert_eq!(settings.exchange, "nameko-rpc");
    assert!(!settings.keep_tagged);
    assert_eq!(uri(&settings).query.heartbeat, Some(10));
    assert_eq!(uri(&settings).query.frame_max, Some(16_384));
    assert_eq!(settings.connect_timeout, Duration::from_secs(5));
    assert_eq!(settings.probe_interval, Duration::from_secs(1));
    assert_eq!((settings.prefetch, settings.max_request), (10, 1 << 20));
    assert!(!settings.forward_authorization);
}

#[test]
fn every_key() {
    let (settings, problems) = read_table(
        "url = \"amqp://h/v?frame_max=65536\"\nexchange = \"rpc\"\ntagged = \"keep\"\n\
         heartbeat = \"2s\"\nconnect_timeout = \"2s\"\nprobe_interval = \"250ms\"\n\
         prefetch = 64\nmax_request = \"8MiB\"\nforward_authorization = true",
    );
    assert_eq!((settings.prefetch, settings.max_request), (64, 8 << 20));
    assert!(settings.forward_authorization);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!((settings.exchange.as_str(), settings.keep_tagged), ("rpc", true));
    assert_eq!(uri(&settings).query.heartbeat, Some(2));
    assert_eq!(uri(&settings).query.frame_max, Some(65_536));
    assert_eq!(settings.connect_timeout, Duration::from_secs(2));
    assert_eq!(settings.probe_interval, Duration::from_millis(250));
    let (from_url, _) = read_table(r#"url = "amqp://h/v?heartbeat=30""#);
    assert_eq!(uri(&from_url).query.heartbeat, Some(30));
}

#[test]
fn urls_are_read_as_nameko_reads_them() {
    let cases = [
        ("amqp://h", "/", "h"),
        ("amqp://h/", "/", "h"),
        ("AMQP://h/shop", "shop", "h"),
        ("amqp://h//", "/", "h"),
        ("amqp://h/%2f", "/", "h"),
        ("amqp://h/shop", "shop", "h"),
        ("amqp://u:p@[::1]:5672/shop", "shop", "::1"),
        ("amqp://127.0.0.1:5672/", "/", "127.0.0.1"),
    ];
    for (url, vhost, host) in cases {
        let (settings, problems) = read_table(&format!("url = \"{url}\""));
        assert_eq!(problems, Vec::<String>::new(), "{url}");
        assert_eq!(uri(&settings).vhost, vhost, "{url}");
        assert_eq!(uri(&settings).authority.host, host, "{url}");
    }
}

#[test]
fn a_bad_url_is_named_with_its_mend_and_without_its_password() {
    let cases = [
        ("http://bob:hunter2@h/", "not http://"),
        ("bob:hunter2@h", "must be a URL"),
        ("amqp://bob:hunter2@h:port/", "no port"),
        ("amqp://bob:hunter2@h:99999/", "from 1 to 65535"),
        ("amqp://bob:hunter2@h:5672/?heartbeat=x", "`heartbeat` that is no whole number"),
        ("amqp://bob:hun#ter2@h:5672/", "%23"),
        ("hunter2-is-my-password://h", "must begin with amqp://"),
        ("amqp://h1,h2:5672/v", "give each its own, `urls = "),
        ("amqp://bob:hunter2@h:5672/,amqp://bob:hunter2@h2/?x=y", "an unknown key"),
    ];
    for (url, expected) in cases {
        let message = problem(&format!("url = \"{url}\""));
        assert!(message.starts_with("genkan.toml:2: "), "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("hunter2") && !message.contains("ter2"), "{message}");
    }
    for (url, expected) in [
        ("amqp://h/?heartbaet=5", "an unknown key `heartbaet`: did you mean `heartbeat`?"),
        ("amqp://h/?heartbeat=5&heartbeat=6", "the key `heartbeat` twice"),
        ("amqp://h/?heartbeat=0", "write seconds"),
        ("amqp://h/?frame_max=64", "AMQP's least, 4096"),
        ("amqp://h/?channel_max=70000", "`channel_max` above AMQP's most, 65535"),
        ("amqp://h/%2f&heartbeat=5", "behind a `?`"),
        ("amqp://[::1]:0/", "no port"),
        ("amqp://h/?verify=verify_none", "always checked"),
        ("amqp://h/?connection_timeout=5", "write `connect_timeout"),
        ("amqp://h/?auth_mechanism=anonymous", "write `plain`"),
        ("amqp://h/?auth_mechanism=external", "write amqps://, `cert_file` and `key_file`"),
        ("amqp://h/a/b", "a raw `/` in its virtual host: write it as %2F"),
        ("amqp://h/a;b", "a raw `;` in its virtual host: write it as %3B"),
        ("amqp://u:hunter,2@h/", "a raw `,` in its credentials: write it as %2C"),
        ("amqp://u:hunter/2@h/", "a raw `/` in its credentials: write it as %2F"),
        ("amqp://a:1,b:1/", "several hosts"),
    ] {
        let message = problem(&format!("url = \"{url}\""));
        assert!(message.contains(expected), "{url}: {message}");
        assert!(!message.contains("hunter"), "{message}");
    }
    let twice = problem("url = \"amqp://h/?heartbeat=5\"\nheartbeat = \"9s\"");
    assert!(twice.contains("beside the one in the table"), "{twice}");
    let message = problem("");
    assert!(message.contains("needs `url`"), "{message}");
}

#[test]
fn several_nodes_as_a_list_or_as_other_clients_write_them() {
    for keys in [
        r#"urls = ["amqp://u:p@a:1/v", "amqp://u:p@b:2/v"]"#,
        r#"url = "amqp://u:p@a:1/v,amqp://u:p@b:2/v""#,
        r#"url = "amqp://u:p@a:1/v; amqp://u:p@b:2/v""#,
    ] {
        let (settings, problems) = read_table(keys);
        assert_eq!(problems, Vec::<String>::new(), "{keys}");
        assert_eq!(settings.address, "amqp://a:1/v, amqp://b:2/v", "{keys}");
        let nodes = settings.nodes();
        let hosts: Vec<_> = nodes.iter().map(|it| it.uri.authority.host.as_str()).collect();
        assert_eq!(hosts, ["a", "b"], "{keys}");
        assert!(nodes.iter().all(|node| node.uri.vhost == "v"), "{keys}");
    }
    for (keys, expected) in [
        (r#"urls = []"#, "is empty"),
        ("url = \"amqp://a\"\nurls = [\"amqp://b\"]", "stands beside `url`"),
        (r#"urls = ["amqp://a", "amqps://b"]"#, "mixes amqp:// and amqps://"),
        (r#"urls = ["amqp://a", "amqp://b/?x=1"]"#, "an unknown key"),
    ] {
        assert!(problem(keys).contains(expected), "{keys}: {}", problem(keys));
    }
}

#[test]
fn a_url_in_a_file_is_read_again_and_one_that_is_broken_keeps_the_old_one() {
    let folder = std::env::temp_dir().join(format!("genkan-{:x}", fastrand::u64(..)));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("url");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("amqp://u:old@h/v\n");
    let (settings, problems) = read_table(&format!("url_file = {file:?}\nheartbeat = \"7s\""));
    assert_eq!(problems, Vec::<String>::new());
    let password = || uri(&settings).authority.userinfo.password;
    assert_eq!(password(), "old");
    let before = settings.nodes().remove(0);
    write("amqp://u:new@h/v");
    assert_eq!(password(), "new");
    assert_eq!(settings.renewed(&before).uri.authority.userinfo.password, "new");
    for broken in ["amqp://u:ne/w@h/v", "", "http://h", "amqps://u:new@h/v"] {
        write(broken);
        assert_eq!((password().as_str(), uri(&settings).query.heartbeat), ("new", Some(7)));
    }
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(password(), "new");
}

#[test]
fn other_mistakes() {
    let url = r#"url = "amqp://h/""#;
    let cases = [
        ("exchange = \"\"", "nameko-rpc"),
        ("tagged = \"plane\"", "did you mean `plain`?"),
        ("heartbeat = 5", "duration"),
        ("max_reply = \"x\"", "size"),
        ("heartbeat = \"1ms\"", "\"1s\" at least"),
        ("heartbeat = \"1500ms\"", "whole seconds"),
        ("heartbeat = \"20h\"", "\"65535s\" at most"),
        ("probe_interval = \"0s\"", "duration"),
        ("exchang = \"x\"", "did you mean `exchange`?"),
        ("ca_file = \"ca.pem\"", "amqps://"),
    ];
    for (line, expected) in cases {
        let message = problem(&format!("{url}\n{line}"));
        assert!(message.starts_with("genkan.toml:3: "), "{message}");
        assert!(message.contains(expected), "{line}: {message}");
    }
}

#[test]
fn tls_files_are_checked() {
    let secure = r#"url = "amqps://h/""#;
    let missing = problem(&format!("{secure}\nca_file = \"/nowhere/ca.pem\""));
    assert!(missing.contains("/nowhere/ca.pem cannot be read"), "{missing}");
    let half = problem(&format!("{secure}\ncert_file = \"/nowhere/cert.pem\""));
    assert!(half.contains("without `key_file`"), "{half}");
    let not_pem =
        problem(&format!("{secure}\nca_file = \"{}/Cargo.toml\"", env!("CARGO_MANIFEST_DIR")));
    assert!(not_pem.contains("holds no certificate"), "{not_pem}");
}
