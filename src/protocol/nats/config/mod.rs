//! The settings of a NATS upstream, and every contradiction among them.
//!
//! Credentials are taken out of the servers' URLs here, so that an address can be shown, and
//! handed to the client library, without them.

mod server;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::server::Server;
use super::login;
use super::wire::Dialect;
use crate::config::secret::{Secret, SecretSource, url_without_credentials};
use crate::config::section::Section;
use crate::config::sites::{is_own, site};
use crate::exposer::Credence;
use crate::tls::ClientFiles;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an idle server is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const LONGEST_PING_INTERVAL: Duration = Duration::from_secs(10);
const INBOX_PREFIX: &str = "_INBOX";
/// What one reply may take of the memory.
const MAX_REPLY: usize = 16 * 1024 * 1024;
/// The largest request to an exposed service. As over HTTP.
const MAX_REQUEST: usize = 1024 * 1024;
/// How many calls of an exposed service are under way at once: NATS holds none back.
const PREFETCH: usize = 1000;

/// Everything that a connection and its envelopes need.
#[derive(Debug)]
pub(super) struct Settings {
    /// Where to connect, in turns; never empty unless a problem was reported.
    pub(super) servers: Vec<Arc<Server>>,
    /// Whether to turn to servers of which these tell.
    pub(super) discover: bool,
    /// How the services behind it speak.
    pub(super) dialect: Dialect,
    /// TLS even where the server does not ask for it.
    pub(super) tls: bool,
    /// Whom to trust, and who we are.
    pub(super) certificates: ClientFiles,
    /// How Genkan proves who it is, where the server's URL does not say.
    auth: Auth,
    /// From the name's look-up to a proven inbox.
    pub(super) connect_timeout: Duration,
    /// How often an idle connection is tried.
    pub(super) ping_interval: Duration,
    /// The first part of the reply subjects.
    pub(super) inbox_prefix: String,
    /// The largest reply that is taken in, headers included.
    pub(super) max_reply: usize,
    /// The largest request to an exposed service, headers included.
    pub(super) max_request: usize,
    /// How many calls of an exposed service are under way at once, where its row does not say.
    pub(super) prefetch: u16,
    /// Whether credentials of calls to exposed services travel on.
    pub(super) forward_authorization: bool,
    /// Whether who they say calls is believed.
    pub(super) trust_context: bool,
}

impl Settings {
    /// What of an event's own words about its maker goes on.
    pub(super) fn credence_of_events(&self) -> Credence {
        Credence::of(self.forward_authorization, self.trust_context, false)
    }

    /// A server on another machine that is told a password or token without TLS.
    pub(super) fn tells_a_secret_to(&self) -> Option<&Server> {
        let is_told =
            |server: &&Server| matches!(self.auth(server), Auth::User(..) | Auth::Token(_));
        self.reached_in_clear().find(is_told)
    }

    /// The servers of other machines that are reached without TLS.
    pub(super) fn reached_in_clear(&self) -> impl Iterator<Item = &Server> {
        let servers = self.servers.iter().filter(|_| !self.tls).map(|server| &**server);
        servers.filter(|server| !server.tls && !is_own(&site(&server.host, server.port)))
    }

    /// What is proven to a server.
    pub(super) fn auth<'a>(&'a self, server: &'a Server) -> &'a Auth {
        match &*server.auth {
            Auth::None => &self.auth,
            own => own,
        }
    }
}

/// How Genkan proves who it is. Files are read anew for every connection.
#[derive(Debug)]
pub(super) enum Auth {
    /// Not at all.
    None,
    /// A user's name and password.
    User(String, SecretSource),
    /// A token.
    Token(SecretSource),
    /// An nkey's seed.
    Nkey(SecretSource),
    /// A credentials file: a user's JWT and seed.
    Credentials(SecretSource),
}

impl Auth {
    /// Differs where who logs in does. Never shown.
    pub(super) fn fingerprint(&self) -> u64 {
        let (name, secret) = match self {
            Auth::None => (None, None),
            Auth::User(name, _) => (Some(name), None),
            Auth::Token(secret) | Auth::Nkey(secret) | Auth::Credentials(secret) => {
                (None, Some(secret))
            }
        };
        let mut hasher = DefaultHasher::new();
        (name, secret.map(|secret| secret.now().expose().to_owned())).hash(&mut hasher);
        hasher.finish()
    }

