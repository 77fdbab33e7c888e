//! The kernel half, as built by `cargo xtask ebpf`.

/// The bytes begin where an ELF header may: the loader reads them in place.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!("../../sensor-ebpf/object/gnomon.bpf.o"));

/// The object.
pub fn bytes() -> &'static [u8] {
    &OBJECT.0
}
