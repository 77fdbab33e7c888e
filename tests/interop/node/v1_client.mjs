// Client of @modelcontextprotocol/sdk (v1), initialize handshake: v1_client.mjs URL
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { proxiedFetch, report } from './session.mjs';

const client = new Client({ name: 'interop-v1', version: '1.32.2' }, { capabilities: {} });
await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2]), { fetch: proxiedFetch() }));
await report(client);
