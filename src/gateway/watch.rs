//! When the configuration's file is to be read again: when SIGHUP came, or its content is another
//! one, and it holds still. Somebody may be writing it: half of a file may be valid, and an empty
//! one is valid too.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often while it changes.
const CLOSE_LOOK: Duration = Duration::from_millis(50);
/// How long a file that changed must be the same.
const STILL: Duration = Duration::from_secs(1);
/// The same where the operator said that it is ready.
const STILL_WHEN_ASKED: Duration = Duration::from_millis(200);
/// How long an empty file is taken for one that is being written without a word.
const WRITING: Duration = Duration::from_secs(3);

/// How long a file may change without a pause before that is told.
const RESTLESS: Duration = Duration::from_secs(10);

/// What has been seen of the file.
pub(super) struct Watch {
    /// What was read last, whether it is in force or was refused.
    known: Vec<u8>,
    /// Another content, and since when it is there. An empty one where there is no file.
    changing: Option<(Vec<u8>, Instant)>,
    /// Since when nothing could be read because it does not hold still.
    restless: Option<Instant>,
    /// SIGHUP came.
    asked: bool,
    /// What was said last of a file that cannot be read.
    said: Option<String>,
    /// That was a refusal, and nothing has been read since.
    refused: bool,
    next_look: Instant,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To look again later.
    Wait,
    /// To put it in force; why.
    Load(&'static str, Vec<u8>),
    /// To say that it cannot be used.
    Refuse(String),
    /// To say why it is not read yet.
    Tell(String),
}

impl Watch {
    /// The content is in force. What cannot be read again has been read once.
    pub(super) fn new(read: io::Result<Vec<u8>>) -> Self {
        let next_look = Instant::now() + LOOK;
        let said = read.as_ref().err().map(cannot_be_read);
        let known = read.unwrap_or_default();
        let (changing, restless, asked, refused) = (None, None, false, false);
        Self { known, changing, restless, asked, said, refused, next_look }
    }

    /// Waits until the file is to be looked at.
    pub(super) async fn is_time(&self) {
        sleep_until(self.next_look).await;
    }

    /// The operator says that there is something to read.
    pub(super) fn ask(&mut self) {
        self.asked = true;
        self.next_look = Instant::now();
    }

    /// Whether what the operator asked for is still to be read.
    pub(super) fn is_asked(&self) -> bool {
        self.asked
    }

    /// Takes what the file holds now.
    pub(super) fn look(&mut self, read: io::Result<Vec<u8>>) -> Step {
        let now = Instant::now();
        let step = self.step(read, now);
        if !matches!(step, Step::Wait | Step::Tell(_)) {
            (self.asked, self.changing, self.restless) = (false, None, None);
        }
        let close = self.asked || self.changing.is_some();
        self.next_look = now + if close { CLOSE_LOOK } else { LOOK };
        step
    }

    fn step(&mut self, read: io::Result<Vec<u8>>, now: Instant) -> Step {
        let content = match read {
            Ok(content) => content,
            // It is being replaced by another one.
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return self.cannot(cannot_be_read(&error)),
        };
        if content == self.known {
            (self.said, self.restless) = (None, None);
            if self.asked {
                self.refused = false;
                return Step::Load("SIGHUP", content);
            }
            if std::mem::take(&mut self.refused) {
                return Step::Load("the file is back", content);
            }
            self.changing = None;
            return Step::Wait;
        }
        let since = match self.changing.take() {
            Some((before, since)) if before == content => since,
            _ => now,
        };
        let still = now.duration_since(since);
        if is_empty(&content) {
            self.changing = Some((content, since));
            if still < WRITING {
                return Step::Wait;
            }
            return self.cannot("it is empty, or gone: is somebody writing it?".to_owned());
        }
        let (reason, enough) = match self.asked {
            true => ("SIGHUP", STILL_WHEN_ASKED),
            false => ("the file changed", STILL),
        };
        if still < enough {
            self.changing = Some((content, since));
            let restless = *self.restless.get_or_insert(now);
            if now.duration_since(restless) >= RESTLESS {
                return self.wait_on(
                    "it changes all the time: it is read when it has held still for a moment",
                );
            }
            return Step::Wait;
        }
        (self.said, self.restless, self.refused) = (None, None, false);
        self.known.clone_from(&content);
        Step::Load(reason, content)
    }

