//! Request lines that some servers accept and gnomon cannot read as HTTP.

use super::*;

/// Lines that Python's `http.server` acts on, and odder ones.
pub(super) fn lines() -> Vec<(String, Passage)> {
    let long = format!("POST /{} HTTP/1.1\r\n", "x".repeat(20 << 10));
    let odd = [
        "POST /mcp HTTP/1.2\r\n",
        "POST /mcp HTTP/1.1 \r\n",
        "POST /mcp HTTP/1.1\t\r\n",
        "POST\t/mcp\tHTTP/1.1\r\n",
        "post /mcp http/1.1\r\n",
        "POST /mcp HTTP/2.0\r\n",
        "  POST /mcp  HTTP/1.3\n",
        "POST /caf\u{e9} HTTP/1.4\r\n",
        // A byte order mark, non-ASCII white space, and characters that are not letters: `wsgiref` and `cheroot` act on some of them.
        "PO:ST /mcp HTTP/1.1\r\n",
        "\0POST /mcp HTTP/1.1\r\n",
        "\u{feff}POST /mcp HTTP/1.1\r\n",
        "POST\u{a0}/mcp\u{a0}HTTP/1.1\r\n",
    ];
    odd.into_iter().map(|line| (line.to_owned(), Passage::RequestLineOdd)).chain([(long, Passage::RequestLineLong)]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tool_runs_by_a_request_line_that_only_its_server_understands() {
    for road in ROADS {
        let server = Lenient::start().await;
        let kernel = Arc::new(Kernel::default());
        let setup = Gnomon::with().rules([block(1, CALLS)]);
        let gnomon = if road == Road::Redirected { setup.owners(kernel.clone()) } else { setup }.start().await;
        let mut refused = 0;
        for (line, passage) in lines() {
            let mut stream = connect(&gnomon, &kernel, road, server.address).await;
            let answer = exchange(&mut stream, &request(&line)).await;
            assert!(answer.as_ref().is_err() || answer.as_ref().is_ok_and(|a| a.starts_with("HTTP/1.1 403 ")), "{line:?}: {answer:?}");
            assert_eq!(server.calls(), 0, "{road:?}: the tool ran by {line:?}");
            refused += 1;
            gnomon.metrics_until(&format!("gnomon_flows_total{{outcome=\"refused\"}} {refused}")).await;
            assert_eq!(passed(&gnomon, passage), 0);
        }
        // The server did not even get the beginning of it.
        assert!(server.got().is_empty());
        let events = gnomon.events_until(lines().len()).await;
        let odd = told(&events, Passage::RequestLineOdd);
        assert_eq!((odd.len(), told(&events, Passage::RequestLineLong).len()), (lines().len() - 1, 1), "{events:#?}");
        assert!(odd.iter().all(|event| event["gnomon.action"] == "block" && event["rule.id"] == gnomon_stage::rules::id(1)));
    }
}

#[tokio::test]
async fn where_no_rule_could_match_such_a_request_passes_and_is_reported() {
    for road in ROADS {
        let server = Lenient::start().await;
        let (gnomon, mut stream) =
            reach(Gnomon::with().rules([block(1, "mcp.method.name: tools/call, server.port: 1")]), road, server.address).await;
        let answer = exchange(&mut stream, &request("POST /mcp HTTP/1.2\r\n")).await.unwrap();
        assert!(answer.ends_with("ran"), "{answer}");
        assert_eq!((server.calls(), passed(&gnomon, Passage::RequestLineOdd)), (1, 1));
        assert_eq!(told(&gnomon.events_until(1).await, Passage::RequestLineOdd).len(), 1);
    }
}

#[tokio::test]
async fn a_connect_request_for_a_path_is_reported_where_no_rule_refuses_it() {
    for road in ROADS {
        let server = Lenient::start().await;
        let (gnomon, mut stream) = reach(Gnomon::with(), road, server.address).await;
        let answer = exchange(&mut stream, &request("CONNECT /mcp HTTP/1.1\r\n")).await.unwrap();
        assert!(answer.ends_with("ran"), "{answer}");
        assert_eq!((server.calls(), passed(&gnomon, Passage::OtherProxyOdd)), (1, 1), "{road:?}");
        assert_eq!(told(&gnomon.events_until(1).await, Passage::OtherProxyOdd).len(), 1, "{road:?}");
    }
}

#[tokio::test]
async fn a_line_that_is_completed_late_is_still_judged() {
    for road in ROADS {
        let server = Lenient::start().await;
        let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
        let bytes = request("POST /mcp HTTP/1.1\r\n");
        stream.write_all(&bytes[..9]).await.unwrap();
        // The client seems to wait for an answer to what it sent, so gnomon passes that on to the server.
        soon("the beginning of the line", async {
            while server.got().len() < 9 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let answer = exchange(&mut stream, &bytes[9..]).await;
        assert!(answer.as_ref().map_or(true, String::is_empty), "{answer:?}");
        assert_eq!((server.calls(), passed(&gnomon, Passage::LineUnfinished)), (0, 1));
        assert_eq!(told(&gnomon.events_until(1).await, Passage::RequestLineOdd).len(), 1);
    }
}

#[tokio::test]
async fn a_line_of_no_shape_that_names_http_late_is_still_judged() {
    for road in ROADS {
        let server = Lenient::start().await;
        let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
        let bytes = request("\0POST /mcp HTTP/1.1\r\n");
        stream.write_all(&bytes[..1]).await.unwrap();
        soon("the beginning of the line", async {
            while server.got().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let answer = exchange(&mut stream, &bytes[1..]).await;
        assert!(answer.as_ref().map_or(true, String::is_empty), "{answer:?}");
        assert_eq!((server.calls(), server.got().as_slice(), passed(&gnomon, Passage::Foreign)), (0, &b"\0"[..], 1));
        assert_eq!(told(&gnomon.events_until(1).await, Passage::RequestLineOdd).len(), 1);
    }
}

#[tokio::test]
async fn a_request_that_is_answered_400_is_reported() {
    for road in ROADS {
        let server = Lenient::start().await;
        for line in ["POST  /mcp HTTP/1.1\r\n", "POST \\mcp HTTP/1.1\r\n", "POST ?x HTTP/1.1\r\n", " POST /mcp HTTP/1.1\r\n"] {
            let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
            let answer = exchange(&mut stream, &request(line)).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 40"), "{line:?}: {answer}");
            assert_eq!(server.calls(), 0);
            let events = gnomon.events_until(1).await;
            // On a redirected connection the request may be meant for another proxy, so it may be refused for that reason.
            let reasons = [Passage::RequestLineOdd, Passage::OtherProxyOdd, Passage::OtherProxy];
            let reasons = if road == Road::Redirected { &reasons[..] } else { &reasons[..1] };
            assert_eq!(reasons.iter().map(|reason| told(&events, *reason).len()).sum::<usize>(), 1, "{road:?} {line:?}: {events:#?}");
        }
    }
}

#[tokio::test]
async fn a_request_to_the_proxy_itself_that_is_answered_400_is_told_of_as_within_a_tunnel() {
    let server = Lenient::start().await;
    let gnomon = Gnomon::with().rules([block(1, CALLS)]).start().await;
    let (address, body) = (server.address, call(1, "any_tool").to_string());
    let (line, host, length) =
        (format!("POST http://{address}/mcp HTTP/1.1\r\n"), format!("host: {address}\r\n"), format!("content-length: {}\r\n", body.len()));
    let shapes = [
        format!("POST  http://{address}/mcp HTTP/1.1\r\n{host}{length}\r\n{body}"),
        format!("{line}{host}host: {HOST}\r\n{length}\r\n{body}"),
        format!("{line}host: a/b\r\n{length}\r\n{body}"),
        format!("{line}{host}{length}content-length: 3\r\n\r\n{body}"),
        format!("{line}{host}transfer-encoding: xchunked\r\n\r\n{body}"),
        format!("{line}{host}{length}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        format!("{line}{host}{length}x y: z\r\n\r\n{body}"),
        format!("{line}{host}{length}x : z\r\n\r\n{body}"),
        format!("{line}{host}{length}x: y\r\n z\r\n\r\n{body}"),
        format!("{line}{host}{length}x: \0\r\n\r\n{body}"),
        format!("{line}{host}content-length: +{}\r\n\r\n{body}", body.len()),
        format!("{line}{host}transfer-encoding: chunked\r\n\r\n0x{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
    ];
    for (sent, shape) in shapes.iter().enumerate() {
        let mut stream = TcpStream::connect(gnomon.address).await.unwrap();
        let answer = exchange(&mut stream, shape.as_bytes()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{shape:?}: {answer}");
        let events = gnomon.events_until(sent + 1).await;
        assert_eq!(told(&events, Passage::RequestLineOdd).len(), sent + 1, "{shape:?}: {events:#?}");
    }
    assert!(server.got().is_empty());
}

#[tokio::test]
async fn a_line_that_ends_with_nothing_but_a_return_runs_no_tool() {
    for road in ROADS {
        let server = Lenient::start().await;
        let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), road, server.address).await;
        let request = String::from_utf8(request("POST /mcp HTTP/1.1\r\n")).unwrap().replace("\r\n", "\r");
        let _ = exchange(&mut stream, request.as_bytes()).await;
        assert_eq!(told(&gnomon.events_until(1).await, Passage::RequestLineOdd).len(), 1, "{road:?}");
        assert!(server.got().is_empty(), "{road:?}");
    }
}

#[tokio::test]
async fn a_word_without_an_end_is_answered() {
    // Like ZooKeeper's command `ruok`.
    let server = Lenient::start().await;
    let (gnomon, mut stream) = reach(Gnomon::with().rules([block(1, CALLS)]), Road::Redirected, server.address).await;
    stream.write_all(b"ruok").await.unwrap();
    soon("the word", async {
        while server.got() != b"ruok" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(passed(&gnomon, Passage::LineUnfinished), 1);
}
