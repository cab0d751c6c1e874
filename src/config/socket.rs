//! Places to listen that may be Unix sockets, and who may connect to those.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;

use super::problem::did_you_mean;
use super::secret::quoted;
use super::section::Section;

/// The longest path of a Unix socket, in bytes: the system's limit, on Linux.
pub const MAX_UNIX_PATH: usize = 107;
/// Where the system has its users.
pub const USERS: &str = "/etc/passwd";
/// Where it has its groups.
pub const GROUPS: &str = "/etc/group";

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `tcp://127.0.0.1:2203`.
    Tcp(SocketAddr),
    /// `unix:///run/genkan/hub.sock`.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "tcp://{address}"),
            Listen::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Listen {
    /// Reads `tcp://ADDRESS:PORT` or `unix:///PATH`; or what is wrong with it, and the mend.
    pub fn parse(text: &str) -> Result<Self, String> {
        let place = match text.split_once("://") {
            Some(("tcp", address)) => address.parse().ok().map(Listen::Tcp),
            Some(("unix", path)) if path.len() > 1 => Some(Listen::Unix(PathBuf::from(path))),
            _ => None,
        };
        match place {
            Some(Listen::Unix(path)) if path.as_os_str().len() > MAX_UNIX_PATH => {
                let length = path.as_os_str().len();
                Err(format!(
                    "the path of `{text}` has {length} bytes, and the system allows {MAX_UNIX_PATH}: choose \
                     a shorter one"
                ))
            }
            Some(Listen::Unix(path)) if path.is_relative() => Err(format!(
                "`{text}` is relative to wherever Genkan is started: write the whole path, such as \
                 \"unix:///run/genkan/hub.sock\""
            )),
            Some(place) => Ok(place),
            None => {
                let scheme = text.split("://").next().unwrap_or_default();
                let text = match scheme {
                    "tcp" | "unix" if !text.contains('@') => format!("`{text}`"),
                    _ => quoted(text),
                };
                let hint = match scheme {
                    "tcp" => ": an address and a port stand behind tcp://".to_owned(),
                    _ => did_you_mean(scheme, ["tcp", "unix"].into_iter()),
                };
                Err(format!(
                    "{text} must be \"tcp://127.0.0.1:2203\" or \"unix:///run/genkan/hub.sock\"{hint}"
                ))
            }
        }
    }

    /// The address, if it is one.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Listen::Tcp(address) => Some(*address),
            Listen::Unix(_) => None,
        }
    }
}

/// Owner, group and mode of the Unix sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketAccess {
    /// A user's name or number.
    pub owner: Option<String>,
    /// A group's name or number.
    pub group: Option<String>,
    /// The permissions, such as 0o660.
    pub mode: Option<u32>,
}

impl SocketAccess {
    /// Reads `owner`, `group` and `mode`.
    pub fn read(section: &mut Section<'_>) -> Self {
        Self { owner: section.text("owner"), group: section.text("group"), mode: mode(section) }
    }

    fn is_of_no_use(&self, section: &Section<'_>) {
        let title = section.title();
        let name = title.trim_matches(['[', ']']);
        let (owner, group, mode) = (&self.owner, &self.group, self.mode);
        let set =
            [("owner", owner.is_some()), ("group", group.is_some()), ("mode", mode.is_some())];
        for (key, _) in set.iter().filter(|(_, is_set)| *is_set) {
            let message = format!(
                "`{key}` in {title} is a Unix socket's, and none is in `listen`: leave it out, or listen \
                 at \"unix:///run/genkan/{name}.sock\""
            );
            section.warn(key, message);
        }
    }

    /// Warns where the system lacks what the Unix sockets need. It may come before the start: a
    /// folder under `/run` is made by whoever starts the service.
    pub fn check(&self, section: &Section<'_>, listen: &[Listen]) {
        let title = section.title();
        let paths = listen.iter().filter_map(|place| match place {
            Listen::Unix(path) => Some(path),
            Listen::Tcp(_) => None,
        });
        let mut paths = paths.peekable();
        if paths.peek().is_none() {
            return self.is_of_no_use(section);
        }
        let names = [("owner", &self.owner, USERS), ("group", &self.group, GROUPS)];
        for (key, name, file) in names {
            if let Some(Err(error)) = name.as_deref().map(|name| number_of(name, file)) {
                let message =
                    format!("`{key}` in {title}: {error:#}: name another one, or its number");
                section.warn(key, message);
            }
        }
        for path in paths {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                let folder = folder.display();
                let message = format!(
                    "`listen` in {title}: there is no folder {folder} for the socket {}: make it, or \
                     choose another one",
                    path.display()
                );
                section.warn("listen", message);
            }
        }
    }
}

fn mode(section: &mut Section<'_>) -> Option<u32> {
    let text = section.text("mode")?;
    let digits = text.strip_prefix("0o").unwrap_or(&text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let shown = quoted(&text);
        let message =
            format!("`mode` in {} must be octal, such as \"0660\", not {shown}", section.title());
        section.problem("mode", message);
    }
    mode
}

/// A user's or group's number: itself, or what the system's file says.
pub fn number_of(name: &str, file: &str) -> anyhow::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let numbers = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    let mut numbers = numbers;
    numbers.next().with_context(|| format!("there is no `{name}` in {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_users_and_groups() {
        assert_eq!(number_of("1234", "/etc/passwd").expect("a number"), 1234);
        assert_eq!(number_of("root", "/etc/passwd").expect("root"), 0);
        assert!(number_of("no-such-user", "/etc/passwd").is_err());
    }
}
