//! Captures for tests, made by hand: here, and where `gnomon replay` reads them.
#![allow(dead_code, clippy::unwrap_used)]

/// When the first packet was captured, seconds since the Unix epoch: 2026-11-20T09:00:00Z. Each is a second after the other.
pub const START: u32 = 1_795_165_200;
pub const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 50_000);
pub const SERVER: ([u8; 4], u16) = ([203, 0, 113, 7], 80);
pub const SYN: u8 = 2;
pub const ACK: u8 = 16;
pub const FIN: u8 = 1;

/// An IPv4 packet with a TCP segment, checksums left out.
pub fn packet(from: ([u8; 4], u16), to: ([u8; 4], u16), sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
    bytes.extend([0, 0, 0, 0, 64, 6, 0, 0]);
    bytes.extend(from.0);
    bytes.extend(to.0);
    bytes.extend(from.1.to_be_bytes());
    bytes.extend(to.1.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(payload);
    bytes
}

/// Packets as a pcap of raw IP.
pub fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for number in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 65_535, 101] {
        file.extend(number.to_le_bytes());
    }
    file[4..8].copy_from_slice(&[2, 0, 4, 0]);
    for (n, packet) in packets.iter().enumerate() {
        let length = u32::try_from(packet.len()).unwrap();
        for number in [START + u32::try_from(n).unwrap(), 250_000, length, length] {
            file.extend(number.to_le_bytes());
        }
        file.extend(packet);
    }
    file
}

/// The same as a pcapng.
pub fn pcapng(packets: &[Vec<u8>]) -> Vec<u8> {
    fn block(kind: u32, mut body: Vec<u8>, file: &mut Vec<u8>) {
        body.resize(body.len().next_multiple_of(4), 0);
        let length = u32::try_from(body.len() + 12).unwrap();
        file.extend(kind.to_le_bytes());
        file.extend(length.to_le_bytes());
        file.extend(body);
        file.extend(length.to_le_bytes());
    }
    let mut file = Vec::new();
    let section = [0x1a2b_3c4d_u32.to_le_bytes(), [1, 0, 0, 0], [0xff; 4], [0xff; 4]].concat();
    block(0x0a0d_0d0a, section, &mut file);
    block(1, vec![101, 0, 0, 0, 0, 0, 1, 0], &mut file);
    for packet in packets {
        let length = u32::try_from(packet.len()).unwrap();
        let mut body = Vec::new();
        let micros = u64::from(START) * 1_000_000 + 250_000;
        for number in [0, (micros >> 32) as u32, micros as u32, length, length] {
            body.extend(number.to_le_bytes());
        }
        body.extend(packet);
        block(6, body, &mut file);
    }
    file
}

/// A whole connection; both sides begin just before their numbers wrap.
pub fn connection(request: &[u8], answer: &[u8]) -> Vec<Vec<u8>> {
    let (client, server) = (u32::MAX - 10, u32::MAX - 20);
    let data = |from, to, start: u32, bytes: &[u8]| -> Vec<Vec<u8>> {
        let at = |n: usize| start.wrapping_add(1).wrapping_add(u32::try_from(n * 7).unwrap());
        bytes.chunks(7).enumerate().map(|(n, chunk)| packet(from, to, at(n), ACK, chunk)).collect()
    };
    let end = |start: u32, bytes: &[u8]| start.wrapping_add(1).wrapping_add(u32::try_from(bytes.len()).unwrap());
    let mut packets = vec![packet(CLIENT, SERVER, client, SYN, b""), packet(SERVER, CLIENT, server, SYN | ACK, b"")];
    packets.extend(data(CLIENT, SERVER, client, request));
    packets.extend(data(SERVER, CLIENT, server, answer));
    packets.push(packet(CLIENT, SERVER, end(client, request), FIN | ACK, b""));
    packets.push(packet(SERVER, CLIENT, end(server, answer), FIN | ACK, b""));
    packets
}
