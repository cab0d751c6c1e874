//! `clients/javascript`: built and packed as for a registry, and tried as it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::clients::node_client;
use crate::harness::process::{Folder, installed, program, project, run};
use crate::harness::{Gateway, NamekoVersion, Shop};
use crate::hub::{HUB, address};

/// What the client's tests call and listen to.
const TABLES: &str = r#"
[[routes]]
match = "listed.add"
upstream = "hub"
service = "till"
params = ["a", "b"]

[[routes]]
match = "till.*"
upstream = "hub"

[routes.idempotency]
ttl = "1h"

[[topics]]
match = "till.*"
from = "hub:till.*"
keep = 3

[[topics]]
match = "fleeting.*"
from = "hub:fleeting.*"
"#;

/// What they call and listen to as ada.
const GUARDED: &str = r#"
[[routes]]
match = "till.*"
upstream = "hub"
allow = ["sub:ada"]

[[topics]]
match = "till.*"
from = "hub:till.*"
keep = 3
allow = ["sub:ada"]
"#;

/// The table of an issuer whose secret is in a file.
fn secrets_table(file: &Path) -> String {
    let keys = format!("secret_file = \"{}\"\nclock_skew = \"1ms\"", file.display());
    crate::auth::issuer::table(&keys)
}

/// Where the client's sources are.
fn sources() -> PathBuf {
    project().join("clients/javascript")
}

/// What `scripts/setup` has installed to build it with.
fn tools() -> PathBuf {
    installed("javascript/node_modules/.bin")
}

/// A folder into which the packed client is installed, with its tests beside it.
struct Installed(Folder);

impl Installed {
    async fn new() -> Self {
        tokio::task::spawn_blocking(Self::build).await.expect("it is built")
    }

    fn build() -> Self {
        let folder = Folder::new();
        let (package, place) = (folder.path().join("package"), folder.path().join("program"));
        copy(&sources(), &package);
        fs::create_dir_all(&place).expect("a folder");
        fs::write(place.join("package.json"), "{\"type\": \"module\"}").expect("a file");
        npm(&folder, &package, &["run", "build"]);
        npm(&folder, &place, &["pack", &package.to_string_lossy()]);
        let version: Value = serde_json::from_str(
            &fs::read_to_string(package.join("package.json")).expect("a package"),
        )
        .expect("JSON");
        let tarball = format!("./genkan-client-{}.tgz", version["version"].as_str().unwrap());
        npm(&folder, &place, &["install", &tarball]);
        copy(&sources().join("test"), &place.join("test"));
        Self(folder)
    }

    /// Where a program stands that imports it.
    fn place(&self) -> PathBuf {
        self.0.path().join("program")
    }

    fn package(&self) -> PathBuf {
        self.place().join("node_modules/genkan-client")
    }

    /// Holds a program to the types: the compiler's status, and what it printed to both.
    fn check(&self, file: &str, text: &str) -> (i32, String, String) {
        self.check_as("nodenext", file, text)
    }

    /// The same, by another way to find modules.
    fn check_as(&self, module: &str, file: &str, text: &str) -> (i32, String, String) {
        let file = self.place().join(file);
        fs::write(&file, text).expect("a file");
        let mut tsc = Command::new(tools().join("tsc"));
        tsc.args(["--noEmit", "--strict", "--target", "es2022", "--module", module]);
        tsc.args(["--lib", "es2022,dom"]).arg(&file).current_dir(self.place());
        run(&mut tsc)
    }
}

/// Copies a folder's files, but for what is built or installed there.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (name, path) = (entry.file_name(), entry.path());
        if name == "dist" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).expect("a file");
        }
    }
}

/// Runs npm, which asks no registry.
fn npm(folder: &Folder, place: &Path, arguments: &[&str]) {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program("npm", &[]));
    command.args(arguments).args(["--offline", "--no-audit", "--no-fund"]).current_dir(place);
    command.env("PATH", format!("{}:{path}", tools().display()));
    command.env("npm_config_cache", folder.path().join("cache"));
    command.env("npm_config_update_notifier", "false");
    let (status, out, said) = run(&mut command);
    assert_eq!(status, 0, "npm {arguments:?}: {out}{said}");
}

