// Runs once in each engine, before anything that a model wrote. Everything it uses later is taken into constants here: code that
// changes the built-ins afterwards changes its own world only.
//
// `ask(name, json)` queues a host call and returns its number; `write(severity, text)` writes to the console; `now()` counts
// milliseconds; `promises()` is promises.js, and so on. What the web has beside the language is made in web.js.
(function (ask, write, now, promises, results, doubts, slips) {
  "use strict";
  const { stringify, parse } = JSON;
  const { create, defineProperty, freeze, hasOwn, keys } = Object;
  const { get: reflectGet, apply } = Reflect;
  const { isArray } = Array;
  const { isView } = ArrayBuffer;
  const bind = Function.prototype.call.bind.bind(Function.prototype.call);
  const [mapGet, mapSet, mapDelete, mapEach] = ["get", "set", "delete", "forEach"].map((name) => bind(Map.prototype[name]));
  const mapSize = bind(Object.getOwnPropertyDescriptor(Map.prototype, "size").get);
  const setEach = bind(Set.prototype.forEach), then = bind(Promise.prototype.then);
  const sliced = bind(String.prototype.slice), wellFormed = bind(String.prototype.toWellFormed);
  const isWellFormed = bind(String.prototype.isWellFormed), replaced = bind(String.prototype.replaceAll);
  const { Error: Thrown, TypeError: WrongType, RangeError: TooMuch, Promise: Later, Proxy: Shield, String: text, Number: number } = globalThis;
  const { Map: Table, Set: Group, RegExp: Pattern, Uint8Array: Bytes, ArrayBuffer: Buffered, Math: math } = globalThis;
  const { iterator, asyncIterator, toPrimitive } = Symbol;
  const { imul, min, round } = math;
  const { isInteger, isFinite } = number;
  const { quietly, guarded } = promises();
  const { plain } = results();
  const doubt = doubts();
  slips();

  // --- calls ---

  // Calls that are not answered yet, by their numbers; those that nobody has looked at, with their names; whether something may
  // have been given up on purpose.
  const waiting = new Table(), unseen = new Table();
  let raced = false;

  function call(name, value, replacer) {
    const entry = { __proto__: null, name, key: name, resolve: undefined, reject: undefined, promise: undefined };
    const bigs = [];
    entry.promise = new Later((resolve, reject) => {
      // Getters, proxies and toJSON of the arguments run here, inside.
      let json = quietly(() => stringify(value, (key, item) => replacer(key, item, bigs)));
      if (json === undefined) throw new WrongType("tool arguments are not JSON-serialisable");
      // JSON has numbers of any length; the language writes none of them.
      for (let at = 0; at < bigs.length; at++) json = replaced(json, stringify(marked(at)), text(bigs[at]));
      entry.key = name + json;
      entry.resolve = resolve;
      entry.reject = reject;
      mapSet(waiting, ask(name, json), entry);
    });
    if (entry.resolve !== undefined) mapSet(unseen, entry.promise, name);
    return guarded(entry.promise, name, () => mapDelete(unseen, entry.promise));
  }
  const marked = (at) => "\u0000big" + at + ";";

  function argument(key, item, bigs) {
    const no = (is) => new WrongType((key === "" ? "the argument is " : "the argument " + key + " is ") + is);
    if (item instanceof Later) throw no("a promise: put await before it");
    switch (typeof item) {
      case "bigint":
        bigs[bigs.length] = item;
        return marked(bigs.length - 1);
      case "number":
        if (!isFinite(item)) throw no(text(item) + ", which JSON has no form for: give a number, or leave it out");
        if (isInteger(item) && (item > 9007199254740991 || item < -9007199254740991)) throw no("an integer beyond 2^53 (" + text(item) + "), of which numbers keep not all digits. Nothing was called: write all digits with an n behind them, as in 9007199254740993n, or BigInt('9007199254740993'); or give a text, where the tool takes one");
        return item;
      case "string": {
        if (!isWellFormed(item)) throw no("a text that ends or begins in half a character: cut it by characters, as in [...text].slice(0, 100).join('')");
        const sign = doubt.sign(item);
        if (sign !== "") throw no("a text with " + sign + " in it, which nothing gave: a field is not there, or is no number. Nothing was called: log the value once to see its fields");
        return item;
      }
      case "function":
        throw no("a function: call it, and give what it returns");
      case "symbol":
        throw no("a symbol, which JSON has no form for: give a text");
    }
    if (isAsync(item)) throw no("an async iterator: go through it with for await, and give the list");
    return shape(item);
  }
  const isAsync = (item) => typeof item === "object" && item !== null && !isArray(item) && typeof item.next === "function" && typeof item[asyncIterator] === "function";

  function invoke(name, values) {
    const [value, index, all] = values;
    // What `map` adds is not meant.
    if (values.length > 1 && !(values.length === 3 && isArray(all) && all[index] === value)) {
      let said = "codemode." + name + " takes one object with named arguments, and was given " + values.length + " arguments: ";
      // `codemode.call('tool', {…})` and the like.
      said += typeof value === "string" && values.length === 2 && typeof index === "object"
        ? "a tool is called by its name, as in codemode." + sliced(value, 0, 128) + "({…})"
        : "codemode.describe('" + name + "') tells their names";
      return new Later((_, reject) => reject(new WrongType(said)));
    }
    return call(name, value === undefined ? {} : value, argument);
  }

  // What the portal itself is asked, once its arguments are what they can be.
  const asking = {
    __proto__: null,
    tools(values) {
      if (values.length > 0) throw new WrongType("codemode.tools() takes nothing and gives all: codemode.search('words', {server: 'name', limit: 10}) finds those that fit");
    },
    search(values) {
      const options = values[1];
      if (options === undefined || options === null) return;
      const wrong = (what) => new WrongType(what + ": codemode.search('words', {limit: 10, server: 'name'})");
      if (typeof options !== "object" || isArray(options)) throw wrong("the second argument of codemode.search is an object");
      for (const key of keys(options)) {
        const value = options[key];
        if (key !== "limit" && key !== "server") throw wrong("codemode.search has no option " + key);
        if (value === undefined || value instanceof Later) continue;
        if (key === "limit" && !(isInteger(value) && value > 0)) throw wrong("limit is a whole number, and was " + shown(value));
        if (key === "server" && typeof value !== "string") throw wrong("server is a text, and was " + shown(value));
      }
    },
    describe() {},
    result(values) {
      const from = values[1];
      if (from === undefined) values.length = min(values.length, 1);
      else if (!(isInteger(from) && from >= 0)) {
        throw new WrongType("codemode.result takes the number of the character to begin at, as in codemode.result('id', 24000), and was given " + shown(from));
      }
    },
    save(values) {
      const [name, code, options] = values;
      const wrong = (what) => new WrongType(what + ": codemode.save('name', 'async (codemode, args) => …', {description, parameters, for: 'me'})");
      if (typeof name !== "string") throw wrong("the name is a text, and was " + shown(name));
      if (typeof code === "function") throw wrong("the code is a text, as nothing around a function is saved with it");
      if (typeof code !== "string") throw wrong("the code is a text, and was " + shown(code));
      if (typeof options !== "object" || options === null || isArray(options)) throw wrong("say what it is for, with what arguments and for whom");
    },
    forget(values) {
      if (typeof values[0] !== "string") throw new WrongType("say which snippet by its name: codemode.forget('name', {for: 'me'})");
    },
    withMeta(values) {
      if (typeof values[0] !== "string") throw new WrongType("say which tool by its name, a text: codemode.withMeta('name', {…})");
    },
  };

  // kind: 0 a value, 1 the tool failed, 2 there is no such tool, 3 a bound.
  // `exact` is the body with integers beyond what numbers hold as texts, if it has such; `signs` is for doubts.js.
  function answer(id, kind, body, exact, signs) {
    const entry = mapGet(waiting, id);
    if (entry === undefined) return;
    mapDelete(waiting, id);
    mapDelete(unseen, entry.promise);
    doubt.heard(signs);
    if (kind === 1) return entry.reject(doubt.failed(failure(body), entry.name, entry.key));
    if (kind === 2) return entry.reject(doubt.failed(new WrongType(body), entry.name, entry.key));
    if (kind === 3) return entry.reject(new TooMuch(body));
    const own = asking[entry.name] !== undefined, about = own && entry.name !== "withMeta" && entry.name !== "result";
    let value;
    try { value = parse(about || exact === "" ? body : exact); } catch (error) { return entry.reject(error); }
    if (entry.name === "search" && isArray(value)) {
      for (const hit of value) brief(hit);
      if (value.length === 0) write(1, "codemode.search found nothing: say it in other words, or look at (await codemode.tools()).map((tool) => tool.name)");
    }
    if (!own) plain(value, body, exact);
    if (entry.name !== "withMeta" || typeof value.error !== "string") doubt.answered(entry.key);
    if (entry.name !== "withMeta") return entry.resolve(value);
    if (typeof value.error !== "string") {
      plain(value.value);
      return entry.resolve(value);
    }
    const error = doubt.failed(failure(value.error), entry.name, entry.key);
    defineProperty(error, "meta", { value: value.meta });
    entry.reject(error);
  }

  function failure(said) {
    const error = new Thrown(said);
    defineProperty(error, "name", { value: "ToolError" });
    return error;
  }

  // What a search found is written down as a name with a line; the rest is there for whoever asks for it.
  function brief(hit) {
    if (typeof hit !== "object" || hit === null) return;
    for (const key of keys(hit)) {
      if (key !== "name" && key !== "signature" && key !== "summary") defineProperty(hit, key, { enumerable: false });
    }
  }

  const made = new Table();
  for (const name of ["tools", "search", "describe", "result", "withMeta", "save", "forget"]) {
    mapSet(made, name, freeze((...values) => {
      try { asking[name](values); } catch (error) { return new Later((_, reject) => reject(error)); }
      return call(name, values, argument);
    }));
  }
  // `codemode.server.tool` is `codemode.server_tool`.
  function method(name) {
    let known = mapGet(made, name);
    if (known === undefined) {
      const get = (own, inner) => {
        if (typeof inner !== "string" || inner in own || name.length > 256) return reflectGet(own, inner);
        return inner === "then" || inner === "toJSON" ? undefined : method(name + "_" + inner);
      };
      known = new Shield(freeze((...values) => invoke(name, values)), { __proto__: null, get });
      mapSet(made, name, known);
    }
    return known;
  }
  const unlisted = () => new WrongType("codemode does not tell its names like this: (await codemode.tools()).map((tool) => tool.name), or codemode.search('words')");
  // A proxy over nothing: every name is a tool's, also `__proto__`, `constructor` and the like. Not `then`, or awaiting the object
  // would call it; not `toJSON`, or writing it down would.
  const handler = {
    __proto__: null,
    get(_, name) { return typeof name !== "string" || name === "then" || name === "toJSON" ? undefined : method(name); },
    has(_, name) { if (typeof name !== "string" || name === "then" || name === "toJSON") return false; throw unlisted(); },
    ownKeys() { throw unlisted(); },
    getOwnPropertyDescriptor() { return undefined; },
    getPrototypeOf() { return null; },
    setPrototypeOf() { return false; },
    defineProperty() { return false; },
    deleteProperty() { return false; },
    set() { return false; },
  };
  const codemode = new Shield(freeze(create(null)), handler);
  // What a program is called with: some write `async (codemode) =>`, others `async ({ codemode }) =>`.
  const given = new Shield(freeze(create(null)), {
    ...handler,
    __proto__: null,
    get(_, name) { return name === "codemode" ? codemode : name === "console" ? console : handler.get(_, name); },
  });

  // --- timers ---

  const timers = new Table();
  let lastTimer = 0;

  function timer(callback, wait, values, repeats) {
    if (typeof callback !== "function") throw new WrongType("a timer takes a function, and milliseconds");
    const time = number(wait), every = time >= 1 ? min(time, 2147483647) : 1;
    mapSet(timers, ++lastTimer, { __proto__: null, due: now() + every, every: repeats ? every : 0, callback, values });
    return lastTimer;
  }
  const clear = freeze((id) => { mapDelete(timers, id); });
  const offered = {
    __proto__: null,
    setTimeout: freeze((callback, wait, ...values) => timer(callback, wait, values, false)),
    setInterval: freeze((callback, wait, ...values) => timer(callback, wait, values, true)),
    setImmediate: freeze((callback, ...values) => timer(callback, 0, values, false)),
    sleep: freeze((wait) => new Later((resolve) => { timer(() => resolve(), wait, [], false); })),
    clearTimeout: clear, clearInterval: clear, clearImmediate: clear,
  };

  // What a script threw there would be lost.
  defineProperty(globalThis, "queueMicrotask", { value: function queueMicrotask(callback) {
    if (typeof callback !== "function") throw new WrongType("queueMicrotask takes a function");
    then(new Later((resolve) => resolve()), () => { callback(); });
  }, writable: true, configurable: true });

  // When the first timer is due; -1 without one.
  function due() {
    let first = -1;
    mapEach(timers, (timer) => { if (first < 0 || timer.due < first) first = timer.due; });
    return first;
  }
  // Lets the first timer that is due act, if one is. What it throws is as any rejection that nobody handles.
  function fire() {
    let id = 0, first;
    mapEach(timers, (timer, its) => { if (timer.due <= now() && (first === undefined || timer.due < first.due)) { id = its; first = timer; } });
    if (first === undefined) return false;
    if (first.every > 0) first.due = now() + first.every;
    else mapDelete(timers, id);
    then(new Later((resolve) => resolve()), () => apply(first.callback, undefined, first.values));
    return true;
  }

  // Whoever races promises means to give some of them up.
  for (const name of ["race", "any"]) {
    const own = Later[name];
    const value = { [name](promises) { raced = true; return apply(own, this, [promises]); } }[name];
    defineProperty(Later, name, { value, writable: true, configurable: true });
  }
  // Whether something that the script began is still to be waited for when its function has ended: a call, or a timer that is due
  // within `patience` milliseconds; after a race only what nobody ever looked at.
  function owes(patience) {
    if (raced) return mapSize(unseen) > 0;
    let soon = false;
    mapEach(timers, (timer) => { soon = soon || timer.every === 0 && timer.due <= now() + patience; });
    return soon || mapSize(waiting) > 0;
  }

  // Promises that were rejected and that nobody handles so far.
  const rejections = new Table();
  function rejected(promise, reason, handled) {
    if (handled) mapDelete(rejections, promise);
    else mapSet(rejections, promise, { __proto__: null, reason });
  }

  // --- values ---

  const promised = new Table();
  let unsettled = [];

  function list(each, item, entry) {
    const values = [];
    each(item, (value, key) => { values[values.length] = entry ? [key, value] : value; });
    return values;
  }
  // What JSON would write down as nothing, as what it holds.
  function shape(item) {
    if (typeof item === "bigint") return text(item);
    if (typeof item !== "object" || item === null || isArray(item)) return item;
    if (item instanceof Table) {
      const record = create(null);
      let named = true;
      mapEach(item, (value, key) => { if (typeof key === "string" || typeof key === "number") record[key] = value; else named = false; });
      return named ? record : list(mapEach, item, true);
    }
    if (item instanceof Group) return list(setEach, item, false);
    if (item instanceof Thrown) {
      const record = { __proto__: null, name: item.name, message: item.message };
      for (const key of ["cause", "errors"]) if (item[key] !== undefined) record[key] = item[key];
      for (const key of keys(item)) record[key] = item[key];
      return record;
    }
    if (item instanceof Pattern) return text(item);
    if (isView(item) || item instanceof Buffered) {
      const numbers = [];
      const whole = item instanceof Buffered ? new Bytes(item) : item.length === undefined ? new Bytes(item.buffer) : item;
      for (let at = 0; at < whole.length; at++) numbers[at] = typeof whole[at] === "bigint" ? text(whole[at]) : whole[at];
      return numbers;
    }
    if (typeof item.next === "function" && typeof item[iterator] === "function") {
      const values = [];
      for (const value of item) values[values.length] = value;
      return values;
    }
    return item;
  }
  function resolved(key, item) {
    doubt.written(key, item);
    if (typeof item === "number" && !isFinite(item)) return text(item);
    if (typeof item === "string") return wellFormed(item);
    if (!(item instanceof Later) && !isAsync(item)) return shape(item);
    const settled = mapGet(promised, item);
    if (settled !== undefined) return resolved(key, settled.value);
    unsettled[unsettled.length] = item;
    return null;
  }

  // JSON would write them as objects without members.
  for (const { prototype } of [Table, Group, Thrown, Pattern]) {
    defineProperty(prototype, "toJSON", { value: function toJSON() { return shape(this); }, writable: true, configurable: true });
  }

  // --- console ---

  const unawaited = "[a promise: put await before it]";
  function shown(value) {
    try {
      if (typeof value === "string") return value;
      if (typeof value === "object" && value !== null) {
        if (value instanceof Later) return unawaited;
        if (value instanceof Thrown) return text(value.name) + ": " + text(value.message);
        const json = quietly(() => stringify(value, (_, item) => (item instanceof Later ? unawaited : shape(item))));
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
  for (const name of keys(offered)) defineProperty(globalThis, name, { value: offered[name], writable: true, configurable: true });

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
  function told(error, remark) {
    try {
      if (typeof error !== "object" || error === null) return "thrown: " + shown(error) + remark;
      let message = error.message === undefined ? shown(error) : text(error.message);
      if (isArray(error.errors)) {
        for (let at = 0; at < error.errors.length && at < 5; at++) message += (at > 0 ? "; " : message ? ": " : "") + shown(error.errors[at]);
      }
      if (error.cause !== undefined) message += " (caused by " + sliced(shown(error.cause), 0, 512) + ")";
      const name = error.name === undefined ? "Error" : text(error.name);
      const stack = error.stack;
      const trace = typeof stack === "string" ? "\n" + sliced(stack, 0, 4096) : "";
      return sliced(name, 0, 256) + ": " + sliced(message, 0, 8192) + remark + trace;
    } catch {
      return "Error: the error cannot be shown";
    }
  }

  // What the program came to, and how many calls were still under way then; what is to be said beside it.
  let result, early = 0, remark = "";

  // Calls what the model wrote, with `passed`, JSON, if there is any. The answer's first letter says what the rest is: t an error's
  // text; d nothing, it is done.
  async function run(program, passed) {
    try {
      const values = passed === "" ? undefined : parse(passed);
      if (typeof program === "function") doubt.begins(text(program));
      let value = typeof program === "function" ? await program() : await program;
      // The model wrote a function, as asked; what was called was only what surrounds it.
      if (typeof value === "function") value = await value(given, values);
      result = value;
      early = raced ? 0 : mapSize(waiting);
      return "d";
    } catch (error) {
      return "t" + wellFormed(told(error, ""));
    }
  }

  async function gathered(items) {
    const values = [];
    for await (const value of items) values[values.length] = value;
    return values;
  }

  // What a model has to know of a script that seems to be well.
  function left() {
    let said = "";
    if (early > 0) {
      said = (early === 1 ? "A call was" : early + " calls were") + " still under way when the script returned its value, which may lack what came of " +
        (early === 1 ? "it" : "them") + ": put await before each, and for a list await Promise.all(list.map(async (item) => …)) in place of forEach.";
    }
    if (!raced) mapEach(timers, (timer) => {
      const when = timer.every > 0 ? "An interval" : "A timer that was to act in " + round((timer.due - now()) / 1000) + " s";
      if (said.length < 1000) said += (said === "" ? "" : "\n") + when + " was dropped at the end of the script, and will never act: await sleep(milliseconds) waits.";
    });
    const notes = doubt.notes();
    return said === "" ? notes : notes === "" ? said : said + "\n" + notes;
  }
  const remarked = () => wellFormed(remark);

  // Says what the program came to, once all that it began is over: v a value as JSON, n nothing was returned, t an error's text.
  async function tell() {
    try {
      if (typeof result === "function") throw new WrongType("the result is a function: call it, and return what it gives");
      for (;;) {
        unsettled = [];
        const json = result === undefined ? undefined : quietly(() => stringify(result, resolved));
        const still = unsettled;
        for (let at = 0; at < still.length; at++) {
          const value = await (still[at] instanceof Later ? still[at] : gathered(still[at]));
          mapSet(promised, still[at], { __proto__: null, value });
        }
        // They were what was under way, most likely.
        if (still.length > 0) early = 0;
        if (still.length > 0) continue;
        remark = left();
        let unhandled;
        mapEach(rejections, (rejection) => { unhandled = unhandled || rejection; });
        if (unhandled !== undefined) return "t" + wellFormed(told(unhandled.reason, " (nothing awaited this: put await before each call)"));
        return json === undefined ? "n" : "v" + json;
      }
    } catch (error) {
      return "t" + wellFormed(told(error, ""));
    }
  }

  return { __proto__: null, run, tell, answer, seed, due, fire, owes, rejected, remarked };
})
