// Forms of a language and a place. There are none here: what a script asks for is right, or an error that says what to do.
//
// Right are the forms of en-US for numbers, and what takes no locale. The engine takes all arguments and looks at none.
(function () {
  "use strict";
  const { defineProperty, keys } = Object;
  const { apply } = Reflect;
  const { TypeError: WrongType, Number: number, String: text, Date: Moment, Math: math } = globalThis;
  const bind = Function.prototype.call.bind.bind(Function.prototype.call);
  const fixed = bind(number.prototype.toFixed), sliced = bind(String.prototype.slice), beginsWith = bind(String.prototype.startsWith);
  const found = bind(String.prototype.indexOf), lower = bind(String.prototype.toLowerCase);
  const { isArray } = Array;

  function no(what, instead) { return new WrongType(what + " is not here, as there is no Intl: " + instead); }
  // Whether a locale is the one that is here.
  function isPlain(locales) {
    const first = isArray(locales) ? locales[0] : locales;
    return first === undefined || first === "en-US" || first === "en";
  }
  function shown(value) { return typeof value === "string" ? "'" + sliced(value, 0, 40) + "'" : text(value); }

  // --- numbers ---

  const byHand = "write it with toFixed(digits) and what goes around it";
  function grouped(digits) {
    let out = digits;
    for (let at = digits.length - 3; at > 0; at -= 3) out = sliced(out, 0, at) + "," + sliced(out, at);
    return out;
  }
  function formed(value, locales, options) {
    if (!isPlain(locales)) throw no("toLocaleString of " + shown(locales), byHand);
    const set = options === undefined || options === null ? {} : options;
    let least = 0, most = 3, groups = true, before = "", after = "", isSet = false;
    for (const key of keys(set)) {
      const wish = set[key];
      if (wish === undefined) continue;
      if (key === "minimumFractionDigits" && wish >= 0 && wish <= 20) { least = wish; isSet = true; }
      else if (key === "maximumFractionDigits" && wish >= 0 && wish <= 20) { most = wish; isSet = true; }
      else if (key === "useGrouping" && (wish === true || wish === false || wish === "always")) groups = wish !== false;
      else if (key === "style" && wish === "percent") { after = "%"; }
      else if (key === "style" && wish === "currency" && set.currency === "USD") { before = "$"; }
      else if (!(key === "style" && wish === "decimal" || key === "currency" && wish === "USD")) {
        throw no("the option " + text(key) + ": " + shown(wish), byHand);
      }
    }
    if (before !== "" && set.minimumFractionDigits === undefined) least = set.maximumFractionDigits < 2 ? set.maximumFractionDigits : 2;
    if (set.maximumFractionDigits === undefined) most = math.max(least, before !== "" ? 2 : after !== "" ? 0 : 3);
    if (set.minimumFractionDigits === undefined && least > most) least = most;
    if (isSet && least > most) throw new WrongType("minimumFractionDigits is more than maximumFractionDigits");
    if (typeof value === "bigint") return (value < 0n ? "-" : "") + before + grouped(text(value < 0n ? -value : value)) + after;
    if (value !== value) return "NaN";
    const size = math.abs(after === "" ? value : value * 100), sign = value < 0 || value === 0 && 1 / value < 0 ? "-" : "";
    if (size === 1 / 0) return sign + before + "∞" + after;
    if (size >= 1e21) throw no("so large a number with toLocaleString", "String(value) has it");
    let digits = fixed(size, most), point = found(digits, ".");
    if (point >= 0) {
      let end = digits.length;
      while (end > point + 1 + least && digits[end - 1] === "0") end--;
      digits = sliced(digits, 0, end === point + 1 ? point : end);
      point = found(digits, ".");
    }
    const whole = point < 0 ? digits : sliced(digits, 0, point), rest = point < 0 ? "" : sliced(digits, point);
    return sign + before + (groups ? grouped(whole) : whole) + rest + after;
  }
  const offer = (holder, key, value) => { defineProperty(holder, key, { value, writable: true, configurable: true }); };
  const itself = bind(number.prototype.valueOf), big = bind(BigInt.prototype.valueOf);
  offer(number.prototype, "toLocaleString", { toLocaleString(locales, options) { return formed(itself(this), locales, options); } }.toLocaleString);
  offer(BigInt.prototype, "toLocaleString", { toLocaleString(locales, options) { return formed(big(this), locales, options); } }.toLocaleString);

  // --- dates ---

  for (const key of ["toLocaleString", "toLocaleDateString", "toLocaleTimeString"]) {
    const own = Moment.prototype[key];
    const value = { [key](locales, options) {
      const wishes = options === undefined || options === null ? [] : keys(options);
      let plain = isPlain(locales);
      for (let at = 0; at < wishes.length; at++) plain = plain && wishes[at] === "timeZone" && options.timeZone === "UTC";
      if (!plain) {
        throw no(key + " with a locale or options", "all time is UTC; toISOString().slice(0, 10) is the day, slice(11, 16) the time, and for a place " +
          "with an offset take new Date(time.getTime() + hours * 3600000)");
      }
      return apply(own, this, []);
    } }[key];
    offer(Moment.prototype, key, value);
  }

  // --- texts ---

  const compare = String.prototype.localeCompare;
  offer(String.prototype, "localeCompare", { localeCompare(other, locales, options) {
    if (!isPlain(locales) || options !== undefined && options !== null && keys(options).length > 0) {
      throw no("localeCompare with a locale or options", "compare a.toLowerCase() with b.toLowerCase() by <, or numbers as a - b");
    }
    return apply(compare, this, [other]);
  } }.localeCompare);
  for (const key of ["toLocaleUpperCase", "toLocaleLowerCase"]) {
    const own = String.prototype[key];
    const value = { [key](locales) {
      const first = isArray(locales) ? locales[0] : locales;
      // The others have no letters of their own (SpecialCasing.txt).
      const tongue = first === undefined ? "" : lower(text(first));
      for (const other of ["tr", "az", "lt"]) {
        if (tongue === other || beginsWith(tongue, other + "-")) throw no(key + " of " + shown(first), "toUpperCase and toLowerCase are there");
      }
      return apply(own, this, []);
    } }[key];
    offer(String.prototype, key, value);
  }
})
