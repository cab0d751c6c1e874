//! JSON-RPC services over HTTP as upstreams: real ones, and servers of bytes where a real one would
//! not do what a test needs.

mod bad_answers;
mod calls;
mod connections;
mod errors;
mod instances;

/// An upstream at `url`, with more keys, and a row that sends everything there.
pub fn config(url: &str, keys: &str) -> String {
    format!(
        "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{url}\"\n{keys}\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"web\"\n"
    )
}

/// The same at several.
pub fn config_of(urls: &[&str], keys: &str) -> String {
    format!(
        "[upstreams.web]\nprotocol = \"jsonrpc\"\nurls = {urls:?}\n{keys}\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"web\"\n"
    )
}
