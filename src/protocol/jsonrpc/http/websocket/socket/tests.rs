//! What is pushed unasked, which nothing outside can show yet.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use tokio::io::DuplexStream;

use super::*;
use crate::budget::Budget;
use crate::call::Context as CallContext;
use crate::caller::Caller;
use crate::config::read_for_test;
use crate::protocol::jsonrpc::HttpConfig;
use crate::protocol::jsonrpc::discovery::Discovery;
use crate::protocol::jsonrpc::http::ears::Ears;
use crate::protocol::jsonrpc::http::{Inside, NAME, WEBSOCKET};
use crate::protocol::jsonrpc::registry::Registry;
use crate::route::{HUB, Rule};
use crate::router::Router;
use crate::router::ledger::Ledger;
use crate::router::table::{NO_ROUTE, Row, Table};
use crate::tasks::Tasks;
use crate::trace::TraceParent;

/// A socket of a gateway that reaches nothing.
fn socket(pushed: BoxStream<'static, Bytes>) -> Socket {
    let ledger = Ledger::new([NAME, WEBSOCKET]);
    let rule = Rule::new("*", HUB, Duration::from_secs(1));
    let table = Table::new(Vec::new(), Row::new(rule, NO_ROUTE, None, &ledger));
    let budget = Budget::new(1 << 20);
    let connected = Connected::new(budget.connection(), Caller::NOBODY);
    let router = Arc::new(Router::new(table, ledger, budget));
    let (config, _) = read_for_test("", |root| HttpConfig::read(&mut root.section("http")));
    let (registry, discovery) = (Registry::new(), Arc::new(Discovery::new()));
    let (topics, auth) = (Arc::default(), Arc::default());
    let pages = Arc::new(ArcSwap::from_pointee(config.web_policy()));
    let inside = Inside { router, registry, discovery, topics, auth, pages };
    let server = Server::new(config, None, inside, Tasks::new());
    let client = Client {
        service: None,
        gemstone: false,
        context: Arc::new(CallContext::new(TraceParent::generate())),
        timeout: None,
        ears: Ears::new(&Arc::default(), Caller::NOBODY),
        page: None,
    };
    let in_force = Arc::new(ArcSwap::from_pointee(server));
    let mut socket = Socket::new(client, in_force, CancellationToken::new(), connected);
    socket.pushed = Some(pushed);
    socket
}

/// The next message, of fewer than 126 bytes.
async fn heard(far: &mut DuplexStream) -> String {
    let mut head = [0; 2];
    far.read_exact(&mut head).await.expect("a head");
    assert_eq!(head[0], 0x81);
    let mut text = vec![0; usize::from(head[1])];
    far.read_exact(&mut text).await.expect("a message");
    String::from_utf8(text).expect("UTF-8")
}

#[tokio::test]
async fn what_is_pushed_comes_unasked_and_its_end_is_no_end_of_the_socket() {
    let (mut near, mut far) = tokio::io::duplex(1_000);
    let mut socket = socket(stream::iter(["1", "2"].map(Bytes::from)).boxed());
    let client = async move {
        assert_eq!([heard(&mut far).await, heard(&mut far).await], ["1", "2"]);
        // A text message of one byte that is no JSON, and its mask.
        far.write_all(&[0x81, 0x81, 0, 0, 0, 0, b'?']).await.expect("it is read");
        let mut head = [0; 4];
        far.read_exact(&mut head).await.expect("an answer");
        assert_eq!(head[..2], [0x81, 126]);
    };
    let (end, ()) = tokio::join!(poll_fn(|cx| socket.poll(cx, &mut near)), client);
    assert!(matches!(end, End::Left));
}

#[tokio::test]
async fn what_nobody_reads_is_not_asked_for() {
    let (mut near, _far) = tokio::io::duplex(100);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let endless = stream::repeat_with(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Bytes::from_static(&[b'x'; 1_000])
    });
    let mut socket = socket(endless.boxed());
    for _ in 0..3 {
        let end = poll_fn(|cx| Poll::Ready(socket.poll(cx, &mut near))).await;
        assert!(end.is_pending());
    }
    assert!((60..70).contains(&asked.load(Ordering::Relaxed)), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn what_had_no_room_is_pushed_when_there_is_some() {
    const PUSHED: usize = 500;
    let (mut near, mut far) = tokio::io::duplex(1 << 20);
    let texts = stream::repeat(Bytes::from_static(&[b'x'; 1_000])).take(PUSHED);
    let mut socket = socket(texts.chain(stream::pending()).boxed());
    let mut got = vec![0; PUSHED * (4 + 1_000)];
    let reads = timeout(Duration::from_secs(1), far.read_exact(&mut got));
    tokio::select! {
        _ = poll_fn(|cx| socket.poll(cx, &mut near)) => panic!("the socket has ended"),
        read = reads => { read.expect("all comes, though nothing else does").expect("open"); }
    }
}
