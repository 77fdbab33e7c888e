//! ClientHellos, however they are split.

use std::process::{Command, Stdio};

use gnomon_sensor::{Outcome, Program};

use crate::support::{Client, Seen, Stage, Upstream, has, needs, until};

/// A hello of `length` bytes in one record, with a recognisable body.
fn hello(length: usize) -> Vec<u8> {
    let mut bytes = vec![22, 3, 1];
    bytes.extend_from_slice(&u16::try_from(length - 5).unwrap().to_be_bytes());
    bytes.push(1);
    bytes.extend_from_slice(&u32::try_from(length - 9).unwrap().to_be_bytes()[1..]);
    bytes.extend((bytes.len()..length).map(|at| (at % 251) as u8));
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was captured of the newest flow, how much was said to remain after the last part, and whether it was truncated.
fn captured(stage: &mut Stage) -> (Vec<u8>, u32, bool) {
    let cookie = stage.connects().last().unwrap().owner.cookie;
    let (mut whole, mut last, mut cut) = (Vec::new(), u32::MAX, false);
    for seen in stage.read() {
        if let Seen::Hello { cookie: of, offset, remaining, truncated, bytes } = seen
            && *of == cookie
        {
            assert_eq!(*offset as usize, whole.len(), "parts come in order and without holes");
            whole.extend_from_slice(bytes);
            last = *remaining;
            cut |= *truncated;
        }
    }
    (whole, last, cut)
}

#[test]
fn a_socket_that_connects_again_is_looked_at_again() {
    if !needs("hello-again") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("hello-again", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    client.ask(&format!("tcp {}", upstream.at));
    // A connection that does not begin with a hello is settled at once, which is remembered by its cookie.
    client.ask(&format!("send {0} {0} {0}", hex(b"harmless")));
    assert!(captured(&mut stage).0.is_empty());
    client.ask(&format!("again {}", upstream.at));
    let hello = hello(517);
    client.ask(&format!("send {} {}", hex(&hello), hex(b"application data")));
    assert!(captured(&mut stage).0 == hello, "the same socket, another flow");
}

#[test]
fn a_hello_is_captured_however_it_is_cut() {
    if !needs("hello-cuts") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("hello-cuts", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    let cuts: &[(usize, &[usize])] = &[
        (9, &[]),
        (300, &[]),
        (517, &[1]),
        (517, &[5]),
        (517, &[6]),
        (517, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (640, &[]),
        (641, &[]),
        (1678, &[600]),
        (1678, &[3, 700, 1400]),
        (2049, &[]),
        (4097, &[]),
        (9000, &[1, 4000]),
        (16389, &[]),
        (16389, &[2, 8000]),
    ];
    for (length, at) in cuts {
        let hello = hello(*length);
        client.ask(&format!("tcp {}", upstream.at));
        let mut parts = Vec::new();
        let mut from = 0;
        for to in at.iter().copied().chain([*length]) {
            parts.push(hex(&hello[from..to]));
            from = to;
        }
        // What follows the hello is not captured.
        client.ask(&format!("send {} {}", parts.join(" "), hex(b"application data")));
        let (whole, last, cut) = captured(&mut stage);
        assert_eq!(whole.len(), *length, "{length} cut at {at:?}");
        assert!(whole == hello, "{length} cut at {at:?}");
        assert_eq!((last, cut), (0, false), "{length} cut at {at:?}");
    }
    assert_eq!(stage.sensor.counters().unwrap().unaccounted(Program::Hello), 0);
}

#[test]
fn application_data_right_behind_the_hello_is_not_captured() {
    if !needs("hello-behind") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("hello-behind", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    client.ask(&format!("tcp {}", upstream.at));
    let mut bytes = hello(300);
    bytes.extend_from_slice(b"early data");
    client.ask(&format!("send {}", hex(&bytes)));
    assert!(captured(&mut stage).0 == hello(300));
}

#[test]
fn a_hello_in_several_records_is_captured_to_its_end_and_a_bit_beyond() {
    if !needs("hello-records") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("hello-records", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    client.ask(&format!("tcp {}", upstream.at));
    let message = hello(800)[5..].to_vec();
    let records: Vec<u8> = message.chunks(100).flat_map(|part| [&[22, 3, 1, 0, part.len() as u8], part].concat()).collect();
    client.ask(&format!("send {} {}", hex(&records[..50]), hex(&records[50..])));
    assert!(captured(&mut stage).0 == records);
}

#[test]
fn of_an_oversized_hello_the_first_sixteen_kibibytes_are_kept_and_marked_as_truncated() {
    if !needs("hello-huge") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("hello-huge", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    client.ask(&format!("tcp {}", upstream.at));
    // Too long for one record; the length in its header does not matter here.
    let mut huge = hello(16389);
    huge[6..9].copy_from_slice(&[1, 0, 0]);
    client.ask(&format!("send {} {}", hex(&huge), hex(&[0; 5000])));
    let (whole, last, cut) = captured(&mut stage);
    assert_eq!((whole.len(), cut), (16389, true));
    assert!(last > 0);
    assert_eq!(stage.sensor.counters().unwrap().get(Program::Hello, Outcome::Truncated), 1);
}

#[test]
fn a_hello_behind_ipv6_extension_headers_is_captured() {
    if !needs("hello-extensions") {
        return;
    }
    let upstream = Upstream::start("[::1]:0");
    let mut stage = Stage::new("hello-extensions", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    assert!(client.ask(&format!("tcp {}", upstream.at)).starts_with("upstream"));
    assert_eq!(client.ask("extensions"), "done");
    client.ask(&format!("send {}", hex(&hello(517))));
    assert!(captured(&mut stage).0 == hello(517));
}

#[test]
fn a_connection_without_a_hello_is_not_looked_at_again() {
    if !needs("hello-none") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("hello-none", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    // HTTP; a TLS alert; TLS 1.3 data; a handshake record that is not a hello; a hello of impossible length.
    for first in ["474554202f20", "1503010002022800", "170303001000", "16030100200200001c", "16030150000100"] {
        client.ask(&format!("tcp {}", upstream.at));
        client.ask(&format!("send {first} {}", hex(&hello(300))));
        let (bytes, ..) = captured(&mut stage);
        assert!(bytes.len() < 9, "{first}: {} bytes", bytes.len());
    }
    let counters = stage.sensor.counters().unwrap();
    assert_eq!(counters.get(Program::Hello, Outcome::Filtered), 5);
    assert_eq!(counters.unaccounted(Program::Hello), 0);
}

#[test]
fn hellos_over_ipv6_are_captured() {
    if !needs("hello-v6") {
        return;
    }
    let upstream = Upstream::start("[::1]:0");
    let mut stage = Stage::new("hello-v6", 0, |_| {});
    let mut client = Client::start(&stage.client_cgroup());
    client.ask(&format!("tcp {}", upstream.at));
    client.ask(&format!("send {}", hex(&hello(517))));
    assert!(captured(&mut stage).0 == hello(517));
}

/// Real programs against a port where nobody speaks TLS: only their hello matters.
#[test]
fn the_hellos_of_real_programs_are_captured_whole() {
    if !needs("hello-real") {
        return;
    }
    let upstream = Upstream::start("127.0.0.2:0");
    let mut stage = Stage::new("hello-real", 0, |_| {});
    let (at, port) = (upstream.at, upstream.at.port());
    let python = format!(
        "import ssl,socket\ntry: ssl.create_default_context().wrap_socket(socket.create_connection(('127.0.0.2',{port})),server_hostname='mcp.example.test')\nexcept OSError: pass"
    );
    let programs: [(&str, Vec<String>); 4] = [
        (
            "curl",
            vec![
                "-sk".into(),
                "-m3".into(),
                "--resolve".into(),
                format!("mcp.example.test:{port}:127.0.0.2"),
                format!("https://mcp.example.test:{port}/"),
            ],
        ),
        ("openssl", vec!["s_client".into(), "-connect".into(), at.to_string(), "-servername".into(), "mcp.example.test".into()]),
        ("python3", vec!["-c".into(), python]),
        (
            "node",
            vec![
                "-e".into(),
                format!("require('tls').connect({{host:'127.0.0.2',port:{port},servername:'mcp.example.test'}}).on('error',()=>{{}})"),
            ],
        ),
    ];
    for (program, arguments) in programs {
        if !has("hello-real", &[program]) {
            continue;
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]).arg(stage.client_cgroup()).arg(program).args(&arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let before = stage.connects().len();
        command.status().unwrap();
        until(&format!("the connection of {program}"), || stage.connects().len() > before);
        let (bytes, last, cut) = captured(&mut stage);
        assert_eq!((bytes.first(), last, cut), (Some(&22), 0, false), "{program}");
        assert_eq!(bytes.len(), 5 + usize::from(u16::from_be_bytes([bytes[3], bytes[4]])), "{program}");
        assert!(bytes.windows(16).any(|window| window == b"mcp.example.test"), "{program}");
        println!("{program}: {} bytes", bytes.len());
    }
}
