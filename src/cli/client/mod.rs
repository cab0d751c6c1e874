//! What the commands that call have in common: their options, the names that they are given, and
//! one exchange from the request to what is printed.
//!
//! They are clients like any other: they speak HTTP to a gateway, a registry or a service, and
//! know nothing of Genkan's inside.

pub mod address;
pub mod admin;
pub mod envelope;
mod failure;
pub mod fault;
pub mod found;
pub mod http;
pub mod http2;
pub mod report;
mod tls;
mod verbose;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::http::header::AUTHORIZATION;
use ::http::{HeaderName, HeaderValue};
use anyhow::Context as _;

use super::output::Output;
use super::params::{self, PARAM_HELP};
use super::{CommandError, Status};
use crate::call::{CallName, Params};
use crate::config::environment;
use crate::config::secret::read_secret;
use crate::tasks::Tasks;
use crate::units;
use address::Address;
use http::{Client, Exchange};
use http2::Versions;

/// The gateway, where neither `--gateway` nor the environment names one.
pub const DEFAULT_GATEWAY: &str = "http://127.0.0.1:8080";

/// What is called, with what, and through which gateway.
#[derive(Debug, clap::Args)]
pub struct CallArgs {
    /// The service
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The method, without the service
    #[arg(value_name = "METHOD")]
    pub method: String,
    #[arg(value_name = "PARAM", help = PARAM_HELP, allow_negative_numbers = true)]
    /// The params.
    pub params: Vec<String>,
    /// The gateway's URL, with or without /api [default: $GENKAN_GATEWAY, http://127.0.0.1:8080]
    #[arg(short, long, value_name = "URL", value_hint = clap::ValueHint::Url,
          help_heading = "Connection")]
    pub gateway: Option<String>,
}

impl CallArgs {
    /// All of it, read: the gateway, `NAME.METHOD`, the params.
    pub fn read(&self) -> anyhow::Result<(Address, String, Params)> {
        let method = join_name(&self.name, &self.method)?;
        let gateway = gateway(self.gateway.as_deref(), Address::gateway)?;
        Ok((gateway, method, params::read(&self.params)?))
    }
}

/// The options of every command that calls.
#[derive(Debug, clap::Args)]
pub struct ClientArgs {
    /// How long to wait, such as 800ms, 5s or 2m; the gateway and the service are told
    /// [default: what the route allows, at most 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Connection")]
    pub timeout: Option<Duration>,
    /// A header to send, 'Name: value'; can be given more than once. A key or token is best in a file, or in the
    /// environment, as GENKAN_TOKEN: a gateway is shown it as 'Authorization: Bearer', and `ps` does not show it
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = header,
          help_heading = "Connection")]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Show the key or token in this file, as 'Authorization: Bearer', instead of what GENKAN_TOKEN holds
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath,
          help_heading = "Connection")]
    pub token_file: Option<PathBuf>,
    /// For https://, trust the certificates in this PEM file instead of the system's
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath,
          help_heading = "Connection")]
    pub ca: Option<PathBuf>,
    /// For https://, the certificate to show, in PEM, where clients are asked for one
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath,
          requires = "key", help_heading = "Connection")]
    pub cert: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath,
          requires = "cert", help_heading = "Connection")]
    pub key: Option<PathBuf>,
    /// Which HTTP is spoken.
    #[arg(skip)]
    pub versions: Versions,
    /// Show the request and the head of the answer, on standard error
    #[arg(short, long, help_heading = "Output")]
    pub verbose: bool,
    /// Leave out the timings, which go to standard error
    #[arg(short, long, help_heading = "Output", conflicts_with = "verbose")]
    pub quiet: bool,
}

impl ClientArgs {
    /// Shows the gateway what GENKAN_TOKEN holds, unless a header shows something. To be asked for a gateway
    /// alone: services that a registry finds are others.
    pub fn show_token(&mut self) -> Result<(), CommandError> {
        if self.shows_something() || self.token_file.is_some() {
            return Ok(());
        }
        let Some(token) = environment::token() else { return Ok(()) };
        self.headers.push((AUTHORIZATION, bearer(&token, "GENKAN_TOKEN")?));
        Ok(())
    }

    /// What the file holds that `--token-file` names, for whoever is asked.
    fn token(&self) -> Result<Option<HeaderValue>, CommandError> {
        let Some(file) = &self.token_file else { return Ok(None) };
        if self.shows_something() {
            let message =
                "`--token-file` beside a header that shows a key or token: one of them is enough";
            return Err(CommandError::Usage(message.to_owned()));
        }
        token_in(file).map(Some)
    }

    fn shows_something(&self) -> bool {
        let shows = |name: &HeaderName| *name == AUTHORIZATION || name.as_str() == "x-api-key";
        self.headers.iter().any(|(name, _)| shows(name))
    }
}

/// What a file that `--token-file` names holds now, as it is shown.
fn token_in(file: &Path) -> Result<HeaderValue, CommandError> {
    let told = |why: String| CommandError::Usage(format!("`--token-file`: {why}"));
    let token = read_secret(file).map_err(told)?;
    bearer(token.expose(), "the file that `--token-file` names")
}

