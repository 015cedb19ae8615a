//! Requests to the HTTP server, as bytes on a connection.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bms_reader::board::Board;
use bms_reader::history::History;
use bms_reader::model::derive::derive;
use bms_reader::model::{
    Attempt, Cell, DeviceId, LinkState, Millis, Millivolts, Profile, Reading, Snapshot,
};
use bms_reader::sink::http::fuzzing::{Router, router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// A reply of which is no larger than this; the longest is the page.
const CAPACITY: usize = 1 << 20;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let board = board();
    let history = History::new(&board, Duration::from_secs(48 * 3600));
    // A stopped server ends the streams of events at once.
    let stop = CancellationToken::new();
    stop.cancel();
    router(board, history, stop)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let reply = RUNTIME.block_on(async {
        let routes = TowerToHyperService::new(ROUTER.clone());
        let (mut client, server) = duplex(CAPACITY);
        client.write_all(bytes).await.expect("the request is shorter than the buffer");
        client.shutdown().await.expect("the server is there");
        let served = http1::Builder::new().serve_connection(TokioIo::new(server), routes);
        // Errors are those of the client.
        let (_, reply) = tokio::join!(served, read(client));
        reply
    });
    if let Some(status) = reply.strip_prefix(b"HTTP/1.1 ") {
        assert!(!status.starts_with(b"500"), "{}", String::from_utf8_lossy(&reply));
    }
});

async fn read(mut client: tokio::io::DuplexStream) -> Vec<u8> {
    let mut reply = Vec::new();
    client.read_to_end(&mut reply).await.expect("a stream in memory has no errors");
    reply
}

/// Two batteries: `rack` was read, `shed` was not.
fn board() -> Board {
    let ids = ["rack", "shed"].map(|id| DeviceId::new(id).expect("an id"));
    let board = Board::new(ids.clone().map(|id| Profile::new(id, "jk", "JK")));
    board.update(&ids[0], |state| {
        let cells = vec![Cell { voltage: Some(Millivolts(3300)), ..Cell::default() }; 4];
        let reading = Reading { cells, ..Reading::default() };
        let (device, derived) = (ids[0].clone(), derive(&reading));
        let (sequence, taken, took_ms) = (1, Millis(1), 1);
        let snapshot = Snapshot { device, sequence, taken, took_ms, reading, derived };
        state.snapshot = Some(Arc::new(snapshot));
        state.link = LinkState::Online;
        let (number, ended, connected, fault) = (1, Millis(1), true, None);
        state.attempt = Some(Attempt { number, ended, took_ms, connected, fault });
    });
    board
}
