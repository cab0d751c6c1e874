//! Where the hub listens: TCP addresses and Unix sockets.
//!
//! A Unix socket is a file. It is made in a folder that nobody else may enter, given its owner
//! and mode, and then put in its place, so that nobody can connect before. A file that is in its place already is
//! removed only if it is a socket that nobody listens on; a lock beside it (`hub.sock.lock`)
//! keeps two Genkans apart, and stays when the socket goes: removing it could not be done
//! without a race. At the end the file is removed if it is still the one that was made.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tracing::warn;

use super::config::{Listen, MAX_UNIX_PATH, SocketAccess};
use super::peer::{ReadEnd, WriteEnd};
use crate::listener::{self, Accept};

/// Where the system has its users and groups.
pub(super) const USERS: &str = "/etc/passwd";
pub(super) const GROUPS: &str = "/etc/group";
/// A socket's name before it is in its place.
const WORKPIECE: &str = "s";

/// A bound listener.
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// A Unix listener and its file, which goes when it is dropped.
pub(super) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    made: Identity,
    /// Held while the socket is.
    _lock: File,
}

impl Socket {
    /// Binds a place to listen.
    pub(super) fn bind(place: &Listen, access: &SocketAccess) -> anyhow::Result<Self> {
        match place {
            Listen::Tcp(address) => {
                let listener = listener::bind(*address).with_context(|| {
                    format!(
                        "cannot listen on {place} ([hub] listen): is a Juno daemon or another \
                         Genkan using it?"
                    )
                })?;
                Ok(Socket::Tcp(listener))
            }
            Listen::Unix(path) => {
                let socket = UnixSocket::bind(path, access)
                    .with_context(|| format!("cannot listen on {place} ([hub] listen)"))?;
                Ok(Socket::Unix(socket))
            }
        }
    }

    /// Where it listens, with the port that it was given.
    pub(super) fn place(&self) -> io::Result<Listen> {
        match self {
            Socket::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Socket::Unix(socket) => Ok(Listen::Unix(socket.path.clone())),
        }
    }
}

impl Accept for Socket {
    type Connection = (ReadEnd, WriteEnd);

    async fn accept(&self) -> io::Result<(ReadEnd, WriteEnd)> {
        match self {
            Socket::Tcp(listener) => Ok(tcp(Accept::accept(listener).await?)),
            Socket::Unix(socket) => {
                let (stream, _) = socket.listener.accept().await?;
                Ok(unix(stream))
            }
        }
    }

    fn accept_now(&self) -> io::Result<(ReadEnd, WriteEnd)> {
        match self {
            Socket::Tcp(listener) => listener.accept_now().map(tcp),
            Socket::Unix(socket) => {
                let (stream, _) = SockRef::from(&socket.listener).accept()?;
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream.into()).map(unix)
            }
        }
    }
}

fn tcp(stream: TcpStream) -> (ReadEnd, WriteEnd) {
    let (read, write) = stream.into_split();
    (ReadEnd::Tcp(read), WriteEnd::Tcp(write))
}

fn unix(stream: UnixStream) -> (ReadEnd, WriteEnd) {
    let (read, write) = stream.into_split();
    (ReadEnd::Unix(read), WriteEnd::Unix(write))
}

impl UnixSocket {
    fn bind(path: &Path, access: &SocketAccess) -> anyhow::Result<Self> {
        let lock = lock(&beside(path, ".lock"))?;
        clear(path)?;
        let workshop = beside(path, ".new");
        clear_workshop(&workshop)?;
        let private = DirBuilder::new().mode(0o700).create(&workshop);
        private
            .with_context(|| format!("cannot make a socket in the folder of {}", path.display()))?;
        let made = make(&workshop, path, access);
        clear_workshop(&workshop)?;
        let (listener, made) = made?;
        Ok(Self { listener, path: path.to_owned(), made, _lock: lock })
    }
}

/// Which file it is, whatever its name: its device and inode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|metadata| Self(metadata.dev(), metadata.ino()))
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let path = self.path.display();
        let removed = Identity::of(&self.path).and_then(|found| {
            if found == self.made {
                return fs::remove_file(&self.path);
            }
            warn!(%path, "the socket's file is not removed: somebody has put another one there");
            Ok(())
        });
        if let Err(error) = removed {
            warn!(%error, %path, "cannot remove the socket's file");
        }
    }
}

