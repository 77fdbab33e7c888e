//! The loopback device of a new network namespace is down at first; this brings it up as ip(8) does, without needing that program.

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};

const RTM_NEWLINK: u16 = 16;
/// `NLM_F_REQUEST` and `NLM_F_ACK`.
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
/// Loopback has index 1 in every namespace.
const INDEX: i32 = 1;
const IFF_UP: u32 = 1;
/// The length of the header and of the `ifinfomsg` of rtnetlink(7).
const LENGTH: u32 = 32;

/// The environment variable that makes the test binary do this.
const ROLE: &str = "GNOMON_TEST_LOOPBACK";

/// A shell command that brings it up in the shell's network namespace.
pub fn command() -> String {
    let role = format!("{}::act", module_path!().split_once("::").unwrap().1);
    format!("{ROLE}=up {} --exact {role} --ignored >/dev/null", std::env::current_exe().unwrap().display())
}

/// Not a test: what the command runs.
#[test]
#[ignore = "a role, not a test"]
fn act() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    // Sequence number and port id.
    message.extend([0; 8]);
    // Family, padding and device type.
    message.extend([0; 4]);
    message.extend(INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    // The mask of the flags to change.
    message.extend(IFF_UP.to_ne_bytes());
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
    assert_eq!(send(&netlink, &message, SendFlags::empty()).unwrap(), message.len());
    let mut answer = [0; 64];
    recv(&netlink, &mut answer, RecvFlags::empty()).unwrap();
    assert_eq!(i32::from_ne_bytes(answer[16..20].try_into().unwrap()), 0, "the error after the header");
}
