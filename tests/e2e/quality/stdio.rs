//! Messages over stdin and stdout. There is no live capture of them yet, so they are tested as messages: scanned as the proxy would scan a
//! body, and recognised by their own content or as the answer to a recognised request.

use super::corpus::lines;
use gnomon_wire::{
    jsonrpc::{Limits, Malformed, Message, MessageKind, Scanner},
    mcp::{message_signature, response_signature},
};
use std::collections::BTreeSet;

#[test]
fn messages_over_stdio_are_recognised_alone_or_as_the_answer_to_one() {
    let (mut alone, mut answers, mut cut, mut missed) = (0, 0, 0, Vec::new());
    let mut asked = BTreeSet::new();
    let lines = lines("real_clients_stdio.jsonl");
    for (line, number) in lines.iter().zip(1..) {
        let Some(message) = scanned(line["body"].as_str().unwrap()) else {
            cut += 1;
            continue;
        };
        let (client, dir) = (line["client"].as_str().unwrap(), line["dir"].as_str().unwrap());
        let back = if dir == "c2s" { "s2c" } else { "c2s" };
        let id = |to: &str| (client.to_owned(), to.to_owned(), format!("{:?}", message.id));
        if message_signature(&message).is_some() || response_signature(&message).is_some() {
            alone += 1;
        } else if matches!(message.kind, MessageKind::Response | MessageKind::Error) && asked.contains(&id(dir)) {
            answers += 1;
        } else {
            missed.push(format!("line {number}: {}", line["body"]));
        }
        if message.kind == MessageKind::Request {
            asked.insert(id(back));
        }
    }
    println!(
        "stdio, messages only: {} messages, {alone} recognised alone, {answers} as answers, {cut} cut by the recording, {} missed",
        lines.len(),
        missed.len()
    );
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// The message; `None` where the recording was cut inside it, so that its id is missing.
fn scanned(body: &str) -> Option<Message> {
    let (mut scanner, mut messages) = (Scanner::new(Limits::default()), Vec::new());
    scanner.feed(body.as_bytes(), &mut |message: &Message| messages.push(message.clone())).unwrap();
    if scanner.finish(&mut |_| ()) == Err(Malformed::Truncated) {
        return None;
    }
    assert_eq!(messages.len(), 1, "{body}");
    messages.pop()
}
