//! A capture file, packet by packet.

use crate::{
    conversation::{Captured, Conversation},
    packet::{self, Packet, Segment},
};
use pcap_parser::{Block, LegacyPcapReader, Linktype, PcapBlockOwned, PcapError, PcapNGReader, traits::PcapReaderIterator};
use std::{
    collections::HashMap,
    io::{self, Read},
    net::SocketAddr,
    time::Duration,
};
use thiserror::Error;

/// The buffer of the reader; no packet may be larger. The largest snapshot length that tools use is 256 KiB.
const BUFFER: usize = 4 << 20;
/// Most interfaces of a pcapng section.
const MAX_INTERFACES: usize = 4096;

/// Bounds on the memory of a reader.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most connections at a time; the oldest is read as far as it came.
    pub connections: usize,
    /// Most bytes of one direction of a connection.
    pub direction: usize,
    /// Most bytes of all connections together; beyond, the oldest is read as far as it came.
    pub total: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 65_536, direction: 64 << 20, total: 512 << 20 }
    }
}

/// Totals of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets.
    pub packets: u64,
    /// TCP connections.
    pub connections: u64,
    /// TLS connections among them.
    pub tls: u64,
    /// Bytes that TLS hid.
    pub hidden: u64,
    /// Packets of QUIC, which hides everything.
    pub quic: u64,
    /// Pieces of IP packets, which are not put together.
    pub fragments: u64,
    /// Packets of links that are not read.
    pub links: u64,
}

/// An error of reading a capture.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file is neither pcap nor pcapng.
    #[error("it is neither pcap nor pcapng")]
    NotACapture,
    /// The capture is truncated or damaged at this packet.
    #[error("packet {0} cannot be read: the capture breaks off or is damaged")]
    Damaged(u64),
    /// A packet is larger than the buffer.
    #[error("packet {0} is larger than 4 MiB")]
    TooLarge(u64),
    /// The reader failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads a capture and hands out what is in it, connection by connection as they end. What was found before an error counts.
///
/// # Errors
/// If the input is no capture, or is truncated; the totals so far come with it.
pub fn read<R: Read>(mut reader: R, bounds: Bounds, found: &mut dyn FnMut(Captured)) -> (Totals, Result<(), CaptureError>) {
    let mut table = Table { bounds, open: HashMap::new(), order: Vec::new(), kept: 0, totals: Totals::default(), found };
    let mut magic = [0; 4];
    let result = match reader.read_exact(&mut magic) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(CaptureError::NotACapture),
        Err(error) => Err(CaptureError::Io(error)),
        Ok(()) => {
            let whole = Full(magic.as_slice().chain(reader));
            // pcapng's section header block reads the same in both byte orders.
            if magic == [0x0a, 0x0d, 0x0d, 0x0a] {
                PcapNGReader::new(BUFFER, whole).map_err(|_| CaptureError::NotACapture).and_then(|mut blocks| table.walk(&mut blocks))
            } else {
                LegacyPcapReader::new(BUFFER, whole).map_err(|_| CaptureError::NotACapture).and_then(|mut blocks| table.walk(&mut blocks))
            }
        }
    };
    table.finish();
    (table.totals, result)
}

/// Fills each buffer as far as there is data: the parsers take a short first read for the end.
struct Full<R>(R);

impl<R: Read> Read for Full<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if filled == 0 => return Err(error),
                // The same error comes again.
                Err(_) => break,
            }
        }
        Ok(filled)
    }
}

/// The two ends of a connection, the lesser first.
type Pair = (SocketAddr, SocketAddr);

struct Table<'f> {
    bounds: Bounds,
    open: HashMap<Pair, (u64, Conversation)>,
    /// Connections by age, those that have ended included.
    order: Vec<(u64, Pair)>,
    kept: usize,
    totals: Totals,
    found: &'f mut dyn FnMut(Captured),
}

/// An interface of a capture.
#[derive(Clone, Copy)]
struct Interface {
    link: Linktype,
    /// Units of time in a second.
    resolution: u64,
    offset: i64,
}

