// What every node client does once it is connected, and how it finds the proxy.
import { ProxyAgent, fetch } from 'undici';

// Node 20 has no NODE_USE_ENV_PROXY: the dispatcher is the way an application does it.
export function proxiedFetch() {
  const proxy = process.env.HTTPS_PROXY;
  if (!proxy) return globalThis.fetch;
  const dispatcher = new ProxyAgent({ uri: proxy, requestTls: { allowH2: process.env.INTEROP_H2 === '1' } });
  return (url, init) => fetch(url, { ...init, dispatcher });
}

async function call(client, name, args) {
  try {
    const { content, isError } = await client.callTool({ name, arguments: args });
    return { text: content.map((part) => part.text).join(''), isError: isError === true };
  } catch (error) {
    return { thrown: String(error) };
  }
}

// Prints one line of JSON: the tools, and an allowed, a forbidden and a second allowed call.
export async function report(client) {
  const { tools } = await client.listTools();
  const seen = { tools: tools.map((tool) => tool.name).sort() };
  seen.allowed = await call(client, 'echo', { message: 'grüße' });
  seen.forbidden = await call(client, 'forbidden', {});
  seen.after = await call(client, 'echo', { message: 'again' });
  console.log(JSON.stringify(seen));
  await client.close();
  process.exit(0);
}
