//! Reads the files that an operator writes: never more than they can hold, and never from
//! something that is no file and would be waited for.

use std::fs::{File, metadata};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use crate::units::format_size;

/// How long a start waits for whoever writes into a FIFO.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reads a file of at most `largest` bytes. A FIFO, a socket or a folder in its place is an error.
pub fn read(path: &Path, largest: usize) -> io::Result<Vec<u8>> {
    // Before it is opened: to open a FIFO is to wait for whoever writes into it.
    if !metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
    }
    read_all(File::open(path)?, largest)
}

/// Reads what is there, whatever it is: a pipe that the shell made, say. To open a FIFO is to wait for
/// whoever writes into it, and that is not done for ever; what somebody writes may take its time.
pub fn read_any(path: &Path, largest: usize) -> io::Result<Vec<u8>> {
    if metadata(path)?.is_file() {
        return read_all(File::open(path)?, largest);
    }
    let (sender, receiver) = mpsc::channel();
    let path = path.to_owned();
    // Left behind where nobody comes: the process ends then.
    std::thread::spawn(move || drop(sender.send(File::open(path))));
    let opened = receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let message = "it is a FIFO that nobody writes into: name a file, or a pipe such as <(…)";
        Err(io::Error::new(ErrorKind::TimedOut, message))
    });
    read_all(opened?, largest)
}

fn read_all(file: File, largest: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(largest as u64 + 1).read_to_end(&mut content)?;
    if content.len() > largest {
        let message = format!("it is larger than {}", format_size(largest));
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(content)
}

/// Why a file cannot be read, and the mend where there is one.
pub fn complaint(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::IsADirectory => "it is a folder: name a file in it".to_owned(),
        ErrorKind::PermissionDenied => {
            "permission denied: let the user that runs genkan read it, and enter its folder"
                .to_owned()
        }
        _ => error.to_string(),
    }
}