#[tokio::test]
async fn its_tests_pass_in_node_and_it_is_small() {
    let client = Installed::new().await;
    let gateway = Gateway::start(&format!("{HUB}{TABLES}")).await;
    let mut node = Command::new(program("node", &[]));
    node.args(["--test", "test/client.test.mjs", "test/answers.test.mjs"])
        .current_dir(client.place());
    node.env("NODE_PATH", installed("node/node_modules"));
    node.env("GENKAN_URL", format!("{}/api", gateway.url()));
    node.env("GENKAN_HUB", address(&gateway).await).env("GENKAN_CONFIG", gateway.config());
    let (secret, keys) = (Folder::new(), "0123456789abcdef0123456789abcdef");
    let auth = secrets_table(&secret.write("secret", keys));
    let guarded = Gateway::start(&format!("{HUB}{GUARDED}{auth}")).await;
    node.env("GUARDED_URL", format!("{}/api", guarded.url())).env("GUARDED_SECRET", keys);
    node.env("GUARDED_HUB", address(&guarded).await);
    let limited = Gateway::start(&format!("{HUB}{TABLES}[limits]\nrate = \"5/m\"\n")).await;
    node.env("LIMITED_URL", format!("{}/api", limited.url()));
    node.env("LIMITED_HUB", address(&limited).await);
    let (status, out, said) =
        tokio::task::spawn_blocking(move || run(&mut node)).await.expect("no panic");
    assert_eq!(status, 0, "{out}{said}");
    assert!(out.contains("# pass 44\n"), "all have run: {out}");
    let refused = limited.metric("genkan_limited_total", &[("limit", "rate")]).await;
    assert!(refused > 0.0, "some of those who came back were refused at first");
}

#[tokio::test]
async fn a_page_in_chromium_calls_a_nameko_service_and_hears_events_over_a_lost_connection() {
    let client = Installed::new().await;
    let shop = Shop::shared(NamekoVersion::Three);
    let gateway = Gateway::ready(&format!("{HUB}{}{TABLES}", shop.config())).await;
    let (url, hub) = (format!("{}/api", gateway.url()), address(&gateway).await);
    let script = client.package().join("dist/index.js");
    let helpers = client.place().join("test/module.mjs");
    let paths = [script, helpers].map(|path| path.to_str().expect("UTF-8").to_owned());
    let out = node_client("genkan_client_page.js", &[&url, &hub, &paths[0], &paths[1]]).await;
    assert_eq!((&out["positional"], &out["named"]), (&json!(19), &json!(19)), "{out}");
    assert_eq!(out["error"], json!(["application", -32000, "executed", "ValueError"]), "{out}");
    assert_eq!(out["batch"], json!([3, "ValueError: bad 1"]), "{out}");
    assert_eq!(out["http"], 19, "{out}");
    assert_eq!((&out["events"], &out["streamed"]), (&json!([1, 2]), &json!([1, 2])), "{out}");
}

#[tokio::test]
async fn its_types_tell_what_a_service_takes_and_gives() {
    let client = Installed::new().await;
    let check = |file: &str, text: &str| client.check(file, text);
    let program = r#"
        import { connect, GenkanError, type GenkanEvent } from 'genkan-client';
        interface Api { orders: { create(order: { size: string }): { price: number } } }
        const rpc = await connect<Api>({ url: 'http://127.0.0.1:8080', timeout: 1000 });
        const { price } = await rpc.service('orders').create({ size: 'L' });
        const twice: number = price * 2;
        await rpc.subscribe<{ n: number }>('orders.*', ({ data, id }) => console.log(data.n + id + twice));
        const untyped = await connect();
        console.log(await untyped.service('any').thing(1, 'two'), GenkanError);
    "#;
    let (status, out, said) = check("right.mts", program);
    assert_eq!(status, 0, "{out}{said}");
    let (status, out, _) = check("wrong.mts", &program.replace("size: 'L'", "size: 7"));
    assert!(status != 0 && out.contains("wrong.mts(5,"), "{out}");
}

const OFFERS: &str = r##"{"openrpc": "1.3.2", "info": {"title": "orders", "version": "1"},
  "methods": [
    {"name": "create", "summary": "Makes */ an order.", "paramStructure": "by-name",
     "params": [
       {"name": "size", "required": true, "schema": {"$ref": "#/components/schemas/size"}},
       {"name": "note", "schema": {"type": ["string", "null"]}}],
     "result": {"name": "order", "schema": {"$ref": "#/components/schemas/order"}}},
    {"name": "add", "paramStructure": "by-position",
     "params": [{"name": "in", "required": true, "schema": {"type": "integer"}},
       {"name": "b", "schema": {"type": "number"}}],
     "result": {"name": "sum", "schema": {"type": "number"}}},
    {"name": "all-of-them", "params": [],
     "result": {"name": "all", "schema": {"type": "array", "items": {"$ref": "#/components/schemas/order"}}}},
    {"name": "odd"}],
  "components": {"schemas": {
    "size": {"enum": ["S", "L"]},
    "order": {"type": "object", "required": ["price"], "properties": {
      "price": {"type": "number"}, "of": {"$ref": "#/components/schemas/order"},
      "tags": {"type": "object", "additionalProperties": {"type": "string"}}}}}}}"##;

