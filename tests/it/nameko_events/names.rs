//! Events whose names have dots, and names that publishers choose.

use super::{Peer, bridge, listened};
use crate::harness::{Gateway, Nats, RabbitMq};
use crate::nats_events::carries;

#[tokio::test]
async fn a_name_with_dots_stays_where_the_row_puts_it() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let rows = [
        bridge("rabbit:dot.*", "rabbit:dotcopy.$1", ""),
        bridge("bus:dot.>", "rabbit:dotnats.$1", ""),
    ]
    .concat();
    let upstreams = format!("{}{}", vhost.upstream("rabbit"), nats.upstream("bus", "plain"));
    let gateway = Gateway::ready(&format!("{upstreams}{rows}")).await;
    listened(&gateway, 1).await;
    let peer = Peer::connect(&vhost.url()).await;
    for service in ["dotcopy", "dotnats"] {
        peer.exchange(&format!("{service}.events"), lapin::ExchangeKind::Topic).await;
    }
    let mut copy = peer.consume("copy", "dotcopy.events", "order.created").await;
    let mut from_nats = peer.consume("from-nats", "dotnats.events", "order.created").await;
    peer.publish("dot.events", "order.created", b"1").await;
    assert_eq!(peer.next(&mut copy).await.body, 1);
    let client = nats.client().await;
    carries(&gateway, &client, "dot.order.created", "bus:dot.>").await;
    assert_eq!(peer.next(&mut from_nats).await.body, "probe");
    let exchanges = RabbitMq::shared().get(&format!("exchanges/{}", vhost.name())).to_string();
    assert!(!exchanges.contains("order.events"), "{exchanges}");
}
