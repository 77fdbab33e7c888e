// Client of @modelcontextprotocol/client (v2): v2_client.mjs URL legacy|2026-07-28
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { proxiedFetch, report } from './session.mjs';

const [, , url, era] = process.argv;
const mode = era === 'legacy' ? 'legacy' : { pin: era };
const client = new Client({ name: 'interop-v2', version: '2.4.0' }, { versionNegotiation: { mode } });
await client.connect(new StreamableHTTPClientTransport(new URL(url), { fetch: proxiedFetch() }));
await report(client);
