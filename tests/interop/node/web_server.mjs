// Everything that is not MCP, over TLS with h1 and h2: web_server.mjs PORT CERT KEY GIT_ROOT
//   GET /page   GET /request (answers with the request's own head)
//   POST /up (answers with the SHA-256 of the body)   GET /down (64 MiB)   GET /events (SSE)   /git/ (smart HTTP)
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';

const [, , port, cert, key, gitRoot] = process.argv;
const DOWN_BYTES = 64 << 20;

function down(response) {
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': DOWN_BYTES });
  let sent = 0;
  const push = () => {
    while (sent < DOWN_BYTES) {
      // Every block differs, so that lost or swapped blocks change the hash.
      const block = Buffer.alloc(64 << 10, sent >> 16);
      block.writeUInt32BE(sent, 0);
      sent += block.length;
      if (!response.write(block)) return response.once('drain', push);
    }
    response.end();
  };
  push();
}

function events(response) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  let n = 0;
  const timer = setInterval(() => {
    response.write(`data: ${n}\n\n`);
    if (++n === 5) {
      clearInterval(timer);
      response.end();
    }
  }, 250);
}

function git(request, response, url) {
  const cgi = spawn('git', ['http-backend'], {
    env: {
      PATH: process.env.PATH,
      GIT_PROJECT_ROOT: gitRoot,
      GIT_HTTP_EXPORT_ALL: '1',
      GIT_CONFIG_GLOBAL: '/dev/null',
      REQUEST_METHOD: request.method,
      PATH_INFO: url.pathname.slice('/git'.length),
      QUERY_STRING: url.search.slice(1),
      CONTENT_TYPE: request.headers['content-type'] ?? '',
      HTTP_CONTENT_ENCODING: request.headers['content-encoding'] ?? '',
      HTTP_GIT_PROTOCOL: request.headers['git-protocol'] ?? '',
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  request.pipe(cgi.stdin);
  cgi.stdin.on('error', () => {});
  let head = Buffer.alloc(0);
  const readHead = (chunk) => {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return;
    cgi.stdout.off('data', readHead);
    const headers = Object.fromEntries(head.subarray(0, end).toString().split('\r\n').map((line) => line.split(/:\s*/, 2)));
    const status = Number.parseInt(headers.Status ?? '200', 10);
    delete headers.Status;
    response.writeHead(status, headers);
    response.write(head.subarray(end + 4));
    cgi.stdout.pipe(response);
  };
  cgi.stdout.on('data', readHead);
}

http2
  .createSecureServer({ cert: readFileSync(cert), key: readFileSync(key), allowHTTP1: true }, (request, response) => {
    const url = new URL(request.url, 'https://localhost');
    if (url.pathname.startsWith('/git/')) return git(request, response, url);
    switch (url.pathname) {
      case '/page':
        return response.writeHead(200, { 'content-type': 'text/html', 'x-interop': 'kept' }).end('<h1>grüße</h1>\n');
      case '/request':
        return response.writeHead(200).end(JSON.stringify({ method: request.method, url: request.url, headers: { ...request.headers } }));
      case '/down':
        return down(response);
      case '/events':
        return events(response);
      case '/up': {
        const hash = createHash('sha256');
        request.on('data', (data) => hash.update(data));
        return request.on('end', () => response.writeHead(200).end(hash.digest('hex')));
      }
      default:
        return response.writeHead(404).end();
    }
  })
  .listen(Number(port), '127.0.0.1');