/// How a token is shown. `whence` says where it stands.
fn bearer(token: &str, whence: &str) -> Result<HeaderValue, CommandError> {
    let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
    let mut value = value.map_err(|_| {
        CommandError::Usage(format!("{whence} has characters that no header can hold"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A page of the gateway that `--gateway`, GENKAN_GATEWAY or the default names, as `read` completes its URL.
pub fn gateway(
    option: Option<&str>,
    read: impl Fn(&str) -> Result<Address, CommandError>,
) -> Result<Address, CommandError> {
    if let Some(url) = option {
        return read(url);
    }
    match environment::gateway() {
        Some(url) => {
            read(&url).map_err(|error| CommandError::Usage(format!("in GENKAN_GATEWAY, {error}")))
        }
        None => read(DEFAULT_GATEWAY),
    }
}

/// What helps when the gateway does not answer.
pub const GATEWAY_MEND: &str = "is `genkan serve` running there? --gateway URL or GENKAN_GATEWAY \
                                names another one";

/// `NAME` and `METHOD` as the gateway's method, `NAME.METHOD`.
fn join_name(service: &str, method: &str) -> Result<String, CommandError> {
    if service.contains(['*', '?']) {
        return Err(CommandError::Usage(format!(
            "`{service}` is a glob: only a registry can look it up, with --registry URL"
        )));
    }
    check_method(service, method)?;
    CallName::join(service, method).map(|name| name.as_str().to_owned()).ok_or_else(|| {
        CommandError::Usage(match method.rsplit_once('.') {
            Some((more, method)) if !more.is_empty() && !method.is_empty() => format!(
                "a METHOD has no dot, which parts it from the service: did you mean \
                 `{service}.{more} {method}`?"
            ),
            _ => "NAME and METHOD must not be empty, nor METHOD have a dot".to_owned(),
        })
    })
}

/// Finds a METHOD that is missing: what stands in its place is a PARAM.
pub fn check_method(service: &str, method: &str) -> Result<(), CommandError> {
    let is_param = method == "-" || method.contains('=') || method.starts_with(['"', '{', '[']);
    if !is_param && !method.is_empty() {
        return Ok(());
    }
    let mend = split_name(service).unwrap_or_else(|| "write NAME METHOD [PARAM]...".to_owned());
    Err(CommandError::Usage(format!("`{method}` is no METHOD; {mend}")))
}

/// Where NAME is `service.method` and METHOD is missing: what to write instead.
pub fn split_name(name: &str) -> Option<String> {
    let name = CallName::parse(name.to_owned()).ok()?;
    let (service, method) = (name.service(), name.method());
    Some(format!(
        "NAME and METHOD are two words: did you mean `{service} {method}` instead of \
         `{service}.{method}`?"
    ))
}

/// Runs a client's work on a runtime of its own, with the means to make connections.
pub fn with_client<T>(
    args: &ClientArgs,
    output: &Output,
    work: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let client = Client::new(args, *output, Tasks::new())?;
    let done = runtime.block_on(work(&client));
    // Not dropped: that would wait for a name server that does not answer.
    runtime.shutdown_background();
    done
}

/// Sends a call to one place and prints what comes back: all of `call` without a registry, and
/// all of `call-raw`.
pub fn call_and_print(
    to: &Address,
    method: &str,
    params: &Params,
    mend: &str,
    args: &ClientArgs,
    output: &Output,
) -> anyhow::Result<Status> {
    let exchange = with_client(args, output, async |client| {
        client.post(to, envelope::call(method, params), args.timeout, mend).await
    })?;
    let status = print_answer(to, &exchange, output);
    if !args.quiet {
        output.note(&report::timings(None, ("call", &exchange), None, output.err()));
    }
    status
}

/// Prints the result or the fault that an exchange brought.
pub fn print_answer(to: &Address, exchange: &Exchange, output: &Output) -> anyhow::Result<Status> {
    match envelope::read(&exchange.body) {
        Ok(envelope::Answer::Result(result)) => {
            output.print_json(result)?;
            Ok(Status::Done)
        }
        Ok(envelope::Answer::Fault(error)) => report::fault(error, output),
        Err(why) => Err(report::not_json_rpc(to, exchange, &why)),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text)
        .ok_or_else(|| "expected a duration such as 800ms, 5s or 2m, at most a day".to_owned())
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected 'Name: value'")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes())
        .map_err(|_| format!("`{}` cannot be the name of a header", name.trim()))?;
    if [::http::header::CONTENT_LENGTH, ::http::header::TRANSFER_ENCODING].contains(&name) {
        return Err(format!("`{name}` follows from the body and cannot be set"));
    }
    let mut value = HeaderValue::from_str(value.trim())
        .map_err(|_| "a header's value cannot hold control characters".to_owned())?;
    value.set_sensitive(is_secret(&name));
    Ok((name, value))
}

/// Whether `-v` hides the header's value.
fn is_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    ["auth", "cookie", "token", "secret", "key", "password"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases = [
            ("orders", "create", Ok("orders.create")),
            ("a.b", "c", Ok("a.b.c")),
            ("orders.create", "id:=1", Err("did you mean `orders create`")),
            ("orders.create", "-", Err("did you mean `orders create`")),
            ("orders", "a.b", Err("did you mean `orders.a b`?")),
            ("orders", "{\"a\":1}", Err("is no METHOD")),
            ("orders.*", "create", Err("--registry URL")),
            ("", "create", Err("must not be empty")),
            ("orders", "", Err("is no METHOD")),
        ];
        for (service, method, expected) in cases {
            match (join_name(service, method), expected) {
                (Ok(name), Ok(expected)) => assert_eq!(name, expected),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{service} {method}: {error}");
                }
                (other, _) => panic!("{service} {method}: {other:?}"),
            }
        }
    }

    #[test]
    fn headers() {
        let (name, value) = header("X-Request-Id:  a b ").expect("valid");
        assert_eq!((name.as_str(), value.to_str().ok()), ("x-request-id", Some("a b")));
        assert!(!value.is_sensitive());
        assert!(header("authorization: Bearer x").expect("valid").1.is_sensitive());
        for text in ["no colon", ": x", "a b: x", "X: a\nb", "Content-Length: 5"] {
            assert!(header(text).is_err(), "{text:?}");
        }
    }
}
