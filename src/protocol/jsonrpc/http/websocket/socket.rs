//! One WebSocket: reads its messages, has them carried out, writes the answers as they come, and
//! ends it.
//!
//! One task, without a buffer while nothing comes in or waits. Nothing is read while as much is
//! under way, or waits to be written, as may: a client that does not read is not listened to either.

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::server::Server;
use super::super::session::GOODBYE;
use super::super::{Connected, WEBSOCKET};
use super::calls::{self, Started, UnderWay};
use super::closing::Closing;
use super::frame::Opcode;
use super::incoming::Said;
use super::opening::{Client, Opening};
use super::outgoing::Outgoing;
use super::patience::{Doing, Due, Patience};
use super::reading::{Failed, LARGEST_DISCARDED, Reading};
use crate::units::format_duration;

/// How many messages are taken before other connections have their turn.
const TURN: usize = 32;
/// How long a client has to take the goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves an opened connection to its end. `read` has come with the opening request. It ends when
/// `closed` fires, as soon as nobody is owed an answer.
pub(in super::super) async fn run<S>(
    mut stream: S,
    read: Bytes,
    opening: Opening,
    in_force: Arc<ArcSwap<Server>>,
    closed: CancellationToken,
    connected: Connected,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut socket = Socket::new(opening.client, in_force, closed, connected);
    if let Err(closing) = socket.reading.hold(&read) {
        socket.end(closing);
    }
    drop(read);
    match poll_fn(|cx| socket.poll(cx, &mut stream)).await {
        End::Closed => farewell(&mut stream).await,
        End::Left => debug!("the client has left"),
        End::Broken(error) => debug!(%error, "connection ended"),
        End::Cut(why) => debug!(why, "connection cut"),
    }
}

/// Lets the client take the goodbye: a connection closed while something of it is unread may cost
/// it that.
async fn farewell<S>(stream: &mut S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let take_leave = async {
        stream.shutdown().await?;
        let mut buffer = [0; 512];
        let mut left = LARGEST_DISCARDED;
        loop {
            match stream.read(&mut buffer).await? {
                0 => return io::Result::Ok(()),
                size if size < left => left -= size,
                _ => return Ok(()),
            }
        }
    };
    match timeout(FAREWELL, take_leave).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "the client left without a word"),
        Err(_) => debug!("the client did not hang up"),
    }
}

/// Why a connection is not polled any more.
enum End {
    /// The close frame has gone.
    Closed,
    /// The client has hung up.
    Left,
    Broken(io::Error),
    Cut(&'static str),
}

/// How far a connection has got.
enum Phase {
    Open,
    /// Nothing is taken any more; what is owed goes out first.
    Ending(Closing),
    /// The close frame is among what waits to be written.
    Closing,
}

/// One connection.
struct Socket {
    client: Arc<Client>,
    in_force: Arc<ArcSwap<Server>>,
    /// The one that was in force when it was last looked at.
    server: Arc<Server>,
    connected: Connected,
    /// Nothing more is to be taken.
    told: BoxFuture<'static, ()>,
    phase: Phase,
    reading: Reading,
    calls: FuturesUnordered<UnderWay>,
    /// The places that they take.
    in_flight: usize,
    /// What is told unasked, whoever asked for it; an empty text where the settings in force are others. Asked
    /// for no more while as much waits to be written as may: it bounds by itself what it keeps.
    pushed: Option<BoxStream<'static, Bytes>>,
    /// That is the topics that it listens to.
    hears: bool,
    outgoing: Outgoing,
    was_listening: bool,
    patience: Patience,
    timer: Pin<Box<Sleep>>,
}

impl Socket {
    fn new(
        client: Client,
        in_force: Arc<ArcSwap<Server>>,
        closed: CancellationToken,
        connected: Connected,
    ) -> Self {
        let server = in_force.load_full();
        server.look(&connected);
        Self {
            client: Arc::new(client),
            in_force,
            told: Box::pin(async move {
                closed.cancelled().await;
                // What the client has said before may not have been read.
                sleep(GOODBYE).await;
            }),
            phase: Phase::Open,
            reading: Reading::new(&connected.account),
            calls: FuturesUnordered::new(),
            in_flight: 0,
            pushed: None,
            hears: false,
            outgoing: Outgoing::new(&connected.account),
            was_listening: true,
            patience: Patience::new(Instant::now()),
            timer: Box::pin(sleep(server.config().websocket.ping)),
            server,
            connected,
        }
    }

