// What a call gives is the tool's plain value. Many read it as what it was made of (`.content[0].text`), or as something else than it is: a list
// where it is an object with one, a text where it is an object with nothing else. That is an error that says what it is, or works.
//
// Gives `plain(value, body, exact)`, which makes a value so; `body` is what the tool wrote, and `exact` as in prelude.js.
(function () {
  "use strict";
  const { stringify, parse } = JSON;
  const { create, defineProperty, hasOwn, keys, setPrototypeOf } = Object;
  const { isArray } = Array;
  const { TypeError: WrongType, String: text, Promise: Later } = globalThis;
  const { toPrimitive } = Symbol;
  const bind = Function.prototype.call.bind.bind(Function.prototype.call);
  const sliced = bind(String.prototype.slice), joined = bind(Array.prototype.join);

  function absent(name, is) {
    throw new WrongType("." + name + " is not there: a call gives the tool's plain value already, which is " + is + ": use it as it is");
  }
  function listed(value) { return sliced(joined(keys(value), ", "), 0, 200) || "nothing"; }
  const described = (value) => (isArray(value) ? "a list of " + value.length : "an object of " + listed(value));

  // The members that a result has where a tool only has something to say.
  const sayings = ["content", "result", "text", "output"];
  // What a tool says, if its result is that and nothing else.
  function saying(value) {
    const names = keys(value);
    if (names.length !== 1) return undefined;
    for (const name of sayings) if (names[0] === name && typeof value[name] === "string") return value[name];
    return undefined;
  }

  // What is looked for in a list or a text, and not in an object.
  const ofLists = ["map", "filter", "forEach", "reduce", "find", "findIndex", "some", "every", "sort", "join", "flatMap", "push", "reverse"];
  const ofTexts = ["split", "trim", "trimStart", "trimEnd", "replace", "replaceAll", "includes", "indexOf", "lastIndexOf", "startsWith", "endsWith", "match", "matchAll",
    "toLowerCase", "toUpperCase", "slice", "substring", "substr", "charAt", "padStart", "padEnd", "localeCompare"];
  const asObject = create(Object.prototype), asSaying = create(asObject);
  const open = (name) => function (value) { defineProperty(this, name, { value, writable: true, enumerable: true, configurable: true }); };
  function wanting(name, get) { defineProperty(asObject, name, { get, set: open(name), configurable: true }); }
  for (const name of ["content", "structuredContent"]) {
    wanting(name, function () { return this === asObject || this === asSaying ? undefined : absent(name, described(this)); });
  }
  for (const name of ["length", ...ofLists, ...ofTexts]) {
    wanting(name, function () {
      if (this === asObject || this === asSaying) return undefined;
      let instead = "use one of its fields";
      for (const key of keys(this)) {
        if (isArray(this[key])) { instead = "its list is ." + key + ", as in ." + key + "." + name; break; }
        if (typeof this[key] === "string" && saying(this) !== undefined) instead = "its text is ." + key + ", as in ." + key + ".split('\\n')";
      }
      throw new WrongType("." + name + " is not there: the tool's result is " + described(this) + ": " + instead);
    });
  }
  // What failed is thrown.
  defineProperty(asObject, "isError", { value: false, writable: true, configurable: true });
  // What only says something is used as that text by whoever does not look.
  for (const name of ofTexts) defineProperty(asSaying, name, { value: String.prototype[name], writable: true, configurable: true });
  defineProperty(asSaying, "length", { get() { return text(this).length; }, set: open("length"), configurable: true });

  function plain(value, body, exact) {
    if (typeof value !== "object" || value === null) return;
    if (!isArray(value)) {
      setPrototypeOf(value, saying(value) === undefined ? asObject : asSaying);
    } else {
      for (const name of ["content", "structuredContent"]) {
        const get = () => absent(name, described(value));
        const set = (other) => { defineProperty(value, name, { value: other, writable: true, enumerable: true, configurable: true }); };
        defineProperty(value, name, { get, set, configurable: true });
      }
      defineProperty(value, "isError", { value: false, writable: true, configurable: true });
    }
    if (hasOwn(value, toPrimitive)) return;
    const whole = body !== undefined && body.length <= 262144 ? body : undefined;
    defineProperty(value, toPrimitive, { value: (hint) => {
      const said = isArray(value) ? undefined : saying(value);
      if (said !== undefined) return said;
      if (hint === "number") throw new WrongType("a tool's result is used as a number, and is " + (isArray(value) ? "a list: use its length, or an item" : "an object: use one of its fields"));
      // The tool's own words, where nothing was changed since.
      const now = stringify(value);
      return whole !== undefined && stringify(parse(exact === "" ? whole : exact)) === now ? whole : now;
    }, writable: true, configurable: true });
  }

  for (const name of ["content", "structuredContent", "text"]) {
    const get = function () {
      // Of any other text nobody reads what only the first letter of one was thought to have.
      return name === "text" && this.length !== 1 ? undefined : absent(name, "a text");
    };
    const set = function () {};
    defineProperty(String.prototype, name, { get, set, configurable: true });
  }
  // A tool's text that is JSON is parsed already.
  const { parse: parsed } = { parse(said, reviver) {
    if (typeof said !== "object" || said === null || said instanceof text) return parse(said, reviver);
    if (said instanceof Later) return parse(text(said), reviver);
    return parse((isArray(said) ? undefined : saying(said)) ?? stringify(said), reviver);
  } };
  defineProperty(JSON, "parse", { value: parsed, writable: true, configurable: true });
  return { __proto__: null, plain };
})
