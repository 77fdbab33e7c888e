// The small built-ins of the web that the language does not have. They compute, and reach nothing.
//
// `native` has what is better done outside of the engine: `encode(text)` gives bytes, `bytes(text)` those of one that is made of bytes, `decode(hex, label)` a text with
// `!` before it where the bytes were none, ` ` otherwise;
// `random(count)` bytes, `url(text, base)` the parts of a URL as JSON, and `urlWith(text, part, value)` those of one that is changed.
(function (native) {
  "use strict";
  const { create, defineProperty, getOwnPropertyNames } = Object;
  const { parse } = JSON;
  const { isArray } = Array;
  const { isView } = ArrayBuffer;
  const bind = Function.prototype.call.bind.bind(Function.prototype.call);
  const { Uint8Array: Bytes, ArrayBuffer: Buffered, Map: Table, Set: Group, Date: Moment, RegExp: Pattern, Error: Thrown } = globalThis;
  const { TypeError: WrongType, RangeError: TooMuch, String: text, DataView: View } = globalThis;
  const { encodeURIComponent: encoded, decodeURIComponent: decoded } = globalThis;
  const { iterator, toStringTag } = Symbol;
  const toHex = bind(Bytes.prototype.toHex), toBase64 = bind(Bytes.prototype.toBase64), fromBase64 = Bytes.fromBase64.bind(Bytes);
  const replaced = bind(String.prototype.replaceAll), wellFormed = bind(String.prototype.toWellFormed), codeAt = bind(String.prototype.charCodeAt);
  const [mapGet, mapSet, mapEach] = ["get", "set", "forEach"].map((name) => bind(Map.prototype[name]));
  const setEach = bind(Set.prototype.forEach), setAdd = bind(Set.prototype.add);

  function named(name, message) {
    const error = new Thrown(message);
    defineProperty(error, "name", { value: name });
    return error;
  }
  function bytesOf(value) {
    if (value === undefined) return new Bytes(0);
    if (value instanceof Buffered) return new Bytes(value);
    if (isView(value)) return new Bytes(value.buffer, value.byteOffset, value.byteLength);
    throw new WrongType("bytes are an ArrayBuffer or a view of one");
  }

  // --- base64 ---

  function atob(value) {
    let bytes;
    try {
      bytes = fromBase64(text(value));
    } catch {
      throw named("InvalidCharacterError", "atob: the text is not Base64");
    }
    return native.decode(toHex(bytes), "binary").slice(1);
  }
  function btoa(value) {
    const bytes = native.bytes(wellFormed(text(value)));
    if (bytes === undefined) throw named("InvalidCharacterError", "btoa takes bytes: for other text, new TextEncoder().encode(text).toBase64()");
    return toBase64(bytes);
  }

  // --- text ---

  class TextEncoder {
    get encoding() { return "utf-8"; }
    encode(value) { return native.encode(value === undefined ? "" : wellFormed(text(value))); }
    encodeInto(value, into) {
      const bytes = this.encode(value), written = bytes.length < into.length ? bytes.length : into.length;
      for (let at = 0; at < written; at++) into[at] = bytes[at];
      return { read: text(value).length, written };
    }
  }
  class TextDecoder {
    #label;
    #fatal;
    constructor(label, options) {
      this.#label = native.label(label === undefined ? "utf-8" : text(label));
      if (this.#label === "") throw new TooMuch("TextDecoder reads utf-8, utf-16le and latin1");
      this.#fatal = Boolean(options && options.fatal);
    }
    get encoding() { return this.#label; }
    get fatal() { return this.#fatal; }
    decode(value) {
      const told = native.decode(toHex(bytesOf(value)), this.#label);
      if (told[0] === "!" && this.#fatal) throw new WrongType("the bytes are not " + this.#label);
      return told.slice(1);
    }
  }

  // --- URLs ---

  const pairsOf = new WeakMap(), ownerOf = new WeakMap();
  const unquoted = (part) => { try { return decoded(replaced(part, "+", " ")); } catch { return part; } };
  const quoted = (part) => replaced(encoded(wellFormed(part)), "%20", "+").replace(/[!'()~]/g, (c) => "%" + codeAt(c, 0).toString(16).toUpperCase());
  class URLSearchParams {
    constructor(from) {
      let pairs = [];
      if (typeof from === "object" && from !== null) {
        const listed = typeof from[iterator] === "function" ? [...from] : Object.entries(from);
        pairs = listed.map((pair) => [text(pair[0]), text(pair[1])]);
      } else if (from !== undefined) {
        pairs = read(text(from));
      }
      pairsOf.set(this, pairs);
    }
    get size() { return pairsOf.get(this).length; }
    append(name, value) { pairsOf.get(this).push([text(name), text(value)]); changed(this); }
    delete(name, value) { keep(this, (pair) => pair[0] !== text(name) || value !== undefined && pair[1] !== text(value)); }
    get(name) { const found = pairsOf.get(this).find((pair) => pair[0] === text(name)); return found ? found[1] : null; }
    getAll(name) { return pairsOf.get(this).filter((pair) => pair[0] === text(name)).map((pair) => pair[1]); }
    has(name, value) { return pairsOf.get(this).some((pair) => pair[0] === text(name) && (value === undefined || pair[1] === text(value))); }
    set(name, value) {
      const first = pairsOf.get(this).find((pair) => pair[0] === text(name));
      if (!first) return this.append(name, value);
      first[1] = text(value);
      keep(this, (pair) => pair === first || pair[0] !== text(name));
    }
    sort() { pairsOf.get(this).sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0)); changed(this); }
    forEach(each, self) { for (const [name, value] of this) each.call(self, value, name, this); }
    *entries() { for (const pair of pairsOf.get(this)) yield [pair[0], pair[1]]; }
    *keys() { for (const pair of pairsOf.get(this)) yield pair[0]; }
    *values() { for (const pair of pairsOf.get(this)) yield pair[1]; }
    [iterator]() { return this.entries(); }
    toString() { return pairsOf.get(this).map((pair) => quoted(pair[0]) + "=" + quoted(pair[1])).join("&"); }
    toJSON() { return this.toString(); }
  }
  function read(query) {
    const parts = (query[0] === "?" ? query.slice(1) : query).split("&").filter((part) => part !== "");
    return parts.map((part) => {
      const at = part.indexOf("=");
      return at < 0 ? [unquoted(part), ""] : [unquoted(part.slice(0, at)), unquoted(part.slice(at + 1))];
    });
  }
  function keep(params, which) { pairsOf.set(params, pairsOf.get(params).filter(which)); changed(params); }
  function changed(params) { const url = ownerOf.get(params); if (url) url.search = params.toString(); }

  class URL {
    #parts;
    #params;
    constructor(url, base) {
      const told = native.url(text(url), base === undefined ? "" : text(base), base !== undefined);
      if (told === "") throw new WrongType("not a URL: " + text(url).slice(0, 200));
      this.#parts = parse(told);
    }
    static canParse(url, base) { return native.url(text(url), base === undefined ? "" : text(base), base !== undefined) !== ""; }
    static parse(url, base) { return URL.canParse(url, base) ? new URL(url, base) : null; }
    static {
      const part = (name, settable) => {
        const get = function () { return this.#parts[name]; };
        const set = function (value) {
          const told = native.urlWith(this.#parts.href, name, text(value));
          if (told === "" && name === "href") throw new WrongType("not a URL");
          if (told === "") return;
          this.#parts = parse(told);
          // Whoever holds the parameters sees the change.
          if (this.#params) pairsOf.set(this.#params, read(this.#parts.search));
        };
        defineProperty(URL.prototype, name, { get, set: settable ? set : undefined, enumerable: true, configurable: true });
      };
      for (const name of ["href", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"]) part(name, true);
      part("origin", false);
    }
    get searchParams() {
      if (!this.#params) {
        this.#params = new URLSearchParams(this.#parts.search);
        ownerOf.set(this.#params, this);
      }
      return this.#params;
    }
    toString() { return this.#parts.href; }
    toJSON() { return this.#parts.href; }
  }

  // --- copies ---

  function structuredClone(value) {
    const seen = new Table();
    const copy = (item) => {
      if (typeof item === "function" || typeof item === "symbol") throw named("DataCloneError", "a " + typeof item + " cannot be cloned");
      if (typeof item !== "object" || item === null) return item;
      if (mapGet(seen, item) !== undefined) return mapGet(seen, item);
      const keep = (made) => { mapSet(seen, item, made); return made; };
      if (item instanceof Promise || item instanceof WeakMap || item instanceof WeakSet) throw named("DataCloneError", "this cannot be cloned");
      if (item instanceof Moment) return keep(new Moment(item.getTime()));
      if (item instanceof Pattern) return keep(new Pattern(item.source, item.flags));
      if (item instanceof Buffered) return keep(item.slice(0));
      if (item instanceof View) return keep(new View(item.buffer.slice(0), item.byteOffset, item.byteLength));
      if (isView(item)) return keep(item.slice());
      if (item instanceof Table) { const made = keep(new Table()); mapEach(item, (value, key) => mapSet(made, copy(key), copy(value))); return made; }
      if (item instanceof Group) { const made = keep(new Group()); setEach(item, (value) => setAdd(made, copy(value))); return made; }
      if (item instanceof Thrown) {
        const made = keep(new Thrown(item.message));
        for (const name of ["name", "stack"]) defineProperty(made, name, { value: item[name], writable: true, configurable: true });
        if (item.cause !== undefined) defineProperty(made, "cause", { value: copy(item.cause), writable: true, configurable: true });
        return made;
      }
      const made = keep(isArray(item) ? new Array(item.length) : {});
      for (const key of Object.keys(item)) defineProperty(made, key, { value: copy(item[key]), writable: true, enumerable: true, configurable: true });
      return made;
    };
    return copy(value);
  }

  // --- chance ---

  const crypto = Object.freeze({
    __proto__: null,
    get subtle() { throw new WrongType("there is no crypto.subtle here, and nothing that signs or hashes: crypto.randomUUID and getRandomValues are there"); },
    getRandomValues(view) {
      if (!isView(view) || view instanceof View || view instanceof Float32Array || view instanceof Float64Array) {
        throw named("TypeMismatchError", "getRandomValues fills an array of integers");
      }
      if (view.byteLength > 65536) throw named("QuotaExceededError", "getRandomValues fills at most 65536 bytes");
      new Bytes(view.buffer, view.byteOffset, view.byteLength).set(native.random(view.byteLength));
      return view;
    },
    randomUUID() {
      const bytes = native.random(16);
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      return toHex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
    },
  });

  for (const made of [TextEncoder, TextDecoder, URL, URLSearchParams]) defineProperty(made.prototype, toStringTag, { value: made.name, configurable: true });
  const offered = { __proto__: null, atob, btoa, TextEncoder, TextDecoder, URL, URLSearchParams, structuredClone, crypto };
  for (const name of getOwnPropertyNames(offered)) defineProperty(globalThis, name, { value: offered[name], writable: true, configurable: true });
})