    fn poll<S>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Poll<End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if matches!(self.phase, Phase::Open) && self.told.as_mut().poll(cx).is_ready() {
            self.phase = Phase::Ending(Closing::going_away());
        }
        let mut turn = self.listen(cx, stream);
        loop {
            if let Err(end) = self.speak(cx, stream) {
                return Poll::Ready(end);
            }
            match turn {
                Ok(Turn::Waits) => break,
                // Others first.
                Ok(Turn::HasMore) => {
                    cx.waker().wake_by_ref();
                    break;
                }
                // What was said may have been answered already, which makes room.
                Ok(Turn::NoRoom) if self.is_listening() => turn = self.listen(cx, stream),
                Ok(Turn::NoRoom) => break,
                Err(end) => return Poll::Ready(end),
            }
        }
        match self.look(cx) {
            Ok(false) => Poll::Pending,
            Ok(true) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(end) => Poll::Ready(end),
        }
    }

    /// Whether the client's messages are taken: fewer of them are under way, and less waits to be
    /// written, than may.
    fn is_listening(&self) -> bool {
        matches!(self.phase, Phase::Open)
            && self.in_flight < self.server.config().websocket.max_in_flight
            && self.outgoing.has_room()
    }

    /// Takes what the client says, as long as it may say something.
    fn listen<S>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Result<Turn, End>
    where
        S: AsyncRead + Unpin,
    {
        for _ in 0..TURN {
            let is_listening = self.is_listening();
            if is_listening && !self.was_listening {
                self.patience.listens_again(Instant::now());
            }
            self.was_listening = is_listening;
            if !is_listening {
                if matches!(self.phase, Phase::Open) {
                    return Ok(Turn::NoRoom);
                }
                return match self.reading.poll_discard(cx, stream) {
                    Poll::Pending => Ok(Turn::Waits),
                    Poll::Ready(Ok(())) => Err(End::Left),
                    Poll::Ready(Err(error)) => Err(End::Broken(error)),
                };
            }
            let (max, patience) = (self.server.config().max_body, &mut self.patience);
            match self.reading.poll_said(cx, stream, max, patience) {
                Poll::Pending => {
                    self.patience.waits(Instant::now(), self.reading.is_half());
                    return Ok(Turn::Waits);
                }
                Poll::Ready(Ok(Some(said))) => self.take(said)?,
                Poll::Ready(Ok(None)) => return Err(End::Left),
                Poll::Ready(Err(Failed::Closing(closing))) => self.end(closing),
                Poll::Ready(Err(Failed::Io(error))) => return Err(End::Broken(error)),
            }
        }
        Ok(Turn::HasMore)
    }

    /// Does what the client says.
    fn take(&mut self, said: Said) -> Result<(), End> {
        match said {
            Said::Text(text) => {
                self.patience.took(Instant::now());
                self.refresh();
                if matches!(self.phase, Phase::Open) {
                    self.start(&text)?;
                }
            }
            Said::Ping(payload) => self.say(Opcode::Pong, payload)?,
            Said::Pong => {}
            Said::Close(payload) => {
                // It hears no answer any more.
                self.calls.clear();
                self.in_flight = 0;
                self.end(Closing::answer_to(&payload));
            }
        }
        Ok(())
    }

    fn start(&mut self, text: &Bytes) -> Result<(), End> {
        let (client, http) = (&self.client, self.server.http());
        let started = calls::start(client, http, &self.connected.account, text);
        let Started { places, calls, notifications, refused } = started;
        self.in_flight += places;
        self.calls.extend(calls.into_iter().chain(notifications));
        refused.map_or(Ok(()), |refused| self.say(Opcode::Text, refused))
    }

    /// Looks at the settings in force where they are others: a page that may not call any more
    /// has to go, and a certificate may make nobody known any more.
    fn refresh(&mut self) {
        let server = self.in_force.load();
        if Arc::ptr_eq(&server, &self.server) {
            return;
        }
        self.server = Arc::clone(&server);
        self.server.look(&self.connected);
        let page = self.client.page.as_deref();
        let unwelcome = page.and_then(|page| self.server.policy().check(page).err());
        if let Some(unwelcome) = unwelcome {
            self.end(Closing::policy(unwelcome.to_string()));
        }
    }

    /// Takes nothing any more, and says why when all have been answered.
    fn end(&mut self, closing: Closing) {
        if matches!(self.phase, Phase::Open) {
            debug!(code = closing.code(), reason = closing.reason(), "closing");
            self.phase = Phase::Ending(closing);
            self.reading.forget();
            self.pushed = None;
        }
    }

