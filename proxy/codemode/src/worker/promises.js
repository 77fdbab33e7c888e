// A promise that is used as the value that it will have is an error, as far as the language lets anybody see it: it would be a text
// `[object Promise]`, an object without members, or true, and what a script then writes is wrong without a word.
//
// Gives what the prelude needs: `quietly(write)` lets promises be found while something is written down, `guarded(promise, name,
// seen)` is a call's promise that takes nothing but being awaited, `misused(what, name)` the error.
(function () {
  "use strict";
  const { create, defineProperty, freeze, setPrototypeOf } = Object;
  const { get: reflectGet, has: reflectHas, apply } = Reflect;
  const { Promise: Later, Proxy: Shield, TypeError: WrongType, String: text } = globalThis;
  const { iterator, asyncIterator, toPrimitive, toStringTag } = Symbol;
  const bind = Function.prototype.call.bind.bind(Function.prototype.call);
  const then = bind(Later.prototype.then), last = bind(Later.prototype.finally);

  let quiet = 0;
  function quietly(write) {
    quiet++;
    try { return write(); } finally { quiet--; }
  }

  // `what` was done with the promise of a call of `name`, if it is known.
  function misused(what, name) {
    const before = name === undefined ? "it" : "the call, as in await codemode." + name + "(…)";
    return new WrongType(what + ": put await before " + before);
  }
  function read(key, name) {
    const written = name === undefined ? "promise" : "codemode." + name + "(…)";
    return new WrongType("." + text(key) + " is read of a promise: put await before the call, as in (await " + written + ")." + text(key));
  }
  const asValue = "a promise is used as a text or a number", through = "a promise is gone through as if it were a list";
  const asObject = "a promise is looked into as if it were its value", changed = "a promise is changed as if it were its value";

  // What a promise has no answer to but an error. `other` is what the language finds.
  function looked(key, name, other) {
    if (key === toPrimitive) return () => { throw misused(asValue, name); };
    if (key === iterator) throw misused(through, name);
    if (typeof key === "symbol") return other();
    if (key === "toJSON") {
      if (quiet > 0) return undefined;
      throw misused("a promise is written as JSON", name);
    }
    if (key === "toString" || key === "toLocaleString") throw misused(asValue, name);
    if (key === "hasOwnProperty" || key === "propertyIsEnumerable") throw misused(asObject, name);
    return other();
  }

  // A call's. `seen` is called once somebody waits for it.
  function guarded(promise, name, seen) {
    const refuse = (what) => () => { throw misused(what, name); };
    return new Shield(promise, {
      __proto__: null,
      get(_, key) {
        switch (key) {
          case "then": return (done, failed) => { seen(); return then(promise, done, failed); };
          case "catch": return (failed) => { seen(); return then(promise, undefined, failed); };
          case "finally": return (over) => { seen(); return last(promise, over); };
          case "constructor": return Later;
          case toStringTag: return "Promise";
          case asyncIterator: return undefined;
        }
        return looked(key, name, () => { if (typeof key === "symbol") return undefined; throw read(key, name); });
      },
      has: refuse(asObject), ownKeys: refuse(asObject), getOwnPropertyDescriptor: refuse(asObject),
      set: refuse(changed), defineProperty: refuse(changed), deleteProperty: refuse(changed),
    });
  }

  // Any other: what is not a promise's own is looked for behind the prototype of all.
  const beyond = create(Object.prototype);
  setPrototypeOf(Later.prototype, new Shield(beyond, {
    __proto__: null,
    get(own, key, receiver) {
      if (!(receiver instanceof Later)) return reflectGet(own, key, receiver);
      return looked(key, undefined, () => {
        if (typeof key === "symbol" || reflectHas(own, key)) return reflectGet(own, key, receiver);
        throw read(key);
      });
    },
    has(own, key) {
      if (typeof key === "symbol" || reflectHas(own, key)) return reflectHas(own, key);
      throw misused(asObject);
    },
    ownKeys() { throw misused(asObject); },
  }));
  const wrap = (holder, key, guard) => {
    const own = holder[key];
    if (typeof own !== "function") return;
    const { [key]: value } = { [key](...values) { return guard(own, this, values); } };
    defineProperty(value, "length", { value: own.length, configurable: true });
    defineProperty(holder, key, { value, writable: true, configurable: true });
  };
  for (const key of ["keys", "values", "entries", "assign"]) {
    wrap(Object, key, (own, self, values) => {
      for (let at = 0; at < values.length; at++) if (values[at] instanceof Later) throw misused(asObject);
      return apply(own, self, values);
    });
  }
  wrap(Array, "isArray", (own, self, values) => {
    if (values[0] instanceof Later) throw misused(asObject);
    return apply(own, self, values);
  });
  // What they are told is looked at at once, and a promise is always true.
  for (const key of ["filter", "some", "every", "find", "findIndex", "findLast", "findLastIndex", "sort", "toSorted"]) {
    wrap(Array.prototype, key, (own, self, values) => {
      const callback = values[0], its = values[1];
      if (typeof callback === "function") {
        values[0] = (one, two, three) => {
          const said = apply(callback, its, [one, two, three]);
          if (!(said instanceof Later)) return said;
          throw new WrongType("the function given to " + key + " returns a promise, which " + key + " does not wait for: await what it needs " +
            "first, as in const all = await Promise.all(list.map(async (item) => …)), and then " + key);
        };
      }
      return apply(own, self, values);
    });
  }
  return freeze({ __proto__: null, quietly, guarded, misused });
})
