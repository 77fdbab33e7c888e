//! The kernel half of the sensor: one file per family of hooks.
//!
//! What it does: remembers who called `connect()` and where to, redirects where a scope says so and
//! it is safe to, reports the first bytes of TLS connections and how connections ended. What it
//! deliberately does not do: parse TLS or HTTP, keep state longer than the socket, decide by name.
//! The trade-off: everything is written for the verifier of Linux 5.10, which costs some elegance;
//! see README.md for its traps.

#![no_std]
#![no_main]
// The atomic addition of the counters.
#![feature(asm_experimental_arch)]

mod connect;
mod datagram;
mod exec;
mod exempt;
mod flow;
mod hello;
mod listener;
mod maps;
mod original;
mod packet;
mod peer;
mod report;
mod scope;

/// Reads a field exactly once, as written: LLVM neither merges it with another load (the verifier
/// refuses loads from a computed context pointer) nor forgets which register a check was about.
macro_rules! load {
    ($place:expr) => {
        // SAFETY: the callers name fields of the context or of a value that the verifier has seen
        // checked; that the load is volatile changes nothing about its validity.
        unsafe { core::ptr::read_volatile(&raw const $place) }
    };
}
pub(crate) use load;

/// Writes a field of the context, as written: LLVM must not merge stores into wider ones.
macro_rules! store {
    ($place:expr, $value:expr) => {
        // SAFETY: as for `load!`.
        unsafe { core::ptr::write_volatile(&raw mut $place, $value) }
    };
}
pub(crate) use store;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never linked: there is nothing in these programs that can panic, and the verifier would refuse the loop.
    loop {}
}

/// None of the helpers used needs more; the kernel refuses some of them to programs without a licence it knows.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
