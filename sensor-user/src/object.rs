//! The kernel half's object, as built by `cargo xtask ebpf`.

/// Aligned like an ELF header, as the loader reads it in place.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../sensor-ebpf/object/gnomon.bpf.o"));

/// The object.
pub fn bytes() -> &'static [u8] {
    &OBJECT.0
}
