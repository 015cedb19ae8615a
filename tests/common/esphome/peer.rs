//! The frames of an ESPHome device.

use std::io::{self, ErrorKind};

use bms_reader::transport::esphome::fields::{put_varint, varint};
use bms_reader::transport::esphome::noise::{Cipher, Side, finish, start};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Settings;

/// TCP, or a stream in memory.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client, with or without encryption.
pub struct Peer {
    pub stream: Box<dyn Stream>,
    received: Vec<u8>,
    /// For receiving and for sending.
    ciphers: Option<(Cipher, Cipher)>,
    pub chops: bool,
}

impl Peer {
    pub fn new(stream: Box<dyn Stream>) -> Self {
        Peer { stream, received: Vec::new(), ciphers: None, chops: false }
    }

    /// Reads and answers nothing.
    pub async fn ignore(&mut self) -> io::Result<()> {
        while self.stream.read_buf(&mut self.received).await? > 0 {
            self.received.clear();
        }
        Ok(())
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.chops {
            return self.stream.write_all(bytes).await;
        }
        for byte in bytes {
            self.stream.write_all(&[*byte]).await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.received.split_off(count);
        std::mem::replace(&mut self.received, rest)
    }

    async fn noise_body(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some([1, high, low]) = self.received.first_chunk::<3>() {
                let end = 3 + usize::from(u16::from_be_bytes([*high, *low]));
                if self.received.len() >= end {
                    return Ok(self.take(end).split_off(3));
                }
            }
            self.fill().await?;
        }
    }

    async fn send_noise(&mut self, body: &[u8]) -> io::Result<()> {
        let frame = noise_frame(body);
        self.write(&frame).await
    }

    /// False if the client is refused, which closes the connection with bytes unread.
    pub async fn shake_hands(&mut self, settings: &Settings) -> io::Result<bool> {
        self.fill().await?;
        let Some(key) = &settings.key else {
            if self.received[0] != 0 {
                self.write(b"\0Bad indicator byte").await?;
                return Err(ErrorKind::InvalidData.into());
            }
            return Ok(true);
        };
        if self.received[0] != 1 {
            self.send_noise(b"\x01Bad indicator byte").await?;
            return Err(ErrorKind::InvalidData.into());
        }
        assert_eq!(self.noise_body().await?, b"", "an empty hello");
        let body = self.noise_body().await?;
        let name = [b"\x01", settings.name.as_bytes(), b"\x0062234509afb3\0"].concat();
        self.send_noise(&name).await?;
        let public = body[1..33].try_into().unwrap();
        let started = start(key, &public).unwrap();
        if body[33..] != started.tag {
            self.send_noise(b"\x01Handshake MAC failure").await?;
            return Err(ErrorKind::InvalidData.into());
        }
        let side = Side::generate().unwrap();
        let own = side.public;
        let finished = finish(&started, &own, &side.agree(&public).unwrap()).unwrap();
        self.send_noise(&[&[0], &own[..], &finished.tag].concat()).await?;
        self.ciphers = Some((finished.from_client, finished.from_device));
        Ok(true)
    }

    /// Cancel-safe.
    pub async fn next_message(&mut self) -> io::Result<(u64, Vec<u8>)> {
        if self.ciphers.is_some() {
            let mut body = self.noise_body().await?;
            let (receiving, _) = self.ciphers.as_mut().unwrap();
            let message = receiving.open(&mut body).expect("a valid frame");
            let kind = u16::from_be_bytes([message[0], message[1]]);
            return Ok((kind.into(), message[4..].to_vec()));
        }
        loop {
            if let Some((kind, start, end)) = plain_frame(&self.received) {
                return Ok((kind, self.take(end).split_off(start)));
            }
            self.fill().await?;
        }
    }

    pub fn frame(&mut self, kind: u64, payload: &[u8]) -> Vec<u8> {
        let Some((_, sending)) = &mut self.ciphers else {
            let mut frame = vec![0];
            put_varint(&mut frame, payload.len() as u64);
            put_varint(&mut frame, kind);
            frame.extend_from_slice(payload);
            return frame;
        };
        let mut body = Vec::new();
        body.extend((kind as u16).to_be_bytes());
        body.extend((payload.len() as u16).to_be_bytes());
        body.extend_from_slice(payload);
        sending.seal(&mut body).unwrap();
        noise_frame(&body)
    }

    pub async fn send(&mut self, kind: u64, payload: &[u8]) -> io::Result<()> {
        let frame = self.frame(kind, payload);
        self.write(&frame).await
    }
}

fn noise_frame(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[1], &length[..], body].concat()
}

/// Type of the first frame, where its payload begins, and where it ends.
fn plain_frame(bytes: &[u8]) -> Option<(u64, usize, usize)> {
    let (length, first) = varint(bytes.get(1..)?).unwrap()?;
    let (kind, second) = varint(&bytes[1 + first..]).unwrap()?;
    let start = 1 + first + second;
    let end = start + length as usize;
    (bytes.len() >= end).then_some((kind, start, end))
}
