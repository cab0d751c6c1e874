//! A Unix socket that is listened on.
//!
//! It is a file. It is made in a folder that nobody else may enter, given its owner
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
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use super::Accept;
use crate::config::socket::{GROUPS, MAX_UNIX_PATH, SocketAccess, USERS, number_of};

/// A socket's name before it is in its place.
const WORKPIECE: &str = "s";

/// A Unix listener and its file, which goes when it is dropped.
pub(crate) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    made: Identity,
    /// Held while the socket is.
    _lock: File,
}

impl Accept for UnixSocket {
    type Connection = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept().await?;
        Ok(stream)
    }

    fn accept_now(&self) -> io::Result<UnixStream> {
        let (stream, _) = SockRef::from(&self.listener).accept()?;
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream.into())
    }
}

impl UnixSocket {
    /// Makes the socket and listens on it.
    pub(crate) fn bind(path: &Path, access: &SocketAccess) -> anyhow::Result<Self> {
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

    /// Where its file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
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
        chown(path, owner, group).context(
            "cannot set its `owner` and `group`: without CAP_CHOWN the owner must be the process's \
             own user, and the group one that this user is in (`SupplementaryGroups` of a systemd \
             unit, `group_add` of a container)",
        )?;
    }
    if let Some(mode) = access.mode {
        fs::set_permissions(path, Permissions::from_mode(mode)).context("cannot set its `mode`")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_unix_socket_is_kept_from_others() {
        let folder = std::env::temp_dir().join(format!("genkan-socket-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let path = folder.join("hub.sock");
        let access = SocketAccess { mode: Some(0o600), ..SocketAccess::default() };

        let first = UnixSocket::bind(&path, &access).expect("bound");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = UnixSocket::bind(&path, &access).err().expect("locked");
        assert!(format!("{second:#}").contains("another Genkan holds"), "{second:#}");
        drop(first);
        assert!(!path.exists());

        // A socket that was left behind is cleared, another file is not.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        assert!(path.exists());
        let again = UnixSocket::bind(&path, &access).expect("the stale one is cleared");
        drop(again);
        let foreign = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let refused = UnixSocket::bind(&path, &access).err().expect("somebody listens");
        assert!(format!("{refused:#}").contains("somebody listens"), "{refused:#}");
        drop(foreign);
        fs::remove_file(&path).expect("removed");

        // Another one's file in its place stays at the end.
        let mine = UnixSocket::bind(&path, &access).expect("bound");
        fs::remove_file(&path).expect("removed");
        let theirs = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        drop((mine, theirs));
        fs::remove_file(&path).expect("it was left");

        fs::write(&path, "precious").expect("written");
        let refused = UnixSocket::bind(&path, &access).err().expect("no socket");
        assert!(format!("{refused:#}").contains("is no socket"), "{refused:#}");
        assert_eq!(fs::read_to_string(&path).expect("kept"), "precious");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
