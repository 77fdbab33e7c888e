//! The ring buffer, read through shared memory.
//!
//! The format is the kernel's, Documentation/bpf/ringbuf.rst: a page with the consumer's position, a
//! page with the producer's, then the data, mapped twice in a row so that a record that wraps is still in one piece.
//! Each record has a header of eight bytes: length (with a bit for "being written" and one for
//! "discarded"), and an offset that only the kernel needs. Why not the loader's reader: it needs `bpf(2)`, which
//! some kernels refuse to an unprivileged process altogether; this one needs the descriptor only.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::memory::{Access, Shared, page};
use crate::record::{Malformed, Record};

/// `BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT` and `BPF_RINGBUF_HDR_SZ`.
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER: u64 = 8;

/// The reader's end of the ring buffer. One reader at a time: the position is in the shared memory.
#[derive(Debug)]
pub struct Ring {
    fd: OwnedFd,
    consumer: Shared,
    producer: Shared,
    size: u64,
}

impl Ring {
    /// Maps a ring buffer of `size` bytes, as given to [`crate::Options::ring_bytes`].
    ///
    /// # Errors
    /// `size` is not a power of two of at least a page, or `mmap(2)` failed.
    pub fn from_fd(fd: OwnedFd, size: u32) -> io::Result<Self> {
        let data = usize::try_from(size).map_err(io::Error::other)?;
        if !size.is_power_of_two() || data < page() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the size of a ring buffer"));
        }
        let consumer = Shared::map(fd.as_fd(), 0, page(), Access::Write)?;
        let producer = Shared::map(fd.as_fd(), page() as u64, page() + 2 * data, Access::Read)?;
        Ok(Self { fd, consumer, producer, size: u64::from(size) })
    }

    /// Waits until the kernel half reports records, or until `timeout`. Reports are batched, so call [`Ring::drain`] in either case.
    ///
    /// # Errors
    /// The error of `poll(2)`; an interrupted call is not an error.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Passes all waiting records to `each`, at most one ring's worth, and returns their number. The kernel may overwrite a record once
    /// `each` has returned.
    pub fn drain(&mut self, mut each: impl FnMut(Result<Record<'_>, Malformed>)) -> usize {
        let mut count = 0;
        let mut at = self.consumed().load(Ordering::Relaxed);
        let bound = at.wrapping_add(self.size);
        loop {
            let end = self.produced().load(Ordering::Acquire);
            let waiting = end.wrapping_sub(at);
            if waiting == 0 || at == bound || waiting > self.size {
                if waiting > self.size {
                    // The distance cannot be larger than the ring.
                    at = end;
                    self.consumed().store(at, Ordering::Release);
                    each(Err(Malformed::Ring));
                }
                return count;
            }
            let header = self.header(at).load(Ordering::Acquire);
            if header & BUSY != 0 {
                return count;
            }
            let length = u64::from(header & !(BUSY | DISCARDED));
            let whole = (length + HEADER).next_multiple_of(8);
            if whole > waiting {
                at = end;
                self.consumed().store(at, Ordering::Release);
                each(Err(Malformed::Ring));
                return count;
            }
            if header & DISCARDED == 0 {
                each(Record::parse(self.bytes(at, length)));
                count += 1;
            }
            at = at.wrapping_add(whole);
            self.consumed().store(at, Ordering::Release);
        }
    }

    fn consumed(&self) -> &AtomicU64 {
        // SAFETY: a mapped page that lives as long as `self`, aligned as pages are; the kernel reads it as a whole.
        unsafe { AtomicU64::from_ptr(self.consumer.start().as_ptr().cast()) }
    }

    fn produced(&self) -> &AtomicU64 {
        // SAFETY: as above; only ever loaded, as the page is mapped for reading.
        unsafe { AtomicU64::from_ptr(self.producer.start().as_ptr().cast()) }
    }

    /// The first word of the header at a position.
    fn header(&self, at: u64) -> &AtomicU32 {
        // SAFETY: the offset is below the size and a multiple of 8 (positions advance by multiples of 8, and
        // what another process wrote into the consumer's page is rounded), so the word is within the mapping.
        unsafe { AtomicU32::from_ptr(self.data(at).cast_mut().cast()) }
    }

    /// The record at a position, without its header.
    fn bytes(&self, at: u64, length: u64) -> &[u8] {
        // SAFETY: `drain` has checked that header and record fit into one size, so that they end within the
        // data's second mapping; and the kernel does not write there before the position has moved past it,
        // which only `drain` does, after the reference is gone.
        unsafe { std::slice::from_raw_parts(self.data(at).add(HEADER as usize), length as usize) }
    }

    fn data(&self, at: u64) -> *const u8 {
        let offset = (at & (self.size - 1)) & !7;
        // SAFETY: within the mapping: after the producer's page come twice `size` bytes.
        unsafe { self.producer.start().as_ptr().add(page() + offset as usize) }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use proptest::prelude::*;

    use super::*;

    /// A file that looks like a ring buffer of one page; its data are not mapped twice, but all zero the second time.
    fn imitation(consumed: u64, produced: u64, data: &[u8]) -> Ring {
        let file = File::from(rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        let page = page() as u64;
        file.set_len(4 * page).unwrap();
        file.write_all_at(&consumed.to_ne_bytes(), 0).unwrap();
        file.write_all_at(&produced.to_ne_bytes(), page).unwrap();
        file.write_all_at(data, 2 * page).unwrap();
        Ring::from_fd(file.into(), u32::try_from(page).unwrap()).unwrap()
    }

    fn found(ring: &mut Ring) -> Vec<Result<String, Malformed>> {
        let mut all = Vec::new();
        ring.drain(|record| all.push(record.map(|record| format!("{record:?}"))));
        all
    }

    proptest! {
        #[test]
        fn no_memory_makes_the_reader_panic_or_go_round_for_ever(
            consumed in 0_u64..10_000, ahead in 0_u64..10_000, data in proptest::collection::vec(any::<u8>(), 0..4096),
        ) {
            let mut ring = imitation(consumed, consumed.wrapping_add(ahead), &data);
            prop_assert!(found(&mut ring).len() <= 512);
        }

        #[test]
        fn lengths_that_look_right_do_not_either(words in proptest::collection::vec(0_u32..200, 0..1024)) {
            let data: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            prop_assert!(found(&mut imitation(0, 4096, &data)).len() <= 512);
        }
    }

    #[test]
    fn what_is_being_written_is_waited_for_and_what_was_discarded_is_passed_over() {
        let mut data = Vec::new();
        for header in [8 | DISCARDED, 8, 8 | BUSY] {
            data.extend_from_slice(&u64::from(header).to_ne_bytes());
            data.extend_from_slice(&[9, 0, 8, 0, 0, 0, 0, 0]);
        }
        let mut ring = imitation(0, 48, &data);
        assert_eq!(found(&mut ring), [Err(Malformed::Kind(9))]);
        assert_eq!(ring.consumed().load(Ordering::Relaxed), 32, "it stands before what is being written");
    }

    #[test]
    fn a_record_longer_than_what_was_written_is_an_inconsistency_and_is_left_behind() {
        let mut ring = imitation(0, 16, &200_u64.to_ne_bytes());
        assert_eq!(found(&mut ring), [Err(Malformed::Ring)]);
        assert_eq!(found(&mut ring), []);
    }

    #[test]
    fn a_size_that_no_ring_buffer_has_is_refused() {
        for size in [0, 1, 4095, 4097, 12288] {
            let file = File::from(rustix::fs::memfd_create("ring", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
            assert!(Ring::from_fd(file.into(), size).is_err(), "{size}");
        }
    }
}
