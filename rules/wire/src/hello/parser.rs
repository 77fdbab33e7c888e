//! Records to one handshake message (RFC 8446 section 5.1).

use super::message::parse;
use super::opening::{CLIENT_HELLO, HANDSHAKE, MAX_RECORD, Opening, opening};
use super::{ClientHello, HelloError, HelloStatus, MAX_HELLO};

const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;

/// The parser of one connection. Memory: the ClientHello, at most [`MAX_HELLO`] bytes.
#[derive(Debug)]
pub struct HelloParser {
    /// Most bytes of the message, without its header.
    limit: usize,
    /// The first bytes, until the protocol is recognised.
    first: Vec<u8>,
    /// True once the first bytes were recognised as TLS.
    has_begun: bool,
    /// The header of the record in progress.
    header: Vec<u8>,
    /// Bytes of the record in progress that are still to come.
    left: usize,
    message: Vec<u8>,
    outcome: Option<Result<HelloStatus, HelloError>>,
}

impl Default for HelloParser {
    fn default() -> Self {
        Self::new()
    }
}

impl HelloParser {
    /// A parser at the start of a connection.
    pub fn new() -> Self {
        Self::limited(MAX_HELLO)
    }

    /// A parser that returns [`HelloError::TooLarge`] for a message above `limit` bytes as soon as its header is read.
    pub(super) fn limited(limit: usize) -> Self {
        Self { limit, first: Vec::new(), has_begun: false, header: Vec::new(), left: 0, message: Vec::new(), outcome: None }
    }

    /// Reads the next bytes. Bytes after the ClientHello are ignored; once the answer is not
    /// [`HelloStatus::Incomplete`] it stays.
    ///
    /// # Errors
    /// The bytes are TLS, but no continuation makes a ClientHello of them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<HelloStatus, HelloError> {
        if let Some(outcome) = &self.outcome {
            return outcome.clone();
        }
        let status = self.open(bytes);
        if status != Ok(HelloStatus::Incomplete) {
            self.outcome = Some(status.clone());
            self.message = Vec::new();
        }
        status
    }

    /// Looks at the first bytes, and reads on where they are of TLS that is read.
    fn open(&mut self, bytes: &[u8]) -> Result<HelloStatus, HelloError> {
        if self.has_begun {
            return self.read(bytes);
        }
        self.first.extend_from_slice(bytes);
        match opening(&self.first) {
            Opening::Unclear => Ok(HelloStatus::Incomplete),
            Opening::Tls => {
                self.has_begun = true;
                let first = std::mem::take(&mut self.first);
                self.read(&first)
            }
            Opening::OddTls => Err(HelloError::Opening),
            Opening::Other => Ok(HelloStatus::NotTls),
        }
    }

    fn read(&mut self, mut bytes: &[u8]) -> Result<HelloStatus, HelloError> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left == 0 {
                bytes = rest;
                self.header_byte(byte)?;
                continue;
            }
            let (taken, rest) = bytes.split_at(self.left.min(bytes.len()));
            bytes = rest;
            self.left -= taken.len();
            // A record is short, so this cannot grow past the bound by more than one.
            self.message.extend_from_slice(taken);
            if let Some(hello) = self.whole_message()? {
                return Ok(HelloStatus::Complete(Box::new(hello)));
            }
        }
        Ok(HelloStatus::Incomplete)
    }

    /// Adds one byte of a record header. The minor version is ignored (RFC 8446 section 5.1).
    fn header_byte(&mut self, byte: u8) -> Result<(), HelloError> {
        let fits = match self.header.len() {
            0 => byte == HANDSHAKE,
            1 => byte == 3,
            _ => true,
        };
        if !fits {
            return Err(HelloError::Record);
        }
        self.header.push(byte);
        if let [.., high, low] = self.header.as_slice()
            && self.header.len() == RECORD_HEADER
        {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if length == 0 || length > MAX_RECORD {
                return Err(HelloError::Record);
            }
            self.left = length;
            self.header.clear();
        }
        Ok(())
    }

    fn whole_message(&self) -> Result<Option<ClientHello>, HelloError> {
        if self.message.first() != Some(&CLIENT_HELLO) {
            return Err(HelloError::NotClientHello);
        }
        let Some((&[_, a, b, c], body)) = self.message.split_first_chunk::<MESSAGE_HEADER>() else {
            return Ok(None);
        };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if length > self.limit {
            return Err(HelloError::TooLarge);
        }
        body.get(..length).map(parse).transpose()
    }
}