    fn is_none(&self) -> bool {
        matches!(self, Auth::None)
    }
}

/// Reads the table. What is missing or contradictory is reported to the section.
pub(super) fn read(section: &mut Section<'_>) -> Settings {
    let dialect = section.choice("dialect", &Dialect::WORDS, Dialect::Picom);
    let auth = read_auth(section);
    let servers = read_servers(section, &auth);
    let (tls, certificates) = read_tls(section, &servers);
    Settings {
        servers,
        discover: section.flag("discover", true),
        dialect,
        tls,
        certificates,
        auth,
        connect_timeout: section.duration("connect_timeout", CONNECT_TIMEOUT),
        ping_interval: read_ping_interval(section),
        inbox_prefix: read_inbox_prefix(section),
        max_reply: section.size("max_reply", MAX_REPLY),
        max_request: section.size("max_request", MAX_REQUEST),
        prefetch: u16::try_from(section.count("prefetch", PREFETCH, 1, 10_000)).unwrap_or(u16::MAX),
        forward_authorization: section.flag("forward_authorization", false),
        trust_context: section.flag("trust_context", false),
    }
}

fn read_servers(section: &mut Section<'_>, auth: &Auth) -> Vec<Arc<Server>> {
    let texts = section.texts("servers");
    if texts.is_empty() {
        let title = section.title();
        section.problem(
            "servers",
            format!("{title} needs `servers`: add `servers = [\"nats://HOST:4222\"]`"),
        );
    }
    let urls = texts.iter().flat_map(|text| server::split(text));
    urls.filter_map(|url| read_server(section, url, auth)).map(Arc::new).collect()
}

/// Reads one URL. The text may hold a password: no message repeats more of it than its host.
fn read_server(section: &Section<'_>, text: &str, auth: &Auth) -> Option<Server> {
    let shown = url_without_credentials(text);
    let fail = |what: &str| {
        let title = section.title();
        section.problem("servers", format!("a server in {title}, {shown}, {what}"));
        None
    };
    match Server::parse(text) {
        Ok(Server { auth: own, .. }) if !own.is_none() && !auth.is_none() => {
            fail("holds credentials of its own beside those in the table: keep one of them")
        }
        Ok(server) => Some(server),
        Err(what) => fail(&what),
    }
}

