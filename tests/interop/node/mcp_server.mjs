// A real MCP server over TLS, h1 and h2, without sessions: mcp_server.mjs PORT CERT KEY RAN
// Tool `forbidden` leaves a line in the file RAN, so that a check can tell whether it was reached.
import { appendFileSync, readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { McpServer, createMcpHandler } from '@modelcontextprotocol/server';
import { z } from 'zod';

const [, , port, cert, key, ran] = process.argv;

function build() {
  const server = new McpServer({ name: 'interop-node', version: '1.0.0' });
  server.registerTool('echo', { description: 'Echo a message', inputSchema: z.object({ message: z.string() }) }, ({ message }) => ({
    content: [{ type: 'text', text: `Echo: ${message}` }],
  }));
  server.registerTool('forbidden', { description: 'Leave a trace', inputSchema: z.object({}) }, () => {
    appendFileSync(ran, 'node\n');
    return { content: [{ type: 'text', text: 'forbidden ran' }] };
  });
  return server;
}

const handler = toNodeHandler(createMcpHandler(build));
http2
  .createSecureServer({ cert: readFileSync(cert), key: readFileSync(key), allowHTTP1: true }, (request, response) => {
    if (new URL(request.url, 'https://localhost').pathname === '/mcp') return handler(request, response);
    response.writeHead(404).end();
  })
  .listen(Number(port), '127.0.0.1');
