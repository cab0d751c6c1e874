//! A module's connection, as small as can be: blocking, and with one write for each frame, as real
//! modules write (WIRE 3.5).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};

/// How long anything may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the hub or to a relay.
pub(super) struct Module {
    /// The way out.
    pub(super) stream: TcpStream,
}

impl Module {
    /// Connects, and says nothing: a relay would pass it on.
    pub(super) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Registers.
    pub(super) fn register(&mut self, id: &str) -> Result<()> {
        let head = r#"{"dependencies":{},"moduleId":""#;
        self.ask(
            &format!("{head}{id}\",\"requestId\":\"{id}-1\",\"type\":1,\"version\":\"1.0.0\"}}"),
            2,
        )
    }

    /// Declares a function.
    pub(super) fn declare(&mut self, function: &str) -> Result<()> {
        self.ask(&format!(r#"{{"function":"{function}","requestId":"d-1","type":9}}"#), 1)
    }

    /// Listens to a hook.
    pub(super) fn listen(&mut self, hook: &str) -> Result<()> {
        self.ask(&format!(r#"{{"hook":"{hook}","requestId":"l-1","type":5}}"#), 1)
    }

    /// Sends a frame and waits for so many lines, and no more.
    pub(super) fn ask(&mut self, frame: &str, lines: usize) -> Result<()> {
        self.say(frame)?;
        self.hear(lines)
    }

    /// Sends a frame.
    pub(super) fn say(&mut self, frame: &str) -> Result<()> {
        Ok(self.stream.write_all(format!("{frame}\n").as_bytes())?)
    }

    /// Waits for so many lines, and no more.
    pub(super) fn hear(&mut self, lines: usize) -> Result<()> {
        let (mut seen, mut buffer, mut last) = (0, [0; 1024], None);
        while seen < lines || last != Some(b'\n') {
            let length = self.stream.read(&mut buffer)?;
            ensure!(length > 0, "the hub or relay closed a connection that was to stay");
            let got = &buffer[..length];
            ensure!(!got.starts_with(b"{\"error\""), "{}", String::from_utf8_lossy(got));
            seen += memchr::memchr_iter(b'\n', got).count();
            last = got.last().copied();
        }
        ensure!(seen == lines, "{seen} lines came instead of {lines}");
        Ok(())
    }

    /// The lines that come in.
    pub(super) fn lines(&self) -> Result<Lines> {
        Ok(Lines {
            reader: BufReader::with_capacity(64 * 1024, self.stream.try_clone()?),
            line: Vec::new(),
        })
    }
}

/// The lines that come in over a connection.
pub(super) struct Lines {
    reader: BufReader<TcpStream>,
    line: Vec<u8>,
}

impl Lines {
    /// The next line.
    pub(super) fn next(&mut self) -> Result<&[u8]> {
        self.line.clear();
        let length = self.reader.read_until(b'\n', &mut self.line)?;
        ensure!(length > 0, "the hub or relay closed a connection that was to stay");
        Ok(&self.line)
    }
}