/// Makes a socket, and puts it in its place when it is as it shall be.
fn make(
    workshop: &Path,
    path: &Path,
    access: &SocketAccess,
) -> anyhow::Result<(UnixListener, Identity)> {
    let cannot = || format!("cannot make a socket in the folder of {}", path.display());
    let new = workshop.join(WORKPIECE);
    let listener = bind(workshop, &new).with_context(cannot)?;
    give(&new, access)?;
    let made = Identity::of(&new).with_context(cannot)?;
    fs::rename(&new, path).with_context(|| format!("cannot put {} there", path.display()))?;
    Ok((listener, made))
}

/// The workpiece's name is longer than the one that it will have, and may be longer than the
/// system allows: then it is made by the short name that the opened folder has.
fn bind(workshop: &Path, new: &Path) -> io::Result<UnixListener> {
    if new.as_os_str().len() <= MAX_UNIX_PATH {
        return UnixListener::bind(new);
    }
    let opened = File::open(workshop)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{WORKPIECE}", opened.as_raw_fd()))
}

/// Removes the folder in which a socket is made, this one's or one that was left behind.
fn clear_workshop(folder: &Path) -> anyhow::Result<()> {
    let removed = fs::remove_file(folder.join(WORKPIECE)).or_else(unless_missing);
    let removed = removed.and_then(|()| fs::remove_dir(folder).or_else(unless_missing));
    removed.with_context(|| format!("cannot remove {}", folder.display()))
}

fn unless_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let open = File::options().create(true).truncate(false).write(true).open(path);
    let file = open.with_context(|| format!("cannot open the lock {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another Genkan holds {}: stop it, or choose another path", path.display())
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Removes a socket that nobody listens on any more, and nothing else.
fn clear(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
    };
    if !metadata.file_type().is_socket() {
        bail!("{shown} is there and is no socket: move it away, or choose another path");
    }
    match BlockingStream::connect(path) {
        Ok(_) => bail!("somebody listens on {shown} already: a Juno daemon?"),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            warn!(path = %shown, "removing a socket that nobody listens on");
            fs::remove_file(path).with_context(|| format!("cannot remove {shown}"))
        }
        Err(error) => Err(error).with_context(|| format!("cannot tell who listens on {shown}")),
    }
}

/// Gives the socket's file its mode and owner.
fn give(path: &Path, access: &SocketAccess) -> anyhow::Result<()> {
    let owner = access.owner.as_deref().map(|name| number_of(name, USERS)).transpose()?;
    let group = access.group.as_deref().map(|name| number_of(name, GROUPS)).transpose()?;
    if owner.is_some() || group.is_some() {
        chown(path, owner, group).context("cannot set `owner` and `group` of [hub]")?;
    }
    if let Some(mode) = access.mode {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .context("cannot set the `mode` of [hub]")?;
    }
    Ok(())
}

/// A user's or group's number: itself, or what the system's file says.
pub(super) fn number_of(name: &str, file: &str) -> anyhow::Result<u32> {
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

    #[tokio::test]
    async fn a_unix_socket_is_kept_from_others() {
        let folder = std::env::temp_dir().join(format!("genkan-socket-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("hub.sock");
        let place = Listen::Unix(path.clone());
        let access = SocketAccess { mode: Some(0o600), ..SocketAccess::default() };

        let first = Socket::bind(&place, &access).expect("bound");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Socket::bind(&place, &access).err().expect("locked");
        assert!(format!("{second:#}").contains("another Genkan holds"), "{second:#}");
        drop(first);
        assert!(!path.exists());

        // A socket that was left behind is cleared, another file is not.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        let again = Socket::bind(&place, &access).expect("the stale one is cleared");
        drop(again);
        let foreign = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let refused = Socket::bind(&place, &access).err().expect("somebody listens");
        assert!(format!("{refused:#}").contains("somebody listens"), "{refused:#}");
        drop(foreign);
        fs::remove_file(&path).expect("removed");

        // Another one's file in its place stays at the end.
        let mine = Socket::bind(&place, &access).expect("bound");
        fs::remove_file(&path).expect("removed");
        let theirs = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        drop((mine, theirs));
        fs::remove_file(&path).expect("it was left");

        fs::write(&path, "precious").expect("written");
        let refused = Socket::bind(&place, &access).err().expect("no socket");
        assert!(format!("{refused:#}").contains("is no socket"), "{refused:#}");
        assert_eq!(fs::read_to_string(&path).expect("kept"), "precious");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