    /// Lets a frame wait to be written.
    fn say(&mut self, opcode: Opcode, payload: Bytes) -> Result<(), End> {
        let pushed = self.outgoing.push(opcode, payload);
        pushed.map_err(|_| End::Cut("there is no place for what it does not read"))
    }

    /// Takes the answers that are there, and writes what waits.
    fn speak<S>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Result<(), End>
    where
        S: AsyncWrite + Unpin,
    {
        while let Poll::Ready(Some(done)) = self.calls.poll_next_unpin(cx) {
            self.in_flight = self.in_flight.saturating_sub(done.places);
            self.patience.used(Instant::now());
            if !done.text.is_empty() {
                self.say(Opcode::Text, done.text)?;
            }
            if self.outgoing.is_heavy() {
                // A client that reads is none of those that more has no place for.
                self.write(cx, stream)?;
            }
        }
        let wants = self.client.ears.are_open() && matches!(self.phase, Phase::Open);
        if wants != self.hears {
            self.hears = wants;
            self.pushed = wants.then(|| self.client.ears.hear(WEBSOCKET));
        }
        let waits_for_room = self.push(cx)?;
        if let Phase::Ending(closing) = &self.phase
            && self.calls.is_empty()
        {
            let payload = closing.payload();
            self.phase = Phase::Closing;
            self.say(Opcode::Close, payload.into())?;
        }
        self.write(cx, stream)?;
        if waits_for_room && self.outgoing.has_room() {
            // Others first; nothing else would tell that there is more to push.
            cx.waker().wake_by_ref();
        }
        let said_all = self.outgoing.is_empty() && matches!(self.phase, Phase::Closing);
        if said_all { Err(End::Closed) } else { Ok(()) }
    }

    /// Takes what is told unasked, as far as there is room for it. True where it was left for want of
    /// room: whoever tells it has not been asked whether there is more.
    fn push(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        while let Some(pushed) = self.pushed.as_mut() {
            if !self.outgoing.has_room() {
                return Ok(true);
            }
            match pushed.poll_next_unpin(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(text)) if text.is_empty() => self.refresh(),
                Poll::Ready(Some(text)) => self.say(Opcode::Text, text)?,
                Poll::Ready(None) => {
                    self.pushed = None;
                    if self.client.ears.are_too_slow() {
                        self.end(Closing::policy("it takes events too slowly"));
                    } else if self.hears {
                        // What it listened to has ended. It may listen again, and by now do so.
                        self.hears = false;
                        cx.waker().wake_by_ref();
                    }
                }
            }
        }
        Ok(false)
    }

    fn write<S>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Result<(), End>
    where
        S: AsyncWrite + Unpin,
    {
        match self.outgoing.poll_write(cx, stream) {
            Poll::Ready(Err(error)) => Err(End::Broken(error)),
            _ => Ok(()),
        }
    }

    /// Does what has fallen due, and sets the clock for what is next. True where something was
    /// done.
    fn look(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        loop {
            let doing = Doing {
                blocked_since: self.outgoing.blocked_since(),
                is_busy: !self.calls.is_empty()
                    || !self.outgoing.is_empty()
                    || self.pushed.is_some()
                    || !matches!(self.phase, Phase::Open),
                is_listening: self.was_listening,
            };
            let next = self.patience.next(self.server.config(), doing);
            if let Some((at, _)) = next
                && at < self.timer.deadline()
            {
                self.timer.as_mut().reset(at);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(false);
            }
            self.refresh();
            let now = Instant::now();
            // Nothing may fall due: then the settings in force are looked at now and then.
            let (at, due) = next.unwrap_or((now + self.server.config().websocket.ping, Due::Ping));
            if at > now {
                self.timer.as_mut().reset(at);
                continue;
            }
            self.timer.as_mut().reset(now + self.server.config().websocket.ping);
            match due {
                Due::Deaf => return Err(End::Cut("it takes nothing of what waits for it")),
                Due::Silent => return Err(End::Cut("it answers no ping")),
                Due::Ping => {
                    self.patience.pinged(now);
                    self.say(Opcode::Ping, Bytes::new())?;
                }
                Due::Idle => self.end(Closing::idle()),
                Due::Slow => {
                    let limit = format_duration(self.server.config().read_timeout);
                    self.end(Closing::policy(format!("a message did not arrive within {limit}")));
                }
            }
            return Ok(true);
        }
    }
}

/// What taking what the client says has come to.
enum Turn {
    /// There is no more for now.
    Waits,
    /// There may be more.
    HasMore,
    /// There may be more, and no room for it.
    NoRoom,
}
