//! `genkan check --audit`: what to mend before the world can reach it.

use serde_json::Value;

use crate::harness::gateway::genkan;
use crate::harness::process::{self, Folder};

/// What is told of a file: the status, and each line's number with what is said of it.
fn audit(text: &str, environment: &[(&str, &str)]) -> (i32, Vec<(usize, String)>) {
    let folder = Folder::new();
    let file = folder.write("genkan.toml", text);
    let mut command = genkan();
    command.args(["check", "--audit", "--config"]).arg(&file);
    command.envs(environment.iter().copied());
    let (status, out, said) = process::run(&mut command);
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{said}"));
    let told = rows.iter().map(|row| {
        let line = row["line"].as_u64().unwrap_or_default();
        let message = row["message"].as_str().unwrap_or_default();
        (usize::try_from(line).expect("a line"), message.to_owned())
    });
    assert!(!out.contains("hunter2") && !said.contains("hunter2"), "{out}{said}");
    (status, told.collect())
}

/// A file of which every line that ends in `# WHAT` is advised of, in these words.
fn expect(text: &str) {
    let (status, told) = audit(text, &[]);
    for (line, written) in text.lines().enumerate() {
        let Some((_, parts)) = written.split_once(" # ") else { continue };
        for part in parts.split(" # ") {
            let found = told.iter().any(|(at, what)| *at == line + 1 && what.contains(part));
            assert!(found, "line {}: {part}: {told:#?}", line + 1);
        }
    }
    assert_eq!(status, i32::from(!told.is_empty()));
}

#[test]
fn each_thing_to_mend_is_told_with_its_line_and_the_mend() {
    expect(
        r#"[http]
listen = "0.0.0.0:8080" # add [http.tls] # all that `hub` has
forward_authorization = true # can call with them: leave it out
[http.cors]
origins = ["*"] # name the origins
[admin]
listen = "0.0.0.0:8081" # reads the metrics
[hub]
listen = ["tcp://0.0.0.0:2203", "unix:///tmp/genkan-audit.sock"] # add [hub.tokens]
mode = "0666" # write "0660"
[registry]
allow = ["*"] # `own_methods` of [auth]
[upstreams.rabbit]
protocol = "nameko"
url = "amqp://u:hunter2@127.0.0.1:5672/%2f" # `url_file = "PATH"`, or set GENKAN__UPSTREAMS__RABBIT__URL
trust_context = true # whoever can publish there
[upstreams.nats]
protocol = "nats"
servers = ["nats://127.0.0.1:4222"]
user = "u"
password = "hunter2" # `password_file = "PATH"`
trust_context = true # whoever can publish there
[upstreams.web]
protocol = "jsonrpc"
urls = ["http://u:hunter2@127.0.0.1:1/api"] # leave the password out of the URL
[upstreams.web.headers]
x-key = "hunter2" # `x-key = { file = "PATH" }`
[[routes]] # nothing says how often one caller may call `a.*`, `b.*`, `c.*` and 1 more rows # may call that
match = "a.*"
upstream = "rabbit"
[[routes]] # may call that
match = "b.*"
upstream = "nats"
[[routes]]
match = "c.*"
upstream = "web"
[[routes]]
match = "d.*"
upstream = "web"
[[topics]] # may listen to that
match = "orders.*"
"#,
    );
    expect(
        r#"[http]
listen = "0.0.0.0:8080" # add [http.tls]
[limits]
rate = "100/s"
[auth]
[[auth.keys]] # has no end
name = "web"
hash = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
[auth.jwt] # no `issuer` # no `audience`
secret = "hunter2hunter2hunter2hunter2hunter2" # `secret_file = "PATH"`
[[routes]]
match = "a.*"
upstream = "hub"
allow = ["any"] # "any": whoever reaches 0.0.0.0:8080 may call
"#,
    );
}