fn read_auth(section: &mut Section<'_>) -> Auth {
    let user = section.text("user");
    let has_password = section.has("password") || section.has("password_file");
    let password = section.secret_source("password", "password_file");
    let token = section.secret_source("token", "token_file");
    let nkey = section.secret_source("nkey", "nkey_file");
    let credentials = section.secret_file("credentials_file");

    let given: Vec<&str> = [
        ("`user` and `password`", user.is_some() || password.is_some()),
        ("`token`", token.is_some()),
        ("`nkey`", nkey.is_some()),
        ("`credentials_file`", credentials.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    if given.len() > 1 {
        let (title, given) = (section.title(), given.join(", "));
        section
            .problem_here(format!("{title} has more than one way to log in ({given}): keep one"));
        return Auth::None;
    }
    if let Some(nkey) = nkey {
        check_seed(section, &nkey.now());
        return Auth::Nkey(nkey);
    }
    if let Some(file) = credentials {
        check_credentials(section, &file.now());
        return Auth::Credentials(file);
    }
    match (user, password, token) {
        (Some(user), Some(password), _) => Auth::User(user, password),
        // A file that could not be read has been reported already.
        (Some(_), None, _) if has_password => Auth::None,
        (Some(_), None, _) => {
            missing(section, "user", "password", "`password = \"…\"` or `password_file = \"…\"`")
        }
        (None, Some(_), _) => missing(section, "password", "user", "`user = \"…\"`"),
        (None, None, Some(token)) => Auth::Token(token),
        (None, None, None) => Auth::None,
    }
}

fn missing(section: &Section<'_>, has: &str, lacks: &str, mend: &str) -> Auth {
    let title = section.title();
    section.problem(has, format!("{title} has `{has}` without `{lacks}`: add {mend}"));
    Auth::None
}

fn check_seed(section: &Section<'_>, seed: &Secret) {
    let text = seed.expose();
    let base32 = text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'));
    if !(text.starts_with("SU") && text.len() == 58 && base32) {
        let title = section.title();
        section.problem(
            "nkey",
            format!("the nkey of {title} is not a user's seed: 58 letters that begin with SU"),
        );
    }
}

fn check_credentials(section: &Section<'_>, text: &Secret) {
    for block in [login::JWT, login::SEED] {
        if !text.expose().contains(block) {
            let title = section.title();
            section.problem(
                "credentials_file",
                format!("`credentials_file` in {title} has no block that says `{block}`"),
            );
            return;
        }
    }
}

fn read_tls(section: &mut Section<'_>, servers: &[Arc<Server>]) -> (bool, ClientFiles) {
    let given = section.has("tls");
    let wanted = section.flag("tls", false);
    let refused = given && !wanted;
    let named = ["ca_file", "cert_file", "key_file"].iter().any(|key| section.has(key));
    let files = ClientFiles::read(section);
    let title = section.title();
    let urls = servers.iter().any(|server| server.tls);
    if refused && (named || urls) {
        let what = if named { "certificate files" } else { "a tls:// server" };
        section.problem("tls", format!("{title} has `tls = false` beside {what}: drop one"));
    }
    // Whoever names certificates means TLS, also where the server would talk without.
    (wanted || named, files)
}

fn read_ping_interval(section: &mut Section<'_>) -> Duration {
    let interval = section.duration("ping_interval", PING_INTERVAL);
    if interval > LONGEST_PING_INTERVAL {
        let title = section.title();
        section.problem(
            "ping_interval",
            format!(
                "`ping_interval` in {title} must be at most \"10s\": \
                 a dead connection is noticed after two to three of them"
            ),
        );
        return LONGEST_PING_INTERVAL;
    }
    interval
}

fn read_inbox_prefix(section: &mut Section<'_>) -> String {
    let Some(prefix) = section.text("inbox_prefix") else { return INBOX_PREFIX.to_owned() };
    let good = |token: &str| {
        !token.is_empty()
            && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if prefix.len() <= 128 && prefix.split('.').all(good) {
        return prefix;
    }
    let title = section.title();
    section.problem(
        "inbox_prefix",
        format!(
            "`inbox_prefix` in {title} must be a subject of letters, digits, `_`, `-` and dots, \
             like \"_INBOX\""
        ),
    );
    INBOX_PREFIX.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_for_test;

    /// What was read, and every problem's line and message.
    fn read_text(text: &str) -> (Settings, Vec<String>) {
        let (settings, problems) = read_for_test(text, read);
        (settings, problems.iter().map(ToString::to_string).collect())
    }

    const SEED: &str = "SUAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFLM";
    const SERVERS: &str = "servers = [\"nats://h:4222\"]\n";

    /// What is proven to the first server.
    fn login(settings: &Settings) -> String {
        match settings.auth(&settings.servers[0]) {
            Auth::None => "none".to_owned(),
            Auth::User(user, password) => format!("user {user} {}", password.now().expose()),
            Auth::Token(token) => format!("token {}", token.now().expose()),
            Auth::Nkey(seed) => format!("nkey {}", seed.now().expose()),
            Auth::Credentials(_) => "credentials".to_owned(),
        }
    }

    #[test]
    fn defaults() {
        let (settings, problems) = read_text("servers = [\"nats://h\", \"tls://[::1]:7\"]");
        assert_eq!(problems, Vec::<String>::new());
        let servers: Vec<_> = settings.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["nats://h:4222", "tls://[::1]:7"]);
        assert!(settings.servers.iter().all(|server| settings.auth(server).is_none()));
        assert_eq!(settings.dialect, Dialect::Picom);
        assert_eq!(settings.inbox_prefix, "_INBOX");
        assert!(settings.discover && !settings.tls && !settings.certificates.are_named());
        assert!(settings.ping_interval <= Duration::from_secs(10));
    }

    #[test]
    fn every_key() {
        let text = format!(
            "{SERVERS}dialect = \"micro\"\nuser = \"u\"\npassword = \"p\"\ntls = true\n\
             connect_timeout = \"1s\"\nping_interval = \"2s\"\ninbox_prefix = \"_INBOX.app\"\n\
             max_reply = \"1KiB\"\ndiscover = false\n\
             prefetch = 7\nmax_request = \"2KiB\"\nforward_authorization = true"
        );
        let (settings, problems) = read_text(&text);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(settings.dialect, Dialect::Micro);
        assert_eq!(login(&settings), "user u p");
        assert_eq!((settings.max_reply, settings.max_request, settings.prefetch), (1024, 2048, 7));
        assert!(settings.forward_authorization);
        assert!(!settings.discover);
        assert!(settings.tls);
        assert_eq!(settings.connect_timeout, Duration::from_secs(1));
        assert_eq!(settings.ping_interval, Duration::from_secs(2));
        assert_eq!(settings.inbox_prefix, "_INBOX.app");
    }

    #[test]
    fn ways_to_log_in() {
        for (text, expected) in [
            ("servers = \"nats://u:p%40%2f@h:1\"", "user u p@/"),
            ("servers = \"nats://u:p@w@h:1\"", "user u p@w"),
            ("servers = \"tls://s%33cret@h:1\"", "token s3cret"),
            ("servers = \"nats://h:1\"\ntoken = \"t\"", "token t"),
            (&format!("servers = \"nats://h:1\"\nnkey = \"{SEED}\""), &format!("nkey {SEED}")),
        ] {
            let (settings, problems) = read_text(text);
            assert_eq!(problems, Vec::<String>::new(), "{text}");
            assert_eq!(login(&settings), expected, "{text}");
            let shown = format!("{settings:?} {}", settings.servers[0]);
            for word in ["p@", "s3cret", "%33", SEED] {
                assert!(!shown.contains(word), "{shown}");
            }
        }
    }

    #[test]
    fn problems() {
        let url = |url: &str| format!("servers = [\"{url}\"]");
        let with = |rest: &str| format!("{SERVERS}{rest}");
        let cases: Vec<(String, &[&str])> = vec![
            (String::new(), &["needs `servers`: add `servers = [\"nats://HOST:4222\"]`"]),
            ("servers = []".to_owned(), &["needs `servers`"]),
            (url("h:4222"), &["must be a URL that begins with nats:// or tls://"]),
            (url("http://u:geheim@h:4222"), &["http://h:4222, must be a URL that begins"]),
            (url("nats://"), &["names no host"]),
            (url("nats://u:geheim@h:99999"), &["nats://h:99999, is no valid URL"]),
            (url("nats://u:ge#heim@h:1"), &["a raw `#` in its credentials: write it as %23"]),
            (url("nats://h:1?tsl=true"), &["did you mean `tls`?"]),
            (
                format!("{}\ntoken = \"t\"", url("nats://u:geheim@h:1")),
                &["nats://h:1, holds credentials of its own"],
            ),
            (with("dialect = \"picon\""), &["did you mean `picom`?"]),
            (with("user = \"u\""), &["has `user` without `password`"]),
            (with("password = \"geheim\""), &["has `password` without `user`"]),
            (
                with("user = \"u\"\npassword = \"geheim\"\ntoken = \"geheim\""),
                &["more than one way to log in (`user` and `password`, `token`)"],
            ),
            (
                with("password = \"geheim\"\npassword_file = \"x\"\nuser = \"u\""),
                &["both `password` and `password_file`"],
            ),
            (with("nkey = \"SUgeheim\""), &["is not a user's seed"]),
            (with("credentials_file = \"/nowhere\""), &["cannot read /nowhere"]),
            (with("credentials_file = \"Cargo.toml\""), &["no block that says `NATS USER JWT`"]),
            (with("ca_file = \"/nowhere\""), &["/nowhere cannot be read"]),
            (
                with("cert_file = \"Cargo.toml\""),
                &["holds no certificate in PEM form", "`cert_file` without `key_file`"],
            ),
            (url("tls://h:1") + "\ntls = false", &["`tls = false` beside a tls:// server"]),
            (with("ping_interval = \"1m\""), &["`ping_interval` in", "\"10s\""]),
            (with("inbox_prefix = \"a.*\""), &["`inbox_prefix` in"]),
            (with("serverz = 1"), &["unknown key `serverz`"]),
        ];
        for (text, expected) in cases {
            let problems = read_text(&text).1.join("\n");
            for words in expected {
                assert!(problems.contains(words), "{text}\n{problems}");
            }
            assert!(!problems.contains("geheim"), "{problems}");
        }
    }
}
