// Slips that the language takes without a word, and that are never meant: an object used as a text, numbers sorted as texts, the keys of a Map.
// They are errors that say what to do, or come out as they were meant.
(function () {
  "use strict";
  const { defineProperty, keys } = Object;
  const { apply } = Reflect;
  const { TypeError: WrongType, Map: Table, Set: Group } = globalThis;
  const { toPrimitive } = Symbol;
  const bind = Function.prototype.call.bind.bind(Function.prototype.call);
  const sliced = bind(String.prototype.slice), joined = bind(Array.prototype.join);
  const { toString: named, valueOf: itself } = Object.prototype;
  const sizes = [Table, Group].map((kind) => [kind, bind(Object.getOwnPropertyDescriptor(kind.prototype, "size").get)]);

  // `[object Object]` is nobody's text. What has a text of its own keeps it.
  defineProperty(Object.prototype, toPrimitive, { value: function (hint) {
    const order = hint === "string" ? ["toString", "valueOf"] : ["valueOf", "toString"];
    if ((typeof this === "object" || typeof this === "function") && this !== null && this.toString === named && this.valueOf === itself) {
      const fields = sliced(joined(keys(this), ", "), 0, 200);
      throw new WrongType("an object is used as a text or a number: use one of its fields" + (fields === "" ? "" : " (" + fields + ")") + ", or JSON.stringify");
    }
    for (const key of order) {
      const own = this[key];
      if (typeof own !== "function") continue;
      const value = apply(own, this, []);
      if (typeof value !== "object" && typeof value !== "function" || value === null) return value;
    }
    throw new WrongType("it has no form as a text or a number");
  }, writable: true, configurable: true });

  const wrap = (holder, key, guard) => {
    const own = holder[key];
    const { [key]: value } = { [key](...values) { return guard(own, this, values); } };
    defineProperty(value, "length", { value: own.length, configurable: true });
    defineProperty(holder, key, { value, writable: true, configurable: true });
  };
  // Numbers are sorted as texts where nothing is said, and a comparison that tells true or false says nothing of what goes first.
  for (const key of ["sort", "toSorted"]) {
    const plainly = Array.prototype.toSorted;
    wrap(Array.prototype, key, (own, self, values) => {
      const compare = values[0];
      if (typeof compare === "function") {
        values[0] = (one, two) => {
          const said = compare(one, two);
          return said === true ? 1 : said === false ? (compare(two, one) === true ? -1 : 0) : said;
        };
      } else if (compare === undefined) {
        let numbers = self.length > 1;
        for (let at = 0; numbers && at < self.length; at++) numbers = typeof self[at] === "number";
        const sorted = numbers ? apply(plainly, self, []) : [];
        for (let at = 1; at < sorted.length; at++) {
          if (sorted[at - 1] > sorted[at]) {
            throw new WrongType(key + "() without a function sorts numbers as texts, 10 before 9: " + key + "((a, b) => a - b)");
          }
        }
      }
      return apply(own, self, values);
    });
  }
  for (const key of ["keys", "values", "entries"]) {
    wrap(Object, key, (own, self, values) => {
      for (const [kind, size] of sizes) {
        if (values[0] instanceof kind && size(values[0]) > 0) {
          throw new WrongType("Object." + key + " of a " + kind.name + " finds nothing: take [..." + kind.name.toLowerCase() + "." + key + "()]");
        }
      }
      return apply(own, self, values);
    });
  }
})