#[test]
fn what_can_be_read_on_the_way_and_who_is_believed_is_told() {
    expect(
        r#"[http]
trusted_proxies = ["10.0.0.0/8", "128.0.0.0/1"] # begins at 128.0.0.0 holds
forward_authorization = true # go on to http://far.example/api, amqp://far.example/%2f, nats://quiet.example:4222 and 1 more without TLS
[limits]
rate = "100/s"
[upstreams.far]
protocol = "jsonrpc"
url = "http://u:hunter2@far.example/api" # the password in the URL can be read on the way
forward_headers = ["Cookie", "X-API-Key"] # callers' headers that go on # whoever has the service can call
[upstreams.far.headers] # what [headers] adds to each call can be read
x-key = { file = "/nowhere" }
[upstreams.rabbit]
protocol = "nameko"
url = "amqp://u:hunter2@far.example/%2f" # the password goes to amqp://far.example
forward_authorization = true # `forward_authorization` in [upstreams.rabbit]: callers' keys and tokens go on to http://far.example
[upstreams.quiet]
protocol = "nats"
servers = ["nats://quiet.example:4222"]
[upstreams.nats]
protocol = "nats"
servers = ["nats://far.example:4222"] # a password or token goes to nats://far.example:4222
user = "u"
password = "hunter2"
"#
        .replace("x-key = { file = \"/nowhere\" }", "x-key = \"hunter2\"")
        .as_str(),
    );
    // Nothing of this is told of a place on this machine, of TLS, nor of keys that tell nothing.
    let near = r#"[limits]
rate = "100/s"
[upstreams.near]
protocol = "jsonrpc"
url = "http://localhost:1/api"
forward_headers = ["Cookie"]
[upstreams.far]
protocol = "jsonrpc"
url = "https://far.example/api"
forward_headers = ["Cookie"]
[upstreams.nats]
protocol = "nats"
servers = ["nats://far.example:4222"]
[[routes]]
match = "a.*"
upstream = "near"
[[routes]]
match = "b.*"
upstream = "far"
[[routes]]
match = "c.*"
upstream = "nats"
"#;
    assert_eq!(audit(near, &[]), (0, Vec::new()));
    let sealed = "servers = [\"nats://127.0.0.1:4222\", \"tls://far.example:4222\"]\n\
                  forward_authorization = true";
    let sealed = near.replace("servers = [\"nats://far.example:4222\"]", sealed);
    assert_eq!(audit(&sealed, &[]), (0, Vec::new()));
}

#[test]
fn who_has_mended_all_is_told_of_nothing() {
    let sound = "[limits]\nrate = \"100/s\"\nmax_in_flight = 1000\n\
                 [upstreams.nats]\nprotocol = \"nats\"\nservers = [\"nats://127.0.0.1:4222\"]\n\
                 user = \"u\"\n[[routes]]\nmatch = \"a.*\"\nupstream = \"nats\"\n";
    let secret = [("GENKAN__UPSTREAMS__NATS__PASSWORD", "hunter2")];
    assert_eq!(audit(sound, &secret), (0, Vec::new()));
    // Keys with limits are as good, where a row is for them alone.
    let keys = "[[auth.keys]]\nname = \"web\"\nexpires = 2999-12-31\nrate = \"9/s\"\nmax_in_flight = 9\n\
                hash = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"\n";
    let rows = sound.split_once("[upstreams").expect("a table").1;
    let by_keys = |words: &str| format!("{keys}[upstreams{rows}allow = [{words}]\n");
    assert_eq!(audit(&by_keys("\"key:web\""), &secret), (0, Vec::new()));
    let (status, told) = audit(&by_keys("\"key:web\", \"nats:\""), &secret);
    assert!(status == 1 && format!("{told:?}").contains("how often"), "{told:?}");
    // What is wrong is told first.
    let (status, told) = audit("[http]\nlisten = \"0.0.0.0:8080\"\nlisen = 1", &[]);
    assert_eq!((status, told.len()), (1, 1), "{told:?}");
}
