//! The way out of a generation: a connection to publish on, and its channel.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, ConnectionStatus, Event};

use super::config::{Node, Settings};
use super::stream::Heard;
use super::transport::Transport;

/// How much of a returned message's body is taken: its properties tell whose it is.
const RETURNED: usize = 1;

/// A connection to publish on.
pub(super) struct Outlet {
    transport: Transport,
    /// Its only channel, in confirm mode.
    pub(super) channel: Channel,
    /// Whether it is connected, and whether the broker takes no messages on it.
    pub(super) status: ConnectionStatus,
    /// What happens to it.
    pub(super) events: BoxStream<'static, Event>,
}

impl Outlet {
    /// Opens one. The time limit is the caller's.
    pub(super) async fn open(settings: &Settings, node: &Node) -> lapin::Result<Self> {
        Self::open_for(settings, node, "publish").await
    }

    /// The same, by another name in RabbitMQ's list of connections.
    pub(super) async fn open_for(
        settings: &Settings,
        node: &Node,
        purpose: &str,
    ) -> lapin::Result<Self> {
        let transport = Transport::open_for(settings, node, purpose, RETURNED, None).await?;
        let channel = confirming(&transport).await?;
        let status = transport.connection.status().clone();
        let events = transport.connection.events_listener().boxed();
        Ok(Self { transport, channel, status, events })
    }

    /// The same connection, with a new channel where the broker has closed the one before. Nothing
    /// may be queued for that: lapin would send it now.
    pub(super) async fn renewed(mut self) -> lapin::Result<Self> {
        if !self.channel.status().connected() {
            self.channel = confirming(&self.transport).await?;
        }
        Ok(self)
    }

    /// What ended it, where that is still to be told, within `limit`. A message that is published when
    /// the connection has just been closed learns no more than that it is.
    pub(super) async fn cause(&mut self, limit: Duration) -> Option<lapin::Error> {
        let error = async {
            while let Some(event) = self.events.next().await {
                if let Event::Error(error) = event {
                    return Some(error);
                }
            }
            None
        };
        tokio::time::timeout(limit, error).await.ok().flatten()
    }

    /// What it runs over, for what is to be made before something is published.
    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The largest frame that the broker and we have agreed upon.
    pub(super) fn frame_max(&self) -> usize {
        let agreed = self.transport.connection.configuration().frame_max();
        usize::try_from(agreed).unwrap_or(usize::MAX)
    }

    /// When its peer was last heard.
    pub(super) fn heard(&self) -> &Heard {
        &self.transport.heard
    }

    /// Lets nothing out any more that has not left yet, for good: the broker has stopped to take
    /// messages, and those who waited have been told. It only listens for the alarm's end.
    pub(super) fn hold_back(&self) {
        self.transport.valve.close();
    }

    /// Whether it has to be replaced, because it lets nothing out any more.
    pub(super) fn holds_back(&self) -> bool {
        self.transport.valve.is_closed()
    }

    /// Closes it.
    pub(super) async fn close(self) {
        self.transport.close().await;
    }
}

/// A new channel, in confirm mode.
async fn confirming(transport: &Transport) -> lapin::Result<Channel> {
    let channel = transport.connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}
