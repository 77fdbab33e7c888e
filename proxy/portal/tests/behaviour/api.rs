//! An HTTP API under the tests' control: it records every request as it was received, and answers what it is told to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// One received request.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Method, path and version.
    pub line: String,
    /// As received, with lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Sent {
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// Makes the bytes that answer a request, head included. `None` never answers.
pub type Answers = fn(&Sent) -> Option<Vec<u8>>;

/// A running API; ends with the runtime.
pub struct HttpApi {
    pub address: SocketAddr,
    sent: Arc<Mutex<Vec<Sent>>>,
}

/// A JSON answer.
pub fn json(status: &str, body: &str) -> Option<Vec<u8>> {
    answer(status, "content-type: application/json\r\n", body.as_bytes())
}

pub fn answer(status: &str, headers: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Some(bytes)
}

impl HttpApi {
    pub async fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = sent.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kept.clone(), answers));
            }
        });
        Self { address, sent }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.sent().into_iter().map(|sent| sent.line).collect()
    }
}

async fn serve(mut stream: TcpStream, kept: Arc<Mutex<Vec<Sent>>>, answers: Answers) {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let text = String::from_utf8(read[..head].to_vec()).unwrap();
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let headers: Vec<(String, String)> =
            lines.map(|line| line.split_once(": ").unwrap()).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
        while read.len() < head + 4 + length {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = String::from_utf8_lossy(&read[head + 4..head + 4 + length]).into_owned();
        read.drain(..head + 4 + length);
        let sent = Sent { line, headers, body };
        kept.lock().unwrap().push(sent.clone());
        let Some(answer) = answers(&sent) else { return std::future::pending().await };
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}
