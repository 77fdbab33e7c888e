//! What gnomon does not read, and whether the tool ran all the same. For each entry of the table of passages there is a server here that
//! accepts anything as a request, and a rule like the README's, which names a method and no host.

mod hosts;
mod lines;
mod protocols;
mod tls;
mod upgrades;
mod within_http;

use gnomon_inspect::{Enforcement, Passage};
use gnomon_intercept::Namespace;
use gnomon_observe::Observation;
use gnomon_record::{Owned, Owners};
use gnomon_stage::{
    HOST,
    client::tunnel,
    gnomon::{Gnomon, Setup},
    lenient::Lenient,
    request::call,
    rules::block,
    soon,
};
use serde_json::Value;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The README's rule: it names a method and no host.
const CALLS: &str = "mcp.method.name: tools/call";

/// How a connection gets to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    /// The program is configured to use the proxy.
    Asked,
    /// The kernel redirected the program's connection.
    Redirected,
}

const ROADS: [Road; 2] = [Road::Asked, Road::Redirected];

/// Reports one original address for every connection.
#[derive(Default)]
struct Kernel(Mutex<Option<SocketAddr>>);

impl Owners for Kernel {
    fn owner<'a>(&'a self, _: &'a TcpStream) -> Pin<Box<dyn Future<Output = Option<Owned>> + Send + 'a>> {
        let owned = self.0.lock().unwrap().map(|original| Owned {
            cookie: 7,
            original,
            redirected: true,
            uid: 1000,
            gid: 1000,
            netns: 1,
            cgroup: 1,
            enforcement: Enforcement::Enforce,
            seen: Observation::new(),
        });
        Box::pin(std::future::ready(owned))
    }
    fn served(&self, _: u64) {}
    fn unreachable<'a>(&'a self, _: &'a Owned, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(std::future::ready(()))
    }
}

/// Starts gnomon, and connects to this address through it.
async fn reach(setup: Setup, road: Road, target: SocketAddr) -> (Gnomon, TcpStream) {
    let kernel = Arc::new(Kernel::default());
    let gnomon = match road {
        Road::Asked => setup.start().await,
        Road::Redirected => setup.owners(kernel.clone()).start().await,
    };
    let stream = connect(&gnomon, &kernel, road, target).await;
    (gnomon, stream)
}

async fn connect(gnomon: &Gnomon, kernel: &Kernel, road: Road, target: SocketAddr) -> TcpStream {
    match road {
        Road::Asked => tunnel(gnomon.address, &target.to_string()).await,
        Road::Redirected => {
            *kernel.0.lock().unwrap() = Some(target);
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            gnomon.redirected.add(listener, Namespace::Own).unwrap();
            TcpStream::connect(address).await.unwrap()
        }
    }
}

/// A tool call with this request line.
fn request(line: &str) -> Vec<u8> {
    let body = call(1, "any_tool").to_string();
    let head = format!("{line}host: {HOST}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body.into_bytes()].concat()
}

/// Sends the bytes, and reads until there is an answer or the connection is closed.
async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<String> {
    // If gnomon refuses in the middle of it, the rest cannot be sent.
    let sent = stream.write_all(bytes).await;
    let mut answer = vec![0; 4096];
    let read = soon("an answer or an end", stream.read(&mut answer)).await?;
    sent?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

/// The events with this passage as the reason.
fn told(events: &[Value], passage: Passage) -> Vec<&Value> {
    events.iter().filter(|event| event["gnomon.passage"] == passage.reason()).collect()
}

/// The count of connections that passed unread for this reason.
fn passed(gnomon: &Gnomon, passage: Passage) -> u64 {
    let line = format!("gnomon_passed_total{{reason=\"{}\"}} ", passage.reason());
    gnomon.metrics().lines().find_map(|l| l.strip_prefix(&line)?.parse().ok()).unwrap_or_else(|| panic!("no {line}"))
}

/// Names the test of each entry; the `match` does not compile without a new entry.
#[test]
fn every_entry_of_the_table_is_tried_against_a_server_that_acts() {
    for &passage in Passage::ALL {
        let test = match passage {
            Passage::Bypass => "passage::a_bypassed_server_shows_its_own_certificate_and_is_still_reported",
            Passage::Disarmed => "disarm::disarmed_the_proxy_refuses_nothing_and_opens_no_new_connection",
            Passage::BeyondShare => "redirected::users::where_nothing_is_enforced_whatever_is_above_the_share_passes",
            Passage::HelloUnreadable | Passage::HelloTooLong | Passage::ServerNameInvalid => {
                "passages::tls::a_hello_that_cannot_be_read_reaches_no_server_where_a_rule_could_match"
            }
            Passage::ForeignAlpn => "passages::tls::a_protocol_that_the_server_chose_passes_and_a_rule_on_the_host_holds",
            Passage::ForeignInTls => "passages::tls::a_protocol_other_than_http_inside_tls_passes_both_ways",
            Passage::Foreign | Passage::NothingSaid | Passage::ServerFirst => {
                "passages::protocols::other_protocols_pass_under_a_rule_without_a_host_and_not_under_one_for_theirs"
            }
            Passage::RequestLineOdd | Passage::RequestLineLong => {
                "passages::lines::no_tool_runs_by_a_request_line_that_only_its_server_understands"
            }
            Passage::LineUnfinished => "passages::lines::a_line_that_is_completed_late_is_still_judged",
            Passage::ServerFirstHttp => "passages::protocols::a_server_that_speaks_http_first_is_not_taken_for_another_protocol",
            Passage::OtherProxyOdd => "passages::hosts::what_may_ask_another_proxy_for_a_blocked_host_does_not_reach_it",
            Passage::OtherProxy | Passage::ConnectWithin => {
                "passages::hosts::a_second_proxy_behind_gnomon_works_and_what_it_opens_is_judged"
            }
            Passage::Upgraded => "passages::upgrades::an_upgrade_that_no_rule_could_refuse_is_joined_to_its_server_and_told",
            Passage::WebSocket => "passages::within_http::websocket_passes_unless_it_says_mcp_or_a_rule_means_its_server",
            Passage::Grpc => "passages::within_http::grpc_passes_unless_a_rule_means_its_server",
            Passage::NoRoom => "room::where_no_rule_could_match_what_there_is_no_room_for_passes_and_is_an_event",
            Passage::Rows => {
                "unread::rows_behind_the_first_are_a_passage_that_is_counted_and_named_and_refused_where_a_rule_means_their_place"
            }
            Passage::EventsUnreadable => "withheld::an_event_stream_that_cannot_be_undone_is_refused_where_a_rule_refuses_what_servers_ask",
            Passage::ForeignBody => "bodies",
        };
        assert!(!test.is_empty(), "{passage:?}");
    }
}
