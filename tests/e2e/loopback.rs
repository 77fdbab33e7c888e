//! Loopback of a new network namespace, which is down at first: brought up as ip(8) does it, without needing ip(8).

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};

const RTM_NEWLINK: u16 = 16;
/// A request that is answered.
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
/// Loopback is the first device of each namespace.
const INDEX: i32 = 1;
const IFF_UP: u32 = 1;
/// The header, and what rtnetlink(7) calls ifinfomsg.
const LENGTH: u32 = 32;

/// Tells the program to act.
const ROLE: &str = "GNOMON_TEST_LOOPBACK";

/// The words of a shell command that brings it up where the shell is.
pub fn command() -> String {
    let role = format!("{}::act", module_path!().split_once("::").unwrap().1);
    format!("{ROLE}=up {} --exact {role} --ignored >/dev/null", std::env::current_exe().unwrap().display())
}

/// Not a test: what the command does.
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
    // Sequence and port.
    message.extend([0; 8]);
    // Family, padding and type.
    message.extend([0; 4]);
    message.extend(INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    // Which flags are meant.
    message.extend(IFF_UP.to_ne_bytes());
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap();
    assert_eq!(send(&netlink, &message, SendFlags::empty()).unwrap(), message.len());
    let mut answer = [0; 64];
    recv(&netlink, &mut answer, RecvFlags::empty()).unwrap();
    assert_eq!(i32::from_ne_bytes(answer[16..20].try_into().unwrap()), 0, "the error after the header");
}
