// Runs once in each engine, before anything that a model wrote. Everything it uses later is taken into constants here: code that
// changes the built-ins afterwards changes its own world only.
//
// `ask(name, json)` queues a host call and returns its number; `write(severity, text)` writes to the console.
(function (ask, write) {
  "use strict";
  const { stringify, parse } = JSON;
  const { create, defineProperty, freeze } = Object;
  const bind = Function.prototype.call.bind.bind(Function.prototype.call);
  const [mapGet, mapSet, mapDelete] = ["get", "set", "delete"].map((name) => bind(Map.prototype[name]));
  const sliced = bind(String.prototype.slice), wellFormed = bind(String.prototype.toWellFormed);
  const { Error: Thrown, TypeError: WrongType, Promise: Later, Proxy: Shield, String: text, Map: Table, Math: math } = globalThis;
  const { imul } = math;

  // --- calls ---

  const waiting = new Table();

  function call(name, value) {
    return new Later((resolve, reject) => {
      // Getters, proxies and toJSON of the arguments run here, inside.
      const json = stringify(value);
      if (json === undefined) throw new WrongType("tool arguments are not JSON-serialisable");
      mapSet(waiting, ask(name, json), { __proto__: null, resolve, reject });
    });
  }

  // kind: 0 a value, 1 the tool failed, 2 there is no such tool.
  function answer(id, kind, body) {
    const promise = mapGet(waiting, id);
    if (promise === undefined) return;
    mapDelete(waiting, id);
    if (kind === 0) {
      let value;
      try { value = parse(body); } catch (error) { promise.reject(error); return; }
      promise.resolve(value);
    } else if (kind === 1) {
      const error = new Thrown(body);
      defineProperty(error, "name", { value: "ToolError" });
      promise.reject(error);
    } else {
      promise.reject(new WrongType(body));
    }
  }

  const made = new Table();
  for (const name of ["tools", "search", "describe"]) {
    mapSet(made, name, freeze((...values) => call(name, values)));
  }
  // A proxy over nothing: every name is a tool's, also `__proto__`, `constructor` and the like. Not `then`, or awaiting the object
  // would call it; not `toJSON`, or writing it down would.
  const codemode = new Shield(freeze(create(null)), {
    __proto__: null,
    get(_, name) {
      if (typeof name !== "string" || name === "then" || name === "toJSON") return undefined;
      let method = mapGet(made, name);
      if (method === undefined) {
        method = freeze((value) => call(name, value === undefined ? {} : value));
        mapSet(made, name, method);
      }
      return method;
    },
    has(_, name) { return typeof name === "string" && name !== "then" && name !== "toJSON"; },
    ownKeys() { return []; },
    getOwnPropertyDescriptor() { return undefined; },
    getPrototypeOf() { return null; },
    setPrototypeOf() { return false; },
    defineProperty() { return false; },
    deleteProperty() { return false; },
    set() { return false; },
  });

  // --- console ---

  function shown(value) {
    try {
      if (typeof value === "string") return value;
      if (typeof value === "object" && value !== null) {
        if (value instanceof Thrown) return text(value.name) + ": " + text(value.message);
        const json = stringify(value);
        if (json !== undefined) return json;
      }
      return text(value);
    } catch {
      return "[cannot be shown]";
    }
  }
  function line(values, from) {
    let whole = "";
    for (let at = from; at < values.length && whole.length < 65536; at++) whole += (at > from ? " " : "") + shown(values[at]);
    return wellFormed(sliced(whole, 0, 65536));
  }
  const writer = (severity) => freeze((...values) => { write(severity, line(values, 0)); });
  const log = writer(0), warn = writer(1), error = writer(2), nothing = freeze(() => {});
  const console = freeze({
    __proto__: null,
    log, info: log, debug: log, trace: log, dir: log, table: log, warn, error,
    assert: freeze((held, ...values) => { if (!held) write(2, "assertion failed: " + line(values, 0)); }),
    group: nothing, groupCollapsed: nothing, groupEnd: nothing, time: nothing, timeLog: nothing, timeEnd: nothing,
    count: nothing, countReset: nothing, clear: nothing,
  });

  // --- the world ---

  // Its call sites would hand out the functions above.
  defineProperty(Thrown, "prepareStackTrace", { value: undefined, writable: false, configurable: false });
  defineProperty(Thrown, "stackTraceLimit", { value: 10, writable: false, configurable: false });
  for (const name of ["Atomics", "SharedArrayBuffer", "WeakRef", "FinalizationRegistry", "performance", "gc", "navigator", "DOMException"]) {
    delete globalThis[name];
  }
  // The C library looks for the time zone once, in files that no worker can open: now. (The zygote's is UTC.)
  new Date(0).getHours();
  defineProperty(globalThis, "codemode", { value: codemode, enumerable: true });
  defineProperty(globalThis, "console", { value: console });

  // The engine seeds Math.random when it is made, and every worker is a copy of one engine (mulberry32, Tommy Ettinger).
  function seed(state) {
    defineProperty(math, "random", {
      value: function random() {
        state = (state + 0x6d2b79f5) >>> 0;
        let mixed = imul(state ^ (state >>> 15), 1 | state);
        mixed = (mixed + imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
      },
      writable: true,
      configurable: true,
    });
  }

  // What is said of an error: its name and text, and where it was thrown.
  function told(error) {
    try {
      if (typeof error !== "object" || error === null) return "thrown: " + shown(error);
      const message = error.message === undefined ? shown(error) : text(error.message);
      const name = error.name === undefined ? "Error" : text(error.name);
      const stack = error.stack;
      return sliced(name, 0, 256) + ": " + sliced(message, 0, 8192) + (typeof stack === "string" ? "\n" + sliced(stack, 0, 4096) : "");
    } catch {
      return "Error: the error cannot be shown";
    }
  }

  // Calls what the model wrote. The answer's first letter says what the rest is: v a value as JSON, t an error's text.
  async function run(program) {
    try {
      let value = typeof program === "function" ? await program() : await program;
      // The model wrote a function, as asked; what was called was only what surrounds it.
      if (typeof value === "function") value = await value();
      const json = value === undefined ? "" : stringify(value, (_, item) => (typeof item === "bigint" ? text(item) : item));
      return "v" + (json === undefined ? "" : json);
    } catch (error) {
      return "t" + wellFormed(told(error));
    }
  }

  return { __proto__: null, run, answer, seed };
})