impl Table<'_> {
    fn walk(&mut self, blocks: &mut dyn PcapReaderIterator) -> Result<(), CaptureError> {
        let mut interfaces: Vec<Interface> = Vec::new();
        let mut last = 0;
        loop {
            let number = self.totals.packets + 1;
            match blocks.next() {
                Ok((size, block)) => {
                    self.block(&block, &mut interfaces);
                    blocks.consume(size);
                    last = 0;
                }
                Err(PcapError::Eof) => return Ok(()),
                Err(PcapError::Incomplete(wanted)) => {
                    // The same again after a refill: nothing came, or the packet does not fit.
                    let have = blocks.data().len();
                    if blocks.reader_exhausted() || have == last && last > 0 {
                        return Err(if have + wanted > BUFFER { CaptureError::TooLarge(number) } else { CaptureError::Damaged(number) });
                    }
                    last = have;
                    blocks.refill().map_err(|_| CaptureError::Damaged(number))?;
                }
                Err(PcapError::BufferTooSmall) => return Err(CaptureError::TooLarge(number)),
                Err(_) => return Err(CaptureError::Damaged(number)),
            }
        }
    }

    fn block(&mut self, block: &PcapBlockOwned<'_>, interfaces: &mut Vec<Interface>) {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let resolution = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
                interfaces.push(Interface { link: header.network, resolution, offset: 0 });
            }
            PcapBlockOwned::Legacy(packet) => {
                if let Some(interface) = interfaces.first().copied() {
                    let nanos = u64::from(packet.ts_usec).saturating_mul(1_000_000_000 / interface.resolution.max(1));
                    let when = Duration::from_secs(packet.ts_sec.into()).saturating_add(Duration::from_nanos(nanos));
                    self.packet(interface.link, packet.data, when);
                }
            }
            // Interfaces are numbered within their section.
            PcapBlockOwned::NG(Block::SectionHeader(_)) => interfaces.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(described)) if interfaces.len() < MAX_INTERFACES => {
                let resolution = described.ts_resolution().unwrap_or(1_000_000).max(1);
                interfaces.push(Interface { link: described.linktype, resolution, offset: described.ts_offset() });
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let interface = usize::try_from(packet.if_id).ok().and_then(|id| interfaces.get(id)).copied();
                if let Some(interface) = interface {
                    let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                    let nanos = u128::from(units % interface.resolution) * 1_000_000_000 / u128::from(interface.resolution);
                    let seconds = (units / interface.resolution).saturating_add_signed(interface.offset);
                    let when = Duration::new(seconds, u32::try_from(nanos).unwrap_or(0));
                    self.packet(interface.link, captured(packet.data, packet.caplen), when);
                }
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                if let Some(interface) = interfaces.first().copied() {
                    self.packet(interface.link, captured(packet.data, packet.origlen), Duration::ZERO);
                }
            }
            PcapBlockOwned::NG(_) => {}
        }
    }

    fn packet(&mut self, link: Linktype, data: &[u8], when: Duration) {
        self.totals.packets += 1;
        match packet::read(link, data) {
            Packet::Tcp(segment) => self.segment(&segment, when),
            Packet::Quic => self.totals.quic += 1,
            Packet::Fragment => self.totals.fragments += 1,
            Packet::Link => self.totals.links += 1,
            Packet::Other => {}
        }
    }

    fn segment(&mut self, segment: &Segment<'_>, when: Duration) {
        let pair = (segment.source.min(segment.destination), segment.source.max(segment.destination));
        if self.open.get(&pair).is_some_and(|(_, known)| known.is_over_for(segment)) {
            self.end(pair);
        }
        if !self.open.contains_key(&pair) {
            // Segments after an end are no connection.
            if segment.payload.is_empty() && !segment.syn {
                return;
            }
            self.totals.connections += 1;
            let number = self.totals.connections;
            self.open.insert(pair, (number, Conversation::begin(segment, when)));
            self.order.push((number, pair));
            if self.order.len() > 2 * self.open.len() + 1024 {
                self.forget_ended();
            }
        }
        let Some((_, conversation)) = self.open.get_mut(&pair) else { return };
        let before = conversation.kept();
        conversation.take(segment, self.bounds.direction);
        self.kept = self.kept + conversation.kept() - before;
        if conversation.has_ended() {
            self.end(pair);
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        if self.open.len() <= self.bounds.connections && self.kept <= self.bounds.total {
            return;
        }
        // Half of them at once, so that it is seldom done.
        self.forget_ended();
        let rest = self.order.split_off(self.order.len().div_ceil(2));
        let oldest = std::mem::replace(&mut self.order, rest);
        oldest.into_iter().for_each(|(_, pair)| self.end(pair));
    }

    fn forget_ended(&mut self) {
        let open = &self.open;
        self.order.retain(|(number, pair)| open.get(pair).is_some_and(|(n, _)| n == number));
    }

    fn end(&mut self, pair: Pair) {
        let Some((_, conversation)) = self.open.remove(&pair) else { return };
        self.kept -= conversation.kept().min(self.kept);
        self.totals.tls += u64::from(conversation.is_tls());
        self.totals.hidden += conversation.hidden();
        conversation.end(&mut *self.found);
    }

    fn finish(&mut self) {
        for (_, pair) in std::mem::take(&mut self.order) {
            self.end(pair);
        }
    }
}

/// The captured bytes without padding.
fn captured(data: &[u8], length: u32) -> &[u8] {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    data.get(..length).unwrap_or(data)
}
