//! Laws of links.

use std::time::Duration;

use bms_reader::transport::{Link, LinkError};
use futures_util::FutureExt;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep, timeout};

use crate::transport::{
    Behavior, FLOOD_PIECE, REPLY, REQUEST, Transport, assert_read, receive, receive_exactly,
};

/// Unread pieces: ten times what any link keeps.
const FLOOD: usize = 2_560;
/// Nothing follows after such a pause.
const QUIET: Duration = Duration::from_secs(1);
/// The limit of a write is five seconds, and twice that where another port may write first.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

pub async fn reply_in_pieces_is_put_together(transport: &mut impl Transport) {
    transport.set_behavior(0, Behavior::Pieces).await;
    let mut link = transport.open(0).await;
    for _ in 0..2 {
        link.send(&REQUEST).await.unwrap();
        let mut received = receive(&mut link).await.unwrap();
        assert!(received.len() < REPLY.len(), "it arrives in pieces");
        received.extend(receive_exactly(&mut link, REPLY.len() - received.len()).await);
        assert_eq!(received, *REPLY);
    }
    link.close().await;
}

pub async fn cancelled_receive_loses_nothing(transport: &mut impl Transport) {
    let mut link = transport.open(0).await;
    assert!(timeout(Duration::from_millis(20), link.receive()).await.is_err());
    transport.send(0, b"slow").await;
    assert_eq!(receive(&mut link).await.unwrap(), b"slow");
    link.close().await;
}

pub async fn drain_discards_only_what_has_arrived(transport: &mut impl Transport) {
    let mut link = transport.open(0).await;
    link.drain().unwrap();
    transport.send(0, b"stale").await;
    sleep(Duration::from_millis(500)).await;
    link.drain().unwrap();
    transport.send(0, b"fresh").await;
    assert_eq!(receive(&mut link).await.unwrap(), b"fresh");
    assert_read(&mut link).await;
    link.close().await;
}

pub async fn chunks_before_the_end_are_delivered(transport: &mut impl Transport) {
    let mut link = transport.open(0).await;
    transport.send(0, b"the end").await;
    // A terminal that is unplugged loses what has not arrived yet.
    sleep(Duration::from_millis(500)).await;
    let first = receive(&mut link).await.unwrap();
    transport.vanish().await;
    assert_eq!(first, b"the end");
    assert_gone(&mut link).await;
    link.close().await;
    transport.come_back().await;
}

/// Waits until the link reports its end.
async fn assert_gone(link: &mut Link) {
    let error = loop {
        if let Err(error) = receive(link).await {
            break error;
        }
    };
    assert!(matches!(error, LinkError::Gone { .. }), "{error:?}");
    assert!(matches!(link.drain(), Err(LinkError::Gone { .. })));
    // The kernel accepts one more before it notices that the peer of a TCP connection is gone.
    let _ = link.send(&REQUEST).await;
    sleep(Duration::from_millis(100)).await;
    assert!(matches!(link.send(&REQUEST).await, Err(LinkError::Gone { .. })));
}

/// In the middle of a frame.
pub async fn link_ends_with_its_transport_and_can_be_opened_again(transport: &mut impl Transport) {
    for _ in 0..2 {
        transport.set_behavior(0, Behavior::Halved).await;
        let mut link = transport.open_again(0).await;
        link.send(&REQUEST).await.unwrap();
        let half = REPLY.len() / 2;
        assert_eq!(receive_exactly(&mut link, half).await, REPLY[..half]);
        transport.vanish().await;
        assert_gone(&mut link).await;
        link.close().await;
        let error = transport.try_open(0).await.unwrap_err();
        let shown = format!("{error} {error:?} {} {:?}", error.hint(), transport.endpoint(0));
        assert!(!error.hint().is_empty(), "{shown}");
        assert_no_secret::<_>(transport, &shown);
        transport.come_back().await;
        transport.set_behavior(0, Behavior::Plain).await;
        let mut link = transport.open_again(0).await;
        assert_read(&mut link).await;
        link.close().await;
        transport.wait_connections(0).await;
    }
}

pub fn assert_no_secret<T: Transport>(_: &T, text: &str) {
    let leaked = T::SECRETS.iter().find(|secret| text.contains(**secret));
    assert_eq!(leaked, None, "{text}");
}

pub async fn battery_has_one_connection<T: Transport>(transport: &mut T) {
    let mut first = transport.open(0).await;
    if T::IS_EXCLUSIVE {
        let error = transport.try_open(0).await.unwrap_err();
        assert!(matches!(error, LinkError::Busy { .. } | LinkError::Open { .. }), "{error:?}");
        assert_eq!(transport.connections().await, 1);
    }
    assert_read(&mut first).await;
    let mut other = transport.open(1).await;
    transport.wait_connections(2).await;
    assert_read(&mut other).await;
    assert_read(&mut first).await;
    first.close().await;
    transport.wait_connections(1).await;
    assert_read(&mut other).await;
    other.close().await;
}

pub async fn closed_and_dropped_links_disconnect(transport: &mut impl Transport) {
    for is_closed in [true, false] {
        let mut link = transport.open(0).await;
        assert_read(&mut link).await;
        assert_eq!(transport.connections().await, 1);
        match is_closed {
            true => link.close().await,
            false => drop(link),
        }
        // The next one waits for the end of the last one.
        let mut link = transport.open(0).await;
        assert_read(&mut link).await;
        transport.wait_connections(1).await;
        link.close().await;
        transport.wait_connections(0).await;
    }
}

pub async fn opening_that_is_cancelled_leaves_nothing(transport: &mut impl Transport) {
    for delay in [0, 1, 3, 10, 20, 40, 60, 80, 100, 150, 200, 250, 300, 500, 700] {
        let _ = timeout(Duration::from_millis(delay), transport.endpoint(0).open(9600)).await;
        transport.wait_connections(0).await;
    }
    let mut link = transport.open(0).await;
    assert_read(&mut link).await;
    link.close().await;
}

pub async fn unread_flood_is_bounded<T: Transport>(transport: &mut T) {
    let mut link = transport.open(0).await;
    transport.set_behavior(0, Behavior::Flooded(FLOOD)).await;
    link.send(&REQUEST).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let mut kept = 0;
    while let Some(chunk) = unconstrained(link.receive()).now_or_never() {
        kept += chunk.unwrap().len();
    }
    assert!(kept > 0, "it was flooded");
    if let Some(limit) = T::MAX_UNREAD {
        assert!(kept <= limit.min(FLOOD * FLOOD_PIECE), "{kept} bytes");
    }
    transport.set_behavior(0, Behavior::Plain).await;
    // What the kernel kept follows when there is room.
    while let Ok(chunk) = timeout(QUIET, receive(&mut link)).await {
        chunk.unwrap();
    }
    assert_read(&mut link).await;
    link.close().await;
}

pub async fn write_that_is_not_accepted_has_a_limit<T: Transport>(transport: &mut T) {
    let mut link = transport.open(0).await;
    let request = transport.block().await;
    let begin = Instant::now();
    let error = timeout(WRITE_LIMIT, link.send(&request)).await.expect("a limit").unwrap_err();
    let is_right = matches!(error, LinkError::Stuck { .. } | LinkError::Gone { .. });
    assert!(is_right && begin.elapsed() > Duration::from_secs(1), "{error:?}");
    drop(link);
    // A device with other ports keeps its connection, which has a limit of its own.
    transport.vanish().await;
    transport.come_back().await;
}