    /// Says once why it is not read yet. What the operator has asked for is not forgotten.
    fn wait_on(&mut self, what: &str) -> Step {
        if self.said.as_deref() == Some(what) {
            return Step::Wait;
        }
        self.said = Some(what.to_owned());
        Step::Tell(what.to_owned())
    }

    /// Says once what is wrong, and again where the operator asks.
    fn cannot(&mut self, what: String) -> Step {
        if self.said.as_ref() == Some(&what) && !self.asked {
            return Step::Wait;
        }
        self.said = Some(what.clone());
        self.refused = true;
        Step::Refuse(what)
    }
}

/// An editor's mark of the encoding is nothing that an operator wrote.
fn is_empty(content: &[u8]) -> bool {
    content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content).trim_ascii().is_empty()
}

fn cannot_be_read(error: &io::Error) -> String {
    format!("it cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn changed(content: &str) -> Step {
        Step::Load("the file changed", content.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_when_it_holds_still() {
        let mut watch = Watch::new(Ok(b"a = 1".to_vec()));
        for content in ["a", "a = ", "a = 2"] {
            advance(STILL / 2).await;
            assert_eq!(watch.look(Ok(content.into())), Step::Wait, "it is still being written");
        }
        advance(STILL).await;
        assert_eq!(watch.look(Ok(b"a = 2".to_vec())), changed("a = 2"));
        advance(STILL).await;
        assert_eq!(watch.look(Ok(b"a = 2".to_vec())), Step::Wait, "once");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_never_holds_still_is_told_once_and_read_when_it_does() {
        let mut watch = Watch::new(Ok(b"a = 1".to_vec()));
        let mut told = 0;
        for number in 2..100 {
            advance(STILL / 2).await;
            match watch.look(Ok(format!("a = {number}").into())) {
                Step::Wait => {}
                Step::Tell(what) => {
                    assert!(what.contains("changes all the time"), "{what}");
                    told += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, 1);
        advance(STILL).await;
        assert_eq!(watch.look(Ok(b"a = 99".to_vec())), changed("a = 99"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_file_is_being_written() {
        let mut watch = Watch::new(Ok(b"a = 1".to_vec()));
        let gone = || Err(io::Error::from(ErrorKind::NotFound));
        assert_eq!(watch.look(Ok(Vec::new())), Step::Wait);
        watch.ask();
        advance(STILL).await;
        assert_eq!(
            watch.look(Ok(b"\xef\xbb\xbf\n".to_vec())),
            Step::Wait,
            "an editor's mark alone"
        );
        advance(STILL).await;
        assert_eq!(watch.look(Ok(b"a = 3".to_vec())), Step::Wait);
        advance(STILL_WHEN_ASKED).await;
        let asked = Step::Load("SIGHUP", b"a = 3".to_vec());
        assert_eq!(watch.look(Ok(b"a = 3".to_vec())), asked, "it is not forgotten meanwhile");
        assert_eq!(watch.look(gone()), Step::Wait);
        advance(WRITING).await;
        assert!(matches!(watch.look(gone()), Step::Refuse(_)));
        advance(WRITING).await;
        assert_eq!(watch.look(gone()), Step::Wait, "said once");
        let back = Step::Load("the file is back", b"a = 3".to_vec());
        assert_eq!(watch.look(Ok(b"a = 3".to_vec())), back, "or it would stay refused");
        assert_eq!(watch.look(Ok(b"a = 3".to_vec())), Step::Wait);
    }

    #[tokio::test(start_paused = true)]
    async fn sighup_reads_what_did_not_change_at_once() {
        let mut watch = Watch::new(Ok(b"a = 1".to_vec()));
        watch.ask();
        watch.is_time().await;
        assert_eq!(watch.look(Ok(b"a = 1".to_vec())), Step::Load("SIGHUP", b"a = 1".to_vec()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_is_said_once_and_when_asked() {
        let mut watch = Watch::new(Ok(b"a = 1".to_vec()));
        let folder = || Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
        assert!(matches!(watch.look(folder()), Step::Refuse(_)));
        assert_eq!(watch.look(folder()), Step::Wait);
        watch.ask();
        assert!(matches!(watch.look(folder()), Step::Refuse(_)));
    }
}
