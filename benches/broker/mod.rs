//! A minimal MQTT broker in this process that counts the `raw` messages, the last ones of each read.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub type Count = watch::Receiver<u64>;

/// Its port, and how many `raw` messages it has received.
pub async fn start() -> (u16, Count) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (sender, count) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream, &sender).await;
        }
    });
    (port, count)
}

async fn serve(mut stream: TcpStream, count: &watch::Sender<u64>) {
    stream.set_nodelay(true).expect("a socket");
    let (mut buffer, mut answer) = (Vec::with_capacity(1 << 17), Vec::with_capacity(1 << 12));
    while let Ok(1..) = stream.read_buf(&mut buffer).await {
        let (mut start, mut raw_messages) = (0, 0);
        while let Some((header, length)) = packet(&buffer[start..]) {
            let body = &buffer[start + header..start + header + length];
            raw_messages += respond(buffer[start], body, &mut answer);
            start += header + length;
        }
        buffer.drain(..start);
        if stream.write_all(&answer).await.is_err() {
            return;
        }
        answer.clear();
        if raw_messages > 0 {
            count.send_modify(|count| *count += raw_messages);
        }
    }
}

/// Lengths of the fixed header and of the rest; `None` while the packet is incomplete.
fn packet(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for index in 1..5 {
        let byte = *bytes.get(index)?;
        length |= usize::from(byte & 0x7f) << (7 * (index - 1));
        if byte & 0x80 == 0 {
            return (bytes.len() > index + length).then_some((index + 1, length));
        }
    }
    None
}

/// Adds the answer to a packet; 1 for a `raw` message.
fn respond(first: u8, body: &[u8], answer: &mut Vec<u8>) -> u64 {
    match first >> 4 {
        1 => answer.extend([0x20, 2, 0, 0]),
        3 => {
            let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
            let topic = &body[2..end];
            if first & 6 != 0 {
                answer.extend([0x40, 2, body[end], body[end + 1]]);
            }
            if topic.ends_with(b"/ping") {
                answer.extend([0x30, body.len() as u8]);
                answer.extend(body);
            }
            return topic.ends_with(b"/raw").into();
        }
        8 => {
            let (mut at, mut filters) = (2, 0);
            while at < body.len() {
                at += 3 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
                filters += 1;
            }
            let length: usize = 2 + filters;
            answer.push(0x90);
            if length > 0x7f {
                answer.extend([length as u8 | 0x80, (length >> 7) as u8]);
            } else {
                answer.push(length as u8);
            }
            answer.extend(&body[..2]);
            answer.resize(answer.len() + filters, 0);
        }
        10 => answer.extend([0xb0, 2, body[0], body[1]]),
        12 => answer.extend([0xd0, 0]),
        _ => {}
    }
    0
}