#[tokio::test]
async fn its_types_are_made_from_what_a_gateway_tells() {
    let client = Installed::new().await;
    let offers = client.0.write("offers.json", OFFERS);
    let rows = format!(
        "[[routes]]\nmatch = \"orders.*\"\nupstream = \"hub\"\nschema = {offers:?}\n\
         [[routes]]\nmatch = \"my-bills.pay\"\nupstream = \"hub\"\n"
    );
    let gateway = Gateway::start(&format!("{HUB}{rows}")).await;
    let types = |arguments: &[&str]| {
        let mut npx = Command::new(program("npx", &[]));
        npx.args(["--offline", "genkan-client"]).args(arguments).current_dir(client.place());
        npx.env("npm_config_cache", client.0.path().join("cache"));
        npx
    };
    let command = types(&["types", &format!("{}/api", gateway.url())]);
    let (status, api, said) = ran(command).await;
    assert_eq!((status, said.as_str()), (0, ""), "{api}");
    fs::write(client.place().join("api.d.ts"), &api).expect("a file");
    let good = r#"
        import { connect } from 'genkan-client';
        import type { Api, OrdersOrder } from './api.js';
        const rpc = await connect<Api>({ url: 'http://127.0.0.1:8080' });
        const orders = rpc.service('orders');
        const one: OrdersOrder = await orders.create({ size: 'L', note: null });
        const price: number | undefined = one.of?.price;
        const sum: number = await orders.add(1) + await orders.add(1, 2);
        const all: OrdersOrder[] = await orders['all-of-them']();
        const tag: string | undefined = all[0]?.tags?.colour;
        console.log(price, sum, tag, await orders.odd(1, 'x'));
        await rpc.service('my-bills').pay({ anything: 1 });
    "#;
    let (status, out, said) = client.check("good.mts", good);
    assert_eq!(status, 0, "{out}{said}{api}");
    for (right, wrong) in [
        ("size: 'L'", "size: 'M'"),
        ("note: null", "note: 7"),
        ("orders.add(1, 2)", "orders.add()"),
        ("'all-of-them']()", "'all-of-them'](1)"),
        ("service('my-bills')", "service('bills')"),
    ] {
        let (status, out, _) = client.check("wrong.mts", &good.replace(right, wrong));
        assert!(status != 0 && out.contains("wrong.mts("), "{wrong} is taken: {api}");
    }
    let (status, _, said) = ran(types(&["types", "http://127.0.0.1:1/api"])).await;
    assert!(status == 1 && said.contains("http://127.0.0.1:1/api has not told"), "{said}");
    let (status, _, said) = ran(types(&[])).await;
    assert!(status == 2 && said.contains("npx genkan-client types"), "{said}");
}

/// TypeScript before 5.8, or with `module: node16`, does not take an ES module's types for CommonJS; Parcel, Browserify and
/// Metro do not know `exports`.
#[tokio::test]
async fn programs_of_commonjs_find_it() {
    let client = Installed::new().await;
    let text = r#"
        import { connect, GenkanError, type Options } from 'genkan-client';
        const options: Options = { url: 'http://127.0.0.1:8080' };
        connect(options).catch((error) => error instanceof GenkanError && error.kind);
    "#;
    for file in ["commonjs.cts", "module.mts"] {
        let (status, out, said) = client.check_as("node16", file, text);
        assert_eq!(status, 0, "{file}: {out}{said}");
    }
    // A path goes by `main`, as resolvers do that do not know `exports`.
    for name in ["genkan-client", "./node_modules/genkan-client"] {
        let mut node = Command::new(program("node", &[]));
        node.arg("-p").arg(format!("typeof require('{name}').connect"));
        node.current_dir(client.place());
        let (status, out, said) = ran(node).await;
        assert_eq!((status, out.trim()), (0, "function"), "{name}: {said}");
    }
}

async fn ran(mut command: Command) -> (i32, String, String) {
    tokio::task::spawn_blocking(move || run(&mut command)).await.expect("no panic")
}
